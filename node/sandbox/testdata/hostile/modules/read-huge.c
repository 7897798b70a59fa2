// read-huge: opens the first file of its first dataset and reads it in one call
// into a buffer of gigabytes, which it does not have; or a symbolic link. A host that makes such a
// buffer of its own before it looks has no memory left for anything.
//
// Exit code 0 and "ACCEPTED ..." on stdout: the call succeeded. Exit code 13: it
// was refused, or there is no file.
#include <stdio.h>

#include "firstfile.h"

#define WASI(name) __attribute__((import_module("wasi_snapshot_preview1"), import_name(name)))
WASI("fd_read") int32_t fd_read(int32_t fd, const uint32_t *iovs, uint32_t n, uint32_t *out);
WASI("fd_pread") int32_t fd_pread(int32_t fd, const uint32_t *iovs, uint32_t n, int64_t at, uint32_t *out);

WASI("path_readlink") int32_t path_readlink(int32_t dir, const char *path, uint32_t len, uint32_t buf, uint32_t size, uint32_t *out);

// huge_link reads the first symbolic link into as large a buffer. One that
// begins in memory may be taken for what fits.
static int huge_link(int which) {
	char name[256];
	uint32_t n;
	if (!first(__WASI_FILETYPE_SYMBOLIC_LINK, name)) return 13;
	int32_t err = path_readlink(3, name, strlen(name), which % 2 ? 1u << 31 : 1024, which < 6 ? 1u << 31 : UINT32_MAX, &n);
	if (err != 0 || which % 2 == 0) return 13;
	printf("ACCEPTED %d\n", which);
	return 0;
}

int main(int argc, char **argv) {
	(void)argv;
	__wasi_fd_t file;
	if (!first_file(&file)) {
		fputs("refused: no file to read\n", stderr);
		return 13;
	}
	int which = argc - 1;
	if (which >= 4) return huge_link(which);
	const uint32_t iov[2] = {1u << 31, which % 2 ? UINT32_MAX : 1u << 31};
	uint32_t n;
	int32_t err = which < 2 ? fd_read((int32_t)file, iov, 1, &n) : fd_pread((int32_t)file, iov, 1, 0, &n);
	if (err == 0) {
		printf("ACCEPTED %d\n", which);
		return 0;
	}
	fprintf(stderr, "refused (errno %d)\n", err);
	return 13;
}

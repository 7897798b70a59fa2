// pointers-file: opens the first file of its first dataset and has it read to,
// and its state written to, where there is no memory. The number of arguments
// says which call it makes.
//
// Exit code 0 and "ACCEPTED ..." on stdout: a call succeeded that must not.
// Exit code 13: it was refused, or there is no file.
#include <stdio.h>

#include "firstfile.h"

#define WASI(name) __attribute__((import_module("wasi_snapshot_preview1"), import_name(name)))
WASI("fd_read") int32_t fd_read(int32_t fd, uint32_t iovs, uint32_t n, uint32_t out);
WASI("fd_pread") int32_t fd_pread(int32_t fd, uint32_t iovs, uint32_t n, int64_t at, uint32_t out);
WASI("fd_seek") int32_t fd_seek(int32_t fd, int64_t by, int32_t whence, uint32_t out);
WASI("fd_tell") int32_t fd_tell(int32_t fd, uint32_t out);
WASI("fd_filestat_get") int32_t fd_filestat_get(int32_t fd, uint32_t out);
WASI("fd_fdstat_get") int32_t fd_fdstat_get(int32_t fd, uint32_t out);

int main(int argc, char **argv) {
	(void)argv;
	__wasi_fd_t file;
	if (!first_file(&file)) {
		fputs("refused: no file to read\n", stderr);
		return 13;
	}
	int32_t fd = (int32_t)file;
	const uint32_t end = __builtin_wasm_memory_size(0) << 16;
	static uint32_t iov[2], n;
	const uint32_t vec = (uint32_t)iov, out = (uint32_t)&n;
	int which = argc - 1;
	int32_t err = 0;
	iov[0] = end - 1, iov[1] = 2; // over the end
	switch (which) {
	case 0: err = fd_read(fd, vec, 1, out); break;
	case 1: err = fd_pread(fd, vec, 1, 0, out); break;
	case 2: iov[0] = UINT32_MAX, err = fd_read(fd, vec, 1, out); break;
	case 3: iov[0] = UINT32_MAX, err = fd_pread(fd, vec, 1, 0, out); break;
	case 4: iov[0] = 1u << 31, err = fd_read(fd, vec, 1, out); break;
	case 5: err = fd_read(fd, end - 4, 1, out); break;
	case 6: err = fd_pread(fd, UINT32_MAX - 7, 1, 0, out); break;
	default:
		iov[0] = out, iov[1] = 1; // a good one, and the result to nowhere
		switch (which) {
		case 7: err = fd_read(fd, vec, 1, end); break;
		case 8: err = fd_pread(fd, vec, 1, 0, UINT32_MAX - 3); break;
		case 9: err = fd_seek(fd, 0, 0, end); break;
		case 10: err = fd_seek(fd, INT64_MIN, 1, UINT32_MAX - 7); break;
		case 11: err = fd_tell(fd, UINT32_MAX - 7); break;
		case 12: err = fd_filestat_get(fd, end - 56); break;
		case 13: err = fd_fdstat_get(fd, UINT32_MAX - 15); break;
		default: return 1;
		}
	}
	if (err == 0) {
		printf("ACCEPTED %d\n", which);
		return 0;
	}
	fprintf(stderr, "refused (errno %d)\n", err);
	return 13;
}

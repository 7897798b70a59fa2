// race: goes in and out of its dataset by many ways at once, without end, in
// the hope that the host checks one path and opens another.
//
// Exit code 0 and "LEAK ..." on stdout: one of them led outside. The node must
// stop it at the deadline.
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <wasi/api.h>

// subdirectory finds the first one of a directory, or "." itself.
static void subdirectory(__wasi_fd_t dir, char name[264]) {
	static uint8_t entries[64 << 10];
	__wasi_size_t used;
	strcpy(name, ".");
	if (__wasi_fd_readdir(dir, entries, sizeof entries, 0, &used) != 0) return;
	for (__wasi_size_t at = 0; at + sizeof(__wasi_dirent_t) <= used;) {
		__wasi_dirent_t e;
		memcpy(&e, entries + at, sizeof e);
		at += sizeof e;
		if (at + e.d_namlen > used) return;
		bool dots = e.d_namlen <= 2 && entries[at] == '.';
		if (e.d_type == __WASI_FILETYPE_DIRECTORY && e.d_namlen < 256 && !dots) {
			memcpy(name, entries + at, e.d_namlen);
			name[e.d_namlen] = 0;
			return;
		}
		at += e.d_namlen;
	}
}

int main(void) {
	char sub[264], paths[6][300];
	subdirectory(3, sub);
	snprintf(paths[0], sizeof paths[0], "%s/..", "..");
	snprintf(paths[1], sizeof paths[1], "%s/../..", sub);
	snprintf(paths[2], sizeof paths[2], "%s/./../../", sub);
	snprintf(paths[3], sizeof paths[3], "%s/../%s/../../etc", sub, sub);
	snprintf(paths[4], sizeof paths[4], "./%s/../../../../../../etc/passwd", sub);
	snprintf(paths[5], sizeof paths[5], "%s/../../proc/self/root", sub);
	for (unsigned i = 0;; i++) {
		__wasi_fd_t fd, in;
		const char *path = paths[i % 6];
		if (__wasi_path_open(3, 1, path, 0, __WASI_RIGHTS_FD_READ, 0, 0, &fd) == 0) {
			printf("LEAK %s\n", path);
			return 0;
		}
		// From a descriptor below, whose parent is the dataset itself.
		if (__wasi_path_open(3, 1, sub, __WASI_OFLAGS_DIRECTORY, __WASI_RIGHTS_PATH_OPEN | __WASI_RIGHTS_FD_READDIR,
		                     __WASI_RIGHTS_FD_READ, 0, &in) != 0) continue;
		if (__wasi_path_open(in, 1, "..", __WASI_OFLAGS_DIRECTORY, 0, 0, 0, &fd) == 0 ||
		    __wasi_path_open(in, 1, "../..", 0, __WASI_RIGHTS_FD_READ, 0, 0, &fd) == 0) {
			puts("LEAK .. of a directory below");
			return 0;
		}
		(void)__wasi_fd_close(in);
	}
}

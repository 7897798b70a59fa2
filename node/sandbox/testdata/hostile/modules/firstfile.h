// What pointers-file and read-huge share.
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <wasi/api.h>

// first finds the first entry of a type at the top of the first dataset.
static bool first(__wasi_filetype_t type, char name[256]) {
	static uint8_t entries[64 << 10];
	__wasi_size_t used;
	if (__wasi_fd_readdir(3, entries, sizeof entries, 0, &used) != 0) return false;
	for (__wasi_size_t at = 0; at + sizeof(__wasi_dirent_t) <= used;) {
		__wasi_dirent_t e;
		memcpy(&e, entries + at, sizeof e);
		at += sizeof e;
		if (at + e.d_namlen > used) return false;
		if (e.d_type == type && e.d_namlen < 256) {
			memcpy(name, entries + at, e.d_namlen);
			name[e.d_namlen] = 0;
			return true;
		}
		at += e.d_namlen;
	}
	return false;
}

// first_file opens the first file there.
static bool first_file(__wasi_fd_t *fd) {
	char name[256];
	return first(__WASI_FILETYPE_REGULAR_FILE, name) &&
	       __wasi_path_open(3, 0, name, 0, __WASI_RIGHTS_FD_READ | __WASI_RIGHTS_FD_SEEK | __WASI_RIGHTS_FD_TELL | __WASI_RIGHTS_FD_FILESTAT_GET,
	                        0, 0, fd) == 0;
}

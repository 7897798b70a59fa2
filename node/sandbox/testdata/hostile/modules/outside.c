// outside: looks for files outside of what it was given, by every way that
// wasip1 has: absolute names, "..", symbolic links of the dataset, reading
// links, and descriptors that nobody gave it.
//
// Exit code 0 and "LEAK ..." on stdout: it read one. Exit code 13: all was
// refused, as stderr tells.
#include <dirent.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <wasi/api.h>

enum { FIRST = 3, LAST = 64 }; // descriptors to try

static bool leaked;

static void worked(const char *how, __wasi_fd_t fd, const char *path) {
	printf("LEAK %s: descriptor %u, %s\n", how, fd, path);
	leaked = true;
}

// try_open reads from a path relative to a descriptor, past wasi-libc, which
// would refuse some paths before the host sees them.
static void try_open(const char *how, __wasi_fd_t dir, const char *path) {
	const __wasi_oflags_t flags[] = {0, __WASI_OFLAGS_DIRECTORY};
	const __wasi_rights_t rights[] = {__WASI_RIGHTS_FD_READ | __WASI_RIGHTS_FD_SEEK, ~0ull >> 34, 0};
	for (size_t f = 0; f < 2; f++) {
		for (size_t r = 0; r < 3; r++) {
			__wasi_fd_t fd;
			__wasi_errno_t err =
				__wasi_path_open(dir, __WASI_LOOKUPFLAGS_SYMLINK_FOLLOW, path, flags[f], rights[r], rights[r], 0, &fd);
			if (err != 0) {
				if (f == 0 && r == 0 && err != __WASI_ERRNO_BADF) fprintf(stderr, "refused %s: %s (errno %u)\n", how, path, err);
				continue;
			}
			worked(how, dir, path);
			(void)__wasi_fd_close(fd);
		}
	}
}

static void try_stat(__wasi_fd_t dir, const char *path) {
	__wasi_filestat_t st;
	if (__wasi_path_filestat_get(dir, __WASI_LOOKUPFLAGS_SYMLINK_FOLLOW, path, &st) == 0) worked("stat", dir, path);
}

// try_links follows each symbolic link at the top of a dataset. The test that
// uses this program lets them point outside, and none inside.
static void try_links(__wasi_fd_t fd) {
	static uint8_t entries[64 << 10];
	__wasi_size_t used;
	if (__wasi_fd_readdir(fd, entries, sizeof entries, 0, &used) != 0) return;
	for (__wasi_size_t at = 0; at + sizeof(__wasi_dirent_t) <= used;) {
		__wasi_dirent_t e;
		memcpy(&e, entries + at, sizeof e);
		at += sizeof e;
		if (at + e.d_namlen > used) break;
		char name[256 + 8];
		if (e.d_type == __WASI_FILETYPE_SYMBOLIC_LINK && e.d_namlen < 256) {
			memcpy(name, entries + at, e.d_namlen);
			name[e.d_namlen] = 0;
			try_open("symbolic link", fd, name);
			strcat(name, "/passwd");
			try_open("symbolic link to a directory", fd, name);
		}
		at += e.d_namlen;
	}
}

int main(void) {
	static const char *const paths[] = {
		"/etc/passwd", "../../etc/passwd", "../etc/passwd", "..", "../", "/", "//etc/passwd", "./../../../../../../etc/passwd",
		"x/../../../../../../etc/passwd", "/proc/self/environ", "../../proc/self/maps", "/dev/urandom", "../../../../dev/zero", "....//etc/passwd",
		"..\\..\\etc\\passwd", "/data/../etc/passwd", "/proc/self/fd/0", "/proc/self/mem", "/proc/1/environ", "/proc/self/cwd",
		"/dev/mem", "/dev/fd/3", "/sys/kernel", "/data",
	};
	for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
		for (__wasi_fd_t fd = 0; fd < LAST; fd++) try_open("path", fd, paths[i]);
		for (__wasi_fd_t fd = FIRST; fd < LAST; fd++) try_stat(fd, paths[i]);
		int fd = open(paths[i], O_RDONLY);
		if (fd >= 0) worked("open", (__wasi_fd_t)fd, paths[i]);
	}
	for (__wasi_fd_t fd = FIRST; fd < LAST; fd++) {
		__wasi_prestat_t st;
		if (__wasi_fd_prestat_get(fd, &st) == 0) {
			try_links(fd);
			continue;
		}
		// Not a preopen: nothing may be behind it.
		__wasi_fdstat_t any;
		if (__wasi_fd_fdstat_get(fd, &any) == 0) worked("descriptor", fd, "nobody opened it");
	}
	if (leaked) return 0;
	fputs("refused: nothing outside could be read\n", stderr);
	return 13;
}

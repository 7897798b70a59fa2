// write: tries to change what it was given, by every way that wasip1 has.
//
// Exit code 0 and "WROTE ..." on stdout: something changed. Exit code 13: all
// was refused, as stderr tells.
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <wasi/api.h>

static bool wrote;

static void check(const char *what, __wasi_errno_t err) {
	if (err == 0) {
		printf("WROTE %s\n", what);
		wrote = true;
	} else {
		fprintf(stderr, "refused %s (errno %u)\n", what, err);
	}
}

static __wasi_errno_t open_for(__wasi_fd_t dir, const char *path, __wasi_oflags_t how, __wasi_rights_t rights,
                               __wasi_fdflags_t flags, __wasi_fd_t *fd) {
	return __wasi_path_open(dir, 0, path, how, rights, rights, flags, fd);
}

// try_file tries all that can be done to a file through its descriptor. Some
// hosts hand one out and refuse at the write.
static void try_file(__wasi_fd_t dir, const char *path, __wasi_fdflags_t flags) {
	__wasi_fd_t fd;
	__wasi_errno_t err = open_for(dir, path, 0, __WASI_RIGHTS_FD_READ | __WASI_RIGHTS_FD_WRITE | __WASI_RIGHTS_FD_SEEK, flags, &fd);
	if (err != 0) fprintf(stderr, "refused open for writing (errno %u)\n", err);
	// Reading is granted; whether such a descriptor lets itself be written is
	// the question then.
	if (err != 0) err = open_for(dir, path, 0, __WASI_RIGHTS_FD_READ, 0, &fd);
	if (err != 0) return;
	__wasi_ciovec_t text = {.buf = (const uint8_t *)"x", .buf_len = 1};
	__wasi_size_t n = 0;
	check("fd_write", __wasi_fd_write(fd, &text, 1, &n));
	check("fd_pwrite", __wasi_fd_pwrite(fd, &text, 1, 0, &n));
	check("fd_filestat_set_size", __wasi_fd_filestat_set_size(fd, 0));
	check("fd_allocate", __wasi_fd_allocate(fd, 0, 1 << 20));
	check("fd_filestat_set_times", __wasi_fd_filestat_set_times(fd, 0, 0, __WASI_FSTFLAGS_ATIM | __WASI_FSTFLAGS_MTIM));
	(void)__wasi_fd_close(fd);
}

// truncate fails too if the host opened the file and left its bytes there.
static __wasi_errno_t truncate(__wasi_fd_t dir, const char *path, __wasi_rights_t rights) {
	__wasi_fd_t fd;
	__wasi_filestat_t st;
	__wasi_errno_t err = open_for(dir, path, __WASI_OFLAGS_TRUNC, rights | __WASI_RIGHTS_FD_FILESTAT_GET, 0, &fd);
	if (err != 0) return err;
	err = __wasi_fd_filestat_get(fd, &st);
	(void)__wasi_fd_close(fd);
	return err == 0 && st.size > 0 ? __WASI_ERRNO_ROFS : err;
}

// first_file finds a regular file that is not empty at the top of a directory.
static bool first_file(__wasi_fd_t dir, char name[256]) {
	static uint8_t entries[64 << 10];
	__wasi_size_t used;
	if (__wasi_fd_readdir(dir, entries, sizeof entries, 0, &used) != 0) return false;
	for (__wasi_size_t at = 0; at + sizeof(__wasi_dirent_t) <= used;) {
		__wasi_dirent_t e;
		memcpy(&e, entries + at, sizeof e);
		at += sizeof e;
		if (at + e.d_namlen > used) break;
		if (e.d_type == __WASI_FILETYPE_REGULAR_FILE && e.d_namlen < 256) {
			memcpy(name, entries + at, e.d_namlen);
			name[e.d_namlen] = 0;
			__wasi_filestat_t st;
			if (__wasi_path_filestat_get(dir, 0, name, &st) == 0 && st.size > 0) return true;
		}
		at += e.d_namlen;
	}
	return false;
}

static void try_directory(__wasi_fd_t dir) {
	const __wasi_rights_t write = __WASI_RIGHTS_FD_READ | __WASI_RIGHTS_FD_WRITE;
	__wasi_fd_t fd;
	check("create", open_for(dir, "liop-new", __WASI_OFLAGS_CREAT, write, 0, &fd));
	check("create exclusively", open_for(dir, "liop-new2", __WASI_OFLAGS_CREAT | __WASI_OFLAGS_EXCL, write, 0, &fd));
	check("create for reading", open_for(dir, "liop-new3", __WASI_OFLAGS_CREAT, __WASI_RIGHTS_FD_READ, 0, &fd));
	check("mkdir", __wasi_path_create_directory(dir, "liop-dir"));
	check("symlink", __wasi_path_symlink("/etc/passwd", dir, "liop-link"));
	char name[256];
	if (!first_file(dir, name)) return;
	try_file(dir, name, 0);
	try_file(dir, name, __WASI_FDFLAGS_APPEND);
	check("link", __wasi_path_link(dir, 0, name, dir, "liop-hard"));
	check("path_filestat_set_times", __wasi_path_filestat_set_times(dir, 0, name, 0, 0, __WASI_FSTFLAGS_ATIM | __WASI_FSTFLAGS_MTIM));
	check("rename", __wasi_path_rename(dir, name, dir, "liop-renamed"));
	check("truncate", truncate(dir, name, write));
	check("truncate for reading", truncate(dir, name, __WASI_RIGHTS_FD_READ));
	check("unlink", __wasi_path_unlink_file(dir, name));
	check("rmdir", __wasi_path_remove_directory(dir, "."));
}

int main(void) {
	__wasi_prestat_t st;
	for (__wasi_fd_t fd = 3; __wasi_fd_prestat_get(fd, &st) == 0; fd++) try_directory(fd);
	return wrote ? 0 : 13;
}

// links: tries to make links, symbolic and hard, to files outside of its
// dataset, and to go through them.
//
// Exit code 0 and "LINKED ..." or "LEAK ..." on stdout: it made one, or went
// through one. Exit code 13: all was refused.
#include <stdbool.h>
#include <stdio.h>
#include <wasi/api.h>

int main(void) {
	static const char *const targets[] = {"/etc/passwd", "../../etc/passwd", "..", "/", ".", "/proc/self/root", "/data"};
	bool through = false;
	__wasi_prestat_t st;
	for (__wasi_fd_t dir = 3; __wasi_fd_prestat_get(dir, &st) == 0; dir++) {
		for (size_t i = 0; i < sizeof targets / sizeof *targets; i++) {
			__wasi_fd_t fd;
			if (__wasi_path_symlink(targets[i], dir, "liop-link") == 0) {
				printf("LINKED symbolic, %s\n", targets[i]);
				through = true;
			}
			if (__wasi_path_link(dir, 1, targets[i], dir, "liop-hard") == 0) {
				printf("LINKED hard, %s\n", targets[i]);
				through = true;
			}
			for (__wasi_fd_t other = 0; other < 8; other++) {
				if (__wasi_path_link(other, 1, targets[i], dir, "liop-hard") == 0 ||
				    __wasi_path_rename(other, targets[i], dir, "liop-renamed") == 0) {
					printf("LINKED from descriptor %u, %s\n", other, targets[i]);
					through = true;
				}
			}
			if (__wasi_path_open(dir, 1, "liop-link", 0, __WASI_RIGHTS_FD_READ, 0, 0, &fd) == 0 ||
			    __wasi_path_open(dir, 1, "liop-link/passwd", 0, __WASI_RIGHTS_FD_READ, 0, 0, &fd) == 0 ||
			    __wasi_path_open(dir, 1, "liop-hard", 0, __WASI_RIGHTS_FD_READ, 0, 0, &fd) == 0) {
				printf("LEAK %s\n", targets[i]);
				through = true;
			}
		}
	}
	if (through) return 0;
	fputs("refused: no link was made\n", stderr);
	return 13;
}

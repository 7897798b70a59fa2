// fd-exhaust: opens its datasets and their files, again and again, until the
// node refuses, and exits with all of them open. The node must refuse at some
// point, and must have released all when it runs the next one.
//
// Exit code 13: refused, after at least a few. Exit code 0 and "OPENED ..." or
// "LEAKED ..." on stdout: it was never refused, or found those of the last run
// still open.
#include <stdio.h>
#include <wasi/api.h>

enum { FEW = 16, MANY = 1 << 16 };

int main(void) {
	__wasi_fd_t fd;
	__wasi_errno_t err = 0;
	int n = 0;
	for (; n < MANY; n++) {
		err = __wasi_path_open(3, 0, ".", __WASI_OFLAGS_DIRECTORY, __WASI_RIGHTS_FD_READDIR, 0, 0, &fd);
		if (err != 0) break;
	}
	if (n == MANY) {
		printf("OPENED %d\n", n);
		return 0;
	}
	if (n < FEW) {
		printf("LEAKED: refused after %d (errno %u)\n", n, err);
		return 0;
	}
	// Each one that is closed makes room for one.
	for (int i = 0; i < FEW; i++) {
		(void)__wasi_fd_close(fd);
		err = __wasi_path_open(3, 0, ".", __WASI_OFLAGS_DIRECTORY, __WASI_RIGHTS_FD_READDIR, 0, 0, &fd);
		if (err != 0) {
			printf("LEAKED: nothing opens after a close (errno %u)\n", err);
			return 0;
		}
	}
	fprintf(stderr, "refused after %d (errno %u)\n", n, err);
	return 13;
}

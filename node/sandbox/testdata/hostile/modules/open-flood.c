// open-flood: opens and closes its first dataset without end, to wear the host
// out.
#include <wasi/api.h>

int main(void) {
	for (;;) {
		__wasi_fd_t fd;
		if (__wasi_path_open(3, 0, ".", __WASI_OFLAGS_DIRECTORY, __WASI_RIGHTS_FD_READDIR, 0, 0, &fd) == 0) (void)__wasi_fd_close(fd);
	}
}

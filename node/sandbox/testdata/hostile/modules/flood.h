// What flood-stdout and flood-stderr share.
#include <string.h>
#include <wasi/api.h>

// flood writes 64 KiB of 'x' to a descriptor, whatever comes of it.
static inline void flood(__wasi_fd_t fd) {
	static uint8_t text[64 << 10];
	if (text[0] == 0) memset(text, 'x', sizeof text);
	__wasi_ciovec_t all = {.buf = text, .buf_len = sizeof text};
	__wasi_size_t n;
	(void)__wasi_fd_write(fd, &all, 1, &n);
}

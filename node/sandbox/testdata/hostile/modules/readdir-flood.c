// readdir-flood: lists its first dataset without end, from the start each time,
// through buffers of all sizes.
#include <stdint.h>
#include <wasi/api.h>

int main(void) {
	static uint8_t buf[64 << 10];
	for (__wasi_size_t size = 0;; size = (size * 3 + 1) % sizeof buf) {
		__wasi_size_t used;
		(void)__wasi_fd_readdir(3, buf, size, 0, &used);
	}
}

// random: asks for 256 MiB of random bytes in one host call, which no epoch
// or fuel interrupts. The node must refuse, or stop it at the deadline.
//
// Exit code 12: it did not get the memory. Exit code 13: refused. Exit code 0
// and "FILLED": it got the bytes.
#include <stdint.h>
#include <stdio.h>
#include <wasi/api.h>

enum { BYTES = 256 << 20, PAGE = 64 << 10 };

int main(void) {
	size_t page = __builtin_wasm_memory_grow(0, BYTES / PAGE);
	if (page == (size_t)-1) {
		fputs("no memory\n", stderr);
		return 12;
	}
	__wasi_errno_t err = __wasi_random_get((uint8_t *)(page * PAGE), BYTES);
	if (err != 0) {
		fprintf(stderr, "refused: random_get (errno %u)\n", err);
		return 13;
	}
	puts("FILLED");
	return 0;
}

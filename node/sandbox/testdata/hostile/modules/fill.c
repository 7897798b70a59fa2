// fill: one memory.fill after the other over as much memory as it gets, at
// most 256 MiB. Each is one instruction, within which no epoch interrupts.
#include <stddef.h>
#include <string.h>

enum { MOST = 4096, PAGE = 64 << 10 }; // pages, bytes

int main(void) {
	size_t pages = MOST, first;
	while ((first = __builtin_wasm_memory_grow(0, pages)) == (size_t)-1) pages /= 2;
	for (int c = 0;; c++) {
		memset((void *)(first * PAGE), c, pages * PAGE);
		__asm__ volatile("" ::: "memory"); // each of them counts
	}
}

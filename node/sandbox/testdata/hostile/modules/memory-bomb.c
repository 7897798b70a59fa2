// memory-bomb: takes all the memory it can get and touches each page, then
// aborts. The node must refuse to grow at the limit, and stay small itself.
#include <stddef.h>
#include <stdlib.h>

enum { PAGE = 64 << 10 };

int main(void) {
	for (size_t step = 1024; step > 0; step /= 2) {
		for (;;) {
			size_t old = __builtin_wasm_memory_grow(0, step);
			if (old == (size_t)-1) break;
			for (size_t page = old; page < old + step; page++) *(volatile char *)(page * PAGE) = 1;
		}
	}
	abort();
}

// trap: writes something to stdout and executes unreachable. It must not
// become an answer.
#include <stdio.h>

int main(void) {
	puts("not an answer");
	fflush(stdout);
	__builtin_trap();
}

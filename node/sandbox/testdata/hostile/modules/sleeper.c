// sleeper: sleeps for an hour, which costs no CPU and, in a host that sleeps
// for it, cannot be interrupted. The node must stop it at the deadline.
#include <stdio.h>
#include <time.h>

int main(void) {
	struct timespec hour = {.tv_sec = 3600};
	if (nanosleep(&hour, NULL) != 0) {
		fputs("refused: sleep\n", stderr);
		return 13;
	}
	puts("slept");
	return 0;
}

// recurse: calls itself until the engine's stack ends. It uses no stack in
// linear memory, whose end would be another trap.
static volatile int depth, end = -1;

__attribute__((noinline)) static int recurse(int n) {
	depth = n;
	if (n == end) return 0; // never, which the compiler cannot know
	int below = recurse(n + 1);
	return below + depth; // after the call: not a tail call
}

int main(void) { return recurse(0); }

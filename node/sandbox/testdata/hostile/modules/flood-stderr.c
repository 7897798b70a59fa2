// flood-stderr: writes 1 GiB to stderr, then answers "ok". The node must keep
// a bounded part of it, and may let the program end.
#include <stdio.h>

#include "flood.h"

int main(void) {
	for (int i = 0; i < 16 << 10; i++) flood(2);
	puts("ok");
	return 0;
}

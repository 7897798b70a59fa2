// exit3: writes something to stdout and exits with code 3. It must not become
// an answer.
#include <stdio.h>

int main(void) {
	puts("not an answer");
	return 3;
}

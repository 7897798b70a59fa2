// echo: answers with the arguments after argv[0], one a line, and then with stdin as it is.
#include <stdio.h>
#include <unistd.h>

int main(int argc, char **argv) {
	for (int i = 1; i < argc; i++) puts(argv[i]);
	fflush(stdout);
	static char buf[64 << 10];
	for (;;) {
		ssize_t n = read(0, buf, sizeof buf);
		if (n < 0) return 1;
		if (n == 0) return 0;
		for (char *p = buf; n > 0;) {
			ssize_t w = write(1, p, (size_t)n);
			if (w <= 0) return 1;
			p += w;
			n -= w;
		}
	}
}

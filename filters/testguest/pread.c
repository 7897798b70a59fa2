// pread: reads the file /data/d/f at growing offsets, by calls for as much as 32
// MiB, and answers with a line for each: how many bytes came, and the last one.
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { MOST = 32 << 20 };

int main(void) {
	int fd = open("/data/d/f", O_RDONLY);
	unsigned char *buf = malloc(MOST);
	if (fd < 0 || !buf) return 1;
	off_t at = 0;
	for (ssize_t n; (n = pread(fd, buf, MOST, at)) != 0; at += n) {
		if (n < 0) return 2;
		printf("%zd %u\n", n, buf[n - 1]);
	}
	return 0;
}

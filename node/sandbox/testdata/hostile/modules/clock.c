// clock: prints two readings of the monotonic clock, in nanoseconds, one a
// line. The node's clock is coarse: both are whole milliseconds.
#include <inttypes.h>
#include <stdio.h>
#include <wasi/api.h>

int main(void) {
	for (int i = 0; i < 2; i++) {
		__wasi_timestamp_t t;
		if (__wasi_clock_time_get(__WASI_CLOCKID_MONOTONIC, 1, &t) != 0) return 1;
		printf("%" PRIu64 "\n", t);
	}
	return 0;
}

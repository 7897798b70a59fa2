// clock: looks for a clock that is fine enough to tell what other tenants leave
// in the caches: one whose readings are not all whole milliseconds.
//
// Exit code 0 and "FINE ..." on stdout: it found one. Exit code 13: all clocks
// that there are are coarse.
#include <inttypes.h>
#include <stdio.h>
#include <wasi/api.h>

enum { CLOCKS = 8, READINGS = 1000, MILLISECOND = 1000000 };

int main(void) {
	for (__wasi_clockid_t id = 0; id < CLOCKS; id++) {
		__wasi_timestamp_t t;
		for (int i = 0; i < READINGS && __wasi_clock_time_get(id, 0, &t) == 0; i++) {
			if (t % MILLISECOND == 0) continue;
			printf("FINE: clock %" PRIu32 " read %" PRIu64 " ns\n", id, t);
			return 0;
		}
		if (__wasi_clock_res_get(id, &t) == 0 && t < MILLISECOND) {
			printf("FINE: clock %" PRIu32 " has a resolution of %" PRIu64 " ns\n", id, t);
			return 0;
		}
	}
	fputs("refused: no clock is finer than a millisecond\n", stderr);
	return 13;
}

#include <stdint.h>
#include <stddef.h>

// The message of the trap that ends a guest which sleeps past its deadline.
#define LIOP_DEADLINE "liop: deadline"

// A bounded buffer that a guest writes to.
typedef struct {
	unsigned char *p;
	size_t len, cap, alloc;
	int over; // the guest wrote past cap
} liop_buf;

// How much a guest may ask of one call (package bounds).
typedef struct {
	uint64_t tick_ns;       // the guest's clock resolution
	uint32_t random;        // bytes of random_get
	uint32_t subscriptions; // of poll_oneoff, at most LIOP_EVENTS
	uint32_t iovecs;        // of fd_write and fd_pread
	uint32_t read;          // bytes of fd_pread
} liop_bounds;

#define LIOP_EVENTS 64

// What the host functions of one process share.
typedef struct {
	liop_bounds max;
	_Atomic uint64_t deadline_ns; // CLOCK_MONOTONIC, 0 for none; no host function blocks past it
	void *engine;                 // whose epoch moves at the deadline
	liop_buf out, err;            // what the guest of this run writes to 1 and 2
} liop_host;

void liop_set_stdin(void *wasi, const void *p, size_t n);

liop_host *liop_host_new(void *engine, liop_bounds max);
int liop_deadline_set(liop_host *h, uint64_t ns_from_now);
void liop_deadline_clear(liop_host *h);
void liop_streams_reset(liop_host *h, size_t out_cap, size_t err_cap);
const char *liop_define_host(void *linker, liop_host *h);

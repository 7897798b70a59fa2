#include <stdint.h>
#include <stddef.h>
#include <stdbool.h>

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

// What one run may have, and how many bytes of it stay mapped for the next.
typedef struct {
	uint32_t instances, memories, tables;
	size_t table_elements, instance_size, resident;
} liop_pool;

void liop_keep_memory(void *wasm_config, liop_pool p);

void liop_set_stdin(void *wasi, const void *p, size_t n);

liop_host *liop_host_new(liop_bounds max);
int liop_deadline_set(liop_host *h, uint64_t ns_from_now);
void liop_deadline_clear(liop_host *h);
void liop_streams_reset(liop_host *h, size_t out_cap, size_t err_cap);
// Makes what fd_pread needs, for the engine that runs the guest.
bool liop_prepare_pread(liop_host *h);
const char *liop_define_host(void *linker, liop_host *h);

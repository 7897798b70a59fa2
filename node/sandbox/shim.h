#include <stdint.h>
#include <stddef.h>

// The message of the trap that ends a guest which sleeps past its deadline.
#define LIOP_DEADLINE "liop: deadline"

// A bounded buffer that a guest's stdout or stderr is written to.
typedef struct {
	unsigned char *p;
	size_t len, cap, alloc;
	int over;  // the guest wrote past cap
	void *stop; // engine whose epoch ends the guest at its first write past cap;
	            // NULL: take what is past cap and forget it
} liop_buf;

// What the host functions of one process share.
typedef struct {
	uint64_t deadline_ns; // CLOCK_MONOTONIC; no host function blocks past it
} liop_host;

liop_buf *liop_buf_new(size_t cap, void *stop);
void liop_buf_free(liop_buf *b);
void liop_set_stdout(void *wasi, liop_buf *b);
void liop_set_stderr(void *wasi, liop_buf *b);
void liop_set_stdin(void *wasi, const void *p, size_t n);

liop_host *liop_host_new(void);
void liop_host_deadline(liop_host *h, uint64_t ns_from_now);
const char *liop_define_host(void *linker, liop_host *h);

//go:build cgo

// What the Go binding of Wasmtime does not expose: stdin from memory, and host
// functions in C that replace those of WASI which block, tell too much, or are
// slow.

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>
#include "engine.h"
#include "shim.h"

// ---- memory ----

void liop_keep_memory(void *config, liop_pool p) {
	wasmtime_pooling_allocation_config_t *c = wasmtime_pooling_allocation_config_new();
	wasmtime_pooling_allocation_config_total_component_instances_set(c, 0);
	wasmtime_pooling_allocation_config_total_stacks_set(c, 0);
	wasmtime_pooling_allocation_config_total_core_instances_set(c, p.instances);
	wasmtime_pooling_allocation_config_total_memories_set(c, p.memories);
	wasmtime_pooling_allocation_config_total_tables_set(c, p.tables);
	wasmtime_pooling_allocation_config_max_tables_per_module_set(c, p.tables);
	wasmtime_pooling_allocation_config_table_elements_set(c, p.table_elements);
	wasmtime_pooling_allocation_config_max_core_instance_size_set(c, p.instance_size);
	wasmtime_pooling_allocation_config_linear_memory_keep_resident_set(c, p.resident);
	wasmtime_pooling_allocation_config_table_keep_resident_set(c, p.resident);
	wasmtime_pooling_allocation_strategy_set(config, c);
	wasmtime_pooling_allocation_config_delete(c);
}

// ---- stdin ----

void liop_set_stdin(void *wasi, const void *p, size_t n) {
	wasm_byte_vec_t v;
	wasm_byte_vec_new(&v, n, p);
	wasi_config_set_stdin_bytes(wasi, &v);
}

// ---- host functions ----

// Error numbers of WASI preview 1.
enum { WASI_OK = 0, WASI_EBADF = 8, WASI_EFAULT = 21, WASI_EINVAL = 28, WASI_EIO = 29, WASI_ENOMEM = 48, WASI_ENOSPC = 51, WASI_ENOTSUP = 58 };

static uint64_t now_ns(clockid_t id) {
	struct timespec t;
	clock_gettime(id, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

// ---- the deadline ----
//
// An interval timer and a signal handler, not a timer of the Go runtime: that
// would wake another thread at the start and end of each run, which costs more
// than a short run itself. There is one engine, and one run at a time, in a
// process.

static liop_host *the_host;

static void on_alarm(int sig) {
	(void)sig;
	// Late signals of a run that has ended find no deadline, or a later one.
	uint64_t d = atomic_load(&the_host->deadline_ns);
	if (d && now_ns(CLOCK_MONOTONIC) >= d) wasmtime_engine_increment_epoch(the_host->engine); // signal-safe
}

// liop_host_new may be called once in a process.
liop_host *liop_host_new(liop_bounds max) {
	if (max.subscriptions > LIOP_EVENTS) return NULL;
	liop_host *h = calloc(1, sizeof *h);
	if (!h) return NULL;
	h->max = max;
	the_host = h;
	struct sigaction a;
	memset(&a, 0, sizeof a);
	a.sa_handler = on_alarm;
	a.sa_flags = SA_ONSTACK | SA_RESTART; // the Go runtime's stacks are small
	sigfillset(&a.sa_mask);
	if (sigaction(SIGALRM, &a, NULL) != 0) {
		free(h);
		return NULL;
	}
	return h;
}

static int alarm_in(uint64_t ns) {
	struct itimerval t;
	memset(&t, 0, sizeof t);
	// Rounded up: an alarm that is early would find its deadline not reached.
	uint64_t us = ns / 1000 + 1;
	t.it_value.tv_sec = (time_t)(us / 1000000);
	t.it_value.tv_usec = (suseconds_t)(us % 1000000);
	// Again, in case a clock disagrees with the timer.
	t.it_interval.tv_usec = 1000;
	return setitimer(ITIMER_REAL, &t, NULL);
}

int liop_deadline_set(liop_host *h, uint64_t ns) {
	atomic_store(&h->deadline_ns, now_ns(CLOCK_MONOTONIC) + ns);
	return alarm_in(ns);
}

void liop_deadline_clear(liop_host *h) {
	atomic_store(&h->deadline_ns, 0);
	struct itimerval none;
	memset(&none, 0, sizeof none);
	setitimer(ITIMER_REAL, &none, NULL);
}

// guest returns the n bytes at ptr in the caller's memory, or NULL.
static uint8_t *guest(wasmtime_caller_t *c, uint32_t ptr, uint64_t n) {
	wasmtime_extern_t e;
	if (!wasmtime_caller_export_get(c, "memory", 6, &e) || e.kind != WASMTIME_EXTERN_MEMORY) return NULL;
	wasmtime_context_t *ctx = wasmtime_caller_context(c);
	if ((uint64_t)ptr + n > wasmtime_memory_data_size(ctx, &e.of.memory)) return NULL;
	return wasmtime_memory_data(ctx, &e.of.memory) + ptr;
}

static uint64_t get64(const uint8_t *p) {
	uint64_t v;
	memcpy(&v, p, 8); // every supported host is little-endian, as the guest is
	return v;
}

static bool clock_id(uint32_t id, clockid_t *out) {
	switch (id) {
	case 0: *out = CLOCK_REALTIME; return true;
	case 1: *out = CLOCK_MONOTONIC; return true;
	}
	return false; // no CPU-time clocks: they would be finer than the tick
}

static wasm_trap_t *clock_time_get(void *env, wasmtime_caller_t *c, wasmtime_val_raw_t *v, size_t n) {
	(void)n;
	liop_host *h = env;
	clockid_t id;
	if (!clock_id((uint32_t)v[0].i32, &id)) { v[0].i32 = WASI_ENOTSUP; return NULL; }
	uint8_t *p = guest(c, (uint32_t)v[2].i32, 8);
	if (!p) { v[0].i32 = WASI_EFAULT; return NULL; }
	uint64_t t = now_ns(id);
	t -= t % h->max.tick_ns;
	memcpy(p, &t, 8);
	v[0].i32 = WASI_OK;
	return NULL;
}

static wasm_trap_t *clock_res_get(void *env, wasmtime_caller_t *c, wasmtime_val_raw_t *v, size_t n) {
	(void)n;
	liop_host *h = env;
	clockid_t id;
	if (!clock_id((uint32_t)v[0].i32, &id)) { v[0].i32 = WASI_ENOTSUP; return NULL; }
	uint8_t *p = guest(c, (uint32_t)v[1].i32, 8);
	if (!p) { v[0].i32 = WASI_EFAULT; return NULL; }
	memcpy(p, &h->max.tick_ns, 8);
	v[0].i32 = WASI_OK;
	return NULL;
}

static wasm_trap_t *random_get(void *env, wasmtime_caller_t *c, wasmtime_val_raw_t *v, size_t n) {
	(void)n;
	liop_host *h = env;
	uint32_t len = (uint32_t)v[1].i32;
	if (len > h->max.random) { v[0].i32 = WASI_EINVAL; return NULL; }
	uint8_t *p = guest(c, (uint32_t)v[0].i32, len);
	if (!p) { v[0].i32 = WASI_EFAULT; return NULL; }
	while (len) { // getentropy gives at most 256 bytes a call
		size_t k = len < 256 ? len : 256;
		if (getentropy(p, k) != 0) { v[0].i32 = WASI_EIO; return NULL; }
		p += k;
		len -= (uint32_t)k;
	}
	v[0].i32 = WASI_OK;
	return NULL;
}

// ---- fd_pread ----
//
// The engine's own makes a buffer as long as the guest says before it looks
// whether the guest has one: at 2 GiB that ends the process. Here it is called
// with one vector that was checked, and no longer than the bound.
//
// It finds the guest's memory as an export of its caller, and a host function
// is no caller. So it is called through a second instance, which has the
// guest's memory and this function:
//
//	(import "l" "f" (func $f (param i32 i32 i32 i64 i32) (result i32)))
//	(import "l" "m" (memory 0))
//	(export "memory" (memory 0))
//	(func (export "f") (param i32 i32 i32 i64 i32) (result i32)
//	  (call $f (local.get 0) (local.get 1) (local.get 2) (local.get 3) (local.get 4)))

static const char forwarder[] =
	"\0asm\1\0\0\0" "\1\x0a\1\x60\5\x7f\x7f\x7f\x7e\x7f\1\x7f" // the type
	"\2\x0e\2\1l\1f\0\0\1l\1m\2\0\0" "\3\2\1\0" // imports, functions
	"\7\x0e\2\6memory\2\0\1f\0\1" // exports
	"\x0a\x10\1\x0e\0\x20\0\x20\1\x20\2\x20\3\x20\4\x10\0\x0b";

static const char wasi_module[] = "wasi_snapshot_preview1";

// The first two are made once, while code can still be made, the others for each
// run.
static struct {
	wasmtime_linker_t *wasi; // the engine's own functions
	wasmtime_module_t *forwarder;
	bool bound;
	wasmtime_func_t f;
} pread_via;

// ok frees an error and a trap and reports whether there was none.
static bool ok(wasmtime_error_t *err, wasm_trap_t *trap) {
	if (err) wasmtime_error_delete(err);
	if (trap) wasm_trap_delete(trap);
	return !err && !trap;
}

bool liop_prepare_pread(liop_host *h) {
	if (!pread_via.wasi) {
		wasmtime_linker_t *l = wasmtime_linker_new(h->engine);
		if (!ok(wasmtime_linker_define_wasi(l), NULL)) return false;
		pread_via.wasi = l;
	}
	return pread_via.forwarder ||
		ok(wasmtime_module_new(h->engine, (const uint8_t *)forwarder, sizeof forwarder - 1, &pread_via.forwarder), NULL);
}

static bool bind_pread(liop_host *h, wasmtime_caller_t *c) {
	if (pread_via.bound) return true;
	if (!liop_prepare_pread(h)) return false;
	wasmtime_context_t *ctx = wasmtime_caller_context(c);
	wasmtime_extern_t in[2], f;
	wasmtime_instance_t inst;
	wasm_trap_t *trap = NULL;
	if (!wasmtime_linker_get(pread_via.wasi, ctx, wasi_module, sizeof wasi_module - 1, "fd_pread", 8, &in[0]) ||
	    !wasmtime_caller_export_get(c, "memory", 6, &in[1])) return false;
	wasmtime_error_t *err = wasmtime_instance_new(ctx, pread_via.forwarder, in, 2, &inst, &trap);
	if (!ok(err, trap) || !wasmtime_instance_export_get(ctx, &inst, "f", 1, &f) || f.kind != WASMTIME_EXTERN_FUNC) return false;
	pread_via.f = f.of.func;
	return pread_via.bound = true;
}

// fd_pread(fd, iovs, iovs_len, offset, nread) fills the first vector that is
// not empty, at most max.read bytes of it: POSIX allows a short read.
static wasm_trap_t *fd_pread(void *env, wasmtime_caller_t *c, wasmtime_val_raw_t *v, size_t argc) {
	(void)argc;
	liop_host *h = env;
	uint32_t iovs = (uint32_t)v[1].i32, n = (uint32_t)v[2].i32, out = (uint32_t)v[4].i32;
	if (n > h->max.iovecs) { v[0].i32 = WASI_EINVAL; return NULL; }
	uint8_t *vec = guest(c, iovs, (uint64_t)n * 8);
	if (!vec || !guest(c, out, 4)) { v[0].i32 = WASI_EFAULT; return NULL; }
	uint32_t first = n, len = 0;
	for (uint32_t i = n; i-- > 0;) {
		uint32_t ptr, l;
		memcpy(&ptr, vec + i * 8, 4);
		memcpy(&l, vec + i * 8 + 4, 4);
		if (!guest(c, ptr, l)) { v[0].i32 = WASI_EFAULT; return NULL; }
		if (l) first = i, len = l;
	}
	if (!bind_pread(h, c)) { v[0].i32 = WASI_EIO; return NULL; }
	wasmtime_val_raw_t args[5];
	memcpy(args, v, sizeof args);
	args[1].i32 = (int32_t)(iovs + first * 8);
	args[2].i32 = first < n;
	bool shorter = len > h->max.read;
	if (shorter) memcpy(vec + first * 8 + 4, &h->max.read, 4);
	wasm_trap_t *trap = NULL;
	wasmtime_error_t *err = wasmtime_func_call_unchecked(wasmtime_caller_context(c), &pread_via.f, args, 5, &trap);
	if (shorter) memcpy(guest(c, iovs, (uint64_t)n * 8) + first * 8 + 4, &len, 4);
	if (err) {
		wasmtime_error_delete(err);
		static const char msg[] = "fd_pread failed";
		return wasmtime_trap_new(msg, sizeof msg - 1);
	}
	if (trap) return trap;
	v[0] = args[0];
	return NULL;
}

// take appends to b what has room in it and says how much that was.
static size_t take(liop_buf *b, const uint8_t *p, size_t n, uint16_t *err) {
	size_t room = b->cap - b->len;
	if (n > room) {
		b->over = 1;
		n = room;
	}
	if (b->len + n > b->alloc) {
		size_t a = b->alloc ? b->alloc * 2 : 4096;
		while (a < b->len + n) a *= 2;
		unsigned char *q = realloc(b->p, a);
		if (!q) {
			*err = WASI_ENOMEM;
			return 0;
		}
		b->p = q;
		b->alloc = a;
	}
	if (n) memcpy(b->p + b->len, p, n);
	b->len += n;
	return n;
}

// fd_write(fd, iovs, iovs_len, nwritten) writes to stdout and stderr, and to
// nothing else: no file here can be written to. The engine's own hands each
// write to another thread and waits for it.
//
// A guest that writes past the end of stdout is interrupted, for many ignore
// a failed write; what is past the end of stderr is forgotten.
static wasm_trap_t *fd_write(void *env, wasmtime_caller_t *c, wasmtime_val_raw_t *v, size_t argc) {
	(void)argc;
	liop_host *h = env;
	uint32_t fd = (uint32_t)v[0].i32, iovs = (uint32_t)v[1].i32, n = (uint32_t)v[2].i32, out = (uint32_t)v[3].i32;
	if (fd != 1 && fd != 2) { v[0].i32 = WASI_EBADF; return NULL; }
	if (n > h->max.iovecs) { v[0].i32 = WASI_EINVAL; return NULL; }
	const uint8_t *vec = guest(c, iovs, (uint64_t)n * 8);
	uint8_t *count = guest(c, out, 4);
	if (!vec || !count) { v[0].i32 = WASI_EFAULT; return NULL; }
	liop_buf *b = fd == 1 ? &h->out : &h->err;
	uint32_t total = 0;
	uint16_t err = WASI_OK;
	for (uint32_t i = 0; i < n && err == WASI_OK; i++) {
		uint32_t ptr, len;
		memcpy(&ptr, vec + i * 8, 4);
		memcpy(&len, vec + i * 8 + 4, 4);
		const uint8_t *p = guest(c, ptr, len);
		if (!p || len > UINT32_MAX - total) {
			err = WASI_EFAULT;
			break;
		}
		uint32_t took = (uint32_t)take(b, p, len, &err);
		if (fd == 2 && err == WASI_OK) took = len;
		total += took;
		if (took < len && err == WASI_OK) err = WASI_ENOSPC;
	}
	if (fd == 1 && b->over) wasmtime_engine_increment_epoch(h->engine);
	if (total > 0) err = WASI_OK; // a short write
	memcpy(count, &total, 4);
	v[0].i32 = err;
	return NULL;
}

// liop_streams_reset empties stdout and stderr for the next run, and forgets
// what belonged to the last one.
void liop_streams_reset(liop_host *h, size_t out_cap, size_t err_cap) {
	pread_via.bound = false;
	liop_buf *bs[2] = {&h->out, &h->err};
	size_t caps[2] = {out_cap, err_cap};
	for (int i = 0; i < 2; i++) {
		if (bs[i]->alloc > 1 << 20) { // a rare large answer does not stay
			free(bs[i]->p);
			bs[i]->p = NULL;
			bs[i]->alloc = 0;
		}
		bs[i]->len = 0;
		bs[i]->cap = caps[i];
		bs[i]->over = 0;
	}
}

// poll_oneoff(in, out, nsubscriptions, nevents): clocks wait, but not past the
// run's deadline; files are always ready. Layouts: WASI preview 1, subscription
// (48 bytes) and event (32 bytes).
static wasm_trap_t *poll_oneoff(void *env, wasmtime_caller_t *c, wasmtime_val_raw_t *v, size_t argc) {
	(void)argc;
	liop_host *h = env;
	uint32_t in = (uint32_t)v[0].i32, out = (uint32_t)v[1].i32, n = (uint32_t)v[2].i32, nev = (uint32_t)v[3].i32;
	if (n == 0 || n > h->max.subscriptions) { v[0].i32 = WASI_EINVAL; return NULL; }
	const uint8_t *subs = guest(c, in, (uint64_t)n * 48);
	uint8_t *events = guest(c, out, (uint64_t)n * 32);
	uint8_t *count = guest(c, nev, 4);
	if (!subs || !events || !count) { v[0].i32 = WASI_EFAULT; return NULL; }

	uint8_t ev[LIOP_EVENTS * 32];
	memset(ev, 0, sizeof ev);
	uint32_t k = 0;
	uint64_t wait = UINT64_MAX; // ns until the first clock
	uint64_t waits[LIOP_EVENTS];
	for (uint32_t i = 0; i < n; i++) {
		const uint8_t *s = subs + i * 48;
		waits[i] = UINT64_MAX;
		uint8_t *e = ev + k * 32;
		if (s[8] == 0) { // clock
			uint32_t id;
			uint16_t flags;
			clockid_t cid;
			memcpy(&id, s + 16, 4);
			memcpy(&flags, s + 40, 2);
			uint64_t t = get64(s + 24);
			if (!clock_id(id, &cid)) {
				uint16_t err = WASI_ENOTSUP;
				memcpy(e, s, 8);
				memcpy(e + 8, &err, 2);
				k++;
				continue;
			}
			if (flags & 1) { // absolute
				uint64_t now = now_ns(cid);
				t = t > now ? t - now : 0;
			}
			waits[i] = t;
			if (t < wait) wait = t;
		} else if (s[8] == 1 || s[8] == 2) { // a file, ready to be read or written
			uint64_t some = 1;
			memcpy(e, s, 8);
			e[10] = s[8];
			memcpy(e + 16, &some, 8);
			k++;
		} else {
			v[0].i32 = WASI_EINVAL;
			return NULL;
		}
	}
	if (k == 0) {
		uint64_t now = now_ns(CLOCK_MONOTONIC), end = atomic_load(&h->deadline_ns), left = end > now ? end - now : 0;
		bool late = wait > left;
		uint64_t ns = late ? left : wait;
		struct timespec t = {(time_t)(ns / 1000000000u), (long)(ns % 1000000000u)};
		while (nanosleep(&t, &t) != 0 && errno == EINTR) {
		}
		if (late) return wasmtime_trap_new(LIOP_DEADLINE, sizeof LIOP_DEADLINE - 1);
		for (uint32_t i = 0; i < n; i++) {
			if (waits[i] > wait) continue;
			memcpy(ev + k * 32, subs + i * 48, 8);
			k++;
		}
	}
	memcpy(events, ev, (size_t)k * 32);
	memcpy(count, &k, 4);
	v[0].i32 = WASI_OK;
	return NULL;
}

static const char *define(wasmtime_linker_t *l, liop_host *h, const char *name, const char *params, wasmtime_func_unchecked_callback_t f) {
	wasm_valtype_t *ps[5], *r = wasm_valtype_new(0);
	size_t n = strlen(params);
	for (size_t i = 0; i < n; i++) ps[i] = wasm_valtype_new(params[i] == 'I' ? 1 : 0); // WASM_I64, WASM_I32
	wasm_valtype_vec_t pv, rv;
	wasm_valtype_vec_new(&pv, n, ps);
	wasm_valtype_vec_new(&rv, 1, &r);
	wasm_functype_t *t = wasm_functype_new(&pv, &rv);
	wasmtime_error_t *err = wasmtime_linker_define_func_unchecked(l, wasi_module, sizeof wasi_module - 1, name, strlen(name), t, f, h, NULL);
	wasm_functype_delete(t);
	if (err) {
		wasmtime_error_delete(err);
		return name;
	}
	return NULL;
}

// liop_define_host shadows WASI functions on a linker; it returns the name of
// the one that could not be defined, or NULL. h must outlive the linker.
const char *liop_define_host(void *linker, liop_host *h) {
	const char *e;
	if ((e = define(linker, h, "poll_oneoff", "iiii", poll_oneoff))) return e;
	if ((e = define(linker, h, "fd_write", "iiii", fd_write))) return e;
	if ((e = define(linker, h, "fd_pread", "iiiIi", fd_pread))) return e;
	if ((e = define(linker, h, "random_get", "ii", random_get))) return e;
	if ((e = define(linker, h, "clock_time_get", "iIi", clock_time_get))) return e;
	return define(linker, h, "clock_res_get", "ii", clock_res_get);
}

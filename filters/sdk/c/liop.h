// liop.h: what a C guest of a liop node needs beyond wasi-libc.
//
// A guest is an ordinary wasip1 command. The node gives it
//
//   argv     "filter", then the agent's arguments
//   stdin    the agent's inputs as netstrings, or nothing
//   /data/N  one read-only directory for each granted dataset N
//   stdout   the answer
//   stderr   a message for the owner of the data
//
// and nothing else: no environment, no network, no other files. An exit code
// other than zero means that there is no answer.
//
// Header only: every function is static, and dies with a message rather than
// return what a guest could not use. Guests are single-threaded.
#ifndef LIOP_H
#define LIOP_H

#include <errno.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <wasi/api.h>

// LIOP_MAX_DATASETS bounds what liop_datasets lists.
#define LIOP_MAX_DATASETS 1024
// LIOP_MAX_INPUTS bounds the number of inputs, LIOP_MAX_INPUT_BYTES all of
// stdin. The node's own limit is what an agent meets first.
#define LIOP_MAX_INPUTS 4096
#define LIOP_MAX_INPUT_BYTES (64u << 20)

// A granted dataset: its name, which may have a slash in it, and the directory
// "/data/" + name.
typedef struct {
	char *name;
	char *dir;
} liop_dataset;

// One input. Both parts may hold any bytes; neither ends in NUL.
typedef struct {
	const unsigned char *key, *value;
	size_t key_len, value_len;
} liop_input;

// liop_die writes the message and a newline to stderr and exits with code 1.
// Messages are lower case and name files and rules, never data.
__attribute__((noreturn, format(printf, 1, 2), unused)) static void liop_die(const char *format, ...) {
	va_list args;
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
	exit(1);
}

// liop_alloc is malloc that dies instead of returning NULL.
__attribute__((unused)) static void *liop_alloc(size_t bytes) {
	void *p = malloc(bytes);
	if (!p) liop_die("out of memory");
	return p;
}

// liop_datasets stores the granted datasets in *list, sorted by name, and
// returns their number. Preopened directories elsewhere than below /data are
// not datasets and are left out.
__attribute__((unused)) static size_t liop_datasets(liop_dataset **list) {
	static const char root[] = "/data/";
	const size_t root_len = sizeof root - 1;
	liop_dataset *sets = liop_alloc(LIOP_MAX_DATASETS * sizeof *sets);
	size_t n = 0;
	__wasi_prestat_t stat;
	// wasip1: preopens are numbered from 3 without gaps; EBADF ends them.
	for (__wasi_fd_t fd = 3; __wasi_fd_prestat_get(fd, &stat) == 0; fd++) {
		size_t len = stat.u.dir.pr_name_len;
		if (stat.tag != __WASI_PREOPENTYPE_DIR || len > 4096) continue;
		char *dir = liop_alloc(len + 1);
		if (__wasi_fd_prestat_dir_name(fd, (uint8_t *)dir, len) != 0) liop_die("cannot read the name of preopen %u", fd);
		while (len > 0 && dir[len - 1] == 0) len--; // some hosts count a terminator
		dir[len] = 0;
		if (len <= root_len || memcmp(dir, root, root_len) != 0) {
			free(dir);
			continue;
		}
		if (n == LIOP_MAX_DATASETS) liop_die("more than %d datasets", LIOP_MAX_DATASETS);
		// Insertion keeps the list sorted; it is short.
		size_t at = n++;
		for (; at > 0 && strcmp(sets[at - 1].dir, dir) > 0; at--) sets[at] = sets[at - 1];
		sets[at] = (liop_dataset){.name = dir + root_len, .dir = dir};
	}
	*list = sets;
	return n;
}

// liop_netstring takes one netstring (D. J. Bernstein, 1997: "3:abc,") off
// the front of *p and returns its bytes, or NULL if there is none that ends
// before end. It reads nothing past end.
static const unsigned char *liop_netstring(const unsigned char **p, const unsigned char *end, size_t *len) {
	const unsigned char *s = *p;
	size_t n = 0, digits = 0;
	for (; s < end && *s >= '0' && *s <= '9'; s++, digits++) {
		if (digits == 9 || (digits == 1 && n == 0)) return NULL; // too long, or a leading zero
		n = n * 10 + (size_t)(*s - '0');
	}
	if (digits == 0 || s == end || *s != ':') return NULL;
	s++;
	if ((size_t)(end - s) <= n || s[n] != ',') return NULL;
	*p = s + n + 1;
	*len = n;
	return s;
}

// liop_inputs reads stdin to its end, stores the inputs in *list in the
// order of their keys, and returns their number. It dies unless stdin holds
// netstrings key, value, key, value ..., with keys in strictly ascending
// bytewise order.
__attribute__((unused)) static size_t liop_inputs(liop_input **list) {
	size_t len = 0, room = 0;
	unsigned char *data = NULL;
	for (;;) {
		if (len == room) {
			if (room > LIOP_MAX_INPUT_BYTES) liop_die("the inputs are larger than %u bytes", LIOP_MAX_INPUT_BYTES);
			room = room ? room * 2 : 64 << 10;
			data = realloc(data, room);
			if (!data) liop_die("out of memory");
		}
		ssize_t n = read(0, data + len, room - len);
		if (n < 0) liop_die("cannot read the inputs: %s", strerror(errno));
		if (n == 0) break;
		len += (size_t)n;
	}
	liop_input *in = NULL;
	size_t count = 0, slots = 0;
	const unsigned char *p = data, *end = data + len;
	while (p < end) {
		liop_input next;
		next.key = liop_netstring(&p, end, &next.key_len);
		next.value = next.key ? liop_netstring(&p, end, &next.value_len) : NULL;
		if (!next.value) liop_die("the inputs are not pairs of netstrings");
		if (count > 0) {
			const liop_input *last = &in[count - 1];
			size_t both = last->key_len < next.key_len ? last->key_len : next.key_len;
			int order = memcmp(last->key, next.key, both);
			if (order > 0 || (order == 0 && last->key_len >= next.key_len)) liop_die("the keys of the inputs are not in ascending order");
		}
		if (count == LIOP_MAX_INPUTS) liop_die("more than %d inputs", LIOP_MAX_INPUTS);
		if (count == slots) {
			slots = slots ? slots * 2 : 16;
			in = realloc(in, slots * sizeof *in);
			if (!in) liop_die("out of memory");
		}
		in[count++] = next;
	}
	*list = in;
	return count;
}

#endif

#include "csv.h"

#include <fcntl.h>
#include <inttypes.h>

#include "../sdk/c/liop.h"

static const uint64_t low7 = 0x7f7f7f7f7f7f7f7f;

// unlike has bit 7 of each byte clear where w has the byte c, set elsewhere;
// its other bits mean nothing. Exact: no carry crosses a byte.
static inline uint64_t unlike(uint64_t w, unsigned char c) {
	uint64_t x = w ^ (0x0101010101010101 * c);
	return ((x & low7) + low7) | x;
}

// marks has bit 7 of each byte set where w has a comma, quote or line feed.
static inline uint64_t marks(uint64_t w) {
	return ~((unlike(w, ',') & unlike(w, '"') & unlike(w, '\n')) | low7);
}

void csv_open(csv *r, const char *path, const char *name) {
	if (!r->buf) {
		r->buf = (char *)liop_alloc(CSV_SLACK + CSV_MAX_ROW + CSV_READ + CSV_SLACK) + CSV_SLACK;
		memset(r->buf - CSV_SLACK, 0, CSV_SLACK);
	}
	r->name = name;
	r->fd = open(path, O_RDONLY);
	if (r->fd < 0) liop_die("%s: cannot open: %s", name, strerror(errno));
	r->len = r->start = r->next = r->word = 0;
	r->mask = 0;
	r->eof = false;
	r->columns = 0;
	r->row = 0;
}

// seek continues reading at offset at, which must not be past len.
static inline void seek(csv *r, size_t at) {
	r->next = r->word = at;
	r->mask = marks(load64(r->buf + at));
}

static void wrong(const csv *r, const char *what) {
	if (r->columns == 0) liop_die("%s: header: %s", r->name, what);
	liop_die("%s: row %" PRIu64 ": %s", r->name, r->row + 1, what);
}

static void check_length(const csv *r, size_t bytes) {
	if (bytes > CSV_MAX_ROW) wrong(r, "longer than 1 MiB");
}

// fill drops what is before the current row and reads more behind it, then
// seeks to the row's start. It returns false if there was no more to read;
// the buffer ends in LF then, unless it is empty.
static bool fill(csv *r) {
	if (r->eof) return false;
	bool first = r->len == 0;
	size_t keep = r->len - r->start;
	check_length(r, keep);
	memmove(r->buf, r->buf + r->start, keep);
	r->start = 0;
	r->len = keep;
	// The byte-order mark must not be split, hence the loop for the first bytes.
	do {
		ssize_t n = read(r->fd, r->buf + r->len, CSV_READ);
		if (n < 0) liop_die("%s: cannot read: %s", r->name, strerror(errno));
		if (n == 0) {
			r->eof = true;
			close(r->fd);
			if (r->len > 0 && r->buf[r->len - 1] != '\n') r->buf[r->len++] = '\n';
			break;
		}
		r->len += (size_t)n;
	} while (first && r->len < 3);
	if (first && r->len >= 3 && memcmp(r->buf, "\xef\xbb\xbf", 3) == 0) r->start = 3;
	memset(r->buf + r->len, 0, CSV_SLACK - 1); // no marks past the end
	seek(r, r->start);
	return true;
}

// finish ends the current row of n cells, of which the next starts at stop.
static inline bool finish(csv *r, uint32_t n, size_t stop) {
	check_length(r, stop - r->start);
	if (n == r->columns) {
		r->row++;
	} else {
		if (r->columns != 0) liop_die("%s: row %" PRIu64 " has %u cells, the header has %u", r->name, r->row + 1, n, r->columns);
		r->columns = n;
	}
	return true;
}

static void too_wide(const csv *r) {
	wrong(r, r->columns ? "more cells than the header has" : "more than 4096 columns");
}

// quoted_end finds the end of the current row, which has quotes, and checks
// them. It returns the offset after its LF, or 0 if the buffer ends before.
static size_t quoted_end(csv *r) {
	const char *p = r->buf + r->start, *end = r->buf + r->len;
	while (p < end) {
		if (*p == '"') {
			for (p++;; p += 2) {
				p = memchr(p, '"', (size_t)(end - p));
				if (!p || p + 1 >= end) goto incomplete;
				if (p[1] != '"') break;
			}
			p++;
			if (*p == '\r') {
				if (p + 1 >= end) goto incomplete;
				if (p[1] == '\n') p++;
			}
			if (*p != ',' && *p != '\n') wrong(r, "text after a closing quote");
		} else {
			while (p < end && *p != ',' && *p != '\n' && *p != '"') p++;
			if (p == end) break;
			if (*p == '"') wrong(r, "a quote inside an unquoted cell");
		}
		if (*p++ == '\n') return (size_t)(p - r->buf);
	}
incomplete:
	return 0;
}

// unquote rewrites the row up to offset stop, which quoted_end has checked,
// without its quotes, and returns its number of cells. Each cell moves left
// or stays: the row lies in buf as an unquoted one would.
static uint32_t unquote(csv *r, size_t stop) {
	const char *p = r->buf + r->start;
	char *out = r->buf + r->start;
	const uint32_t most = r->columns ? r->columns : CSV_MAX_COLUMNS;
	for (uint32_t n = 0;; n++) {
		if (n == most) too_wide(r);
		if (*p == '"') {
			for (p++;;) {
				if (*p == '"') {
					if (p[1] != '"') break;
					p++;
				} else if (*p == '\r' && p[1] == '\n') {
					p++;
				}
				*out++ = *p++;
			}
			p++;
			if (*p == '\r') p++;
		} else {
			while (*p != ',' && *p != '\n') *out++ = *p++;
			if (*p == '\n' && p[-1] == '\r') out--;
		}
		r->end[n] = (uint32_t)(out - r->buf);
		if ((size_t)(p - r->buf) + 1 == stop) return n + 1;
		p++;
		out++;
	}
}

static bool next_quoted(csv *r) {
	size_t stop;
	while ((stop = quoted_end(r)) == 0) {
		if (!fill(r)) wrong(r, "a quoted cell does not end");
	}
	uint32_t n = unquote(r, stop);
	seek(r, stop);
	return finish(r, n, stop);
}

bool csv_next(csv *r) {
again:
	r->start = r->next;
	// The loop's state lives in locals: stores to end may not alias them.
	const uint32_t most = r->columns ? r->columns : CSV_MAX_COLUMNS;
	uint32_t n = 0;
	const char *buf = r->buf;
	size_t word = r->word;
	uint64_t mask = r->mask;
	for (;;) {
		while (mask == 0) {
			word += 8;
			if (word >= r->len) {
				if (!fill(r)) return false;
				goto again;
			}
			mask = marks(load64(buf + word));
		}
		size_t at = word + ((size_t)__builtin_ctzll(mask) >> 3);
		mask &= mask - 1;
		char c = buf[at];
		if (c == ',') {
			r->end[n++] = (uint32_t)at;
			if (n == most) too_wide(r);
		} else if (c == '\n') {
			r->next = at + 1;
			r->word = word;
			r->mask = mask;
			at -= buf[at - 1] == '\r';
			r->end[n++] = (uint32_t)at;
			if (n == 1 && at <= r->start) goto again; // a blank line
			return finish(r, n, r->next);
		} else {
			return next_quoted(r);
		}
	}
}

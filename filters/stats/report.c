#include "report.h"

#include <inttypes.h>

#include "../sdk/c/liop.h"

// utf8 returns the length of the UTF-8 sequence at p (RFC 3629), or 0 if
// there is none: overlong forms, surrogates and what is past U+10FFFF are none.
static size_t utf8(const unsigned char *p, size_t n) {
	static const struct {
		unsigned char first, last, low, high, len; // first byte from..to, second byte from..to
	} forms[] = {
		{0x00, 0x7f, 0, 0, 1},       {0xc2, 0xdf, 0x80, 0xbf, 2}, {0xe0, 0xe0, 0xa0, 0xbf, 3},
		{0xe1, 0xec, 0x80, 0xbf, 3}, {0xed, 0xed, 0x80, 0x9f, 3}, {0xee, 0xef, 0x80, 0xbf, 3},
		{0xf0, 0xf0, 0x90, 0xbf, 4}, {0xf1, 0xf3, 0x80, 0xbf, 4}, {0xf4, 0xf4, 0x80, 0x8f, 4},
	};
	for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
		if (p[0] < forms[i].first || p[0] > forms[i].last) continue;
		size_t len = forms[i].len;
		if (len > n) return 0;
		if (len > 1 && (p[1] < forms[i].low || p[1] > forms[i].high)) return 0;
		for (size_t k = 2; k < len; k++) {
			if ((p[k] & 0xc0) != 0x80) return 0;
		}
		return len;
	}
	return 0;
}

// print_string writes n bytes as a JSON string (RFC 8259 §7). A byte that is
// not part of UTF-8 becomes U+FFFD.
static void print_string(const char *s, size_t n) {
	const unsigned char *p = (const unsigned char *)s;
	putchar('"');
	for (size_t i = 0; i < n;) {
		size_t len = utf8(p + i, n - i);
		if (len == 0) {
			fputs("\\ufffd", stdout);
			i++;
			continue;
		}
		if (p[i] == '"' || p[i] == '\\') {
			putchar('\\');
			putchar(p[i]);
		} else if (p[i] < 0x20) {
			printf("\\u%04x", p[i]);
		} else {
			fwrite(p + i, 1, len, stdout);
		}
		i += len;
	}
	putchar('"');
}

static void print_name(const char *s) {
	if (s) print_string(s, strlen(s)); else fputs("null", stdout);
}

static int by_key(const void *x, const void *y) {
	const group *a = x, *b = y;
	int order = memcmp(a->key, b->key, a->len < b->len ? a->len : b->len);
	return order ? order : (a->len > b->len) - (a->len < b->len);
}

static int by_count(const void *x, const void *y) {
	const group *a = x, *b = y;
	return a->rows != b->rows ? (a->rows < b->rows) - (a->rows > b->rows) : by_key(x, y);
}

static int by_sum(const void *x, const void *y) {
	wide a = ((const group *)x)->numbers.sum, b = ((const group *)y)->numbers.sum;
	return a != b ? (a < b) - (a > b) : by_key(x, y);
}

static int by_double_sum(const void *x, const void *y) {
	double a = ((const group *)x)->numbers.dsum, b = ((const group *)y)->numbers.dsum;
	return a != b ? (a < b) - (a > b) : by_key(x, y);
}

// sort_by_sum compares doubles if it must for some: then it does for all, so
// that the order is one.
static void sort_by_sum(groups *g, uint32_t scale) {
	bool inexact = false;
	for (uint32_t i = 0; i < g->count; i++) inexact |= g->list[i].numbers.inexact;
	if (inexact) {
		for (uint32_t i = 0; i < g->count; i++) g->list[i].numbers.dsum = total_sum(&g->list[i].numbers, scale);
	}
	qsort(g->list, g->count, sizeof *g->list, inexact ? by_double_sum : by_sum);
}

void report_print(const report *r, groups *g) {
	uint64_t rows = 0, skipped = 0;
	for (uint32_t i = 0; i < g->count; i++) {
		rows += g->list[i].rows;
		skipped += g->list[i].skipped;
	}
	switch (g->count > 0 ? (int)r->order : -1) {
	case SORT_KEY: qsort(g->list, g->count, sizeof *g->list, by_key); break;
	case SORT_COUNT: qsort(g->list, g->count, sizeof *g->list, by_count); break;
	case SORT_SUM: sort_by_sum(g, r->scale); break;
	}
	fputs("{\"column\":", stdout);
	print_name(r->column);
	fputs(",\"by\":", stdout);
	print_name(r->by);
	printf(",\"rows\":%" PRIu64, rows);
	if (r->column) printf(",\"skipped\":%" PRIu64, skipped);
	fputs(",\"groups\":[", stdout);
	for (uint32_t i = 0; i < g->count && (r->top == 0 || i < r->top); i++) {
		const group *n = &g->list[i];
		fputs(i ? ",{\"key\":" : "{\"key\":", stdout);
		if (r->by) print_string(n->key, n->len); else fputs("null", stdout);
		printf(",\"count\":%" PRIu64, n->rows);
		if (r->column) {
			printf(",\"skipped\":%" PRIu64, n->skipped);
			total_print(&n->numbers, r->scale);
		}
		putchar('}');
	}
	fputs("]}\n", stdout);
	if (fflush(stdout) != 0 || ferror(stdout)) liop_die("cannot write the answer: %s", strerror(errno));
}

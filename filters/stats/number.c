#include "number.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

const int64_t number_pow10[NUMBER_MAX_SCALE + 1] = {
	1, 10, 100, 1000, 10000, 100000, 1000000, 10000000, 100000000, 1000000000,
	10000000000, 100000000000, 1000000000000, 10000000000000, 100000000000000,
	1000000000000000, 10000000000000000, 100000000000000000, 1000000000000000000,
};

// A sum below this bound has room for 2^63 additions of 64-bit mantissas.
static const wide exact_bound = (wide)1 << 126;

static bool blank(char c) { return c == ' ' || c == '\t'; }

static bool digit(char c) { return c >= '0' && c <= '9'; }

number_kind number_parse_slowly(const char *p, size_t n, number *out) {
	const char *end = p + n;
	while (p < end && blank(*p)) p++;
	while (p < end && blank(end[-1])) end--;
	if (p == end || end - p > NUMBER_MAX_BYTES) return NOT_A_NUMBER;
	const char *text = p;
	bool negative = *p == '-';
	if (*p == '-' || *p == '+') p++;
	const uint64_t most = (uint64_t)INT64_MAX + negative;
	uint64_t m = 0;
	uint32_t digits = 0, scale = 0;
	bool point = false, fits = true;
	for (; p < end; p++) {
		if (*p == '.' && !point) {
			point = true;
			continue;
		}
		if (!digit(*p)) break;
		uint64_t d = (uint64_t)(*p - '0');
		if (m > (most - d) / 10) fits = false; else m = m * 10 + d;
		digits++;
		scale += point;
	}
	if (digits == 0) return NOT_A_NUMBER;
	if (p < end) {
		if (*p != 'e' && *p != 'E') return NOT_A_NUMBER;
		p++;
		if (p < end && (*p == '-' || *p == '+')) p++;
		if (p == end) return NOT_A_NUMBER;
		for (; p < end; p++) {
			if (!digit(*p)) return NOT_A_NUMBER;
		}
		fits = false;
	}
	if (fits && scale <= NUMBER_MAX_SCALE) {
		out->mantissa = (int64_t)(negative ? 0 - m : m);
		out->scale = scale;
		return DECIMAL;
	}
	char copy[NUMBER_MAX_BYTES + 1];
	memcpy(copy, text, (size_t)(end - text));
	copy[end - text] = 0;
	out->approx = strtod(copy, NULL);
	return isfinite(out->approx) ? DOUBLE : NOT_A_NUMBER;
}

static double unscale(wide v, uint32_t scale) { return (double)v / (double)number_pow10[scale]; }

static void make_inexact(total *t, uint32_t common) {
	if (t->inexact) return;
	t->inexact = true;
	t->dsum = unscale(t->sum, common);
	t->dmin = unscale(t->min, common);
	t->dmax = unscale(t->max, common);
}

void total_add_double(total *t, double d, uint32_t common) {
	make_inexact(t, common);
	t->dsum += d;
	if (t->count == 0 || d < t->dmin) t->dmin = d;
	if (t->count == 0 || d > t->dmax) t->dmax = d;
	t->count++;
}

static bool near_bound(wide v) { return v >= exact_bound || v <= -exact_bound; }

void total_add_decimal(total *t, number n, uint32_t common) {
	// |mantissa| < 2^63 and 10^18 < 2^60: the product always fits.
	wide value = (wide)n.mantissa * number_pow10[common - n.scale];
	if (t->inexact || near_bound(t->sum) || near_bound(t->sum + value)) {
		total_add_double(t, unscale(n.mantissa, n.scale), common);
	} else {
		total_add_scaled(t, value);
	}
}

void total_rescale(total *t, uint32_t from, uint32_t to) {
	int64_t factor = number_pow10[to - from];
	// 10^d < 2^((10 d + 2) / 3) for all d up to 18: the product stays within
	// the bound, which costs no division.
	wide most = exact_bound >> ((to - from) * 10 + 2) / 3;
	if (t->inexact || t->sum >= most || t->sum <= -most) {
		make_inexact(t, from);
		return;
	}
	t->sum *= factor;
	t->min *= factor; // one mantissa at a scale of at most 18: fits, as above
	t->max *= factor;
}

double total_sum(const total *t, uint32_t common) {
	return t->inexact ? t->dsum : unscale(t->sum, common);
}

// divide10 divides 128 bits, highest limb first, by ten and returns the rest.
// (The 128-bit division of Debian's compiler-rt for wasm32 does not link.)
static uint32_t divide10(uint32_t limbs[4]) {
	uint64_t rest = 0;
	for (int i = 0; i < 4; i++) {
		rest = rest << 32 | limbs[i];
		limbs[i] = (uint32_t)(rest / 10);
		rest %= 10;
	}
	return (uint32_t)rest;
}

static void print_decimal(wide v, uint32_t scale) {
	unsigned __int128 u = v < 0 ? -(unsigned __int128)v : (unsigned __int128)v;
	uint32_t limbs[4] = {(uint32_t)(u >> 96), (uint32_t)(u >> 64), (uint32_t)(u >> 32), (uint32_t)u};
	char text[48], *p = text + sizeof text; // 39 digits, sign, point, zero
	*--p = 0;
	bool fraction = false; // a digit after the point was written
	for (uint32_t place = 0; place <= scale || limbs[0] | limbs[1] | limbs[2] | limbs[3]; place++) {
		uint32_t d = divide10(limbs);
		if (place == scale && fraction) *--p = '.';
		if (place < scale) {
			if (d == 0 && !fraction) continue; // zeros at the end
			fraction = true;
		}
		*--p = (char)('0' + d);
	}
	if (v < 0) *--p = '-';
	fputs(p, stdout);
}

static void print_double(double d) {
	if (!isfinite(d)) {
		fputs("null", stdout);
		return;
	}
	char text[32];
	for (int precision = 15; precision <= 17; precision++) {
		snprintf(text, sizeof text, "%.*g", precision, d);
		if (strtod(text, NULL) == d) break;
	}
	fputs(text, stdout);
}

static void print_value(const char *name, const total *t, wide v, double d, uint32_t common) {
	printf(",\"%s\":", name);
	if (t->inexact) print_double(d); else print_decimal(v, common);
}

void total_print(const total *t, uint32_t common) {
	if (t->count == 0) {
		fputs(",\"sum\":0,\"mean\":null,\"min\":null,\"max\":null", stdout);
		return;
	}
	print_value("sum", t, t->sum, t->dsum, common);
	fputs(",\"mean\":", stdout);
	// One rounding where sum and divisor are below 2^53.
	if (t->inexact) {
		print_double(t->dsum / (double)t->count);
	} else {
		print_double((double)t->sum / ((double)t->count * (double)number_pow10[common]));
	}
	print_value("min", t, t->min, t->dmin, common);
	print_value("max", t, t->max, t->dmax, common);
}

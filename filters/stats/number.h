// Numbers of cells, and exact sums of them.
//
// A number of up to 18 digits after the point whose digits, read as one
// integer, fit in 64 bits is a decimal and is added exactly: mantissa ×
// 10^-scale. Sums, minima and maxima of decimals are 128-bit integers at one
// scale, the largest seen so far. What does not fit is added as a double.
#ifndef STATS_NUMBER_H
#define STATS_NUMBER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "csv.h"

typedef __int128 wide;

enum {
	NUMBER_MAX_SCALE = 18, // 10^18 is the largest power of ten in 64 bits, signed
	NUMBER_MAX_BYTES = 64, // a longer cell is not a number
};

extern const int64_t number_pow10[NUMBER_MAX_SCALE + 1];

typedef enum { NOT_A_NUMBER, DECIMAL, DOUBLE } number_kind;

typedef struct {
	int64_t mantissa; // of a DECIMAL
	uint32_t scale;
	double approx; // a DOUBLE
} number;

// number_parse_slowly reads [sign] digits [. digits] [e [sign] digits], with
// a digit on at least one side of the point and blanks around it, from n
// bytes. Everything else (hexadecimal, "nan", a thousands separator, a
// number too large for a double) is NOT_A_NUMBER.
number_kind number_parse_slowly(const char *p, size_t n, number *out);

// number_parse is number_parse_slowly with a short way for up to eight
// digits. It may load CSV_SLACK bytes.
static inline number_kind number_parse(const char *p, size_t n, number *out) {
	if (n == 0) return NOT_A_NUMBER;
	if (n > 8) return number_parse_slowly(p, n, out);
	const uint64_t zeros = 0x3030303030303030, high = 0xf0f0f0f0f0f0f0f0;
	// The digits move to the top, zeros fill the places below: "42" becomes
	// "00000042" with its first byte lowest.
	uint64_t w = load64(p);
	if (n < 8) w = w << (64 - 8 * n) | zeros >> (8 * n);
	// A byte is a digit if it is 3x and stays so after adding 6.
	if ((w & high) != zeros || ((w + 0x0606060606060606) & high) != zeros) return number_parse_slowly(p, n, out);
	w -= zeros;
	w = w * 10 + (w >> 8); // pairs of digits in every second byte
	const uint64_t pairs = 0x000000ff000000ff;
	w = ((w & pairs) * (100 + (1000000ull << 32)) + ((w >> 16) & pairs) * (1 + (10000ull << 32))) >> 32;
	out->mantissa = (int64_t)w;
	out->scale = 0;
	return DECIMAL;
}

// The sum of some numbers. All zero is the empty one.
typedef struct {
	uint64_t count;
	wide sum, min, max; // at the common scale, unless inexact
	bool inexact;       // the doubles count instead
	double dsum, dmin, dmax;
} total;

// total_add_double adds a number that is not a DECIMAL, or to a total that is
// inexact.
void total_add_double(total *t, double d, uint32_t common);

// total_add_scaled adds value × 10^-common.
static inline void total_add_scaled(total *t, wide value) {
	t->sum += value;
	if (t->count == 0) {
		t->min = t->max = value;
	} else {
		if (value < t->min) t->min = value;
		if (value > t->max) t->max = value;
	}
	t->count++;
}

// total_add_decimal adds a decimal whose scale is at most common.
void total_add_decimal(total *t, number n, uint32_t common);

// total_rescale changes the scale of a total from one to another, larger one.
void total_rescale(total *t, uint32_t from, uint32_t to);

// total_sum is the sum as a double.
double total_sum(const total *t, uint32_t common);

// total_print writes "sum":…,"mean":…,"min":…,"max":… to stdout. Exact values
// are written with all their digits, doubles with the fewest that tell them
// apart; what there is none of, or what no double holds, is null.
void total_print(const total *t, uint32_t common);

#endif

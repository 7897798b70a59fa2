// The answer: one line of JSON.
#ifndef STATS_REPORT_H
#define STATS_REPORT_H

#include "groups.h"

typedef enum { SORT_KEY, SORT_COUNT, SORT_SUM } sort_order;

typedef struct {
	const char *column, *by; // as asked for, or NULL
	sort_order order;
	uint32_t top;   // write at most so many groups; 0 is all
	uint32_t scale; // of all totals
} report;

// report_print sorts the groups and writes the answer to stdout. It dies if
// it cannot be written.
void report_print(const report *r, groups *g);

#endif

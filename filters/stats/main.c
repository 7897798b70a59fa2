// stats: counts, sums, means and extremes over the CSV files of the granted
// datasets, by the values of a column. usage[] says how to call it.
//
// It reads all files before it writes anything: there is an answer or an
// error, never a part. Bounds are the constants of csv.h, number.h, groups.h
// and files.h.
#include <getopt.h>

#include "../sdk/c/liop.h"
#include "csv.h"
#include "files.h"
#include "groups.h"
#include "number.h"
#include "report.h"

static const char usage[] =
	"usage: stats [--by COLUMN] [--column COLUMN] [--where COLUMN=VALUE]...\n"
	"             [--sort key|count|sum] [--top N] [--file PATTERN]";

enum {
	MAX_WHERE = 16,           // conditions
	MAX_WHERE_BYTES = 4096, // of a condition's value
};

typedef struct {
	char *column;
	const char *value; // CSV_SLACK bytes behind it can be loaded
	size_t len;
	uint32_t index; // of the column in the current file
} condition;

typedef struct {
	report report;
	const char *files;
	condition where[MAX_WHERE];
	size_t conditions;
	groups groups;
	uint32_t by, column; // indices in the current file
} query;

__attribute__((noreturn)) static void bad_usage(const char *what) {
	liop_die("%s\n%s", what, usage);
}

static void add_condition(query *q, const char *arg) {
	const char *equals = strchr(arg, '=');
	if (!equals || equals == arg) bad_usage("--where: want COLUMN=VALUE");
	if (q->conditions == MAX_WHERE) bad_usage("--where: at most 16 conditions");
	condition *c = &q->where[q->conditions++];
	c->len = strlen(equals + 1);
	if (c->len > MAX_WHERE_BYTES) bad_usage("--where: the value is longer than 4096 bytes");
	char *value = calloc(1, c->len + CSV_SLACK);
	c->column = strdup(arg);
	if (!c->column || !value) liop_die("out of memory");
	c->value = memcpy(value, equals + 1, c->len);
	c->column[equals - arg] = 0;
}

static sort_order parse_order(const char *arg) {
	static const char *const names[] = {[SORT_KEY] = "key", [SORT_COUNT] = "count", [SORT_SUM] = "sum"};
	for (int i = SORT_KEY; i <= SORT_SUM; i++) {
		if (strcmp(arg, names[i]) == 0) return (sort_order)i;
	}
	bad_usage("--sort: want key, count or sum");
}

static uint32_t parse_top(const char *arg) {
	char *end;
	errno = 0;
	unsigned long n = strtoul(arg, &end, 10);
	if (*arg < '0' || *arg > '9' || *end || errno || n < 1 || n > GROUPS_MAX) bad_usage("--top: want a number from 1 to 100000");
	return (uint32_t)n;
}

static void parse_args(query *q, int argc, char **argv) {
	enum { BY = 1, COLUMN, WHERE, SORT, TOP, FILES };
	static const struct option options[] = {
		{"by", required_argument, NULL, BY},     {"column", required_argument, NULL, COLUMN},
		{"where", required_argument, NULL, WHERE}, {"sort", required_argument, NULL, SORT},
		{"top", required_argument, NULL, TOP},   {"file", required_argument, NULL, FILES},
		{0},
	};
	for (int o; (o = getopt_long(argc, argv, "", options, NULL)) != -1;) {
		switch (o) {
		case BY: q->report.by = optarg; break;
		case COLUMN: q->report.column = optarg; break;
		case WHERE: add_condition(q, optarg); break;
		case SORT: q->report.order = parse_order(optarg); break;
		case TOP: q->report.top = parse_top(optarg); break;
		case FILES: q->files = optarg; break;
		default: bad_usage("unknown option or missing value");
		}
	}
	if (optind < argc) bad_usage("unexpected argument");
	if (q->report.order == SORT_SUM && !q->report.column) bad_usage("--sort sum needs --column");
}

// find_column returns the index of a column by its name in the header, which
// is the current row.
static uint32_t find_column(const csv *r, const char *name) {
	uint32_t found = r->columns;
	size_t want = strlen(name), len;
	for (uint32_t i = 0; i < r->columns; i++) {
		const char *cell = csv_cell(r, i, &len);
		if (len != want || memcmp(cell, name, len) != 0) continue;
		if (found != r->columns) liop_die("%s: two columns named \"%s\"", r->name, name);
		found = i;
	}
	if (found == r->columns) liop_die("%s: no column named \"%s\"", r->name, name);
	return found;
}

static bool matches(const query *q, const csv *r) {
	for (size_t i = 0; i < q->conditions; i++) {
		const condition *c = &q->where[i];
		size_t len;
		const char *cell = csv_cell(r, c->index, &len);
		if (len != c->len) return false;
		size_t at = 0;
		for (; len - at >= 8; at += 8) {
			if (load64(cell + at) != load64(c->value + at)) return false;
		}
		if (load64_first(cell + at, len - at) != load64(c->value + at)) return false;
	}
	return true;
}

// add_number adds the current row's number to its group.
static inline void add_number(query *q, group *g, const csv *r) {
	size_t len;
	const char *cell = csv_cell(r, q->column, &len);
	number n;
	number_kind kind = number_parse(cell, len, &n);
	uint32_t scale = q->report.scale;
	if (kind == DECIMAL && n.scale == scale && !g->numbers.inexact) {
		total_add_scaled(&g->numbers, n.mantissa);
	} else if (kind == DECIMAL) {
		if (n.scale > scale) {
			for (uint32_t i = 0; i < q->groups.count; i++) total_rescale(&q->groups.list[i].numbers, scale, n.scale);
			q->report.scale = n.scale;
		}
		total_add_decimal(&g->numbers, n, q->report.scale);
	} else if (kind == DOUBLE) {
		total_add_double(&g->numbers, n.approx, scale);
	} else {
		g->skipped++;
	}
}

static void read_file(query *q, csv *r, const file *f) {
	csv_open(r, f->path, f->name);
	if (!csv_next(r)) return; // no header: nothing in it
	if (q->report.by) q->by = find_column(r, q->report.by);
	if (q->report.column) q->column = find_column(r, q->report.column);
	for (size_t i = 0; i < q->conditions; i++) q->where[i].index = find_column(r, q->where[i].column);
	while (csv_next(r)) {
		if (!matches(q, r)) continue;
		size_t len = 0;
		const char *key = q->report.by ? csv_cell(r, q->by, &len) : "\0\0\0\0\0\0\0\0";
		group *g = groups_find(&q->groups, key, len);
		g->rows++;
		if (q->report.column) add_number(q, g, r);
	}
}

int main(int argc, char **argv) {
	static query q;
	static csv reader;
	parse_args(&q, argc, argv);
	file *list;
	size_t n = files_list(q.files, &list);
	if (n == 0) liop_die(q.files ? "no file matches --file" : "no .csv file in the granted datasets");
	// Without --by all rows are one group, and it is there without rows too.
	if (!q.report.by) groups_find(&q.groups, "\0\0\0\0\0\0\0\0", 0);
	for (size_t i = 0; i < n; i++) read_file(&q, &reader, &list[i]);
	report_print(&q.report, &q.groups);
	return 0;
}

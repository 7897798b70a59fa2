// A reader of CSV (RFC 4180) that keeps up with the disk.
//
// It accepts and refuses what Go's encoding/csv does with its default
// settings: LF and CRLF line ends, quoted cells with "" and with line breaks
// (CRLF in a cell becomes LF), a last line without line end; blank lines are
// skipped; a quote inside an unquoted cell, text after a closing quote, and a
// row with another number of cells than the header are errors. A UTF-8
// byte-order mark at the start of the file is dropped.
#ifndef STATS_CSV_H
#define STATS_CSV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum {
	CSV_READ = 256 << 10,   // bytes asked of one read
	CSV_MAX_ROW = 1 << 20,  // a longer row is an error
	CSV_MAX_COLUMNS = 4096, // a wider header is an error
	CSV_SLACK = 16,         // bytes before and after a cell that may be loaded (not used)
};

typedef struct {
	const char *name; // for messages: dataset/path
	int fd;
	char *buf;    // CSV_SLACK in front and behind
	size_t len;   // bytes in buf
	size_t start; // of the current row
	size_t next;  // of the row after it
	// Bit 7 of each byte of mask marks a comma, quote or line feed that the
	// reader has yet to see in the eight bytes at word.
	size_t word;
	uint64_t mask;
	bool eof;
	uint32_t columns;                // of the header; 0 until it was read
	uint32_t end[CSV_MAX_COLUMNS]; // of each cell in buf; the next one starts a byte later
	uint64_t row;                    // data rows read, for messages
} csv;

// csv_open starts on a file; a csv may be opened again. It dies if the file
// cannot be opened.
void csv_open(csv *r, const char *path, const char *name);

// csv_next reads the next row, the header first. It returns false at the end
// of the file, which it closes, and dies on what it does not accept.
bool csv_next(csv *r);

// csv_cell returns cell i < r->columns of the current row. The bytes stay
// until the next csv_next, and CSV_SLACK bytes after them can be loaded.
static inline const char *csv_cell(const csv *r, uint32_t i, size_t *len) {
	size_t start = i ? r->end[i - 1] + 1 : r->start;
	*len = r->end[i] - start;
	return r->buf + start;
}

// load64 reads eight bytes, the first in the lowest bits (wasm is
// little-endian). n < 8 keeps only the first n.
static inline uint64_t load64(const char *p) {
	uint64_t w;
	memcpy(&w, p, 8);
	return w;
}

static inline uint64_t load64_first(const char *p, size_t n) {
	return load64(p) & ((1ull << (8 * n)) - 1);
}

#endif

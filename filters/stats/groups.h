// The groups of a group-by: a hash table from keys to what is known of the
// rows with that key.
#ifndef STATS_GROUPS_H
#define STATS_GROUPS_H

#include <stddef.h>
#include <stdint.h>

#include "number.h"

enum {
	GROUPS_MAX = 100000,          // more groups are an error
	GROUPS_MAX_KEY_BYTES = 32 << 20, // so is more text in all keys together
};

typedef struct {
	const char *key; // len bytes, padded with zeros to whole 64-bit words
	size_t len;
	uint32_t hash;
	uint64_t rows;
	uint64_t skipped; // rows whose cell is not a number
	total numbers;
} group;

typedef struct {
	group *list;
	uint32_t count, room;
	uint32_t *slots; // 1 + index into list, or 0; linear probing
	uint32_t mask;   // number of slots - 1; at most half of them are taken
	char *keys;      // where the next key goes
	size_t keys_left, key_bytes;
} groups;

// groups_find returns the group of a key, a new one if need be. It may load
// CSV_SLACK bytes after the key. The pointer is good until the next call. It
// dies at the bounds above.
group *groups_find(groups *g, const char *key, size_t len);

#endif

#include "groups.h"

#include "../sdk/c/liop.h"

enum { FIRST_SLOTS = 1024, KEY_BLOCK = 256 << 10 };

static inline uint64_t mix(uint64_t h, uint64_t word) {
	h = (h ^ word) * 0x9e3779b97f4a7c15; // 2^64 / golden ratio, odd
	return h ^ h >> 29;
}

// hash and same read whole words, the last one with zeros behind the key.
static inline uint32_t hash(const char *key, size_t len) {
	uint64_t h = len;
	for (; len >= 8; key += 8, len -= 8) h = mix(h, load64(key));
	h = mix(h, load64_first(key, len));
	return (uint32_t)(h >> 32);
}

static inline bool same(const char *padded, const char *key, size_t len) {
	for (; len >= 8; padded += 8, key += 8, len -= 8) {
		if (load64(padded) != load64(key)) return false;
	}
	return load64(padded) == load64_first(key, len);
}

// keep copies a key to where it stays, with room for its last word.
static const char *keep(groups *g, const char *key, size_t len) {
	size_t room = (len & ~(size_t)7) + 8;
	g->key_bytes += len;
	if (g->key_bytes > GROUPS_MAX_KEY_BYTES)
		liop_die("the keys of the groups are larger than %d MiB; choose another column for --by", GROUPS_MAX_KEY_BYTES >> 20);
	if (room > g->keys_left) {
		g->keys_left = room > KEY_BLOCK ? room : KEY_BLOCK;
		g->keys = liop_alloc(g->keys_left);
	}
	char *copy = g->keys;
	memset(copy + room - 8, 0, 8);
	memcpy(copy, key, len);
	g->keys += room;
	g->keys_left -= room;
	return copy;
}

static void place(groups *g, uint32_t index) {
	uint32_t at = g->list[index].hash & g->mask;
	while (g->slots[at]) at = (at + 1) & g->mask;
	g->slots[at] = index + 1;
}

static void grow_slots(groups *g) {
	uint32_t slots = g->slots ? (g->mask + 1) * 2 : FIRST_SLOTS;
	free(g->slots);
	g->slots = calloc(slots, sizeof *g->slots);
	if (!g->slots) liop_die("out of memory");
	g->mask = slots - 1;
	for (uint32_t i = 0; i < g->count; i++) place(g, i);
}

static group *add(groups *g, const char *key, size_t len, uint32_t h) {
	if (g->count == GROUPS_MAX) liop_die("more than %d groups; choose another column for --by", GROUPS_MAX);
	if (g->count == g->room) {
		g->room = g->room ? g->room * 2 : 256;
		g->list = realloc(g->list, g->room * sizeof *g->list);
		if (!g->list) liop_die("out of memory");
	}
	if (!g->slots || g->count >= (g->mask + 1) / 2) grow_slots(g);
	group *n = &g->list[g->count];
	*n = (group){.key = keep(g, key, len), .len = len, .hash = h};
	place(g, g->count++);
	return n;
}

group *groups_find(groups *g, const char *key, size_t len) {
	uint32_t h = hash(key, len);
	if (g->slots) {
		for (uint32_t at = h & g->mask; g->slots[at]; at = (at + 1) & g->mask) {
			group *n = &g->list[g->slots[at] - 1];
			if (n->hash == h && n->len == len && same(n->key, key, len)) return n;
		}
	}
	return add(g, key, len, h);
}

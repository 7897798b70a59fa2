#include "files.h"

#include <dirent.h>
#include <fnmatch.h>
#include <stdbool.h>
#include <sys/stat.h>

#include "../sdk/c/liop.h"

typedef struct {
	const char *pattern;
	file *list;
	size_t count, room;
} search;

static bool wanted(const search *s, const char *name) {
	const char *last = strrchr(name, '/') + 1; // a dataset's name comes first
	if (!s->pattern) {
		size_t len = strlen(last);
		return len >= 4 && strcmp(last + len - 4, ".csv") == 0;
	}
	return fnmatch(s->pattern, strchr(s->pattern, '/') ? name : last, FNM_PATHNAME) == 0;
}

static void add(search *s, char *path, char *name) {
	if (s->count == FILES_MAX) liop_die("more than %d files; choose some with --file", FILES_MAX);
	if (s->count == s->room) {
		s->room = s->room ? s->room * 2 : 64;
		s->list = realloc(s->list, s->room * sizeof *s->list);
		if (!s->list) liop_die("out of memory");
	}
	s->list[s->count++] = (file){.path = path, .name = name};
}

// kind is d_type, asked of the file itself where the directory does not know.
static unsigned char kind(const struct dirent *e, const char *path) {
	if (e->d_type != DT_UNKNOWN) return e->d_type;
	struct stat st;
	if (lstat(path, &st) != 0) return DT_UNKNOWN;
	return S_ISDIR(st.st_mode) ? DT_DIR : S_ISREG(st.st_mode) ? DT_REG : DT_UNKNOWN;
}

// walk looks at all that is in a directory. skip is the length of what comes
// before names in paths.
static void walk(search *s, const char *dir, size_t skip, int depth) {
	if (depth > FILES_MAX_DEPTH) liop_die("%s: more than %d directories inside each other", dir + skip, FILES_MAX_DEPTH);
	DIR *d = opendir(dir);
	if (!d) liop_die("%s: cannot open: %s", dir + skip, strerror(errno));
	for (;;) {
		errno = 0;
		struct dirent *e = readdir(d);
		if (!e) {
			if (errno) liop_die("%s: cannot list: %s", dir + skip, strerror(errno));
			break;
		}
		if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0) continue;
		size_t head = strlen(dir), tail = strlen(e->d_name);
		char *path = liop_alloc(head + 1 + tail + 1);
		memcpy(path, dir, head);
		path[head] = '/';
		memcpy(path + head + 1, e->d_name, tail + 1);
		unsigned char what = kind(e, path);
		if (what == DT_REG && wanted(s, path + skip)) {
			add(s, path, path + skip);
			continue;
		}
		if (what == DT_DIR) walk(s, path, skip, depth + 1);
		free(path);
	}
	closedir(d);
}

static int by_name(const void *a, const void *b) { return strcmp(((const file *)a)->name, ((const file *)b)->name); }

size_t files_list(const char *pattern, file **list) {
	search s = {.pattern = pattern};
	liop_dataset *sets;
	size_t n = liop_datasets(&sets);
	for (size_t i = 0; i < n; i++) walk(&s, sets[i].dir, (size_t)(sets[i].name - sets[i].dir), 0);
	if (s.count > 0) qsort(s.list, s.count, sizeof *s.list, by_name);
	*list = s.list;
	return s.count;
}

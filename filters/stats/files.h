// The files of the granted datasets.
#ifndef STATS_FILES_H
#define STATS_FILES_H

#include <stddef.h>

enum {
	FILES_MAX = 100000,   // more files in all datasets are an error
	FILES_MAX_DEPTH = 32, // so are more directories inside each other
};

typedef struct {
	char *path; // "/data/" + name
	char *name; // dataset/path/in/it
} file;

// files_list stores the regular files of all granted datasets in *list, sorted
// bytewise by name, and returns their number. With a pattern (fnmatch(3)) it
// lists the files that match it: by their last name, or if the pattern has a
// slash by their whole name, where * and ? do not match a slash. Without one
// it lists those that end in ".csv". Symbolic links are not followed. It dies
// if a directory cannot be read, and at the bounds above.
size_t files_list(const char *pattern, file **list);

#endif

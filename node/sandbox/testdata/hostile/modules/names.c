// names: opens files by names that a host may misread: other encodings of dots
// and slashes, NUL bytes, names and paths of any length.
//
// Exit code 0 and "OPENED ..." on stdout: one of them opened, although none is
// a name of a file in a dataset. Exit code 13: all were refused.
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <wasi/api.h>

// The length is a parameter of its own in wasip1, so names may hold any byte;
// the C binding measures them with strlen.
__attribute__((import_module("wasi_snapshot_preview1"), import_name("path_open"))) int32_t path_open(
	int32_t dir, int32_t lookup, const char *path, int32_t len, int32_t how, int64_t rights, int64_t inheriting, int32_t flags, int32_t *fd);
__attribute__((import_module("wasi_snapshot_preview1"), import_name("path_filestat_get"))) int32_t path_filestat_get(
	int32_t dir, int32_t lookup, const char *path, int32_t len, __wasi_filestat_t *st);
__attribute__((import_module("wasi_snapshot_preview1"), import_name("path_readlink"))) int32_t path_readlink(
	int32_t dir, const char *path, int32_t len, char *buf, int32_t size, int32_t *used);

static bool opened;

static void attempt(const char *what, const char *path, size_t len) {
	for (int32_t dir = 3; dir < 6; dir++) {
		int32_t fd, used;
		__wasi_filestat_t st;
		char link[64];
		bool in = path_open(dir, 1, path, (int32_t)len, 0, 2, 0, 0, &fd) == 0 ||
		          path_open(dir, 1, path, (int32_t)len, __WASI_OFLAGS_DIRECTORY, 0, 0, 0, &fd) == 0 ||
		          path_filestat_get(dir, 1, path, (int32_t)len, &st) == 0 ||
		          path_readlink(dir, path, (int32_t)len, link, sizeof link, &used) == 0;
		if (!in) continue;
		printf("OPENED %s\n", what);
		opened = true;
	}
}

// repeated fills a large buffer with copies of a part, and a tail.
static void repeated(const char *what, const char *part, size_t times, const char *tail) {
	static char path[4 << 20];
	size_t n = 0, len = strlen(part);
	for (size_t i = 0; i < times; i++, n += len) memcpy(path + n, part, len);
	memcpy(path + n, tail, strlen(tail));
	attempt(what, path, n + strlen(tail));
}

int main(void) {
	static const struct {
		const char *what, *path;
		size_t len;
	} names[] = {
#define NAME(what, text) {what, text, sizeof text - 1}
		NAME("an empty name", ""),
		NAME("NUL", "\0"),
		NAME("NUL before a slash", "a\0/../../etc/passwd"),
		NAME("NUL after dots", "..\0"),
		NAME("NUL after an absolute path", "/etc/passwd\0.csv"),
		NAME("overlong dots", "\xc0\xae\xc0\xae/\xc0\xae\xc0\xae/etc/passwd"),
		NAME("overlong slashes", "..\xc0\xaf..\xc0\xaf" "etc\xc0\xafpasswd"),
		NAME("overlong dots of three bytes", "\xe0\x80\xae\xe0\x80\xae/etc/passwd"),
		NAME("overlong NUL", "a\xc0\x80"),
		NAME("a surrogate", "\xed\xa0\x80"),
		NAME("bytes that no UTF-8 has", "\xff\xfe"),
		NAME("a cut character", "\xe2\x82"),
		NAME("wide dots", "\xef\xbc\x8e\xef\xbc\x8e/etc/passwd"),
		NAME("a wide slash", "..\xef\xbc\x8f..\xef\xbc\x8f" "etc"),
		NAME("a division slash", "..\xe2\x88\x95..\xe2\x88\x95" "etc"),
		NAME("a two dot leader", "\xe2\x80\xa5/etc/passwd"),
		NAME("right to left", "\xe2\x80\xae/etc/passwd"),
		NAME("percent signs", "%2e%2e/%2e%2e/etc/passwd"),
		NAME("backslashes", "..\\..\\etc\\passwd"),
		NAME("a drive", "C:\\"),
		NAME("a stream", "a.csv::$DATA"),
		NAME("a URL", "file:///etc/passwd"),
		NAME("a home", "~/.ssh/id_ed25519"),
		NAME("line ends", "..\n/..\r/etc"),
		NAME("a bare slash", "/"),
		NAME("slashes", "////"),
		NAME("a dot, then up", "./.."),
		NAME("up, then a slash", "../"),
	};
	for (size_t i = 0; i < sizeof names / sizeof *names; i++) attempt(names[i].what, names[i].path, names[i].len);
	repeated("a name of 256 bytes", "x", 256, "");
	repeated("a name of 1 MiB", "x", 1 << 20, "");
	repeated("a path of 4096 bytes", "./", 2048, "..");
	repeated("a path of 1 MiB", "../", 1 << 18, "etc/passwd");
	repeated("a path of 200,000 slashes", "/", 200000, "etc/passwd");
	repeated("a path that goes down and up", "x/../", 10000, "../etc/passwd");
	if (opened) return 0;
	fputs("refused: no such name opened\n", stderr);
	return 13;
}

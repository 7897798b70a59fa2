// Package filters holds the guest modules that come with liop, ready to be
// sent to a data node: the ready-made filters, and modules for tests.
//
// Each module is a wasip1 command, built from the source beside it by
// build.sh, and is byte for byte what that source builds to. README.md says
// what each does. The package runs nothing; its functions may be called
// concurrently, and each returned slice is the caller's own.
package filters

import (
	"embed"
	"io/fs"
	"path"
	"slices"
	"strings"
)

//go:embed stats/stats.wasm grep/grep.wasm head-schema/head-schema.wasm merge-stats/merge-stats.wasm
//go:embed testguest/*.wasm
var modules embed.FS

const testGuest = "testguest"

// Ready returns the ready-made filter of that name.
func Ready(name string) ([]byte, bool) {
	if name == testGuest {
		return nil, false
	}
	return read(name, name)
}

// ReadyNames returns the names of the ready-made filters, sorted.
func ReadyNames() []string {
	dirs := names("*/*.wasm", func(file string) string { return path.Dir(file) })
	return slices.DeleteFunc(dirs, func(dir string) bool { return dir == testGuest })
}

// TestGuest returns the module for tests of that name.
func TestGuest(name string) ([]byte, bool) { return read(testGuest, name) }

// TestGuestNames returns the names of the modules for tests, sorted.
func TestGuestNames() []string { return names(testGuest+"/*.wasm", base) }

func read(dir, name string) ([]byte, bool) {
	if strings.Contains(name, "/") {
		return nil, false
	}
	b, err := fs.ReadFile(modules, dir+"/"+name+".wasm")
	return b, err == nil
}

// names returns what name makes of the embedded files that match a pattern.
func names(pattern string, name func(file string) string) []string {
	files, err := fs.Glob(modules, pattern)
	if err != nil {
		panic(err) // the patterns are ours
	}
	var list []string
	for _, f := range files {
		list = append(list, name(f))
	}
	slices.Sort(list)
	return slices.Compact(list)
}

func base(file string) string { return strings.TrimSuffix(path.Base(file), ".wasm") }

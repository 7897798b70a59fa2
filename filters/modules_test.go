package filters_test

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"go/build"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/liop-project/liop/filters"
	corpus "github.com/liop-project/liop/node/sandbox/testdata/hostile"
)

func ready(tb testing.TB, name string) []byte   { return must(tb, name, filters.Ready) }
func hostile(tb testing.TB, name string) []byte { return must(tb, name, corpus.Module) }
func testGuest(tb testing.TB, name string) []byte {
	return must(tb, name, filters.TestGuest)
}

func must(tb testing.TB, name string, get func(string) ([]byte, bool)) []byte {
	tb.Helper()
	b, ok := get(name)
	if !ok {
		tb.Fatalf("no module %q", name)
	}
	return b
}

func TestNames(t *testing.T) {
	for _, tt := range []struct {
		got, want []string
	}{
		{filters.ReadyNames(), []string{"grep", "head-schema", "merge-stats", "stats"}},
		{filters.TestGuestNames(), []string{"echo", "hello", "inputs", "pread"}},
	} {
		if !slices.Equal(tt.got, tt.want) {
			t.Errorf("got %q, want %q", tt.got, tt.want)
		}
	}
}

func TestUnknownNames(t *testing.T) {
	for _, name := range []string{"", ".", "..", "nope", "testguest", "testguest/echo", "../filters/stats/stats", "stats.wasm"} {
		for what, get := range map[string]func(string) ([]byte, bool){
			"Ready": filters.Ready, "Module": corpus.Module, "TestGuest": filters.TestGuest,
		} {
			if b, ok := get(name); ok || b != nil {
				t.Errorf("%s(%q): got %d bytes", what, name, len(b))
			}
		}
	}
}

const hostileDir = "node/sandbox/testdata/hostile/modules/"

// each calls f for each module that build.sh builds, by its path from the
// repository's root without ".wasm".
func each(t *testing.T, f func(path string, module []byte)) {
	for _, n := range filters.ReadyNames() {
		f("filters/"+n+"/"+n, ready(t, n))
	}
	for _, n := range corpus.Modules() {
		f(hostileDir+n, hostile(t, n))
	}
	for _, n := range filters.TestGuestNames() {
		f("filters/testguest/"+n, testGuest(t, n))
	}
}

func TestSums(t *testing.T) {
	var lines []string
	each(t, func(path string, module []byte) {
		lines = append(lines, fmt.Sprintf("%x  %s.wasm\n", sha256.Sum256(module), path))
	})
	slices.SortFunc(lines, func(a, b string) int { return strings.Compare(a[64:], b[64:]) })
	want, err := os.ReadFile("SHA256SUMS")
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(lines, ""); got != string(want) {
		t.Errorf("SHA256SUMS lists other modules than are embedded; run: sh filters/build.sh\n%s", got)
	}
}

// TestReadme keeps the sizes in README.md true.
func TestReadme(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	each(t, func(path string, module []byte) {
		if strings.HasPrefix(path, hostileDir) {
			return // the table of attacks says what they do
		}
		name := path[strings.LastIndex(path, "/")+1:]
		row := fmt.Sprintf("| `%s` | %d |", name, len(module))
		if !bytes.Contains(readme, []byte(row)) {
			t.Errorf("README.md has no table row that starts with %q", row)
		}
	})
}

func TestSizes(t *testing.T) {
	// What a first push costs is the agent's time and the node's: these are
	// budgets, not what the modules need today.
	for name, most := range map[string]int{"grep": 4_500_000, "head-schema": 4_000_000, "merge-stats": 4_000_000, "stats": 128_000} {
		if n := len(ready(t, name)); n > most {
			t.Errorf("%s has %d bytes, want at most %d", name, n, most)
		}
	}
	if n := len(testGuest(t, "hello")); n > 256 {
		t.Errorf("hello has %d bytes, want the smallest command", n)
	}
}

// TestContract checks what a node checks before it compiles a module: imports
// of wasip1 and no sockets, _start and memory exported.
func TestContract(t *testing.T) {
	e := plain()
	broken := map[string]string{
		hostileDir + "badimport": `imports env.evil`,
		hostileDir + "sock":      `imports wasi_snapshot_preview1.sock_accept`,
		hostileDir + "nostart":   `no _start`,
	}
	each(t, func(path string, module []byte) {
		m := e.compile(t, module)
		var faults []string
		for _, f := range m.ImportedFunctions() {
			from, name, _ := f.Import()
			if from != "wasi_snapshot_preview1" || strings.HasPrefix(name, "sock_") {
				faults = append(faults, "imports "+from+"."+name)
			}
		}
		if n := len(m.ImportedMemories()); n > 0 {
			faults = append(faults, "imports a memory")
		}
		if m.ExportedFunctions()["_start"] == nil {
			faults = append(faults, "no _start")
		}
		if m.ExportedMemories()["memory"] == nil {
			faults = append(faults, "no memory")
		}
		if got := strings.Join(faults, ", "); got != broken[path] {
			t.Errorf("%s: %q, want %q", path, got, broken[path])
		}
	})
}

// TestNoHostPaths checks that nothing of the machine that built a module is in
// it, so that every machine builds the same.
func TestNoHostPaths(t *testing.T) {
	here, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{here + "/", build.Default.GOROOT + "/", "/home/", "/root/", "/tmp/", "/usr/"} {
		each(t, func(path string, module []byte) {
			if len(p) > 1 && bytes.Contains(module, []byte(p)) {
				t.Errorf("%s has the path %s in it", path, p)
			}
		})
	}
}

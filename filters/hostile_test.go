package filters_test

import (
	"context"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/sys"
)

// These tests check that the hostile modules do what they are for. Whether a
// node withstands them is a matter of its own tests.

// The bounds that a hostile module meets here.
const (
	patience   = 200 * time.Millisecond
	memoryMiB  = 64
	memoryPage = 64 << 10
)

func hostileEngine() *engine {
	return newEngine(wazero.NewRuntimeConfig().WithCloseOnContextDone(true).WithMemoryLimitPages(memoryMiB << 20 / memoryPage))
}

func TestHostileEndless(t *testing.T) {
	e := hostileEngine()
	for _, name := range []string{
		"loop", "fill", "start-loop", "copy", "br-table-storm", "grow-forever", "random-flood", "clock-flood", "poll-flood", "yield-flood",
	} {
		t.Run(name, func(t *testing.T) {
			module := hostile(t, name)
			e.compile(t, module) // not on the clock
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			r := e.run(ctx, t, module, job{})
			if r.err != nil || r.code != sys.ExitCodeDeadlineExceeded {
				t.Errorf("code %d, error %v, want a run that only the deadline ends", r.code, r.err)
			}
		})
	}
}

// A cut takes this many bytes, then cancels and refuses all others.
type cut struct {
	left   int
	cancel context.CancelFunc
}

func (c *cut) Write(p []byte) (int, error) {
	c.left -= len(p)
	if c.left < 0 {
		c.cancel()
		return 0, errors.New("enough")
	}
	return len(p), nil
}

func TestHostileFloods(t *testing.T) {
	e := hostileEngine()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	r := e.run(ctx, t, hostile(t, "flood-stdout"), job{stdout: &cut{left: 64 << 20, cancel: cancel}})
	if r.err != nil || r.code != sys.ExitCodeContextCanceled {
		t.Errorf("flood-stdout: code %d, error %v, want one that only cancelling ends", r.code, r.err)
	}
	var stderr count
	r = e.run(t.Context(), t, hostile(t, "flood-stderr"), job{stderr: &stderr})
	if r.err != nil || r.code != 0 || r.stdout != "ok\n" || stderr != 1<<30 {
		t.Errorf("flood-stderr: code %d, error %v, answer %q, %d bytes of stderr, want ok and 1 GiB", r.code, r.err, r.stdout, stderr)
	}
}

type count int64

func (c *count) Write(p []byte) (int, error) {
	*c += count(len(p))
	return len(p), nil
}

func TestHostileTraps(t *testing.T) {
	e := hostileEngine()
	for name, want := range map[string]string{
		"memory-bomb": "unreachable", "trap": "unreachable", "recurse": "stack overflow", "recurse-mutual": "stack overflow",
		"recurse-indirect": "stack overflow", "start-recurse": "stack overflow", "start-trap": "unreachable", "start-grow": "unreachable",
		"data-past-end": "out of bounds", "badimport": "module[env] not instantiated",
	} {
		r := e.run(t.Context(), t, hostile(t, name), job{})
		if r.err == nil || !strings.Contains(r.err.Error(), want) {
			t.Errorf("%s: code %d, error %v, want %q", name, r.code, r.err, want)
		}
	}
}

func TestHostileExits(t *testing.T) {
	dir := write(t, map[string]string{"a.csv": "k\n1\n", "b/c.csv": "k\n2\n"})
	before := tree(t, dir)
	e := hostileEngine()
	for _, tt := range []struct {
		name   string
		code   uint32
		stdout string
		stderr string // has it
	}{
		{"exit3", 3, "not an answer\n", ""},
		{"outside", 13, "", "refused: nothing outside could be read\n"},
		{"write", 13, "", "refused create (errno "},
		{"random", 12, "", "no memory\n"},
		{"grow-huge", 13, "", ""},
		{"start-exit7", 7, "", ""},
		{"links", 13, "", "refused: no link was made\n"},
		{"pointers-file", 13, "", "refused (errno "},
		{"read-huge", 13, "", "refused (errno "},
		{"sleeper", 0, "slept\n", ""}, // wazero's sleep takes no time
	} {
		r := e.run(t.Context(), t, hostile(t, tt.name), job{fs: os.DirFS(dir)})
		if r.err != nil || r.code != tt.code || r.stdout != tt.stdout || !strings.Contains(r.stderr, tt.stderr) {
			t.Errorf("%s: code %d, error %v, stdout %q, stderr %q, want %d", tt.name, r.code, r.err, r.stdout, r.stderr, tt.code)
		}
	}
	if after := tree(t, dir); !maps.Equal(before, after) {
		t.Errorf("the dataset changed from %q to %q", before, after)
	}
}

// TestHostileFinds checks that modules tell of it where they get through: on a
// directory that may be written, with a link to the outside, without a
// bound on tables, in an engine that opens a name of no bytes.
func TestHostileFinds(t *testing.T) {
	secret := write(t, map[string]string{"secret": "s"})
	dir := write(t, map[string]string{"a.csv": "k\n1\n"})
	if err := os.Symlink(filepath.Join(secret, "secret"), filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"outside": "LEAK symbolic link: descriptor 3, link\n", "write": "WROTE create\n",
		"links": "LINKED symbolic, ", "names": "OPENED an empty name\n", "table-grow": "GREW\n", "write-bytes": strings.Repeat("x", 4096)} {
		r := plain().run(t.Context(), t, hostile(t, name), job{writable: dir})
		if r.err != nil || r.code != 0 || !strings.Contains(r.stdout, want) {
			t.Errorf("%s: code %d, error %v, stdout %q, want %q", name, r.code, r.err, r.stdout, want)
		}
	}
}

func TestHostileRandom(t *testing.T) {
	var source zeros
	e := newEngine(wazero.NewRuntimeConfig())
	r := e.run(t.Context(), t, hostile(t, "random"), job{rand: &source})
	if r.err != nil || r.code != 0 || r.stdout != "FILLED\n" || source.largest != 256<<20 {
		t.Errorf("code %d, error %v, stdout %q, largest read %d, want 256 MiB in one", r.code, r.err, r.stdout, source.largest)
	}
}

// zeros is a random source that remembers the largest read.
type zeros struct{ largest int }

func (z *zeros) Read(p []byte) (int, error) {
	z.largest = max(z.largest, len(p))
	return len(p), nil
}

func TestHostileClock(t *testing.T) {
	if got := plain().answer(t, hostile(t, "clock"), job{}); !strings.HasPrefix(got, "FINE: clock 0 ") {
		t.Errorf("got %q, want a clock that is finer than a millisecond", got)
	}
}

// tree returns the files below a directory and what is in them.
func tree(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	err := filepath.WalkDir(dir, func(p string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			files[p] = ""
			return err
		}
		b, err := os.ReadFile(p)
		files[p] = string(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

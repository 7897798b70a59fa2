//go:build unix

package dataset

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/liop-project/liop/core/fault"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// later is a clock that is ahead of the times of files just written, so that
// they count as settled, and that stands still between calls of pass.
type later struct {
	mu  sync.Mutex
	now time.Time
}

func newLater() *later { return &later{now: time.Now().Add(time.Hour)} }

func (c *later) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *later) pass(t time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(t)
}

var testSalt = [32]byte{1, 2, 3}

// open opens dir as the dataset "test" with a clock that stands an hour ahead.
func open(t testing.TB, dir string) (*Dataset, *later) {
	t.Helper()
	clock := newLater()
	d, err := Open("test", dir, testSalt, Options{Now: clock.Now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d, clock
}

func write(t testing.TB, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

func symlink(t testing.TB, target, path string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(target, path); err != nil {
		t.Fatal(err)
	}
}

func TestOpen(t *testing.T) {
	base := t.TempDir()
	real, err := filepath.EvalSymlinks(base)
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(base, "data", "a.csv"), "1\n")
	symlink(t, "data", filepath.Join(base, "link"))
	symlink(t, "/", filepath.Join(base, "everything"))
	symlink(t, "nowhere", filepath.Join(base, "dangling"))

	for _, c := range []struct {
		about, name, dir string
		want             string // part of the error; "" is success
	}{
		{"directory", "sales", "data", ""},
		{"two segments", "sales/2026", "data", ""},
		{"link is resolved", "sales", "link", ""},
		{"upper case", "Sales", "data", "not a dataset name"},
		{"climbing name", "../x", "data", "not a dataset name"},
		{"no name", "", "data", "empty dataset name"},
		{"missing", "sales", "missing", "does not exist, create it or correct the path"},
		{"dangling link", "sales", "dangling", "does not exist, create it or correct the path"},
		{"file", "sales", "data/a.csv", "is not a directory, put the file into one of its own"},
		{"root", "sales", "/", "root of the file system"},
		{"link to root", "sales", "everything", "root of the file system"},
		{"roundabout root", "sales", "/tmp/../", "root of the file system"},
	} {
		t.Run(c.about, func(t *testing.T) {
			dir := c.dir
			if !filepath.IsAbs(dir) {
				dir = filepath.Join(base, dir)
			}
			d, err := Open(c.name, dir, testSalt, Options{})
			if c.want != "" {
				if err == nil || !strings.Contains(err.Error(), c.want) {
					t.Fatalf("got %v, want an error with %q", err, c.want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer d.Close()
			if got, want := d.Dir(), filepath.Join(real, "data"); got != want {
				t.Errorf("Dir is %q, want %q", got, want)
			}
			if got, want := d.GuestPath(), "/data/"+c.name; got != want {
				t.Errorf("GuestPath is %q, want %q", got, want)
			}
			if d.Name() != c.name {
				t.Errorf("Name is %q, want %q", d.Name(), c.name)
			}
		})
	}
	if _, err := Open("sales", "", testSalt, Options{}); err == nil || !strings.Contains(err.Error(), "no directory is given") {
		t.Errorf("empty directory: %v", err)
	}
	var f *fault.Error
	if _, err := Open("X", base, testSalt, Options{}); !errors.As(err, &f) || f.Code != fault.InvalidRequest {
		t.Errorf("a wrong name is %v, want a fault", err)
	}
}

func TestOpenForbidden(t *testing.T) {
	base := t.TempDir()
	for _, dir := range []string{"srv/data/sub", "home/state", "homework"} {
		if err := os.MkdirAll(filepath.Join(base, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	write(t, filepath.Join(base, "home/identity.pem"), "secret")
	symlink(t, "home", filepath.Join(base, "alias"))

	for _, c := range []struct {
		about, dir, forbid string
		refused            bool
	}{
		{"elsewhere", "srv/data", "home", false},
		{"same prefix of the name", "homework", "home", false},
		{"the same", "home", "home", true},
		{"within", "home/state", "home", true},
		{"contains", ".", "home", true},
		{"contains a file", "home", "home/identity.pem", true},
		{"the same through a link", "alias", "home", true},
		{"forbidden through a link", "home", "alias", true},
		{"within through a link", "alias/state", "home", true},
		{"contains what does not exist yet", "srv", "srv/data/new/home", true},
		{"contains what does not exist yet, through a link", "home", "alias/new", true},
		{"beside what does not exist yet", "srv/data/sub", "srv/data/new", false},
	} {
		t.Run(c.about, func(t *testing.T) {
			d, err := Open("test", filepath.Join(base, c.dir), testSalt, Options{Forbid: []string{
				filepath.Join(base, "unrelated"), filepath.Join(base, c.forbid),
			}})
			if err == nil {
				d.Close()
			}
			if refused := err != nil; refused != c.refused {
				t.Fatalf("refused = %t (%v), want %t", refused, err, c.refused)
			}
			if c.refused && !strings.Contains(err.Error(), "must not be served") {
				t.Errorf("unclear error: %v", err)
			}
		})
	}
	if _, err := Open("test", base, testSalt, Options{Forbid: []string{""}}); err == nil {
		t.Error("an empty forbidden path is not refused")
	}
}

// A dataset that was fine when it was opened is refused once it is not.
func TestSnapshotChecksPlaceAgain(t *testing.T) {
	for _, c := range []struct {
		about  string
		change func(t *testing.T, base string)
		want   string
	}{
		{"directory is gone", func(t *testing.T, base string) {
			must(t, os.RemoveAll(filepath.Join(base, "data")))
		}, "no such file"},
		{"a link took its place", func(t *testing.T, base string) {
			must(t, os.Rename(filepath.Join(base, "data"), filepath.Join(base, "old")))
			symlink(t, "home", filepath.Join(base, "data"))
		}, "is not a directory"},
		{"the home moved into it", func(t *testing.T, base string) {
			must(t, os.Rename(filepath.Join(base, "home"), filepath.Join(base, "data", "home")))
			symlink(t, "data/home", filepath.Join(base, "home"))
		}, "must not be served"},
	} {
		t.Run(c.about, func(t *testing.T) {
			base := t.TempDir()
			write(t, filepath.Join(base, "data", "a"), "1")
			write(t, filepath.Join(base, "home", "identity.pem"), "secret")
			clock := newLater()
			d, err := Open("test", filepath.Join(base, "data"), testSalt, Options{
				Now: clock.Now, Forbid: []string{filepath.Join(base, "home")},
			})
			must(t, err)
			defer d.Close()
			if _, err := d.Snapshot(t.Context()); err != nil {
				t.Fatal(err)
			}
			c.change(t, base)
			clock.pass(SnapshotTTL)
			if _, err := d.Snapshot(t.Context()); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("got %v, want an error with %q", err, c.want)
			}
		})
	}
}

// A directory that is swapped for a newer one by renaming is read anew.
func TestSnapshotOfSwappedDirectory(t *testing.T) {
	base := t.TempDir()
	write(t, filepath.Join(base, "data", "a"), "old")
	write(t, filepath.Join(base, "next", "a"), "new")
	d, clock := open(t, filepath.Join(base, "data"))
	before := snapshot(t, d)
	must(t, os.Rename(filepath.Join(base, "data"), filepath.Join(base, "old")))
	must(t, os.Rename(filepath.Join(base, "next"), filepath.Join(base, "data")))
	clock.pass(SnapshotTTL)
	after := snapshot(t, d)
	if before.Commitment == after.Commitment {
		t.Error("the swap went unnoticed")
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func snapshot(t testing.TB, d *Dataset) Version {
	t.Helper()
	v, err := d.Snapshot(t.Context())
	must(t, err)
	return v
}

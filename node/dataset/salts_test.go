//go:build unix

package dataset

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/liop-project/liop/core/fault"
)

func TestSalts(t *testing.T) {
	dir := t.TempDir()
	s, err := LoadSalts(dir)
	must(t, err)
	seen := make(map[[32]byte]string)
	names := []string{"sales", "sales/2026", "sales.2026", "sales-2026"}
	for _, name := range names {
		salt, err := s.For(name)
		must(t, err)
		if other, ok := seen[salt]; ok {
			t.Errorf("%s and %s have the same salt", name, other)
		}
		seen[salt] = name
	}
	again, err := LoadSalts(dir)
	must(t, err)
	for salt, name := range seen {
		got, err := again.For(name)
		must(t, err)
		if got != salt {
			t.Errorf("the salt of %s has changed", name)
		}
	}
	entries, err := os.ReadDir(filepath.Join(dir, "salts"))
	must(t, err)
	if len(entries) != len(names) {
		t.Errorf("%d files for %d salts", len(entries), len(names))
	}
	for _, e := range entries {
		if info, err := e.Info(); err != nil || info.Mode() != 0o600 {
			t.Errorf("%s has mode %v", e.Name(), info.Mode())
		}
	}
	var f *fault.Error
	for _, name := range []string{"", "../x", "a/b/c", "A", "a%2fb"} {
		if _, err := s.For(name); !errors.As(err, &f) || f.Code != fault.InvalidRequest {
			t.Errorf("%q: %v, want a fault", name, err)
		}
	}
}

func TestSaltsRefuse(t *testing.T) {
	for _, c := range []struct {
		about string
		spoil func(t *testing.T, dir, file string)
		want  string
	}{
		{"file open to the group", func(t *testing.T, dir, file string) { must(t, os.Chmod(file, 0o640)) }, "run: chmod 600"},
		{"file open to others", func(t *testing.T, dir, file string) { must(t, os.Chmod(file, 0o604)) }, "run: chmod 600"},
		{"folder open to others", func(t *testing.T, dir, file string) { must(t, os.Chmod(dir, 0o755)) }, "run: chmod 700"},
		{"folder is a file", func(t *testing.T, dir, file string) {
			must(t, os.RemoveAll(dir))
			write(t, dir, "")
		}, "is not a directory"},
		{"file is empty", func(t *testing.T, dir, file string) { must(t, os.Truncate(file, 0)) }, "is damaged, remove it to get a new salt"},
		{"file is too long", func(t *testing.T, dir, file string) { must(t, os.Truncate(file, 1<<30)) }, "is damaged"},
		{"file is a link", func(t *testing.T, dir, file string) {
			must(t, os.Rename(file, file+".old"))
			symlink(t, file+".old", file)
		}, "is not a regular file"},
		{"file is a FIFO", func(t *testing.T, dir, file string) {
			must(t, os.Remove(file))
			must(t, syscall.Mkfifo(file, 0o600))
		}, "is not a regular file"},
	} {
		t.Run(c.about, func(t *testing.T) {
			home := t.TempDir()
			s, err := LoadSalts(home)
			must(t, err)
			_, err = s.For("sales")
			must(t, err)
			c.spoil(t, filepath.Join(home, "salts"), filepath.Join(home, "salts", "sales.salt"))
			s, err = LoadSalts(home)
			if err == nil {
				_, err = s.For("sales")
			}
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), home) {
				t.Errorf("got %v, want an error with %q and the path", err, c.want)
			}
		})
	}
	if _, err := LoadSalts(filepath.Join(t.TempDir(), "missing")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing state directory: %v", err)
	}
}

// Many processes, here many Salts, agree on one salt for a name.
func TestSaltsAgree(t *testing.T) {
	dir := t.TempDir()
	got := make([][32]byte, 16)
	var wg sync.WaitGroup
	for i := range got {
		wg.Go(func() {
			s, err := LoadSalts(dir)
			if err == nil {
				got[i], err = s.For("sales")
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for _, salt := range got {
		if salt != got[0] {
			t.Fatal("different salts for one name")
		}
	}
	entries, err := os.ReadDir(filepath.Join(dir, "salts"))
	must(t, err)
	if len(entries) != 1 {
		t.Errorf("%d files are left, want the salt alone", len(entries))
	}
}

func FuzzParseSalt(f *testing.F) {
	f.Add(formatSalt(testSalt))
	f.Add([]byte(""))
	f.Add(bytes.Repeat([]byte("g"), saltFileBytes))
	f.Add(bytes.Repeat([]byte("\n"), saltFileBytes))
	f.Fuzz(func(t *testing.T, b []byte) {
		salt, ok := parseSalt(b)
		if ok && !bytes.EqualFold(formatSalt(salt), b) {
			t.Errorf("%q was read as %x", b, salt)
		}
	})
}

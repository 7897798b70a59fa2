package engine

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/liop-project/liop/core/fault"
)

func TestCacheKeepsWhatWasUsedLast(t *testing.T) {
	dir := t.TempDir()
	c, err := openCache(dir, 100)
	if err != nil {
		t.Fatal(err)
	}
	key := func(b byte) [32]byte { return [32]byte{b} }
	put := func(b byte, n int) {
		t.Helper()
		if _, err := c.put(key(b), make([]byte, n)); err != nil {
			t.Fatal(err)
		}
	}
	put(1, 40)
	put(2, 40)
	c.entries[key(2)].used = time.Now().Add(-time.Hour)
	put(3, 40)
	if !c.has(key(1)) || c.has(key(2)) || !c.has(key(3)) {
		t.Errorf("1: %v, 2: %v, 3: %v", c.has(key(1)), c.has(key(2)), c.has(key(3)))
	}
	put(3, 50) // replaces
	if c.size != 90 {
		t.Errorf("size is %d", c.size)
	}
	if files, _ := os.ReadDir(dir); len(files) != 2 {
		t.Errorf("%d files are left", len(files))
	}

	// A restart keeps the good, drops the foreign, and obeys a smaller bound.
	junk := filepath.Join(dir, "junk.tmp")
	if err := os.WriteFile(junk, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(c.entries[key(1)].path, time.Time{}, time.Now().Add(-time.Hour)); err != nil {
		t.Fatal(err)
	}
	again, err := openCache(dir, 60)
	if err != nil {
		t.Fatal(err)
	}
	if again.has(key(1)) || !again.has(key(3)) {
		t.Errorf("after the restart 1: %v, 3: %v", again.has(key(1)), again.has(key(3)))
	}
	if _, err := os.Stat(junk); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("junk: %v", err)
	}
}

func TestCacheNeverGivesWhatItDidNotStore(t *testing.T) {
	dir := t.TempDir()
	c, _ := openCache(dir, 1000)
	path, err := c.put([32]byte{1}, []byte("native code"))
	if err != nil {
		t.Fatal(err)
	}
	os.Chmod(path, 0o600)
	if err := os.WriteFile(path, []byte("native c0de"), 0o600); err != nil {
		t.Fatal(err)
	}
	again, _ := openCache(dir, 1000)
	if p, ok := again.get([32]byte{1}); ok {
		t.Errorf("a changed file is given out: %s", p)
	}
	if again.has([32]byte{1}) || again.size != 0 {
		t.Errorf("a changed file is kept, size %d", again.size)
	}
}

// A node that cannot store compiled modules says so, and goes on with those it has.
func TestCacheFull(t *testing.T) {
	e := newTest(t, Config{})
	canary(t, e)
	good := e.cache.dir
	e.cache.dir = filepath.Join(e.cache.dir, "gone", "away")
	_, err := e.Run(context.Background(), jobOf(guestModule(t, "hello")))
	if !errors.Is(err, &fault.Error{Code: fault.Internal, Rule: "cache"}) {
		t.Errorf("got %v", err)
	}
	e.cache.dir = good
	canary(t, e)
}

func TestModuleOutlivesRestartAndEviction(t *testing.T) {
	dir := t.TempDir()
	e := newTest(t, Config{Dir: dir})
	canary(t, e)
	e.Close()

	e = newTest(t, Config{Dir: dir})
	j := jobOf(guestModule(t, "echo"))
	j.Wasm = nil // by hash only
	r, err := e.Run(context.Background(), j)
	if err != nil || !r.Cached {
		t.Fatalf("after a restart: %+v, %v", r, err)
	}
	// The file vanishes between lookup and use: the agent is asked to send it again.
	path, _ := e.cache.get(j.Module)
	os.Remove(path)
	j.Tenant = "other" // no runner has it mapped
	if _, err := e.Run(context.Background(), j); !errors.Is(err, &fault.Error{Code: fault.ModuleUnknown}) {
		t.Errorf("after the file was removed: %v", err)
	}
	canary(t, e) // with the bytes
}

package engine

import (
	"cmp"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// cache keeps compiled modules on disk, up to a size, and forgets the least
// recently used. A file is named <module hash>-<artifact hash>.cwasm: native
// code is loaded only if its bytes are those that our compiler made, so each
// file is hashed once before this process first uses it.
//
// The folder belongs to one engine fingerprint and to one process at a time.
type cache struct {
	dir string
	max int64

	mu      sync.Mutex
	entries map[[32]byte]*artifact
	size    int64
}

type artifact struct {
	path    string
	sum     [32]byte
	size    int64
	used    time.Time
	checked bool // its bytes have the hash in its name
}

func openCache(dir string, maxBytes int64) (*cache, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	files, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	c := &cache{dir: dir, max: maxBytes, entries: map[[32]byte]*artifact{}}
	for _, f := range files {
		path := filepath.Join(dir, f.Name())
		module, sum, ok := parseName(f.Name())
		info, err := f.Info()
		if !ok || err != nil || !info.Mode().IsRegular() {
			os.Remove(path) // a half-written file of a crash, or nothing of ours
			continue
		}
		if old := c.entries[module]; old != nil {
			c.remove(module)
		}
		c.entries[module] = &artifact{path: path, sum: sum, size: info.Size(), used: info.ModTime()}
		c.size += info.Size()
	}
	c.evict(0)
	return c, nil
}

func (c *cache) has(module [32]byte) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.entries[module] != nil
}

// get gives the path of a module's artifact and marks it used.
func (c *cache) get(module [32]byte) (string, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	a := c.entries[module]
	if a == nil {
		return "", false
	}
	if !a.checked {
		b, err := os.ReadFile(a.path)
		if err != nil || sum(b) != a.sum {
			c.remove(module)
			return "", false
		}
		a.checked = true
	}
	now := time.Now()
	if now.Sub(a.used) > time.Minute {
		os.Chtimes(a.path, now, now) // the order survives a restart; coarse is enough
	}
	a.used = now
	return a.path, true
}

// put stores an artifact. One that is there already stays untouched: a runner
// may be about to load it. If the disk is full it makes room once.
func (c *cache) put(module [32]byte, code []byte) (string, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	digest := sum(code)
	if a := c.entries[module]; a != nil {
		if a.checked && a.sum == digest {
			return a.path, nil
		}
		c.remove(module)
	}
	c.evict(int64(len(code)))
	path := filepath.Join(c.dir, fmt.Sprintf("%x-%x.cwasm", module, digest))
	err := writeFile(path, code)
	if err != nil && len(c.entries) > 0 {
		for m := range c.entries {
			c.remove(m)
		}
		err = writeFile(path, code)
	}
	if err != nil {
		return "", err
	}
	c.entries[module] = &artifact{path: path, sum: digest, size: int64(len(code)), used: time.Now(), checked: true}
	c.size += int64(len(code))
	return path, nil
}

func (c *cache) drop(module [32]byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.entries[module] != nil {
		c.remove(module)
	}
}

// evict makes room for n more bytes.
func (c *cache) evict(n int64) {
	if c.size+n <= c.max {
		return
	}
	type entry struct {
		module [32]byte
		used   time.Time
	}
	var all []entry
	for m, a := range c.entries {
		all = append(all, entry{m, a.used})
	}
	slices.SortFunc(all, func(a, b entry) int { return cmp.Compare(a.used.UnixNano(), b.used.UnixNano()) })
	for _, e := range all {
		if c.size+n <= c.max {
			return
		}
		c.remove(e.module)
	}
}

// remove unlinks an artifact. Runners that have mapped it keep it.
func (c *cache) remove(module [32]byte) {
	a := c.entries[module]
	delete(c.entries, module)
	c.size -= a.size
	os.Remove(a.path)
}

func parseName(name string) (module, digest [32]byte, ok bool) {
	base, found := strings.CutSuffix(name, ".cwasm")
	m, d, split := strings.Cut(base, "-")
	if !found || !split || len(m) != 64 || len(d) != 64 {
		return
	}
	_, err1 := hex.Decode(module[:], []byte(m))
	_, err2 := hex.Decode(digest[:], []byte(d))
	return module, digest, err1 == nil && err2 == nil
}

// writeFile writes atomically: a crash leaves no file, or a name that openCache
// does not know.
func writeFile(path string, b []byte) (err error) {
	tmp := path + ".tmp"
	defer func() {
		if err != nil {
			os.Remove(tmp)
		}
	}()
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := os.Chmod(tmp, fs.FileMode(0o400)); err != nil {
		return err
	}
	return os.Rename(tmp, path)
}

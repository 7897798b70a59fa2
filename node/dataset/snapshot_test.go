//go:build unix

package dataset

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/liop-project/liop/node/bounds"
)

// expected computes a commitment to content from first principles, as an
// auditor would who is given the salt and the files. entries alternate between
// path and content; a content that begins with "-> " is a link.
func expected(name string, entries ...string) [32]byte {
	ns := func(s string) string { return strconv.Itoa(len(s)) + ":" + s + "," }
	m := ns("liop-dataset-v1") + ns(name)
	for i := 0; i < len(entries); i += 2 {
		path, content := entries[i], entries[i+1]
		if target, ok := strings.CutPrefix(content, "-> "); ok {
			m += ns(path) + ns("link") + ns(target)
			continue
		}
		sum := sha256.Sum256([]byte(content))
		m += ns(path) + ns(strconv.Itoa(len(content))) + ns(string(sum[:]))
	}
	mac := hmac.New(sha256.New, testSalt[:])
	mac.Write([]byte(m))
	return [32]byte(mac.Sum(nil))
}

func TestSnapshot(t *testing.T) {
	outside := t.TempDir()
	write(t, filepath.Join(outside, "secret"), "secret")
	write(t, filepath.Join(outside, "dir", "secret"), "secret")

	for _, c := range []struct {
		about   string
		make    func(t *testing.T, dir string)
		entries []string // as of expected
		refused int
	}{
		{about: "empty"},
		{
			about: "order is bytewise over whole paths",
			make: func(t *testing.T, dir string) {
				write(t, filepath.Join(dir, "a", "b"), "2")
				write(t, filepath.Join(dir, "a.txt"), "1")
				write(t, filepath.Join(dir, "a-b"), "0")
				write(t, filepath.Join(dir, "Z"), "")
			},
			entries: []string{"Z", "", "a-b", "0", "a.txt", "1", "a/b", "2"},
		},
		{
			about: "names of any bytes",
			make: func(t *testing.T, dir string) {
				for _, n := range []string{"line\nfeed", "grüße", "日本", "1:x,", "\xff\xfe", " ", "-> x"} {
					write(t, filepath.Join(dir, n), "y")
				}
			},
			entries: []string{" ", "y", "-> x", "y", "1:x,", "y", "grüße", "y", "line\nfeed", "y", "日本", "y", "\xff\xfe", "y"},
		},
		{
			about: "links inside",
			make: func(t *testing.T, dir string) {
				write(t, filepath.Join(dir, "d", "f"), "x")
				symlink(t, "d/f", filepath.Join(dir, "to-file"))
				symlink(t, "d", filepath.Join(dir, "to-dir"))
				symlink(t, "../to-file", filepath.Join(dir, "d", "up"))
				symlink(t, "../../"+filepath.Base(dir)+"/d/f", filepath.Join(dir, "d", "out-and-in"))
			},
			entries: []string{"d/f", "x", "d/up", "-> ../to-file", "to-dir", "-> d", "to-file", "-> d/f"},
			refused: 1, // out-and-in: a relative path that leaves the directory on its way
		},
		{
			about: "links that lead out",
			make: func(t *testing.T, dir string) {
				write(t, filepath.Join(dir, "f"), "x")
				symlink(t, filepath.Join(outside, "secret"), filepath.Join(dir, "absolute"))
				symlink(t, filepath.Join(dir, "f"), filepath.Join(dir, "absolute-inside"))
				rel, err := filepath.Rel(dir, outside)
				must(t, err)
				symlink(t, filepath.Join(rel, "secret"), filepath.Join(dir, "relative"))
				symlink(t, filepath.Join(rel, "dir"), filepath.Join(dir, "dir"))
				symlink(t, "..", filepath.Join(dir, "parent"))
				symlink(t, "dir/secret", filepath.Join(dir, "through-dir"))
				symlink(t, "relative", filepath.Join(dir, "chain1"))
				symlink(t, "chain1", filepath.Join(dir, "chain2"))
				symlink(t, "../../..", filepath.Join(dir, "sub", "up"))
			},
			entries: []string{"f", "x"},
			refused: 9,
		},
		{
			about: "links that lead nowhere",
			make: func(t *testing.T, dir string) {
				symlink(t, "self", filepath.Join(dir, "self"))
				symlink(t, "b", filepath.Join(dir, "a"))
				symlink(t, "a", filepath.Join(dir, "b"))
				symlink(t, "missing", filepath.Join(dir, "dangling"))
				symlink(t, ".", filepath.Join(dir, "here"))
			},
			entries: []string{"here", "-> ."},
			refused: 4,
		},
		{
			about: "neither file, directory nor link",
			make: func(t *testing.T, dir string) {
				must(t, syscall.Mkfifo(filepath.Join(dir, "fifo"), 0o644))
				symlink(t, "fifo", filepath.Join(dir, "to-fifo"))
				write(t, filepath.Join(dir, "f"), "x")
			},
			entries: []string{"f", "x"},
			refused: 2,
		},
	} {
		t.Run(c.about, func(t *testing.T) {
			dir := t.TempDir()
			if c.make != nil {
				c.make(t, dir)
			}
			d, clock := open(t, dir)
			v := snapshot(t, d)
			if v.Commitment != expected("test", c.entries...) {
				t.Errorf("commitment differs from the one computed by hand")
			}
			files, bytes := 0, int64(0)
			for i := 0; i < len(c.entries); i += 2 {
				if !strings.HasPrefix(c.entries[i+1], "-> ") {
					files++
					bytes += int64(len(c.entries[i+1]))
				}
			}
			if v.Files != files || v.Bytes != bytes || v.Refused != c.refused {
				t.Errorf("files %d, bytes %d, refused %d; want %d, %d, %d", v.Files, v.Bytes, v.Refused, files, bytes, c.refused)
			}
			if v.Basis != Content || !v.At.Equal(clock.Now()) {
				t.Errorf("basis %q at %v", v.Basis, v.At)
			}
		})
	}
}

// A vector for other implementations.
func TestCommitmentVector(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "a.csv"), "region,amount\nnorth,3\n")
	write(t, filepath.Join(dir, "b", "c.csv"), "")
	symlink(t, "../a.csv", filepath.Join(dir, "b", "a"))
	d, _ := open(t, dir)
	v := snapshot(t, d)
	const want = "84a1ebbf6fa279712bf2b30671b90f10324ea764d66e32575c16087337bd5370"
	if got := hex.EncodeToString(v.Commitment[:]); got != want {
		t.Errorf("commitment %s, want %s", got, want)
	}
}

func TestSnapshotNoticesChanges(t *testing.T) {
	for _, c := range []struct {
		about  string
		change func(t *testing.T, dir string)
		same   bool
	}{
		{"nothing", func(*testing.T, string) {}, true},
		{"touched", func(t *testing.T, dir string) {
			must(t, os.Chtimes(filepath.Join(dir, "a"), time.Time{}, time.Unix(1e9, 0)))
		}, true},
		{"mode", func(t *testing.T, dir string) { must(t, os.Chmod(filepath.Join(dir, "a"), 0o600)) }, true},
		{"empty directory", func(t *testing.T, dir string) { must(t, os.Mkdir(filepath.Join(dir, "new"), 0o755)) }, true},
		{"appended", func(t *testing.T, dir string) { write(t, filepath.Join(dir, "a"), "12") }, false},
		{"same size and time, written in place", func(t *testing.T, dir string) {
			keepTimes(t, filepath.Join(dir, "a"), func(path string) { write(t, path, "2") })
		}, false},
		{"same size and time, replaced", func(t *testing.T, dir string) {
			keepTimes(t, filepath.Join(dir, "a"), func(path string) {
				write(t, path+".new", "2")
				must(t, os.Rename(path+".new", path))
			})
		}, false},
		{"swapped", func(t *testing.T, dir string) {
			a, b := filepath.Join(dir, "a"), filepath.Join(dir, "b")
			must(t, os.Rename(a, a+".tmp"))
			must(t, os.Rename(b, a))
			must(t, os.Rename(a+".tmp", b))
		}, false},
		{"renamed", func(t *testing.T, dir string) {
			must(t, os.Rename(filepath.Join(dir, "a"), filepath.Join(dir, "c")))
		}, false},
		{"removed", func(t *testing.T, dir string) { must(t, os.Remove(filepath.Join(dir, "a"))) }, false},
		{"added", func(t *testing.T, dir string) { write(t, filepath.Join(dir, "d", "c"), "") }, false},
		{"link led elsewhere", func(t *testing.T, dir string) {
			must(t, os.Remove(filepath.Join(dir, "link")))
			symlink(t, "b", filepath.Join(dir, "link"))
		}, false},
		{"link became what it leads to", func(t *testing.T, dir string) {
			must(t, os.Remove(filepath.Join(dir, "link")))
			write(t, filepath.Join(dir, "link"), "1")
		}, false},
	} {
		t.Run(c.about, func(t *testing.T) {
			dir := t.TempDir()
			write(t, filepath.Join(dir, "a"), "1")
			write(t, filepath.Join(dir, "b"), "x")
			symlink(t, "a", filepath.Join(dir, "link"))
			d, clock := open(t, dir)
			before := snapshot(t, d)
			c.change(t, dir)
			clock.pass(SnapshotTTL - 1)
			if v := snapshot(t, d); v != before {
				t.Errorf("a snapshot younger than SnapshotTTL was not returned as it was")
			}
			clock.pass(1)
			after := snapshot(t, d)
			if after.At.Equal(before.At) {
				t.Errorf("a snapshot as old as SnapshotTTL was returned again")
			}
			if same := after.Commitment == before.Commitment; same != c.same {
				t.Errorf("same commitment: %t, want %t", same, c.same)
			}
		})
	}
}

// keepTimes restores the access and modification times of path after change.
func keepTimes(t *testing.T, path string, change func(path string)) {
	t.Helper()
	info, err := os.Stat(path)
	must(t, err)
	change(path)
	must(t, os.Chtimes(path, info.ModTime(), info.ModTime()))
	if now, err := os.Stat(path); err != nil || !now.ModTime().Equal(info.ModTime()) || now.Size() != info.Size() {
		t.Fatalf("size or time not kept: %v", err)
	}
}

func TestCommitmentDependsOnSaltAndName(t *testing.T) {
	dir := t.TempDir()
	seen := make(map[[32]byte]string)
	for _, c := range []struct {
		about, name string
		salt        [32]byte
	}{
		{"reference", "a", testSalt},
		{"other name", "b", testSalt},
		{"other salt", "a", [32]byte{9}},
	} {
		d, err := Open(c.name, dir, c.salt, Options{})
		must(t, err)
		defer d.Close()
		v := snapshot(t, d)
		if other, ok := seen[v.Commitment]; ok {
			t.Errorf("%s and %s have the same commitment", c.about, other)
		}
		seen[v.Commitment] = c.about
	}
}

// bytesRead is how much this process has read by system calls.
func bytesRead(t *testing.T) int64 {
	b, err := os.ReadFile("/proc/self/io")
	if err != nil {
		t.Skip("no account of bytes read on this system")
	}
	var n int64
	if _, err := fmt.Sscanf(string(b), "rchar: %d", &n); err != nil {
		t.Fatal(err)
	}
	return n
}

func TestUnchangedFileIsReadOnce(t *testing.T) {
	const size = 8 << 20
	dir := t.TempDir()
	path := filepath.Join(dir, "big")
	write(t, path, strings.Repeat("x", size))
	info, err := os.Stat(path)
	must(t, err)

	clock := &later{now: time.Unix(0, identOf(info).ctime)}
	d, err := Open("test", dir, testSalt, Options{Now: clock.Now})
	must(t, err)
	defer d.Close()
	for i, c := range []struct {
		pass  time.Duration
		reads bool
	}{
		{0, true},
		{SnapshotTTL - 1, false}, // returned as it was
		{SnapshotTTL, true},      // might have changed within one tick of the file system's clock
		{2 * SnapshotTTL, true},  // settled
		{2 * SnapshotTTL, false},
		{time.Hour, false},
		{-2 * time.Hour, false}, // the clock is set back
	} {
		clock.pass(c.pass)
		before := bytesRead(t)
		v := snapshot(t, d)
		if n := bytesRead(t) - before; (n >= size) != c.reads {
			t.Errorf("step %d read %d bytes, want a read: %t", i, n, c.reads)
		}
		if v.Basis != Content {
			t.Errorf("step %d has basis %q", i, v.Basis)
		}
	}
}

func TestManyFiles(t *testing.T) {
	const n = 10_000
	dir := t.TempDir()
	entries := make([]string, 0, 2*n)
	for i := range n {
		name := fmt.Sprintf("%02x/%05d", i%256, i)
		write(t, filepath.Join(dir, name), strconv.Itoa(i))
		entries = append(entries, name)
	}
	slices.Sort(entries)
	var all []string
	for _, name := range entries {
		i, err := strconv.Atoi(name[3:])
		must(t, err)
		all = append(all, name, strconv.Itoa(i))
	}
	d, clock := open(t, dir)
	want := expected("test", all...)
	for range 2 {
		v := snapshot(t, d)
		if v.Commitment != want || v.Files != n || v.Basis != Content {
			t.Errorf("%d files, basis %q, commitment as by hand: %t", v.Files, v.Basis, v.Commitment == want)
		}
		clock.pass(SnapshotTTL)
	}
}

func TestTooDeep(t *testing.T) {
	dir := t.TempDir()
	deep := dir
	for range MaxDepth {
		deep = filepath.Join(deep, "d")
	}
	write(t, filepath.Join(deep, "f"), "x")
	d, clock := open(t, dir)
	if v := snapshot(t, d); v.Files != 1 {
		t.Errorf("%d files at the deepest level that is allowed", v.Files)
	}
	clock.pass(SnapshotTTL)
	must(t, os.Mkdir(filepath.Join(deep, "d"), 0o755))
	if _, err := d.Snapshot(t.Context()); err == nil || !strings.Contains(err.Error(), "more than 64 directories deep") {
		t.Errorf("too deep: %v", err)
	}
}

// Every directory, file and link counts.
func TestTooManyFiles(t *testing.T) {
	dir := t.TempDir()
	d, clock := open(t, dir)
	if d.limits.entries != bounds.DirEntries {
		t.Errorf("a dataset may have %d entries", d.limits.entries)
	}
	d.limits.entries = 3
	write(t, filepath.Join(dir, "d", "f"), "x")
	symlink(t, "/", filepath.Join(dir, "l"))
	snapshot(t, d)
	clock.pass(SnapshotTTL)
	write(t, filepath.Join(dir, "g"), "x")
	if _, err := d.Snapshot(t.Context()); err == nil || !strings.Contains(err.Error(), "dataset test: more than 3 files, directories and links") {
		t.Errorf("too many: %v", err)
	}
}

func TestSnapshotContext(t *testing.T) {
	d, _ := open(t, t.TempDir())
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := d.Snapshot(ended); !errors.Is(err, context.Canceled) {
		t.Errorf("with an ended context: %v", err)
	}
	// A walk that is under way and never ends.
	d.mu.Lock()
	d.flight = &flight{done: make(chan struct{})}
	d.mu.Unlock()
	short, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if _, err := d.Snapshot(short); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("with a deadline: %v", err)
	}
}

func TestConcurrentCallersShareOneWalk(t *testing.T) {
	d, _ := open(t, t.TempDir())
	f := &flight{done: make(chan struct{})}
	d.flight = f
	const callers = 16
	var wg sync.WaitGroup
	var entered sync.WaitGroup
	entered.Add(callers)
	got := make(chan Version, callers)
	for range callers {
		wg.Go(func() {
			entered.Done()
			v, err := d.Snapshot(t.Context())
			if err != nil {
				t.Error(err)
			}
			got <- v
		})
	}
	entered.Wait()
	d.fly(f) // the walk that they wait for; whoever is late finds it done
	wg.Wait()
	close(got)
	first := <-got
	for v := range got {
		if v != first {
			t.Error("callers of one walk have different versions")
		}
	}
}

// Files that come and go while they are listed and read are no error.
func TestSnapshotDuringChanges(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "stays"), "x")
	d, clock := open(t, dir)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for w := range 2 {
		wg.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				sub := filepath.Join(dir, fmt.Sprintf("sub%d-%d", w, i%7))
				os.Mkdir(sub, 0o755)
				os.WriteFile(filepath.Join(sub, "f"), []byte("x"), 0o644)
				os.Symlink("f", filepath.Join(sub, "l"))
				os.Rename(sub, sub+"r")
				os.RemoveAll(sub + "r")
				os.WriteFile(sub, []byte("a file in the directory's place"), 0o644)
				os.Remove(sub)
			}
		})
	}
	for range 300 {
		v, err := d.Snapshot(t.Context())
		if err != nil {
			t.Error(err)
			break
		}
		if v.Files < 1 {
			t.Error("the file that stays was not found")
		}
		clock.pass(SnapshotTTL)
	}
	close(stop)
	wg.Wait()
	clock.pass(SnapshotTTL)
	if v := snapshot(t, d); v.Commitment != expected("test", "stays", "x") {
		t.Error("the commitment after all has come to rest is not that of what stayed")
	}
}

func TestClose(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "big"), strings.Repeat("x", 32<<20))
	d, _ := open(t, dir)
	d.limits.inline = 1 // so that the background reads the file
	if v := snapshot(t, d); v.Basis != Metadata {
		t.Errorf("basis %q", v.Basis)
	}
	for range 2 {
		must(t, d.Close())
	}
	if _, err := d.Snapshot(t.Context()); !errors.Is(err, ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
	if d.hashing {
		t.Error("the background is at work after Close")
	}
}

func TestCloseWhileCalled(t *testing.T) {
	dir := t.TempDir()
	for i := range 500 {
		write(t, filepath.Join(dir, strconv.Itoa(i)), "x")
	}
	for range 20 {
		d, err := Open("test", dir, testSalt, Options{})
		must(t, err)
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				if _, err := d.Snapshot(t.Context()); err != nil && !errors.Is(err, ErrClosed) {
					t.Error(err)
				}
			})
		}
		must(t, d.Close())
		wg.Wait()
	}
}

func FuzzCommit(f *testing.F) {
	f.Add("a", "content", "b", "a")
	f.Add("1:a,", "", "2", "link")
	f.Add("\n", "-", "\xff", "../x")
	f.Fuzz(func(t *testing.T, path, content, link, target string) {
		if path >= link || strings.HasPrefix(content, "-> ") {
			t.Skip("two names in ascending order, the first of a regular file, are wanted")
		}
		got := commit(testSalt, "test", Content, []file{
			{path: path, id: ident{size: int64(len(content))}, sum: sha256.Sum256([]byte(content))},
			{path: link, isLink: true, target: target},
		})
		if got != expected("test", path, content, link, "-> "+target) {
			t.Error("commitment differs from the one computed by hand")
		}
	})
}

func BenchmarkSnapshotWarm(b *testing.B) {
	d, _ := open(b, b.TempDir())
	for b.Loop() {
		snapshot(b, d)
	}
}

func benchmarkWalk(b *testing.B, files int) {
	dir := b.TempDir()
	for i := range files {
		write(b, filepath.Join(dir, strconv.Itoa(i%100), strconv.Itoa(i)), "content")
	}
	d, clock := open(b, dir)
	snapshot(b, d)
	for b.Loop() {
		clock.pass(SnapshotTTL)
		snapshot(b, d)
	}
}

func BenchmarkSnapshotUnchanged10(b *testing.B)    { benchmarkWalk(b, 10) }
func BenchmarkSnapshotUnchanged10000(b *testing.B) { benchmarkWalk(b, 10_000) }

//go:build unix

package dataset

import (
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// expectedMetadata is the commitment to one file's metadata, by hand.
func expectedMetadata(t *testing.T, dir, name string) [32]byte {
	t.Helper()
	info, err := os.Stat(filepath.Join(dir, name))
	must(t, err)
	size, mtime := fmt.Sprint(info.Size()), fmt.Sprint(info.ModTime().UnixNano())
	mac := hmac.New(sha256.New, testSalt[:])
	for _, s := range []string{"liop-dataset-v1", "test", name, size, mtime} {
		fmt.Fprintf(mac, "%d:%s,", len(s), s)
	}
	return [32]byte(mac.Sum(nil))
}

func TestMetadataThenContent(t *testing.T) {
	dir := t.TempDir()
	content := strings.Repeat("x", 3*readChunk+1)
	write(t, filepath.Join(dir, "big"), content)
	d, clock := open(t, dir)
	d.limits.inline = int64(len(content)) - 1

	v := snapshot(t, d)
	if v.Basis != Metadata || v.Commitment != expectedMetadata(t, dir, "big") {
		t.Errorf("basis %q, or not the commitment to metadata", v.Basis)
	}
	if v.Files != 1 || v.Bytes != int64(len(content)) {
		t.Errorf("%d files, %d bytes", v.Files, v.Bytes)
	}
	d.wg.Wait()
	v = snapshot(t, d) // at once: the end of the background makes the last one stale
	if v.Basis != Content || v.Commitment != expected("test", "big", content) {
		t.Errorf("basis %q after the background is done, or not the commitment to content", v.Basis)
	}

	// A small change to a dataset whose large file is known is read inline.
	write(t, filepath.Join(dir, "small"), "1")
	clock.pass(SnapshotTTL)
	v = snapshot(t, d)
	if v.Basis != Content || v.Commitment != expected("test", "big", content, "small", "1") {
		t.Errorf("basis %q after a small change", v.Basis)
	}
}

func TestInlineBudgetIsForAllFilesTogether(t *testing.T) {
	dir := t.TempDir()
	for i := range 5 {
		write(t, filepath.Join(dir, fmt.Sprint(i)), "0123456789")
	}
	d, clock := open(t, dir)
	d.limits.inline = 49
	if v := snapshot(t, d); v.Basis != Metadata {
		t.Errorf("50 bytes with a budget of 49 have basis %q", v.Basis)
	}
	d.wg.Wait()
	if v := snapshot(t, d); v.Basis != Content {
		t.Errorf("basis %q after the background is done", v.Basis)
	}
	clock.pass(SnapshotTTL)
	write(t, filepath.Join(dir, "3"), "9876543210")
	if v := snapshot(t, d); v.Basis != Content {
		t.Errorf("one changed file within the budget has basis %q", v.Basis)
	}
}

// The background leaves a large file alone until it has settled.
func TestBackgroundWaitsUntilSettled(t *testing.T) {
	for _, settles := range []bool{true, false} {
		t.Run(fmt.Sprintf("settles %t", settles), func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "big")
			write(t, path, "0123456789")
			info, err := os.Stat(path)
			must(t, err)
			synctest.Test(t, func(t *testing.T) {
				clock := &later{now: time.Unix(0, identOf(info).ctime)}
				d, err := Open("test", dir, testSalt, Options{Now: clock.Now})
				must(t, err)
				defer d.Close()
				d.limits.inline = 1
				snapshot(t, d)
				time.Sleep(Settle / 2) // of the bubble: the background is asleep by now
				if settles {
					clock.pass(Settle)
				}
				d.wg.Wait()
				want := Metadata
				if settles {
					want = Content
				}
				if v := snapshot(t, d); v.Basis != want {
					t.Errorf("basis %q, want %q", v.Basis, want)
				}
			})
		})
	}
}

func TestHashFile(t *testing.T) {
	const size = 2*readChunk + 5
	for _, c := range []struct {
		about string
		// during is called after the first chunk was read
		during func(t *testing.T, path string)
		before func(t *testing.T, path string)
		most   int64
		want   error
	}{
		{about: "unchanged"},
		{about: "too large", most: size - 1, want: errLarge},
		{about: "vanished", before: func(t *testing.T, path string) { must(t, os.Remove(path)) }, want: errGone},
		{about: "directory above vanished", before: func(t *testing.T, path string) {
			must(t, os.RemoveAll(filepath.Dir(path)))
			write(t, filepath.Dir(path), "a file in its place")
		}, want: errGone},
		{about: "became a directory", before: func(t *testing.T, path string) {
			must(t, os.Remove(path))
			must(t, os.Mkdir(path, 0o755))
		}, want: errGone},
		{about: "became a FIFO", before: func(t *testing.T, path string) {
			must(t, os.Remove(path))
			must(t, syscall.Mkfifo(path, 0o644))
		}, want: errGone},
		{about: "became a link out", before: func(t *testing.T, path string) {
			must(t, os.Remove(path))
			symlink(t, "/etc/hostname", path)
		}, want: errGone},
		{about: "grows", during: func(t *testing.T, path string) {
			f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
			must(t, err)
			_, err = io.WriteString(f, "more")
			must(t, err)
			must(t, f.Close())
		}, want: errWritten},
		{about: "is cut short", during: func(t *testing.T, path string) { must(t, os.Truncate(path, readChunk)) }, want: errWritten},
		{about: "is written in place", during: func(t *testing.T, path string) {
			f, err := os.OpenFile(path, os.O_WRONLY, 0)
			must(t, err)
			_, err = f.WriteAt([]byte("y"), 0)
			must(t, err)
			must(t, f.Close())
			must(t, os.Chtimes(path, time.Time{}, time.Unix(1, 0)))
		}, want: errWritten},
	} {
		t.Run(c.about, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "d", "f")
			write(t, path, strings.Repeat("x", size))
			if c.before != nil {
				c.before(t, path)
			}
			root, err := os.OpenRoot(dir)
			must(t, err)
			defer root.Close()
			h := newHasher(t.Context(), root)
			chunks := 0
			h.rest = func(time.Duration) error {
				if chunks++; chunks == 1 && c.during != nil {
					c.during(t, path)
				}
				return nil
			}
			if c.most == 0 {
				c.most = size
			}
			id, sum, err := h.file("d/f", c.most, nil)
			if !errors.Is(err, c.want) {
				t.Fatalf("got %v, want %v", err, c.want)
			}
			if err != nil {
				return
			}
			if sum != sha256.Sum256([]byte(strings.Repeat("x", size))) || id.size != size {
				t.Error("wrong hash or size")
			}
			other := id
			other.inode++
			if _, _, err := h.file("d/f", size, &other); !errors.Is(err, errWritten) {
				t.Errorf("another file than the wanted one: %v", err)
			}
		})
	}
}

// A file that vanishes between the walk and the reading is left out.
func TestVanishedBeforeRead(t *testing.T) {
	dir := t.TempDir()
	for _, n := range []string{"a", "b", "c"} {
		write(t, filepath.Join(dir, n), n)
	}
	d, _ := open(t, dir)
	root, err := os.OpenRoot(dir)
	must(t, err)
	defer root.Close()
	found, err := walk(t.Context(), root, d.limits)
	must(t, err)
	must(t, os.Remove(filepath.Join(dir, "b")))
	files, basis, err := d.hashNow(root, found.files)
	must(t, err)
	if basis != Content || commit(testSalt, "test", basis, files) != expected("test", "a", "a", "c", "c") {
		t.Errorf("basis %q, %d files", basis, len(files))
	}
}

// TestUnreadable needs a user whom permissions stop: as root it runs itself as
// nobody.
func TestUnreadable(t *testing.T) {
	if os.Geteuid() == 0 {
		runAsNobody(t)
		return
	}
	dir := t.TempDir()
	path := filepath.Join(dir, "sub", "f")
	write(t, path, "content")
	d, clock := open(t, dir)

	for _, c := range []struct {
		about, path string
		mode        os.FileMode
		want        string
	}{
		{"file", path, 0, `dataset test: file "sub/f" cannot be read, let the user of the node read it or move it out of the dataset`},
		{"directory without read", filepath.Dir(path), 0o300, `directory "sub" cannot be read`},
		{"directory without search", filepath.Dir(path), 0o600, `directory "sub" cannot be read`},
		{"the dataset's directory", dir, 0, "cannot be listed, give the user of the node read and search permission"},
	} {
		info, err := os.Stat(c.path)
		must(t, err)
		must(t, os.Chmod(c.path, c.mode))
		_, err = d.Snapshot(t.Context())
		if err == nil || !strings.Contains(err.Error(), c.want) || !errors.Is(err, os.ErrPermission) {
			t.Errorf("%s: got %v, want an error with %q", c.about, err, c.want)
		}
		must(t, os.Chmod(c.path, info.Mode()))
		if _, err := d.Snapshot(t.Context()); err != nil {
			t.Errorf("%s, after the cure: %v", c.about, err)
		}
		must(t, os.WriteFile(path, []byte(c.about), 0o644)) // to be read again
		clock.pass(SnapshotTTL)
	}

	// The same in the background: the error is there until the file is cured.
	d.limits.inline = 1
	must(t, os.Chmod(path, 0))
	if v := snapshot(t, d); v.Basis != Metadata {
		t.Errorf("basis %q", v.Basis)
	}
	d.wg.Wait()
	for range 2 {
		clock.pass(SnapshotTTL)
		if _, err := d.Snapshot(t.Context()); !errors.Is(err, os.ErrPermission) {
			t.Errorf("after the background failed: %v", err)
		}
		d.wg.Wait()
	}
	must(t, os.Chmod(path, 0o600))
	snapshot(t, d)
	d.wg.Wait()
	if v := snapshot(t, d); v.Basis != Content {
		t.Errorf("basis %q after the cure", v.Basis)
	}

	must(t, os.Chmod(dir, 0o100))
	defer os.Chmod(dir, 0o700)
	if _, err := Open("test", dir, testSalt, Options{}); err == nil || !strings.Contains(err.Error(), "cannot be listed") {
		t.Errorf("Open of a directory that cannot be listed: %v", err)
	}
	must(t, os.Chmod(dir, 0o400))
	if _, err := Open("test", dir, testSalt, Options{}); err == nil || !strings.Contains(err.Error(), "cannot be listed") {
		t.Errorf("Open of a directory that cannot be searched: %v", err)
	}
}

// runAsNobody runs the calling test in a process of the user nobody.
func runAsNobody(t *testing.T) {
	const nobody = 65534
	dir, err := os.MkdirTemp("", "as-nobody-") // TempDir's is closed to other users
	must(t, err)
	defer os.RemoveAll(dir)
	must(t, os.Chmod(dir, 0o777))
	self, err := os.Executable()
	must(t, err)
	program, err := os.ReadFile(self)
	must(t, err)
	must(t, os.WriteFile(filepath.Join(dir, "test"), program, 0o755))
	cmd := exec.CommandContext(t.Context(), filepath.Join(dir, "test"), "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Dir = dir
	cmd.Env = []string{"TMPDIR=" + dir}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()) {
		t.Errorf("as nobody: %v\n%s", err, out)
	}
}

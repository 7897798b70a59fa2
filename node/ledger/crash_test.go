//go:build unix

package ledger

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// debitorEnv makes the test binary debit the ledger that it names.
const debitorEnv = "LEDGER_TEST_DEBITOR"

// debitors is how many callers the killed process has.
const debitors = 8

// debitForever debits until it is killed, and says so on stdout after each
// debit that was acknowledged.
func debitForever(path string) {
	l, err := Open(path, Options{})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	for range debitors {
		go func() {
			for {
				if _, err := l.Debit(context.Background(), "a", 1, math.MaxUint64, day); err != nil {
					fmt.Fprintln(os.Stderr, err)
					os.Exit(1)
				}
				os.Stdout.WriteString("debited\n") // one system call, so not torn
			}
		}()
	}
	select {}
}

func TestSurvivesKill(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger.db")
	self, err := os.Executable()
	must(t, err)
	total := uint64(0)
	for round := range 8 {
		cmd := exec.CommandContext(t.Context(), self)
		cmd.Env = append(os.Environ(), debitorEnv+"="+path)
		var stderr strings.Builder
		cmd.Stderr = &stderr
		out, err := cmd.StdoutPipe()
		must(t, err)
		must(t, cmd.Start())

		acknowledged := uint64(0)
		killAt := uint64(1 + rand.IntN(200))
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			if acknowledged++; acknowledged == killAt {
				must(t, cmd.Process.Kill())
			}
		}
		err = cmd.Wait()
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
			t.Fatalf("the process ended by itself: %v\n%s", err, stderr.String())
		}

		l, err := Open(path, Options{})
		must(t, err)
		n := used(t, l, "a")
		must(t, l.Close())
		// Debits that were made, but not said to be, are those under way.
		if n < total+acknowledged || n > total+acknowledged+debitors {
			t.Fatalf("round %d: %d are used, %d were before and %d acknowledged since", round, n, total, acknowledged)
		}
		total = n
	}
}

// sample makes a ledger in which "a" has used first 1, then 2, and returns its
// bytes.
func sample(t *testing.T, path string) []byte {
	t.Helper()
	l, _ := start(t, path)
	for range 2 {
		if _, err := l.Debit(t.Context(), "a", 1, 10, day); err != nil {
			t.Fatal(err)
		}
	}
	must(t, l.Close())
	b, err := os.ReadFile(path)
	must(t, err)
	return b
}

// clearCounts sets the number of elements of each leaf page to 0.
func clearCounts(b []byte) []byte {
	const flagsAt, countAt, leaf = 8, 10, 2 // of bbolt's page header
	for page := 2 * os.Getpagesize(); page < len(b); page += os.Getpagesize() {
		if b[page+flagsAt] == leaf {
			b[page+countAt], b[page+countAt+1] = 0, 0
		}
	}
	return b
}

func TestOpenDamaged(t *testing.T) {
	for _, c := range []struct {
		about string
		spoil func(b []byte) []byte
	}{
		{"text", func([]byte) []byte { return []byte("not a ledger\n") }},
		{"zeros", func(b []byte) []byte { clear(b); return b }},
		{"cut within the first page", func(b []byte) []byte { return b[:100] }},
		{"cut after the meta pages", func(b []byte) []byte { return b[:2*os.Getpagesize()] }},
		{"cut after the third page", func(b []byte) []byte { return b[:3*os.Getpagesize()] }},
		{"zeros after the meta pages", func(b []byte) []byte { clear(b[2*os.Getpagesize():]); return b }},
		{"no buckets", func(b []byte) []byte { return clearCounts(b) }},
		{"ones after the meta pages", func(b []byte) []byte {
			for i := range b[2*os.Getpagesize():] {
				b[2*os.Getpagesize()+i] = 0xff
			}
			return b
		}},
	} {
		t.Run(c.about, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "ledger.db")
			must(t, os.WriteFile(path, c.spoil(sample(t, path)), 0o600))
			for range 2 { // the first failure leaves no lock behind
				l, err := Open(path, Options{})
				if err == nil {
					l.Close()
				}
				if err == nil || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "damaged or not a ledger") {
					t.Fatalf("got %v, want an error that names the file and the cure", err)
				}
			}
		})
	}
}

// One wrong bit is an error, or changes nothing, or, in one of the two meta
// pages, brings back the state before the last transaction, as after a power
// failure. Where a page begins, most bits are tried.
func TestOneWrongBit(t *testing.T) {
	for _, c := range []struct {
		about   string
		keys    int
		atStart int // of a page, one of so many bits is tried
		within  int
	}{
		{"one leaf", 0, 7, 499},
		{"many leaves", 600, 31, 2003},
	} {
		t.Run(c.about, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "ledger.db")
			l, _ := start(t, path)
			fill(t, l, c.keys, func(int) record { return record{used: 1, expires: day.Unix()} })
			must(t, l.Close())
			good := sample(t, path)
			page := os.Getpagesize()
			refused := 0
			for bit := range 8 * len(good) {
				i, step := bit/8, c.within
				if i%page < 64 {
					step = c.atStart
				}
				if bit%step != 0 {
					continue
				}
				bad := append([]byte(nil), good...)
				bad[i] ^= 1 << (bit % 8)
				must(t, os.WriteFile(path, bad, 0o600))
				l, err := Open(path, Options{})
				if err != nil {
					if refused++; !strings.Contains(err.Error(), path) {
						t.Errorf("bit %d: the error does not name the file: %v", bit, err)
					}
					continue
				}
				n, err := l.Used("a")
				if err != nil || n != 2 && !(i < 2*page && n == 1) {
					t.Errorf("bit %d, byte %d of page %d: %d are used (%v)", bit, i%page, i/page, n, err)
				}
				if c.keys == 0 { // a debit is made or refused, and ends
					left, err := l.Debit(t.Context(), "a", 1, 10, day)
					if err == nil && left != 10-n-1 {
						t.Errorf("bit %d: %d are left", bit, left)
					}
				}
				must(t, l.Close())
			}
			if refused < 20 {
				t.Errorf("%d wrong bits were noticed", refused)
			}
		})
	}
}

func TestOpenForeign(t *testing.T) {
	base := t.TempDir()
	path := filepath.Join(base, "ledger.db")
	sample(t, path)
	for _, c := range []struct {
		about, path string
		before      func()
		want        string
	}{
		{"open to the group", path, func() { must(t, os.Chmod(path, 0o640)) }, "run: chmod 600 " + path},
		{"no such directory", filepath.Join(base, "missing", "ledger.db"), func() {}, "no such file or directory"},
		{"a directory", base, func() {}, "is a directory"},
	} {
		c.before()
		l, err := Open(c.path, Options{})
		if err == nil {
			l.Close()
		}
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), c.path) {
			t.Errorf("%s: got %v, want an error with %q and the path", c.about, err, c.want)
		}
	}
}

// After a write has failed the ledger refuses everything, since what is on disk
// is in doubt.
func TestFailedWrite(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger.db")
	sample(t, path)
	l, err := open(path, Options{}, func(path string, _ int, mode fs.FileMode) (*os.File, error) {
		return os.OpenFile(path, os.O_RDONLY, mode) // writes to it fail
	})
	must(t, err)
	if n := used(t, l, "a"); n != 2 {
		t.Errorf("%d are used", n)
	}
	for range 2 {
		left, err := l.Debit(t.Context(), "a", 1, 10, day)
		if err == nil || left != 0 || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "cannot be written") {
			t.Errorf("left %d, %v", left, err)
		}
		if _, err := l.Used("a"); err == nil {
			t.Error("Used answers")
		}
	}
	must(t, l.Close())

	l, _ = start(t, path) // the lock was given up
	if n := used(t, l, "a"); n != 2 {
		t.Errorf("%d are used", n)
	}
}

// TestReadOnlyDirectory needs a user whom permissions stop: as root it runs
// itself as nobody.
func TestReadOnlyDirectory(t *testing.T) {
	if os.Geteuid() == 0 {
		runAsNobody(t)
		return
	}
	dir := t.TempDir()
	must(t, os.Chmod(dir, 0o500))
	defer os.Chmod(dir, 0o700)
	path := filepath.Join(dir, "ledger.db")
	if _, err := Open(path, Options{}); !errors.Is(err, fs.ErrPermission) || !strings.Contains(err.Error(), path) {
		t.Errorf("got %v", err)
	}

	// In a file that is there, debits need no permission for the directory.
	must(t, os.Chmod(dir, 0o700))
	sample(t, path)
	must(t, os.Chmod(dir, 0o500))
	l, _ := start(t, path)
	if _, err := l.Debit(t.Context(), "a", 1, 10, day); err != nil {
		t.Error(err)
	}
	must(t, l.Close())

	must(t, os.Chmod(path, 0o400))
	if _, err := Open(path, Options{}); !errors.Is(err, fs.ErrPermission) || !strings.Contains(err.Error(), path) {
		t.Errorf("read-only file: %v", err)
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

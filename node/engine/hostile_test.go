package engine

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/liop-project/liop/core/fault"
	"github.com/liop-project/liop/core/guest"
	"github.com/liop-project/liop/node/bounds"
	"github.com/liop-project/liop/node/sandbox/testdata/hostile"
)

// Whatever a module does, the call ends with what is right for it, and the next
// tenant's call is right. The whole corpus is run here, beside the engine; the
// command runs it against a node.
func TestHostile(t *testing.T) {
	data := attackedDataset(t)
	before := tree(t, data)
	// Most of what cannot be compiled is as far from compiling after two
	// seconds as it is after ten.
	e := newTest(t, Config{CompileTime: 2 * time.Second})
	for _, a := range hostile.Corpus() {
		t.Run(a.Name, func(t *testing.T) {
			wasm := a.Wasm()
			for n, args := range a.Arguments() {
				j := jobOf(wasm)
				j.Args, j.Stdin, j.Mounts = args, guest.Stdin(a.Inputs), []Mount{{"d", data}}
				// Those that end are given the time to.
				if !slices.Contains(a.Expect.Faults, hostile.Refusal{Code: fault.LimitTime, Rule: "limits.wall_ms"}) || len(a.Expect.Faults) > 1 || a.Expect.Held {
					j.Limits.Wall = 5 * time.Second
				}
				start := time.Now()
				r, err := e.Run(context.Background(), j)
				var answer []byte
				if r != nil {
					answer = r.Answer
				}
				if got, right := a.Expect.Check(answer, err); !right {
					t.Fatalf("run %d: %s (%v); right is: %s", n, got, err, a.Expect.Words)
				}
				if err != nil && len(answer) > 0 {
					t.Errorf("run %d: a refused run answered %d bytes", n, len(answer))
				}
				if took := time.Since(start); took > time.Minute {
					t.Errorf("run %d took %s", n, took)
				}
				for _, word := range []string{data, "/tmp", "/root", "goroutine", "SECRET"} {
					if err != nil && strings.Contains(err.Error(), word) {
						t.Errorf("run %d: the error tells the agent %q: %v", n, word, err)
					}
				}
			}
			canary(t, e)
		})
	}
	if after := tree(t, data); after != before {
		t.Errorf("the dataset was %s and is %s", before, after)
	}
}

// Each function that a module may import is attacked.
func TestEveryImportIsAttacked(t *testing.T) {
	attacked := map[string]bool{"exit-1": true} // proc_exit has no pointers
	for _, a := range hostile.Corpus() {
		attacked[a.Name] = true
	}
	for name := range wasiFunctions {
		attack := "pointers-" + strings.ReplaceAll(name, "_", "-")
		if name == "proc_exit" {
			attack = "exit-1"
		}
		if !attacked[attack] {
			t.Errorf("no attack calls %s", name)
		}
	}
}

// A compiler ends at its bound of memory, if it meets that before its time is
// up.
func TestCompileMemory(t *testing.T) {
	i := slices.IndexFunc(hostile.Corpus(), func(a hostile.Attack) bool { return a.Name == "many-ifs" })
	a := hostile.Corpus()[i]
	var log bytes.Buffer
	e := newTest(t, Config{CompileTime: 2 * time.Minute})
	e.log = slog.New(slog.NewTextHandler(&log, nil))
	_, err := e.Run(context.Background(), jobOf(a.Wasm()))
	if got, right := a.Expect.Check(nil, err); !right {
		t.Error(got)
	}
	if !strings.Contains(log.String(), "memory allocation of") {
		t.Errorf("the compiler did not end for lack of memory: %s", log.String())
	}
}

// The host's own fd_pread, in a runner that is locked down, reads what is in the
// file, in parts of the bound.
func TestPreadIsShort(t *testing.T) {
	dir := t.TempDir()
	f, err := os.Create(filepath.Join(dir, "f"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for at, b := range map[int64]byte{bounds.Read - 1: 7, bounds.Read: 8, 2*bounds.Read - 1: 9, 2*bounds.Read + 2: 10} {
		if _, err := f.WriteAt([]byte{b}, at); err != nil {
			t.Fatal(err)
		}
	}
	e := newTest(t, Config{})
	j := jobOf(guestModule(t, "pread"))
	j.Mounts, j.Limits.Wall = []Mount{{"d", dir}}, 20*time.Second
	want := fmt.Sprintf("%d 7\n%d 9\n3 10\n", bounds.Read, bounds.Read)
	for range 2 { // the second run is in the same process, in another store
		r, err := e.Run(context.Background(), j)
		if err != nil {
			t.Fatal(err)
		}
		if string(r.Answer) != want {
			t.Errorf("read %q, want %q", r.Answer, want)
		}
	}
}

// attackedDataset is a directory with what attacks look for in one: a file, a
// directory, and symbolic links to the outside, to a file and to a directory.
func attackedDataset(t *testing.T) string {
	t.Helper()
	data, outside := t.TempDir(), t.TempDir()
	if err := os.WriteFile(filepath.Join(outside, "passwd"), []byte("SECRET"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(data, "kept.txt"), []byte("kept"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(data, "sub"), 0o700); err != nil {
		t.Fatal(err)
	}
	for name, target := range map[string]string{"file-link": filepath.Join(outside, "passwd"), "dir-link": outside, "a-link": "../../../etc/passwd"} {
		if err := os.Symlink(target, filepath.Join(data, name)); err != nil {
			t.Fatal(err)
		}
	}
	return data
}

// tree tells all that is below a directory, with times and content.
func tree(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		b.WriteString(path + " " + info.Mode().String() + " " + info.ModTime().String() + "\n")
		if info.Mode().IsRegular() {
			content, err := os.ReadFile(path)
			b.Write(content)
			return err
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

//go:build liop_bug

package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/liop-project/liop/core/fault"
	"github.com/liop-project/liop/node/bounds"
)

// A guest that has broken out of the WebAssembly engine is in a process that
// can do nothing to the node, the host, or another's run. Run with
//
//	go test -tags liop_bug -run TestEngineBug ./node/engine
func TestEngineBug(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "secret")
	data, other := t.TempDir(), t.TempDir()
	granted := filepath.Join(data, "granted")
	for _, f := range []string{secret, granted, filepath.Join(other, "file")} {
		if err := os.WriteFile(f, []byte("SECRET"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	e := newTest(t, Config{CompileTime: time.Second, Reuse: 1})
	has, err := e.Probe(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if len(has.Gaps) > 0 {
		t.Logf("this machine lacks %v", has.Gaps)
	}
	node := fmt.Sprint(os.Getpid())
	died := []fault.Error{{Code: fault.ModuleFailed, Rule: "worker"}}
	late := []fault.Error{{Code: fault.LimitTime}}
	type attempt struct {
		bug  string
		want []fault.Error // nil: refused by the kernel, and the worker lives
	}
	attempts := []attempt{
		{"segfault", died}, {"wild-write", append(died, late...)}, {"abort", died}, {"exit", died}, {"chatter", died},
		{"spin", late}, {"sleep", late},
		{"huge-frame", died}, {"garbage", died}, {"too-long", died}, {"half-frame", late}, {"noise", died}, {"hang-up", died},
		{"threads", nil}, {"map-memory", nil}, {"map-shared", nil}, {"new-code", nil},
		{"raise-limit", nil}, {"raise-priority", nil}, {"drop-filter", nil}, {"become-root", nil}, {"gain-capability", nil},
		{"read-file=" + granted, []fault.Error{}}, // the one thing it may do
		{"write-file=" + granted, nil}, {"remove-file=" + granted, nil}, {"make-file=" + filepath.Join(data, "new"), nil},
		{"read-file=" + secret, nil}, {"read-file=/etc/passwd", nil}, {"read-file=/proc/self/maps", nil}, {"read-file=/dev/zero", nil},
		{"read-file=" + filepath.Join(other, "file"), nil},
		{"list-dir=/", nil}, {"list-dir=/proc", nil}, {"list-dir=" + other, nil}, {"list-dir=" + e.cache.dir, nil}, {"list-dir=" + filepath.Dir(data), nil},
		{"make-file=/tmp/liop-escaped", nil}, {"make-file=/liop-escaped", nil},
		{"vfork", nil}, {"clone3", nil}, {"tgkill=" + node, nil}, {"limit-parent=" + node, nil}, {"read-memory=" + node, nil}, {"read-memory=1", nil},
		{"x32", nil},
		{"memfd", died}, {"fork", died}, {"exec", died}, {"ptrace=" + node, died}, {"vm-read=" + node, died}, {"kill=" + node, died},
		{"socket", died}, {"unix", died}, {"io-uring", died}, {"bpf", died}, {"mount", died}, {"unshare", died},
	}
	for _, a := range attempts {
		t.Run(a.bug, func(t *testing.T) {
			if a.bug == "threads" && !strings.Contains(fmt.Sprint(has.Active), "namespaces:") && !slices.Contains(has.Active, "uid") {
				t.Skip("without a user or a namespace of its own, a worker's threads are counted with the node's")
			}
			j := jobOf(guestModule(t, "hello"))
			j.Tenant, j.Args, j.Mounts = "hostile", []string{"liop-bug:" + a.bug}, []Mount{{"d", data}}
			start := time.Now()
			r, err := e.Run(context.Background(), j)
			switch {
			case a.want == nil:
				if err != nil || !bytes.HasPrefix(r.Answer, []byte("refused: ")) {
					t.Errorf("got %v, %v", r, err)
				}
			case len(a.want) == 0:
				if err != nil || !bytes.HasPrefix(r.Answer, []byte("got through: ")) {
					t.Errorf("got %v, %v", r, err)
				}
			case !slices.ContainsFunc(a.want, func(f fault.Error) bool { return errors.Is(err, &f) }):
				t.Errorf("got %v (%v), want %v", err, r, a.want)
			}
			if r != nil {
				t.Logf("%s", r.Answer)
			}
			if took := time.Since(start); took > j.Limits.Wall+bounds.Grace+5*time.Second {
				t.Errorf("took %s", took)
			}
			canary(t, e)
		})
	}
	for _, f := range []string{secret, granted} {
		if b, err := os.ReadFile(f); err != nil || string(b) != "SECRET" {
			t.Errorf("%s is now %q, %v", f, b, err)
		}
	}
	for _, f := range []string{filepath.Join(data, "new"), "/tmp/liop-escaped", "/liop-escaped"} {
		if _, err := os.Stat(f); err == nil {
			t.Errorf("%s was made", f)
		}
	}

	slow := []fault.Error{{Code: fault.LimitCompile}}
	for _, a := range []attempt{
		{"segfault", slow}, {"wild-write", slow}, {"exit", slow}, {"spin", slow}, {"sleep", slow},
		{"huge-frame", slow}, {"garbage", slow}, {"half-frame", slow}, {"hang-up", slow}, {"map-memory", nil},
		{"socket", slow}, {"exec", slow}, {"fork", slow}, {"kill=" + node, slow},
		{"read-file=" + secret, nil}, {"read-file=" + granted, nil}, {"list-dir=" + e.cache.dir, nil}, {"make-file=/tmp/liop-escaped", nil},
		// The node cannot see that it is not code; the runner that loads it can,
		// or dies of it.
		{"bad-artifact", []fault.Error{{Code: fault.ModuleUnknown}, {Code: fault.ModuleInvalid}, {Code: fault.Internal}}},
		{"no-artifact", []fault.Error{{Code: fault.ModuleUnknown}, {Code: fault.ModuleInvalid}, {Code: fault.Internal}}},
	} {
		t.Run("compiler-"+a.bug, func(t *testing.T) {
			// A custom section that the compiler's bug obeys.
			mark := "liop-bug:" + a.bug + ";"
			section := append([]byte{0, byte(len(mark) + 2), 1, 'x'}, mark...)
			j := jobOf(append(bytes.Clone(probeModule), section...))
			j.Tenant = "hostile"
			_, err := e.Run(context.Background(), j)
			if a.want == nil {
				if !errors.Is(err, &fault.Error{Code: fault.ModuleInvalid}) || !strings.Contains(err.Error(), "refused: ") {
					t.Errorf("got %v", err)
				}
			} else if !slices.ContainsFunc(a.want, func(f fault.Error) bool { return errors.Is(err, &f) }) {
				t.Errorf("got %v, want %v", err, a.want)
			}
			canary(t, e)
		})
	}
}

package engine

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/liop-project/liop/core/fault"
	"github.com/liop-project/liop/node/bounds"
	"github.com/liop-project/liop/node/sandbox/wire"
)

// So many runners stand by, and no more; a run has one of them, and another
// takes its place.
func TestBlankRunners(t *testing.T) {
	e := newTest(t, Config{Runners: 2})
	blanks := func() []string {
		t.Helper()
		for late := time.Now().Add(30 * time.Second); len(e.pool.blanks) < bounds.Blank; time.Sleep(time.Millisecond) {
			if time.Now().After(late) {
				t.Fatalf("%d runners stand by", len(e.pool.blanks))
			}
		}
		return runners(t)
	}
	before := blanks()
	if len(before) != bounds.Blank {
		t.Fatalf("%d runners were started, want %d", len(before), bounds.Blank)
	}
	canary(t, e)
	after := blanks()
	if len(after) != bounds.Blank+1 { // the canary's is idle
		t.Errorf("%d runners after a run, want %d", len(after), bounds.Blank+1)
	}
	for _, pid := range before {
		if !slices.Contains(after, pid) {
			t.Errorf("runner %s has ended: the run had another than one that stood by", pid)
		}
	}
}

// runners lists the runner processes of this process, blank or not.
func runners(t *testing.T) (pids []string) {
	for _, pid := range children(t) {
		if cmd, _ := os.ReadFile("/proc/" + pid + "/cmdline"); strings.HasPrefix(string(cmd), wire.RunnerName+"\x00") {
			pids = append(pids, pid)
		}
	}
	return pids
}

// A runner that takes its orders and says nothing is given up after bounds.Bind,
// or when nobody waits for it any more.
func TestSilentRunner(t *testing.T) {
	bind := func(ctx context.Context) error {
		ours, its := net.Pipe()
		defer ours.Close()
		go io.Copy(io.Discard, its)
		r := &runner{worker: &worker{sock: ours, conn: wire.NewConn(ours)}}
		return r.bind(ctx, jobOf(probeModule), "module.cwasm")
	}
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		err := bind(t.Context())
		var died *workerDied
		if !errors.As(err, &died) || !errors.Is(died.error, os.ErrDeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		if took := time.Since(start); took != bounds.Bind {
			t.Errorf("given up after %s, want %s", took, bounds.Bind)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		gone := &fault.Error{Code: fault.Cancelled}
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(time.Second, func() { cancel(gone) })
		start := time.Now()
		if err := bind(ctx); !errors.Is(err, gone) {
			t.Errorf("cancelled: %v", err)
		}
		if took := time.Since(start); took != time.Second {
			t.Errorf("cancelled after a second, given up after %s", took)
		}
	})
}

//go:build linux

package engine

import (
	"context"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"github.com/liop-project/liop/node/bounds"
)

// A process that hangs in the kernel outlives SIGKILL; nothing that waits for it
// waits for ever.
func TestWorkerThatDoesNotDie(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &worker{cmd: &exec.Cmd{Process: &os.Process{Pid: 1}}, done: make(chan struct{}), said: &capped{max: bounds.LastWords}}
		w.once.Do(func() {}) // was killed
		start := time.Now()
		if said := w.lastWords(); !strings.Contains(said, "has not ended") {
			t.Errorf("its last words are %q", said)
		}
		s := newSpawner(isolation{}, nil)
		s.live[w] = struct{}{}
		if err := s.close(); err == nil {
			t.Error("close says that every worker has ended")
		}
		if took := time.Since(start); took != 2*bounds.Reap {
			t.Errorf("waited %s", took)
		}
		close(w.done)
		if said := w.lastWords(); said != "" {
			t.Errorf("after it has ended, its last words are %q", said)
		}
	})
}

// Workers that nobody killed end with their spawner, also those that get no signal
// when its thread ends: if it had the first thread of the process, that never ends.
func TestSpawnerEndsItsWorkers(t *testing.T) {
	s := newSpawner(isolation{}, nil)
	ours, theirs := net.Pipe()
	defer theirs.Close()
	w := &worker{cmd: exec.Command("sleep", "3600"), sock: ours, done: make(chan struct{})}
	if err := w.cmd.Start(); err != nil {
		t.Skip(err)
	}
	s.watch(w)
	if err := s.close(); err != nil {
		t.Error(err)
	}
	if !w.ended() {
		t.Error("a worker lives on")
	}
}

// A runner that ended while it stood by is nobody's fault: the next run has
// another one.
func TestIdleRunnerThatDied(t *testing.T) {
	e := newTest(t, Config{})
	canary(t, e)
	e.pool.mu.Lock()
	r := e.pool.idle[0]
	e.pool.mu.Unlock()
	r.cmd.Process.Kill()
	await(t, r.done, "the runner to end")
	canary(t, e)
}

// A run that is cancelled while its runner is bound does not wait for that.
func TestCancelledBeforeBind(t *testing.T) {
	e := newTest(t, Config{})
	canary(t, e)
	j := jobOf(guestModule(t, "echo"))
	artifact, ok := e.cache.get(j.Module)
	if !ok {
		t.Fatal("the canary's module is not kept")
	}
	w, err := e.pool.fresh()
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Kill(w.cmd.Process.Pid, unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	start := time.Now()
	if err := (&runner{worker: w, log: e.log, nice: bounds.Nice}).bind(ctx, j, artifact); err != context.Canceled {
		t.Errorf("got %v", err)
	}
	if took := time.Since(start); took >= bounds.Bind {
		t.Errorf("took %s", took)
	}
}

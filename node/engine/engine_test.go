package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/liop-project/liop/core/fault"
	"github.com/liop-project/liop/core/liopv1"
	"github.com/liop-project/liop/filters"
	"github.com/liop-project/liop/node/bounds"
	"github.com/liop-project/liop/node/sandbox/testdata/hostile"
)

func newTest(t testing.TB, c Config) *Engine {
	t.Helper()
	if c.Dir == "" {
		c.Dir = t.TempDir()
	}
	c.Log = slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))
	e, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	return e
}

func guestModule(t testing.TB, name string) []byte {
	t.Helper()
	if wasm, ok := filters.TestGuest(name); ok {
		return wasm
	}
	if wasm, ok := hostile.Module(name); ok {
		return wasm
	}
	wasm, ok := filters.Ready(name)
	if !ok {
		t.Fatalf("there is no module %s", name)
	}
	return wasm
}

func jobOf(wasm []byte) *Job {
	return &Job{Module: sum(wasm), Wasm: wasm, Tenant: "a",
		Limits: Limits{Memory: 64 << 20, Output: 64 << 10, Wall: 500 * time.Millisecond}}
}

// canary runs a module that cannot fail, as another tenant, and checks its answer.
func canary(t *testing.T, e *Engine) {
	t.Helper()
	j := jobOf(guestModule(t, "echo"))
	j.Tenant, j.Args, j.Stdin, j.Limits.Wall = "canary", []string{"one", "two"}, []byte("in\x00put"), 10*time.Second
	r, err := e.Run(context.Background(), j)
	if err != nil {
		t.Fatalf("canary: %v", err)
	}
	if want := "one\ntwo\nin\x00put"; string(r.Answer) != want {
		t.Fatalf("canary answered %q, want %q", r.Answer, want)
	}
}

func TestProbe(t *testing.T) {
	e := newTest(t, Config{})
	for range 2 { // also when the module is cached
		c, err := e.Probe(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		if len(c.Active) == 0 {
			t.Error("no containment reported")
		}
		t.Log(c)
	}
}

func TestStderrIsBounded(t *testing.T) {
	e := newTest(t, Config{})
	j := jobOf(guestModule(t, "flood-stderr"))
	j.Limits.Wall = 20 * time.Second
	r, err := e.Run(context.Background(), j)
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Stderr) == 0 || len(r.Stderr) > bounds.Stderr {
		t.Errorf("kept %d bytes of stderr", len(r.Stderr))
	}
}

func TestHashMustFit(t *testing.T) {
	e := newTest(t, Config{})
	j := jobOf(guestModule(t, "hello"))
	j.Module[0] ^= 1
	if _, err := e.Run(context.Background(), j); !errors.Is(err, &fault.Error{Code: fault.InvalidRequest, Rule: "module_sha256"}) {
		t.Errorf("got %v", err)
	}
	j.Wasm = nil
	if _, err := e.Run(context.Background(), j); !errors.Is(err, &fault.Error{Code: fault.ModuleUnknown}) {
		t.Errorf("by hash: %v", err)
	}
}

// A module that cannot be compiled in time ends at the bound, not later, and
// the next one is served.
func TestCompileBomb(t *testing.T) {
	e := newTest(t, Config{CompileTime: time.Second})
	canary(t, e)
	small := jobOf(compileBomb(1, 1000))
	small.Limits.Wall = 10 * time.Second
	if _, err := e.Run(context.Background(), small); err != nil {
		t.Fatalf("the small form must compile: %v", err)
	}
	start := time.Now()
	_, err := e.Run(context.Background(), jobOf(compileBomb(1, bounds.FunctionBytes-100)))
	if !errors.Is(err, &fault.Error{Code: fault.LimitCompile}) {
		t.Fatalf("got %v", err)
	}
	if took := time.Since(start); took > 30*time.Second {
		t.Errorf("took %s", took)
	}
	canary(t, e)
}

// An artifact that is larger than its bound is refused by the compiler.
func TestArtifactIsBounded(t *testing.T) {
	e := newTest(t, Config{})
	e.maxArtifact = 1000
	_, err := e.Run(context.Background(), jobOf(guestModule(t, "echo")))
	if !errors.Is(err, &fault.Error{Code: fault.ModuleInvalid, Rule: "compile"}) || !strings.Contains(err.Error(), "bytes of native code, more than 1000") {
		t.Errorf("got %v", err)
	}
}

func TestCancelKillsTheRunner(t *testing.T) {
	e := newTest(t, Config{})
	j := jobOf(guestModule(t, "loop"))
	j.Limits.Wall = time.Minute
	ctx, cancel := context.WithCancel(context.Background())
	j.Progress = func(p liopv1.Phase) {
		if p == liopv1.Phase_PHASE_RUNNING {
			cancel()
		}
	}
	start := time.Now()
	if _, err := e.Run(ctx, j); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if took := time.Since(start); took > 20*time.Second {
		t.Errorf("took %s", took)
	}
	if n := len(e.pool.idle); n != 0 {
		t.Errorf("%d runners are kept after a cancelled run", n)
	}
}

func TestQueueIsBounded(t *testing.T) {
	e := newTest(t, Config{Runners: 1, Queue: 1})
	loop := guestModule(t, "loop")
	running, queued := make(chan struct{}), make(chan struct{})
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	t.Cleanup(func() { cancel(); wg.Wait() })
	start := func(signal chan struct{}, phase liopv1.Phase) {
		j := jobOf(loop)
		j.Limits.Wall = time.Minute
		j.Progress = func(p liopv1.Phase) {
			if p == phase {
				close(signal)
			}
		}
		wg.Go(func() {
			if _, err := e.Run(ctx, j); !errors.Is(err, context.Canceled) {
				t.Errorf("got %v", err)
			}
		})
		await(t, signal, phase.String())
	}
	start(running, liopv1.Phase_PHASE_RUNNING)
	start(queued, liopv1.Phase_PHASE_QUEUED)
	if _, err := e.Run(ctx, jobOf(loop)); !errors.Is(err, &fault.Error{Code: fault.Busy}) {
		t.Errorf("third run: %v", err)
	}
	cancel()
	wg.Wait()
	canary(t, e)
}

// Runners are reused by the same tenant for the same module and mounts only.
func TestReuse(t *testing.T) {
	e := newTest(t, Config{Reuse: 3, Runners: 8})
	dir := t.TempDir()
	pid := func(j *Job) int {
		t.Helper()
		if _, err := e.Run(context.Background(), j); err != nil {
			t.Fatal(err)
		}
		e.pool.mu.Lock()
		defer e.pool.mu.Unlock()
		key := keyOf(j)
		for _, r := range e.pool.idle {
			if r.key == key {
				return r.cmd.Process.Pid
			}
		}
		return 0 // it has ended
	}
	job := func() *Job { j := jobOf(guestModule(t, "hello")); j.Limits.Wall = 5 * time.Second; return j }
	first := pid(job())
	if again := pid(job()); again != first {
		t.Errorf("a second run of the same tenant got another process")
	}
	for name, change := range map[string]func(*Job){
		"tenant": func(j *Job) { j.Tenant = "b" },
		"mounts": func(j *Job) { j.Mounts = []Mount{{"d", dir}} },
		"memory": func(j *Job) { j.Limits.Memory *= 2 },
		"module": func(j *Job) { j.Wasm = guestModule(t, "echo"); j.Module = sum(j.Wasm) },
	} {
		j := job()
		change(j)
		if p := pid(j); p == first || p == 0 {
			t.Errorf("a job with another %s got process %d, the first had %d", name, p, first)
		}
	}
	if p := pid(job()); p != 0 {
		t.Errorf("the process is kept after its third and last run")
	}
	if p := pid(job()); p == first {
		t.Errorf("the process went on after its third and last run")
	}
}

func TestIdleRunnersEnd(t *testing.T) {
	e := newTest(t, Config{Idle: 20 * time.Millisecond})
	canary(t, e)
	e.pool.mu.Lock()
	var r *runner
	if len(e.pool.idle) > 0 {
		r = e.pool.idle[0]
	}
	e.pool.mu.Unlock()
	if r == nil {
		return // swept already
	}
	select {
	case <-r.done:
	case <-time.After(10 * time.Second):
		t.Error("an idle runner lives on")
	}
}

func TestCloseEndsWorkers(t *testing.T) {
	e := newTest(t, Config{Blank: 2})
	j := jobOf(guestModule(t, "loop"))
	j.Limits.Wall = time.Minute
	running := make(chan struct{})
	j.Progress = func(p liopv1.Phase) {
		if p == liopv1.Phase_PHASE_RUNNING {
			close(running)
		}
	}
	ended := make(chan error, 1)
	go func() { _, err := e.Run(context.Background(), j); ended <- err }()
	await(t, running, "the run to begin")
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	if err := await(t, ended, "the run to end"); err == nil {
		t.Error("a run in flight succeeded although the engine closed")
	}
	if kids := children(t); len(kids) != 0 {
		t.Errorf("workers live on: %v", kids)
	}
}

// children lists the worker processes of this process.
func children(t *testing.T) (kids []string) {
	t.Helper()
	tasks, err := filepath.Glob("/proc/self/task/*/children")
	if err != nil || len(tasks) == 0 {
		t.Skip("this system does not list children")
	}
	for _, task := range tasks {
		b, _ := os.ReadFile(task)
		kids = append(kids, strings.Fields(string(b))...)
	}
	return kids
}

// A worker that dies under a run is that run's error, and nobody else's.
func TestKilledWorker(t *testing.T) {
	e := newTest(t, Config{})
	j := jobOf(guestModule(t, "loop"))
	j.Limits.Wall = time.Minute
	j.Progress = func(p liopv1.Phase) {
		if p != liopv1.Phase_PHASE_RUNNING {
			return
		}
		for _, pid := range children(t) {
			var n int
			fmt.Sscan(pid, &n)
			if proc, err := os.FindProcess(n); err == nil {
				proc.Kill()
			}
		}
	}
	if _, err := e.Run(context.Background(), j); !errors.Is(err, &fault.Error{Code: fault.ModuleFailed, Rule: "worker"}) {
		t.Errorf("got %v", err)
	}
	canary(t, e)
}

func TestConcurrentTenants(t *testing.T) {
	e := newTest(t, Config{Runners: 3})
	echo := guestModule(t, "echo")
	var wg sync.WaitGroup
	for tenant := range 4 {
		for n := range 8 {
			wg.Go(func() {
				j := jobOf(echo)
				j.Limits.Wall = 20 * time.Second
				j.Tenant = fmt.Sprint("tenant", tenant)
				j.Args = []string{j.Tenant, fmt.Sprint(n)}
				r, err := e.Run(context.Background(), j)
				if err != nil {
					t.Error(err)
				} else if want := fmt.Sprintf("tenant%d\n%d\n", tenant, n); string(r.Answer) != want {
					t.Errorf("tenant %d got %q", tenant, r.Answer)
				}
			})
		}
	}
	wg.Wait()
}

// Fuel bounds a run by what it does and not by how long that takes: the same
// run uses the same, and one that is counted shares nothing with one that is not.
func TestFuel(t *testing.T) {
	e := newTest(t, Config{})
	j := jobOf(guestModule(t, "loop"))
	j.Limits.Wall, j.Limits.Fuel = time.Minute, 1_000_000
	if _, err := e.Run(context.Background(), j); !errors.Is(err, &fault.Error{Code: fault.LimitFuel, Rule: "limits.fuel"}) {
		t.Fatalf("endless loop: %v", err)
	}
	if _, err := e.Run(context.Background(), j); !errors.Is(err, &fault.Error{Code: fault.LimitFuel}) {
		t.Fatalf("again, in the same runner: %v", err)
	}
	run := func(fuel uint64) (*Result, error) {
		j := jobOf(guestModule(t, "echo"))
		j.Args, j.Limits.Wall, j.Limits.Fuel = []string{"x"}, 10*time.Second, fuel
		return e.Run(context.Background(), j)
	}
	first, err := run(1_000_000)
	if err != nil || first.Fuel == 0 || first.Cached {
		t.Fatalf("%+v, %v", first, err)
	}
	if again, err := run(2_000_000); err != nil || again.Fuel != first.Fuel || !again.Cached {
		t.Errorf("the same run used %d and then %d instructions, %v", first.Fuel, again.Fuel, err)
	}
	if _, err := run(first.Fuel); err != nil {
		t.Errorf("with just enough: %v", err)
	}
	// Not one less: the engine looks at loops and calls only.
	if _, err := run(first.Fuel / 2); !errors.Is(err, &fault.Error{Code: fault.LimitFuel}) {
		t.Errorf("with half: %v", err)
	}
	if free, err := run(0); err != nil || free.Fuel != 0 || free.Cached {
		t.Errorf("without fuel: %+v, %v", free, err)
	}
}

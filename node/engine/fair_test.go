package engine

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/liop-project/liop/core/fault"
	"github.com/liop-project/liop/core/liopv1"
	"github.com/liop-project/liop/node/bounds"
)

// flood starts n runs of a module that never ends, as agent "flood", and returns
// when each runs or waits. They end when ctx does.
func flood(ctx context.Context, t *testing.T, e *Engine, n int) *sync.WaitGroup {
	t.Helper()
	loop := guestModule(t, "loop")
	warm := jobOf(loop) // compiled first, so that no run of the flood waits for that
	warm.Limits.Wall = time.Millisecond
	if _, err := e.Run(ctx, warm); !errors.Is(err, &fault.Error{Code: fault.LimitTime}) {
		t.Fatal(err)
	}
	var settled, ended sync.WaitGroup
	for i := range n {
		settled.Add(1)
		once := sync.OnceFunc(settled.Done)
		ended.Go(func() {
			defer once()
			j := jobOf(loop)
			j.Agent, j.Tenant, j.Limits.Wall = "flood", fmt.Sprint("flood", i%2), time.Hour
			j.Progress = func(p liopv1.Phase) {
				if p == liopv1.Phase_PHASE_RUNNING || p == liopv1.Phase_PHASE_QUEUED {
					once()
				}
			}
			if _, err := e.Run(ctx, j); !errors.Is(err, context.Canceled) {
				t.Errorf("a run of the flood: %v", err)
			}
		})
	}
	awaitAll(t, &settled, "the flood to run or wait")
	return &ended
}

// One agent's runs, of whatever tenants, never hold every runner.
func TestFloodLeavesRoom(t *testing.T) {
	e := newTest(t, Config{Runners: 4, Queue: 64})
	ctx, cancel := context.WithCancel(context.Background())
	ended := flood(ctx, t, e, 16)
	t.Cleanup(func() { cancel(); ended.Wait() })
	s := e.pool.schedule
	s.mu.Lock()
	running, waiting := s.running, s.waiting
	s.mu.Unlock()
	if running == 3 && waiting == 13 {
		canary(t, e)
	} else {
		t.Errorf("of the flood %d run and %d wait", running, waiting)
	}
	cancel()
	ended.Wait()
	canary(t, e)
}

// A dataset's cap holds for all agents together, and does not hold up those that
// want another one.
func TestDatasetRuns(t *testing.T) {
	e := newTest(t, Config{Runners: 4, DatasetRuns: map[string]int{"d": 1}})
	dir := t.TempDir()
	ctx, cancel := context.WithCancel(context.Background())
	running, waiting := make(chan struct{}), make(chan struct{})
	var wg sync.WaitGroup
	t.Cleanup(func() { cancel(); wg.Wait() })
	start := func(agent string, phase liopv1.Phase, seen chan struct{}) {
		j := jobOf(guestModule(t, "loop"))
		j.Tenant, j.Mounts, j.Limits.Wall = agent, []Mount{{"d", dir}}, time.Hour
		j.Progress = func(p liopv1.Phase) {
			if p == phase {
				close(seen)
			}
		}
		wg.Go(func() {
			if _, err := e.Run(ctx, j); !errors.Is(err, context.Canceled) {
				t.Errorf("%s: %v", agent, err)
			}
		})
		await(t, seen, phase.String())
	}
	start("first", liopv1.Phase_PHASE_RUNNING, running)
	start("second", liopv1.Phase_PHASE_QUEUED, waiting)
	canary(t, e)
	cancel()
	wg.Wait()
}

// What is promised to runs, idle and blank runners stays within the budget: who
// asks for more than all of it is refused at once, and idle runners make room.
func TestMemoryBudget(t *testing.T) {
	if n := (Config{}).withDefaults().Memory; n == 0 || n > physicalMemory()/bounds.MemoryPart || n < bounds.RunnerMemory {
		t.Errorf("the default is %d bytes", n)
	}
	if _, err := New(Config{Dir: t.TempDir(), Memory: bounds.RunnerMemory}); err == nil {
		t.Error("an engine that cannot hold a runner was made")
	}
	const budget = 6 * bounds.RunnerMemory
	e := newTest(t, Config{Runners: 8, Blank: 1, Memory: budget})
	job := func(tenant string, memory uint64) *Job {
		j := jobOf(guestModule(t, "hello"))
		j.Tenant, j.Limits.Memory, j.Limits.Wall = tenant, memory, 20*time.Second
		return j
	}
	_, err := e.Run(context.Background(), job("a", budget))
	if f, ok := fault.From(err); !ok || f.Code != fault.LimitMemory || f.Rule != "engine.memory" {
		t.Errorf("more than the budget: %v", err)
	}
	for i := range 12 {
		if _, err := e.Run(context.Background(), job(fmt.Sprint(i), uint64(i%4+1)<<24)); err != nil {
			t.Fatal(err)
		}
		e.pool.mu.Lock()
		idle := len(e.pool.idle)
		e.pool.mu.Unlock()
		if idle == 0 || idle > 5 {
			t.Errorf("%d idle runners and a blank one are in a budget for six", idle)
		}
	}
	// A run that needs nearly all of it gets it from the idle ones.
	j := job("large", budget-bounds.RunnerMemory*5/2)
	j.Progress = func(p liopv1.Phase) {
		e.pool.mu.Lock()
		defer e.pool.mu.Unlock()
		if p == liopv1.Phase_PHASE_RUNNING && len(e.pool.idle) != 0 {
			t.Errorf("%d idle runners are kept beside a run that needs their memory", len(e.pool.idle))
		}
	}
	if _, err := e.Run(context.Background(), j); err != nil {
		t.Fatal(err)
	}
}

// An agent that runs many modules does not push out the warm runner of another.
func TestFloodOfTenantsKeepsOthersWarm(t *testing.T) {
	e := newTest(t, Config{Runners: 4})
	canary(t, e)
	warm := func() int {
		e.pool.mu.Lock()
		defer e.pool.mu.Unlock()
		for _, r := range e.pool.idle {
			if r.agent == "canary" {
				return r.cmd.Process.Pid
			}
		}
		return 0
	}
	before := warm()
	for i := range 8 {
		j := jobOf(guestModule(t, "hello"))
		j.Agent, j.Tenant, j.Limits.Wall = "flood", fmt.Sprint(i), 20*time.Second
		if _, err := e.Run(context.Background(), j); err != nil {
			t.Fatal(err)
		}
	}
	if after := warm(); before == 0 || after != before {
		t.Errorf("the runner was process %d, now it is %d", before, after)
	}
}

// One agent's modules that take long to compile keep no other agent from having
// its own compiled, and only so many of them may wait.
func TestCompileBombsLeaveRoom(t *testing.T) {
	e := newTest(t, Config{})
	var wg sync.WaitGroup
	t.Cleanup(func() { e.Close(); wg.Wait() })
	refused := make(chan error, bounds.AgentCompilers+bounds.AgentCompileQueue+1)
	for i := range bounds.AgentCompilers + bounds.AgentCompileQueue + 1 {
		j := jobOf(compileBomb(uint32(i), bounds.FunctionBytes-100))
		j.Tenant, j.Agent = fmt.Sprint("bomb", i), "bomber"
		wg.Go(func() {
			_, err := e.Run(context.Background(), j)
			switch {
			case errors.Is(err, &fault.Error{Code: fault.Busy, Rule: "compile_queue"}):
				refused <- err
			case !errors.Is(err, &fault.Error{Code: fault.LimitCompile}) && !errors.Is(err, &fault.Error{Code: fault.Draining}):
				t.Errorf("bomb %d: %v", i, err)
			}
		})
	}
	if f, _ := fault.From(await(t, refused, "a refusal")); f.RetryAfter == 0 {
		t.Error("a refusal does not say when to try again")
	}
	canary(t, e)
	s := e.compilers
	s.mu.Lock()
	if s.waiting == 0 {
		t.Error("the canary's module waited for all others")
	}
	if s.running > bounds.AgentCompilers {
		t.Errorf("%d are compiled at the same time", s.running)
	}
	s.mu.Unlock()
	e.Close()
	wg.Wait()
}

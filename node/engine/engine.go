// Package engine is the node's side of running modules: it screens them, has
// them compiled once, keeps the compiled form, and supervises the worker
// processes in which they run (package sandbox).
//
// It promises that whatever a module does, a call ends at its deadline plus
// [bounds.Grace] at the latest, with an answer or with a *fault.Error that names the
// limit; that no worker outlives the Engine, or its parent process; and that
// no runner process is ever shared between tenants or datasets.
package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/liop-project/liop/core/fault"
	"github.com/liop-project/liop/core/liopv1"
	"github.com/liop-project/liop/node/bounds"
	"github.com/liop-project/liop/node/sandbox/wire"
)

// Sandbox runs modules. Engine is the one the node uses; tests compare it with
// a second implementation.
type Sandbox interface {
	Run(context.Context, *Job) (*Result, error)
}

// Job is one execution.
type Job struct {
	Module [32]byte // SHA-256 of the module
	Wasm   []byte   // the module, or nil to use what the node has by that hash
	Args   []string // after argv[0]
	Stdin  []byte
	Mounts []Mount // what appears below /data, read-only
	Limits Limits
	// Tenant names who this runs for. A runner process that has run one
	// tenant's job never runs another's.
	Tenant string
	// Agent is who gets a fair share: what one agent has under way does not make
	// another wait. Default: Tenant.
	Agent string
	// Progress, if not nil, is called as the job advances, from the goroutine
	// that called Run.
	Progress func(liopv1.Phase)
}

// artifact names the compiled form of the job's module: code that counts fuel is
// other code.
func (j *Job) artifact() [32]byte {
	if j.Limits.Fuel == 0 {
		return j.Module
	}
	return sum(append(j.Module[:], "fuel"...))
}

// Mount is a directory of the host that the guest sees as /data/Name.
type Mount struct{ Name, Dir string }

// Limits of one execution; none but Fuel may be zero.
type Limits struct {
	Memory uint64 // bytes of linear memory
	Output uint64 // bytes of stdout
	Wall   time.Duration
	// Fuel bounds the instructions; 0 does not count them, which is 10 to 30 %
	// faster.
	Fuel uint64
}

// Result is what an execution that ended well gave.
type Result struct {
	Answer      []byte
	Stderr      []byte // at most bounds.Stderr bytes
	Containment *wire.Containment
	Cached      bool // the module was compiled before
	Queue       time.Duration
	Compile     time.Duration
	Run         time.Duration
	Fuel        uint64 // instructions used, if counted
}

// Config of an Engine. The zero value of each field but Dir is its default.
type Config struct {
	Dir        string // for compiled modules; made if absent, 0700
	CacheBytes int64  // default bounds.Cache
	Runners    int    // runs at the same time; default 2 × GOMAXPROCS
	// AgentRunners is how many runs one agent may have at the same time, at most
	// Runners; default all but one in bounds.Reserve, rounded up, at least 1.
	AgentRunners int
	Queue        int // default bounds.Queue; one agent may fill one in bounds.AgentQueue of it
	// Memory is how much all runs and runners together may have, in bytes. A run
	// counts with its limits of memory and output, its stdin, and
	// bounds.RunnerMemory; an idle or blank runner with the last only, and idle
	// ones are killed when runs need it. Compilers come on top. Default one in
	// bounds.MemoryPart of the machine's, or of the cgroup's.
	Memory      uint64
	DatasetRuns map[string]int // runs at the same time on a dataset, by its name; absent: no cap
	Blank       int            // default bounds.Blank; -1 for none
	Reuse       int            // default bounds.Reuse; 1 for a new process each run
	Idle        time.Duration
	// CompileTime bounds one compilation, in whole seconds of CPU time, and by
	// the clock to three times that; default bounds.CompileTime.
	CompileTime time.Duration
	Log         *slog.Logger
}

func (c Config) withDefaults() Config {
	def := func(p *int, v int) {
		if *p == 0 {
			*p = v
		}
	}
	def(&c.Runners, 2*runtime.GOMAXPROCS(0))
	def(&c.AgentRunners, max(1, c.Runners-(c.Runners+bounds.Reserve-1)/bounds.Reserve))
	c.AgentRunners = min(c.AgentRunners, c.Runners)
	def(&c.Queue, bounds.Queue)
	def(&c.Blank, bounds.Blank)
	def(&c.Reuse, bounds.Reuse)
	c.Blank = max(c.Blank, 0)
	if c.CacheBytes == 0 {
		c.CacheBytes = bounds.Cache
	}
	if c.Memory == 0 {
		c.Memory = physicalMemory() / bounds.MemoryPart
	}
	if c.Idle == 0 {
		c.Idle = bounds.Idle
	}
	if c.CompileTime == 0 {
		c.CompileTime = bounds.CompileTime
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return c
}

// compilers is how many modules are compiled at the same time.
func compilers() int { return max(bounds.Compilers, runtime.GOMAXPROCS(0)/2) }

// workerMemory bounds the memory of all workers together: what is promised to
// runs, and what compilers may take.
func (c Config) workerMemory() uint64 {
	return c.Memory + uint64(compilers())*bounds.CompileMemory
}

// workerThreads bounds the threads of all workers together.
func (c Config) workerThreads() int {
	return (2*c.Runners + c.Blank + compilers()) * bounds.Threads // as many idle as running
}

// Engine implements Sandbox with worker processes. It is safe for concurrent use.
type Engine struct {
	log       *slog.Logger
	cache     *cache
	spawner   *spawner
	pool      *pool
	compiles  singleflight.Group
	compilers *schedule
	maxTime   time.Duration // CPU time of one compilation
	// maxArtifact is bounds.Artifact; tests lower it.
	maxArtifact int
	life        context.Context
	end         context.CancelFunc
	closing     sync.Once

	mu   sync.Mutex     // begin against Close
	busy sync.WaitGroup // runs and compilations
}

// New starts an Engine; Close ends it. The calling program must import package
// sandbox: its workers are that program, started again.
func New(c Config) (*Engine, error) {
	if c.Dir == "" {
		return nil, errors.New("engine: Config.Dir is empty")
	}
	if wire.IsWorker(os.Args[0]) {
		return nil, errors.New("engine: this program does not import package sandbox, so it cannot be its own worker")
	}
	c = c.withDefaults()
	if least := uint64(c.Blank+1) * bounds.RunnerMemory; c.Memory <= least {
		return nil, fmt.Errorf("engine: Config.Memory is %d bytes, and the runners alone need %d", c.Memory, least)
	}
	if err := sealDescriptors(); err != nil {
		return nil, err
	}
	ca, err := openCache(filepath.Join(c.Dir, wire.Fingerprint), c.CacheBytes)
	if err != nil {
		return nil, fmt.Errorf("open module cache: %w", err)
	}
	iso, err := isolate(context.Background())
	if err != nil {
		return nil, err
	}
	group, gap := newCgroup(findCgroups("/proc/self"), c.workerMemory(), c.workerThreads())
	if gap != nil {
		iso.gaps = append(iso.gaps, gap)
	}
	e := &Engine{log: c.Log, cache: ca, spawner: newSpawner(iso, group), maxTime: c.CompileTime, maxArtifact: bounds.Artifact}
	e.life, e.end = context.WithCancel(context.Background())
	e.compilers = newSchedule(rules{what: "modules", name: "compile_queue",
		runners: compilers(), agentRunners: bounds.AgentCompilers,
		queue: bounds.CompileQueue, agentQueue: bounds.AgentCompileQueue})
	e.pool = newPool(e.life, e.spawner, c)
	return e, nil
}

// Close kills every worker and waits for them, for bounds.Reap at most: a process
// that hangs in the kernel, as one that reads from a file system that is gone,
// does not die when it is killed, and makes Close fail. Runs in flight fail with
// code Draining. It may be called more than once; later calls return nil.
func (e *Engine) Close() (err error) {
	e.closing.Do(func() {
		e.mu.Lock() // after this, no run begins
		e.end()
		e.mu.Unlock()
		e.busy.Wait()
		e.pool.close()
		if err = e.spawner.close(); err != nil {
			err = fmt.Errorf("close engine: %w", err)
		}
	})
	return err
}

// begin counts one user of workers, unless the engine is closing.
func (e *Engine) begin() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.life.Err() != nil {
		return false
	}
	e.busy.Add(1)
	return true
}

// Has reports whether a job's module can be run by hash alone.
func (e *Engine) Has(j *Job) bool { return e.cache.has(j.artifact()) }

// agent is who j's share is taken from.
func (j *Job) agent() string {
	if j.Agent == "" {
		return j.Tenant
	}
	return j.Agent
}

// Run executes a job. Every error is a *fault.Error that may be shown to the
// agent, except those of ctx. Cancelling ctx kills the runner.
func (e *Engine) Run(ctx context.Context, j *Job) (*Result, error) {
	if !e.begin() {
		return nil, closed()
	}
	defer e.busy.Done()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(e.life, func() { cancel(closed()) })()
	progress := j.Progress
	if progress == nil {
		progress = func(liopv1.Phase) {}
	}
	if j.Wasm != nil && sum(j.Wasm) != j.Module {
		return nil, &fault.Error{Code: fault.InvalidRequest, Rule: "module_sha256", Owner: fault.Protocol,
			Message: "module_sha256 is not the SHA-256 of wasm_binary", Hint: "send the hash of exactly these bytes"}
	}
	res := &Result{Cached: true}
	artifact, ok := e.cache.get(j.artifact())
	if !ok {
		if j.Wasm == nil {
			return nil, UnknownModule()
		}
		if err := Screen(j.Wasm, j.Limits.Memory); err != nil {
			return nil, err
		}
		progress(liopv1.Phase_PHASE_COMPILING)
		start := time.Now()
		var err error
		if artifact, err = e.compile(ctx, j); err != nil {
			return nil, err
		}
		res.Cached, res.Compile = false, time.Since(start)
	}

	start := time.Now()
	r, err := e.pool.acquire(ctx, j, artifact, func() { progress(liopv1.Phase_PHASE_QUEUED) })
	if err != nil {
		var bad *badArtifact
		if errors.As(err, &bad) {
			// Corrupt, or made on another CPU: forget it and ask for the module.
			e.log.WarnContext(ctx, "compiled module refused", "module", hexID(j.Module), "error", bad.msg)
			e.cache.drop(j.artifact())
			if !res.Cached {
				return nil, &fault.Error{Code: fault.ModuleInvalid, Rule: "load", Owner: fault.Node,
					Message: "the compiled module cannot be loaded: " + bad.msg,
					Hint:    "build it as a wasip1 command, with fewer functions, globals and tables"}
			}
			return nil, UnknownModule()
		}
		return nil, err
	}
	res.Queue = time.Since(start)
	progress(liopv1.Phase_PHASE_RUNNING)

	start = time.Now()
	ran, answer, err := r.run(ctx, j)
	e.pool.release(r, err == nil)
	res.Run = time.Since(start)
	if err != nil {
		return nil, err
	}
	res.Answer, res.Stderr, res.Containment, res.Fuel = answer, ran.Stderr, r.containment, ran.Fuel
	if err := refusal(ran, j.Limits); err != nil {
		return res, err
	}
	return res, nil
}

// Probe compiles and runs a trivial module, to show that workers work here and
// what containment they have.
func (e *Engine) Probe(ctx context.Context) (*wire.Containment, error) {
	if !e.begin() {
		return nil, closed()
	}
	defer e.busy.Done()
	j := &Job{Module: sum(probeModule), Wasm: probeModule, Tenant: "probe",
		Limits: Limits{Memory: 64 << 10, Output: 1, Wall: 5 * time.Second}}
	if err := Screen(j.Wasm, j.Limits.Memory); err != nil {
		return nil, err
	}
	e.cache.drop(j.artifact()) // the compiler is probed too
	artifact, err := e.compile(ctx, j)
	if err != nil {
		return nil, err
	}
	r, err := e.pool.acquire(ctx, j, artifact, func() {})
	if err != nil {
		return nil, err
	}
	ran, _, err := r.run(ctx, j)
	e.pool.release(r, false)
	if err != nil {
		return nil, err
	}
	return r.containment, refusal(ran, j.Limits)
}

// probeModule exports memory and _start, which does nothing:
// (module (memory (export "memory") 1) (func (export "_start")))
var probeModule = []byte("\x00asm\x01\x00\x00\x00" +
	"\x01\x04\x01\x60\x00\x00" + // type: () -> ()
	"\x03\x02\x01\x00" + // function 0
	"\x05\x03\x01\x00\x01" + // memory, 1 page
	"\x07\x13\x02\x06memory\x02\x00\x06_start\x00\x00" + // exports
	"\x0a\x04\x01\x02\x00\x0b") // code

// UnknownModule is the fault that asks an agent for the module's bytes.
func UnknownModule() error {
	return &fault.Error{Code: fault.ModuleUnknown, Rule: "module_sha256", Owner: fault.Node,
		Message: "the node does not have this module", Hint: "send the module's bytes in wasm_binary"}
}

// refusal makes an unsuccessful execution a fault, nil if it was successful.
func refusal(ran *wire.Ran, l Limits) error {
	switch ran.Outcome {
	case wire.Outcome_EXITED:
		if ran.ExitCode == 0 {
			return nil
		}
		if nearLimit(ran, l) {
			return memoryFault(ran, l, fmt.Sprintf("exit code %d", ran.ExitCode))
		}
		return &fault.Error{Code: fault.ModuleFailed, Rule: "exit_code", Owner: fault.Module,
			Message: fmt.Sprintf("the module ended with exit code %d", ran.ExitCode),
			Hint:    "run it on data of your own to see its stderr"}
	case wire.Outcome_TIME_LIMIT:
		return timeFault(l)
	case wire.Outcome_FUEL_LIMIT:
		return &fault.Error{Code: fault.LimitFuel, Rule: "limits.fuel", Owner: fault.Grant,
			Message: fmt.Sprintf("the module used all of its %d instructions", l.Fuel),
			Hint:    "do less work per run, or ask for a grant with more fuel"}
	case wire.Outcome_OUTPUT_LIMIT:
		return &fault.Error{Code: fault.LimitOutput, Rule: "limits.output_bytes", Owner: fault.Grant,
			Message: fmt.Sprintf("the module wrote more than %d bytes", l.Output),
			Hint:    "answer less, or ask for a grant with a larger output_bytes"}
	case wire.Outcome_STACK_LIMIT:
		return &fault.Error{Code: fault.LimitStack, Rule: "stack", Owner: fault.Node,
			Message: "the module used up its call stack", Hint: "recurse less deeply"}
	case wire.Outcome_INSTANTIATE:
		if strings.Contains(ran.Message, "exceeds memory limits") {
			return memoryFault(ran, l, "it starts with more than it may have")
		}
		return &fault.Error{Code: fault.ModuleInvalid, Rule: "instantiate", Owner: fault.Node,
			Message: "the module cannot be instantiated: " + ran.Message,
			Hint:    "build it as a wasip1 command within the session's limits"}
	}
	if nearLimit(ran, l) {
		return memoryFault(ran, l, ran.Message)
	}
	return &fault.Error{Code: fault.ModuleFailed, Rule: "trap", Owner: fault.Module,
		Message: "the module trapped: " + ran.Message, Hint: "run it on data of your own to see where"}
}

// nearLimit guesses why a module failed: one that is refused more memory gives
// up with a trap or an exit code of its own, and says nothing else. Allocators
// double, so the refused request may have been as large as what it had.
func nearLimit(ran *wire.Ran, l Limits) bool {
	return ran.MemoryBytes >= l.Memory/2 && ran.MemoryBytes > ran.InitialMemoryBytes
}

func memoryFault(ran *wire.Ran, l Limits, how string) error {
	return &fault.Error{Code: fault.LimitMemory, Rule: "limits.memory_bytes", Owner: fault.Grant,
		Message: fmt.Sprintf("the module failed (%s) with %d of at most %d bytes of memory in use", how, ran.MemoryBytes, l.Memory),
		Hint:    "use less memory, or ask for a grant with a larger memory_bytes"}
}

func timeFault(l Limits) error {
	return &fault.Error{Code: fault.LimitTime, Rule: "limits.wall_ms", Owner: fault.Grant,
		Message: fmt.Sprintf("the module ran longer than %d ms and was stopped", l.Wall.Milliseconds()),
		Hint:    "do less work per run, or ask for a grant with a larger wall_ms"}
}

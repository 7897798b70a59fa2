// Package bounds is every limit of the sandbox in one file: what a module may
// be made of, what it and its worker process may use, and how long things may
// take. A grant and the owner's configuration choose below these; nothing
// chooses above them.
//
// Each bound has its reason and the test that shows it bind; a test of the
// repository's root checks that both are there. To change a bound, change its line.
package bounds

import "time"

// What a module may be made of. Compiling is bounded by CompileTime and
// CompileMemory anyway; these refuse early, and say why.
const (
	// Module is the most bytes of a module that any node accepts, and of what a
	// run has on stdin. A 3 MB Go guest is large; grants allow 8 MiB unless they
	// say otherwise.
	// Test: TestScreenBounds, TestRawFrameIsBounded.
	Module = 64 << 20
	// Types is how many function types a module may declare. A 3 MB Go guest
	// has 40.
	// Test: TestScreenBounds.
	Types = 10_000
	// Imports is how many functions a module may import. There are 45.
	// Test: TestScreenBounds.
	Imports = 128
	// Functions is how many functions a module may define. A 3 MB Go guest has
	// 3,000; 10,000 small ones take 0.8 s to compile.
	// Test: TestScreenBounds.
	Functions = 50_000
	// Globals is how many globals a module may define. Go and C guests have
	// fewer than ten.
	// Test: TestScreenBounds.
	Globals = 10_000
	// Exports is how many names a module may export. Commands need two.
	// Test: TestScreenBounds.
	Exports = 1_000
	// ElementSegments is how many element segments a module may have. Toolchains
	// make one.
	// Test: TestScreenBounds.
	ElementSegments = 10_000
	// DataSegments is how many data segments a module may have. A 3 MB Go guest
	// has 42,000.
	// Test: TestScreenBounds.
	DataSegments = 100_000
	// FunctionBytes is the most bytes of one function body: compile time grows
	// faster than linearly with it. The largest of the Go runtime has 60 KB.
	// Test: TestScreenBounds.
	FunctionBytes = 512 << 10
	// Locals is how many locals one function may declare. Go guests have up to
	// some hundreds.
	// Test: TestScreenBounds.
	Locals = 5_000
	// Nesting is how many blocks of a function may be in each other. The Go
	// runtime has up to 549, one for each place where a function may resume. With
	// 1,000 locals, 2,000 blocks take 1.2 s to compile, and 5,000 more memory
	// than CompileMemory.
	// Test: TestScreenBounds.
	Nesting = 5_000
	// Loops is how many loops of a function may be in each other: compile time
	// grows with its square, and with the locals. C and Rust guests have up to
	// five, Go guests two. With 1,000 locals, 100 take 0.1 s to compile, 500
	// almost two, 1,000 seven.
	// Test: TestScreenBounds.
	Loops = 100
)

// What an instance may have.
const (
	// Stack is the guest's call stack, in bytes. The thread that runs it has
	// 8 MiB; Go guests need about 200 KiB. Deeper recursion is a trap.
	// Test: TestHostile/recurse.
	Stack = 1 << 20
	// Instances is how many instances one run may make: a filter is one, and
	// the node's own fd_pread needs another.
	// Test: TestHostile/read-huge.
	Instances = 2
	// InstanceSize is what the engine may keep of an instance besides memory and
	// tables, in bytes: its functions, globals and segments. At the bounds of
	// those it has 3 MB.
	// Test: TestHostile.
	InstanceSize = 16 << 20
	// Memories is how many linear memories one run may have.
	// Test: TestScreenBounds.
	Memories = 1
	// Tables is how many tables one run may have. C and Go guests have one.
	// Test: TestScreenBounds.
	Tables = 4
	// TableElements is how long each table may grow. A 3 MB Go guest has 6,000.
	// Test: TestHostile/table-grow.
	TableElements = 100_000
)

// What the host functions take from a guest in one call. None of them can be
// interrupted, so each must be short.
const (
	// Random is the most bytes of one random_get. 256 MB took 3 s.
	// Test: TestHostFunctionsCheckPointers.
	Random = 64 << 10
	// Subscriptions is how many events one poll_oneoff may wait for.
	// Test: TestHostFunctionsCheckPointers.
	Subscriptions = 64
	// IOVectors is how many buffers one fd_write or fd_pread may name: as IOV_MAX
	// of Linux.
	// Test: TestHostFunctionsCheckPointers.
	IOVectors = 1024
	// Read is how much of a file one fd_pread reads at most, in bytes: the engine
	// makes a buffer of that size in the worker.
	// Test: TestPreadIsShort.
	Read = 16 << 20
	// ClockTick is the resolution of the guest's clocks. Finer ones measure
	// other tenants' use of the caches.
	// Test: TestHostFunctionsCheckPointers.
	ClockTick = time.Millisecond
)

// What a worker process may use.
const (
	// HostMemory is what a runner may use besides the guest's linear memory, in
	// bytes of private writable mappings: the Go runtime, the engine, stdin,
	// stdout and stderr. An idle one has 20 MB resident.
	// Test: TestEngineBug/map-memory.
	HostMemory = 512 << 20
	// CompileMemory is what a compiler may use, in bytes of private writable
	// mappings. A 2.8 MB Go module takes 82 MB; modules built to be costly take
	// gigabytes.
	// Test: TestCompileMemory.
	CompileMemory = 1 << 30
	// OpenFiles is how many descriptors a worker may have, so also how many
	// files a guest.
	// Test: TestHostile/fd-exhaust.
	OpenFiles = 128
	// Threads is how many threads a worker may have. It has five to ten.
	// Test: TestEngineBug/threads.
	Threads = 64
	// Stderr is how much of a guest's stderr is kept, in bytes.
	// Test: TestStderrIsBounded.
	Stderr = 64 << 10
	// LastWords is how much of a worker's own stderr is kept, in bytes: the
	// first lines of a crash.
	// Test: TestEngineBug/chatter.
	LastWords = 2 << 10
	// Artifact is the most bytes of native code of one module. A 3 MB Go guest
	// compiles to 9 MB.
	// Test: TestArtifactIsBounded.
	Artifact = 64 << 20
	// Message is the most bytes of one message between node and worker, besides
	// module, input and answer. The largest has the agent's arguments or the
	// guest's stderr.
	// Test: TestMessageIsBounded.
	Message = 256 << 10
	// Resident is how much of a linear memory, and of each table, a runner keeps
	// mapped between two runs, in bytes. Small guests touch less; what it costs to
	// zero this is a third of what it costs to map it again.
	// Test: TestRunsShareNothing.
	Resident = 1 << 20
	// DirEntries is how many entries a dataset may have, in all its
	// directories: listing one of them is a host call that cannot be
	// interrupted.
	// Test: TestTooManyFiles.
	DirEntries = 1_000_000
	// RunnerMemory is what a runner is counted with in the node's memory budget
	// besides what its run may use, in bytes, and all that an idle or a blank
	// one is counted with: it has 20 MB resident. HostMemory is far more than
	// honest runs take, so it is a limit and no promise.
	// Test: TestMemoryBudget.
	RunnerMemory = 32 << 20
	// Nice is the priority of runners once they have a guest, and of compilers:
	// a third of the node's weight when they compete for a CPU.
	// Test: TestRunnerYieldsToTheNode.
	Nice = 5
	// NiceStep is by how much the priority of each further runner of an agent
	// is lower: a third of the weight of the one before.
	// Test: TestSecondRunnerOfAnAgentWeighsLess.
	NiceStep = 5
	// LongRunNice is the priority of a run that went on for LongRun: a twentieth
	// of the weight of one that has just begun.
	// Test: TestLongRunYields.
	LongRunNice = 19
)

// How long things may take.
const (
	// Grace is how long after its deadline a runner may still answer before it
	// is killed. Guest code stops at the deadline; only a long host call (the
	// filling of much memory) needs this.
	// Test: TestHostile/fill.
	Grace = 100 * time.Millisecond
	// Reap is how long a killed worker may take to end before it is given up. The
	// kernel takes milliseconds, and frees up to gigabytes meanwhile; a process
	// that hangs in it, as on a dataset whose server is gone, takes for ever.
	// Test: TestWorkerThatDoesNotDie.
	Reap = 10 * time.Second
	// LongRun is how long a run has the priority of a new one. Most end within
	// it; an endless loop has it for the smallest part of its time.
	// Test: TestLongRunYields.
	LongRun = 50 * time.Millisecond
	// CompileTime bounds one compilation, in CPU time, so that an honest module
	// is not refused because the machine is busy. A 3.4 MB Go module takes 2 s.
	// Test: TestCompileBomb.
	CompileTime = 10 * time.Second
	// CompileWall bounds it by the clock, in multiples of CompileTime.
	// Test: TestEngineBug/compiler-sleep.
	CompileWall = 3
	// Bind bounds the lock-down of a runner and the loading of a compiled
	// module. They take milliseconds, but each thread of the worker must get its
	// turn on the CPU for landlock, so on an overloaded machine they can take
	// seconds.
	// Test: TestSilentRunner.
	Bind = 30 * time.Second
)

// What one agent may take of what all share, so that its flood is its own
// problem.
const (
	// Reserve is the part of the runners and of their memory that no one agent
	// may hold: one in so many, but an agent may always have one run.
	// Test: TestFloodLeavesRoom.
	Reserve = 4
	// AgentQueue is the part of the queue that one agent may fill: one in so
	// many. An agent with more in flight than that has nothing to gain by it.
	// Test: TestScheduleQueuesAreBounded.
	AgentQueue = 4
	// AgentCompilers is how many compilations of one agent run at the same
	// time: one can take CompileTime.
	// Test: TestCompileBombsLeaveRoom.
	AgentCompilers = 1
	// Compilers is how many compilations run at the same time on a small
	// machine, and half as many as there are CPUs on a larger one; more than
	// AgentCompilers, so that no one agent has them all.
	// Test: TestCompileBombsLeaveRoom.
	Compilers = 2
	// AgentCompileQueue is how many different modules of one agent may wait to
	// be compiled; the node holds the bytes of each.
	// Test: TestCompileBombsLeaveRoom.
	AgentCompileQueue = 8
	// CompileQueue is how many modules may wait to be compiled.
	// Test: TestScheduleQueuesAreBounded.
	CompileQueue = 32
)

// Defaults of what the owner configures.
const (
	// Cache is how much compiled code is kept on disk, in bytes. Key: engine.cache.
	// Test: TestCacheKeepsWhatWasUsedLast.
	Cache = 1 << 30
	// Queue is how many runs may wait for a runner. Key: engine.queue.
	// Test: TestQueueIsBounded.
	Queue = 256
	// MemoryPart is the part of the machine's memory, or of the cgroup's, that is
	// promised to runs: one in so many. The rest is for the node, for
	// compilers, and for the files of the datasets in the page cache. Key:
	// engine.memory.
	// Test: TestMemoryBudget.
	MemoryPart = 2
	// AssumedMemory is what a machine is taken to have, in bytes, that does not
	// say.
	// Test: TestMemoryBudget.
	AssumedMemory = 4 << 30
	// Blank is how many runners stand ready before they are needed.
	// Test: TestBlankRunners.
	Blank = 2
	// Reuse is how many runs one runner process does at most, so that what leaks
	// in it does not add up.
	// Test: TestReuse.
	Reuse = 1000
	// Idle is how long a runner waits for another run of its tenant.
	// Test: TestIdleRunnersEnd.
	Idle = 30 * time.Second
)

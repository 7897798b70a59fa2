//go:build cgo

package sandbox

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	wasmtime "github.com/bytecodealliance/wasmtime-go/v39"

	"github.com/liop-project/liop/node/bounds"
	"github.com/liop-project/liop/node/sandbox/wire"
)

// newEngine is the one place that configures Wasmtime. Compilers and runners
// must agree on it to the letter: change wire.Fingerprint with it.
func newEngine(fuel, compiles bool) *wasmtime.Engine {
	c := wasmtime.NewConfig()
	if !compiles {
		keepMemory(c)
	}
	c.SetConsumeFuel(fuel) // 10 to 30 % slower
	c.SetEpochInterruption(true)
	c.SetMaxWasmStack(bounds.Stack)
	c.SetCraneliftNanCanonicalization(true)
	c.SetParallelCompilation(false) // one compiler must not take every core
	// Off: what filters do not need, and what the engine had defects in.
	c.SetWasmThreads(false)
	c.SetWasmSIMD(false)
	c.SetWasmRelaxedSIMD(false)
	c.SetWasmMemory64(false)
	c.SetWasmMultiMemory(false)
	c.SetWasmTailCall(false)
	c.SetWasmFunctionReferences(false)
	c.SetWasmGC(false)
	c.SetWasmWideArithmetic(false)
	return wasmtime.NewEngineWithConfig(c)
}

// compiler answers one Compile and ends.
func compiler(c *wire.Conn, iso isolation) error {
	var req wire.Compile
	if err := c.Recv(&req); err != nil {
		return err
	}
	eng := newEngine(req.Fuel, true)
	contained, err := contain(iso, containment{calls: words(commonCalls, compilerCalls), memory: bounds.CompileMemory, cpu: req.CpuSeconds})
	if err != nil {
		return err
	}
	wasm, err := c.RecvRaw(bounds.Module)
	if err != nil {
		return err
	}
	refuse := func(msg string) error {
		return c.Send(&wire.Compiled{Message: firstLine(msg), Containment: contained}, nil)
	}
	bug(c, string(wasm), refuse)
	m, err := wasmtime.NewModule(eng, wasm)
	if err != nil {
		return refuse(err.Error())
	}
	artifact, err := m.Serialize()
	if err != nil {
		return fmt.Errorf("serialize: %w", err)
	}
	if uint64(len(artifact)) > req.MaxArtifactBytes {
		return refuse(fmt.Sprintf("compiles to %d bytes of native code, more than %d", len(artifact), req.MaxArtifactBytes))
	}
	return c.Send(&wire.Compiled{Ok: true, Containment: contained}, artifact)
}

// bound is a runner after its Bind.
type bound struct {
	eng    *wasmtime.Engine
	linker *wasmtime.Linker
	module *wasmtime.Module
	host   host
	mounts []*wire.Mount
	memory uint64
	fuel   bool
}

// newBound makes all that a run needs but module, mounts and memory.
func newBound(h host, fuel bool) (*bound, error) {
	eng := newEngine(fuel, false)
	h.setEngine(eng)
	b := &bound{eng: eng, linker: wasmtime.NewLinker(eng), host: h, fuel: fuel}
	if err := b.linker.DefineWasi(); err != nil {
		return nil, fmt.Errorf("define WASI: %w", err)
	}
	if err := h.define(b.linker); err != nil {
		return nil, err
	}
	return b, nil
}

// runner answers one Bind, then any number of Run until the socket closes.
func runner(c *wire.Conn, iso isolation) error {
	host, err := newHost()
	if err != nil {
		return err
	}
	b, err := newBound(host, false) // before Bind, so that a blank runner is ready
	if err != nil {
		return err
	}

	var bind wire.Bind
	if err := c.Recv(&bind); err != nil {
		return eofIsEnd(err)
	}
	if bind.Fuel { // rare enough to be set up again
		if b, err = newBound(host, true); err != nil {
			return err
		}
	}
	b.mounts, b.memory = bind.Mounts, bind.MemoryBytes
	limits := containment{calls: words(commonCalls, runnerCalls), memory: bounds.HostMemory + bind.MemoryBytes, files: []string{bind.Artifact}}
	for _, m := range bind.Mounts {
		limits.dirs = append(limits.dirs, m.Dir)
	}
	if _, err := os.Stat(bind.Artifact); err != nil { // evicted a moment ago
		return c.Send(&wire.Bound{Message: "the compiled module is gone"}, nil)
	}
	contained, err := contain(iso, limits)
	if err != nil {
		return err
	}
	// Only now: the artifact comes from a process that had a hostile module.
	b.module, err = wasmtime.NewModuleDeserializeFile(b.eng, bind.Artifact)
	if err != nil {
		return c.Send(&wire.Bound{Message: firstLine(err.Error()), Containment: contained}, nil)
	}
	if err := b.host.prepare(b.module); err != nil {
		return err
	}
	if err := forbidNewCode(contained); err != nil {
		return err
	}
	if err := c.Send(&wire.Bound{Ok: true, Containment: contained}, nil); err != nil {
		return err
	}

	for {
		var run wire.Run
		if err := c.Recv(&run); err != nil {
			return eofIsEnd(err)
		}
		stdin, err := c.RecvRaw(bounds.Module)
		if err != nil {
			return err
		}
		if len(run.Args) > 0 {
			bug(c, run.Args[0], func(text string) error {
				return c.Send(&wire.Ran{Outcome: wire.Outcome_EXITED}, []byte(text))
			})
		}
		if err := b.run(c, &run, stdin); err != nil {
			return err
		}
	}
}

func eofIsEnd(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// run executes the module once in a fresh store and sends what came of it.
func (b *bound) run(c *wire.Conn, r *wire.Run, stdin []byte) error {
	b.host.resetStreams(int(r.OutputBytes), int(min(r.StderrBytes, bounds.Stderr)))
	ran, err := b.execute(r, stdin)
	if err != nil {
		return err
	}
	ran.Stderr = b.host.stderr()
	if b.host.stdoutOver() {
		// It was interrupted for that, or ignored the failed write and "succeeded".
		ran.Outcome, ran.Message = wire.Outcome_OUTPUT_LIMIT, ""
	}
	answer := b.host.stdout()
	if ran.Outcome != wire.Outcome_EXITED || ran.ExitCode != 0 {
		answer = []byte{}
	}
	return c.Send(ran, answer)
}

func (b *bound) execute(r *wire.Run, stdin []byte) (*wire.Ran, error) {
	st := wasmtime.NewStore(b.eng)
	defer st.Close()
	st.Limiter(int64(b.memory), bounds.TableElements, bounds.Instances, bounds.Tables, bounds.Memories)

	cfg := wasmtime.NewWasiConfig()
	cfg.SetArgv(append([]string{"filter"}, r.Args...))
	setStdin(cfg, stdin)
	for _, m := range b.mounts {
		if err := cfg.PreopenDir(m.Dir, "/data/"+m.Name, wasmtime.DIR_READ, wasmtime.FILE_READ); err != nil {
			cfg.Close()
			return nil, fmt.Errorf("preopen dataset %s: %w", m.Name, err)
		}
	}
	st.SetWasi(cfg)

	// One run at a time in this process, so the engine-wide epoch is this run's
	// own: it moves at the deadline, not before.
	st.SetEpochDeadline(1)
	if err := b.host.setDeadline(time.Duration(r.WallMs) * time.Millisecond); err != nil {
		return nil, err
	}
	defer b.host.clearDeadline()

	if b.fuel {
		if err := st.SetFuel(r.Fuel); err != nil {
			return nil, fmt.Errorf("set fuel: %w", err)
		}
	}
	inst, err := b.linker.Instantiate(st, b.module)
	if err != nil {
		ran := outcome(err)
		if ran.Outcome == wire.Outcome_TRAP && !isTrap(err) {
			ran.Outcome = wire.Outcome_INSTANTIATE
		}
		return ran, nil
	}
	start := inst.GetFunc(st, "_start")
	if start == nil {
		return &wire.Ran{Outcome: wire.Outcome_INSTANTIATE, Message: "_start is not a function"}, nil
	}
	initial := memorySize(inst, st)
	_, err = start.Call(st)
	ran := outcome(err)
	ran.InitialMemoryBytes, ran.MemoryBytes = initial, memorySize(inst, st)
	if b.fuel {
		left, err := st.GetFuel()
		if err != nil {
			return nil, fmt.Errorf("get fuel: %w", err)
		}
		ran.Fuel = r.Fuel - min(left, r.Fuel)
	}
	return ran, nil
}

func memorySize(inst *wasmtime.Instance, st *wasmtime.Store) uint64 {
	if e := inst.GetExport(st, "memory"); e != nil && e.Memory() != nil {
		return uint64(e.Memory().DataSize(st))
	}
	return 0
}

// outcome says what a call's error means.
func outcome(err error) *wire.Ran {
	if err == nil {
		return &wire.Ran{Outcome: wire.Outcome_EXITED}
	}
	var e *wasmtime.Error
	if errors.As(err, &e) {
		if code, ok := e.ExitStatus(); ok { // proc_exit, also of 0, arrives as an error
			return &wire.Ran{Outcome: wire.Outcome_EXITED, ExitCode: code}
		}
	}
	var t *wasmtime.Trap
	if errors.As(err, &t) {
		if c := t.Code(); c != nil {
			switch *c {
			case wasmtime.Interrupt:
				return &wire.Ran{Outcome: wire.Outcome_TIME_LIMIT}
			case outOfFuel:
				return &wire.Ran{Outcome: wire.Outcome_FUEL_LIMIT}
			case wasmtime.StackOverflow:
				return &wire.Ran{Outcome: wire.Outcome_STACK_LIMIT}
			default:
				return &wire.Ran{Outcome: wire.Outcome_TRAP, Message: trapName(*c)}
			}
		}
	}
	if strings.Contains(err.Error(), deadlineTrap) {
		return &wire.Ran{Outcome: wire.Outcome_TIME_LIMIT}
	}
	return &wire.Ran{Outcome: wire.Outcome_TRAP, Message: firstLine(err.Error())}
}

// outOfFuel is what the engine means; the binding's constant is off by one.
const outOfFuel = wasmtime.OutOfFuel + 1

func isTrap(err error) bool {
	var t *wasmtime.Trap
	return errors.As(err, &t)
}

func trapName(c wasmtime.TrapCode) string {
	switch c {
	case wasmtime.MemoryOutOfBounds:
		return "memory access out of bounds"
	case wasmtime.TableOutOfBounds:
		return "table access out of bounds"
	case wasmtime.IndirectCallToNull:
		return "indirect call to a null table entry"
	case wasmtime.BadSignature:
		return "indirect call with another signature"
	case wasmtime.IntegerOverflow:
		return "integer overflow"
	case wasmtime.IntegerDivisionByZero:
		return "integer division by zero"
	case wasmtime.BadConversionToInteger:
		return "float that is no integer"
	case wasmtime.UnreachableCodeReached:
		return "unreachable code reached"
	}
	return fmt.Sprintf("trap %d", c)
}

// firstLine cuts the engine's backtraces off: they name host paths.
func firstLine(s string) string {
	s, _, _ = strings.Cut(s, "\n")
	return s[:min(len(s), 300)]
}

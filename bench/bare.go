//go:build linux && cgo

package main

import (
	"errors"
	"fmt"
	"os"

	wasmtime "github.com/bytecodealliance/wasmtime-go/v39"
)

// bare is Wasmtime in this process, with nothing around it: no worker, no
// limits but the epoch, no receipt. Its modules are to be run one at a time.
type bare struct {
	engine *wasmtime.Engine
	linker *wasmtime.Linker
}

// newBare has the same settings as the node's engine in node/sandbox: a test
// loads what that compiles.
func newBare() *bare {
	c := wasmtime.NewConfig()
	c.SetEpochInterruption(true)
	c.SetMaxWasmStack(1 << 20)
	c.SetCraneliftNanCanonicalization(true)
	c.SetParallelCompilation(false)
	c.SetWasmThreads(false)
	c.SetWasmSIMD(false)
	c.SetWasmRelaxedSIMD(false)
	c.SetWasmMemory64(false)
	c.SetWasmMultiMemory(false)
	c.SetWasmTailCall(false)
	c.SetWasmFunctionReferences(false)
	c.SetWasmGC(false)
	c.SetWasmWideArithmetic(false)
	b := &bare{engine: wasmtime.NewEngineWithConfig(c)}
	b.linker = wasmtime.NewLinker(b.engine)
	if err := b.linker.DefineWasi(); err != nil {
		panic(err) // a new linker has no names that could collide
	}
	return b
}

// bareModule is a compiled module.
type bareModule struct {
	*bare
	module *wasmtime.Module
}

func (b *bare) compile(wasm []byte) (*bareModule, error) {
	m, err := wasmtime.NewModule(b.engine, wasm)
	if err != nil {
		return nil, fmt.Errorf("compile in bare Wasmtime: %w", err)
	}
	return &bareModule{b, m}, nil
}

// load maps compiled code from a file, as a runner does.
func (b *bare) load(artifact string) (*bareModule, error) {
	m, err := wasmtime.NewModuleDeserializeFile(b.engine, artifact)
	if err != nil {
		return nil, fmt.Errorf("load %s in bare Wasmtime: %w", artifact, err)
	}
	return &bareModule{b, m}, nil
}

// compiled is wasm compiled, written to file and loaded from it.
func (b *bare) compiled(wasm []byte, file string) (*bareModule, error) {
	m, err := b.compile(wasm)
	if err != nil {
		return nil, err
	}
	defer m.close()
	code, err := m.module.Serialize()
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(file, code, 0o600); err != nil {
		return nil, err
	}
	return b.load(file)
}

func (m *bareModule) close() { m.module.Close() }

// run instantiates the module and runs it to its end, with dir as its only
// dataset, read-only, and its stdout in a file.
func (m *bareModule) run(args []string, dataset, dir, stdout string) error {
	st := wasmtime.NewStore(m.engine)
	defer st.Close()
	st.SetEpochDeadline(1) // checked, never reached
	w := wasmtime.NewWasiConfig()
	w.SetArgv(append([]string{"filter"}, args...))
	if err := w.SetStdoutFile(stdout); err != nil {
		return fmt.Errorf("open %s: %w", stdout, err)
	}
	if err := w.PreopenDir(dir, "/data/"+dataset, wasmtime.DIR_READ, wasmtime.FILE_READ); err != nil {
		return fmt.Errorf("preopen %s: %w", dir, err)
	}
	st.SetWasi(w)
	inst, err := m.linker.Instantiate(st, m.module)
	if err != nil {
		return fmt.Errorf("instantiate in bare Wasmtime: %w", err)
	}
	start := inst.GetFunc(st, "_start")
	if start == nil {
		return errors.New("the module has no _start")
	}
	_, err = start.Call(st)
	var e *wasmtime.Error
	if errors.As(err, &e) {
		if code, ok := e.ExitStatus(); ok && code == 0 { // proc_exit(0) arrives as an error
			return nil
		}
	}
	return err
}

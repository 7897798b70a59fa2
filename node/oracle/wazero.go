package oracle

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"sync"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/imports/wasi_snapshot_preview1"
	"github.com/tetratelabs/wazero/sys"
)

// A Job is one run of a wasip1 command, as package engine has it.
type Job struct {
	Wasm  []byte
	Args  []string // after argv[0]
	Stdin []byte
	Dirs  map[string]string // directories that the module sees, read-only, as /data/NAME
	// World decides what a job does not: the random numbers and the clocks.
	World uint64
}

// An End is what came of a Job. Stdout is there even if the module failed.
type End struct {
	Kind           EndKind
	Code           uint32   // of an exit
	Traps          []string // of a trap: what package sandbox may call it
	Stdout, Stderr []byte
	Err            error // of a trap or overflow: what wazero calls it
}

// An EndKind is how a module ended.
type EndKind string

const (
	Exit          EndKind = "exit"
	Trap          EndKind = "trap"
	StackOverflow EndKind = "stack overflow"
)

// traps tell what wazero's traps are for package sandbox. It has one name for
// three that the specification tells apart in words only.
var traps = map[string][]string{
	"out of bounds memory access":   {"memory access out of bounds"},
	"invalid table access":          {"table access out of bounds", "indirect call to a null table entry"},
	"indirect call type mismatch":   {"indirect call with another signature"},
	"integer overflow":              {"integer overflow"},
	"integer divide by zero":        {"integer division by zero"},
	"invalid conversion to integer": {"float that is no integer"},
	"unreachable":                   {"unreachable code reached"},
}

// Wazero runs jobs in wazero. It compiles each module once.
type Wazero struct {
	runtime wazero.Runtime

	mu       sync.Mutex
	compiled map[[sha256.Size]byte]wazero.CompiledModule
}

// NewWazero makes a Wazero that compiles to native code, or else interprets.
// Close it.
func NewWazero(interpret bool) *Wazero {
	c := wazero.NewRuntimeConfigCompiler()
	if interpret {
		c = wazero.NewRuntimeConfigInterpreter()
	}
	w := &Wazero{runtime: wazero.NewRuntimeWithConfig(context.Background(), c), compiled: map[[sha256.Size]byte]wazero.CompiledModule{}}
	wasi_snapshot_preview1.MustInstantiate(context.Background(), w.runtime)
	return w
}

// Close frees all that was compiled.
func (w *Wazero) Close() error { return w.runtime.Close(context.Background()) }

// Forget has the module compiled again when it runs next.
func (w *Wazero) Forget(wasm []byte) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	key := sha256.Sum256(wasm)
	m, ok := w.compiled[key]
	if !ok {
		return nil
	}
	delete(w.compiled, key)
	return m.Close(context.Background())
}

func (w *Wazero) compile(wasm []byte) (wazero.CompiledModule, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	key := sha256.Sum256(wasm)
	if m, ok := w.compiled[key]; ok {
		return m, nil
	}
	m, err := w.runtime.CompileModule(context.Background(), wasm)
	if err == nil {
		w.compiled[key] = m
	}
	return m, err
}

// Run runs a job to its end: it cannot be interrupted. An error means that the
// module is not valid, or ended in a way that has no name here.
func (w *Wazero) Run(j Job) (End, error) {
	m, err := w.compile(j.Wasm)
	if err != nil {
		return End{}, fmt.Errorf("wazero: compile: %w", err)
	}
	files := wazero.NewFSConfig()
	for name, dir := range j.Dirs {
		files = files.WithFSMount(os.DirFS(dir), "/data/"+name) // its own read-only mount lets guests create files
	}
	var stdout, stderr bytes.Buffer
	var seed [32]byte
	binary.LittleEndian.PutUint64(seed[:], j.World)
	ns := int64(j.World%1e9) * 1e9
	config := wazero.NewModuleConfig().WithName("").WithFSConfig(files).
		WithArgs(append([]string{"filter"}, j.Args...)...).
		WithStdin(bytes.NewReader(j.Stdin)).WithStdout(&stdout).WithStderr(&stderr).
		WithRandSource(rand.NewChaCha8(seed)).
		WithWalltime(func() (int64, int32) { ns++; return ns / 1e9, int32(ns % 1e9) }, 1).
		WithNanotime(func() int64 { ns++; return ns }, 1)
	instance, err := w.runtime.InstantiateModule(context.Background(), m, config)
	if instance != nil {
		defer instance.Close(context.Background())
	}
	end := End{Kind: Exit, Stdout: stdout.Bytes(), Stderr: stderr.Bytes(), Err: err}
	var exit *sys.ExitError
	if errors.As(err, &exit) {
		end.Code, end.Err = exit.ExitCode(), nil
		return end, nil
	}
	if err == nil {
		return end, nil
	}
	message, _, _ := strings.Cut(err.Error(), "\n")
	if strings.HasSuffix(message, ": stack overflow") {
		end.Kind = StackOverflow
		return end, nil
	}
	for suffix, ours := range traps {
		if strings.HasSuffix(message, "wasm error: "+suffix) {
			end.Kind, end.Traps = Trap, ours
			return end, nil
		}
	}
	return end, fmt.Errorf("wazero: %w", err)
}

//go:build cgo

package sandbox

import (
	"bytes"
	"fmt"
	"slices"
	"testing"

	wasmtime "github.com/bytecodealliance/wasmtime-go/v39"

	"github.com/liop-project/liop/node/oracle"
	"github.com/liop-project/liop/node/sandbox/wire"
)

// run runs a command in this process, with nothing but its standard streams.
func run(t *testing.T, wasm []byte) (*wire.Ran, []byte) {
	t.Helper()
	b, err := inProcess()
	if err != nil {
		t.Fatal(err)
	}
	if b.module, err = wasmtime.NewModule(b.eng, wasm); err != nil {
		t.Fatalf("not valid: %v", err)
	}
	defer b.module.Close()
	b.host.resetStreams(64<<10, 64<<10)
	ran, err := b.execute(&wire.Run{WallMs: 20_000}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return ran, bytes.Clone(b.host.stdout())
}

// agree fails the test unless our engine and wazero say the same of a seed's
// program, and NaNs are canonical in ours without the program's help.
func agree(t *testing.T, w *oracle.Wazero, seed []byte) (ran *wire.Ran) {
	t.Helper()
	p := oracle.Generate(seed, false)
	ran, answer := run(t, p.Wasm)
	end, err := w.Run(oracle.Job{Wasm: p.Wasm})
	if err != nil {
		t.Fatalf("seed %x: %v", seed, err)
	}
	defer w.Forget(p.Wasm)
	if !same(ran, end) || !bytes.Equal(answer, end.Stdout) {
		i := oracle.NewWazero(true)
		defer i.Close()
		third, err := i.Run(oracle.Job{Wasm: p.Wasm})
		t.Errorf("seed %x: ours %v\n%x\nwazero %s %d %v %v\n%x\nwazero's interpreter %s %d %v %v\n%x", seed, ran, answer,
			end.Kind, end.Code, end.Traps, end.Err, end.Stdout, third.Kind, third.Code, third.Traps, err, third.Stdout)
	}
	raw, rawAnswer := run(t, oracle.Generate(seed, true).Wasm)
	if !same(raw, end) || !bytes.Equal(answer, rawAnswer) {
		t.Errorf("seed %x: with NaNs as the engine makes them %v\n%x\nwith canonical ones %v\n%x", seed, raw, rawAnswer, ran, answer)
	}
	return ran
}

func same(ran *wire.Ran, end oracle.End) bool {
	switch ran.Outcome {
	case wire.Outcome_EXITED:
		return end.Kind == oracle.Exit && uint32(ran.ExitCode) == end.Code
	case wire.Outcome_TRAP:
		return end.Kind == oracle.Trap && slices.Contains(end.Traps, ran.Message)
	case wire.Outcome_STACK_LIMIT:
		return end.Kind == oracle.StackOverflow
	}
	return false
}

// A failing seed n runs alone with -run 'TestGenerated/^n$'.
func TestGenerated(t *testing.T) {
	w := oracle.NewWazero(false)
	defer w.Close()
	outcomes := map[string]int{} // by trap, "" for an exit
	ran := 0
	for n := range 300 {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			outcomes[agree(t, w, oracle.Seed(n)).Message]++
			ran++
		})
	}
	t.Log(outcomes)
	for trap := range trapWords {
		if ran == 300 && outcomes[trap] == 0 {
			t.Errorf("no program ended with %s", trap)
		}
	}
}

func FuzzGenerated(f *testing.F) {
	w := oracle.NewWazero(false)
	f.Cleanup(func() { w.Close() })
	for n := range 5 {
		f.Add(oracle.Seed(1000 + n))
	}
	f.Fuzz(func(t *testing.T, seed []byte) { agree(t, w, seed) })
}

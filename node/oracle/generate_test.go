package oracle

import (
	"bytes"
	"testing"
)

const seeds = 300

// The programs are valid, have every instruction that the generator knows, and
// mostly run to their end.
func TestGenerate(t *testing.T) {
	w := NewWazero(true)
	defer w.Close()
	ops := map[string]int{}
	var exits, traps, reckless, answers int
	distinct := map[string]bool{}
	for n := range seeds {
		p := Generate(Seed(n), false)
		for name, times := range p.Ops {
			ops[name] += times
		}
		end, err := w.Run(Job{Wasm: p.Wasm})
		if err != nil {
			t.Errorf("seed %d: %v", n, err)
			continue
		}
		w.Forget(p.Wasm)
		if p.Reckless {
			reckless++
		}
		switch end.Kind {
		case Exit:
			exits++
			answers += len(end.Stdout)
			distinct[string(end.Stdout)] = true
			if len(end.Stdout) != 68 {
				t.Errorf("seed %d: an answer of %d bytes", n, len(end.Stdout))
			}
		case Trap:
			traps++
			fallthrough
		default:
			if !p.Reckless {
				t.Errorf("seed %d: %s (%v), although it is not reckless", n, end.Kind, end.Err)
			}
		}
	}
	for _, name := range Opcodes() {
		if ops[name] == 0 {
			t.Errorf("no program has %s", name)
		}
	}
	t.Logf("%d programs: %d exits with %d answers, %d reckless of which %d trapped", seeds, exits, len(distinct), reckless, traps)
	if exits < seeds*8/10 || traps < 10 || len(distinct) < exits*9/10 {
		t.Errorf("%d exits with %d answers and %d traps: not the mixture that tests need", exits, len(distinct), traps)
	}
}

func TestGenerateIsDetermined(t *testing.T) {
	for n := range 20 {
		a, b := Generate(Seed(n), false), Generate(Seed(n), false)
		if !bytes.Equal(a.Wasm, b.Wasm) {
			t.Errorf("seed %d makes different programs", n)
		}
		if raw := Generate(Seed(n), true); len(raw.Wasm) > len(a.Wasm) {
			t.Errorf("seed %d with raw NaNs has %d bytes, %d without", n, len(raw.Wasm), len(a.Wasm))
		}
	}
	if bytes.Equal(Generate(nil, false).Wasm, Generate([]byte{1}, false).Wasm) {
		t.Error("two seeds make the same program")
	}
}

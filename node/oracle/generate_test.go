package oracle

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strings"
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
			if len(end.Stdout) != 76 {
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
	if exits < seeds*3/4 || traps < 10 || len(distinct) < exits*9/10 {
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

// An engine that took any numeric instruction, load or store for another would
// be noticed: the programs execute it, and their answers depend on it.
func TestGeneratedProgramsNotice(t *testing.T) {
	w := NewWazero(true)
	defer w.Close()
	run := func(p Program) End {
		t.Helper()
		end, err := w.Run(Job{Wasm: p.Wasm})
		if err != nil {
			t.Fatal(err)
		}
		w.Forget(p.Wasm)
		return end
	}
	right := map[int]End{}
	noticed := func(name, other string) bool {
		for n := range seeds {
			if Generate(Seed(n), false).Ops[name] == 0 {
				continue
			}
			if _, ok := right[n]; !ok {
				right[n] = run(Generate(Seed(n), false))
			}
			got := run(generate(Seed(n), false, map[string]string{name: other}))
			if got.Kind != right[n].Kind || got.Code != right[n].Code || !bytes.Equal(got.Stdout, right[n].Stdout) {
				return true
			}
		}
		return false
	}
	// Without these, programs do not end.
	counting := []string{"i32.sub", "i32.add", "i32.and", "i32.gt_s", "i32.lt_u", "i32.eqz"}
	checked := 0
	for name, other := range neighbours() {
		if slices.Contains(counting, name) {
			continue
		}
		checked++
		if !noticed(name, other) {
			t.Errorf("%s in place of %s changes nothing", other, name)
		}
	}
	if checked < 140 {
		t.Errorf("only %d instructions were exchanged", checked)
	}
}

// neighbours gives for each instruction another one of the same type, if there is.
func neighbours() map[string]string {
	alike := map[string][]string{}
	for _, name := range slices.Sorted(maps.Keys(opcodes)) {
		o := opcodes[name]
		key := fmt.Sprint(o.params, o.results)
		if o.access != 0 {
			key = fmt.Sprint(o.access, strings.Contains(name, ".store"))
		} else if len(o.results) == 0 {
			continue
		}
		alike[key] = append(alike[key], name)
	}
	m := map[string]string{}
	for _, names := range alike {
		for i, name := range names {
			if other := names[(i+1)%len(names)]; other != name {
				m[name] = other
			}
		}
	}
	return m
}

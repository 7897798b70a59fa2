package engine

import (
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/liop-project/liop/core/fault"
	"github.com/liop-project/liop/filters"
	"github.com/liop-project/liop/node/bounds"
	"github.com/liop-project/liop/node/oracle"
)

// A module that is as large as a bound allows passes, and one more is refused by
// the rule of that bound.
func TestScreenBounds(t *testing.T) {
	code := func(f func(n int) string) func(int) []byte {
		return func(n int) []byte { return command(sections{10: vec(f(n))}) }
	}
	functions := func(n int) []byte {
		return command(sections{3: many(n, "\x00"), 10: many(n, body(""))})
	}
	for _, tc := range []struct {
		rule string
		max  int
		with func(n int) []byte
	}{
		{"module size", bounds.Module, func(n int) []byte {
			empty := len(command(nil))
			const head = 5 // of a custom section: its number, and a length of four bytes
			size := n - empty - head
			return append(command(nil), append(append([]byte{0}, leb(size)...), make([]byte, size)...)...)
		}},
		{"types", bounds.Types, func(n int) []byte { return command(sections{1: many(n, "\x60\x00\x00")}) }},
		{"imports", bounds.Imports, func(n int) []byte {
			return command(sections{2: many(n, sized("wasi_snapshot_preview1")+sized("sched_yield")+"\x00\x00")})
		}},
		{"functions", bounds.Functions, functions},
		{"function bodies", bounds.Functions, func(n int) []byte { return command(sections{10: many(n, body(""))}) }},
		{"tables", bounds.Tables, func(n int) []byte { return command(sections{4: many(n, "\x70\x00\x00")}) }},
		{"memories", bounds.Memories, func(n int) []byte { return command(sections{5: many(n, "\x00\x01")}) }},
		{"globals", bounds.Globals, func(n int) []byte { return command(sections{6: many(n, "\x7f\x00\x41\x00\x0b")}) }},
		{"exports", bounds.Exports, func(n int) []byte {
			more := vec("\x06memory\x02\x00", "\x06_start\x00\x00")[1:]
			return command(sections{7: append(leb(n), string(more)+strings.Repeat("\x01f\x00\x00", n-2)...)})
		}},
		{"element segments", bounds.ElementSegments, func(n int) []byte {
			return command(sections{4: vec("\x70\x00\x01"), 9: many(n, "\x00\x41\x00\x0b\x00")})
		}},
		{"data segments", bounds.DataSegments, func(n int) []byte { return command(sections{11: many(n, "\x00\x41\x00\x0b\x00")}) }},
		{"function size", bounds.FunctionBytes, code(func(n int) string { return body(strings.Repeat("\x01", n-2)) })},
		{"locals", bounds.Locals, code(func(n int) string { return bodyWith(n, "") })},
		{"nesting", bounds.Nesting, code(func(n int) string { return body(strings.Repeat("\x02\x40", n) + strings.Repeat("\x0b", n)) })},
		{"nesting", bounds.Nesting, code(func(n int) string {
			return body(strings.Repeat("\x41\x00\x04\x40", n) + strings.Repeat("\x05\x0b", n)) // i32.const 0, if; else, end
		})},
		{"loops", bounds.Loops, code(func(n int) string {
			return body(strings.Repeat("\x02\x40\x03\x40", n) + strings.Repeat("\x0b\x0b", n)) // in a block each
		})},
	} {
		t.Run(strings.ReplaceAll(tc.rule, " ", "-"), func(t *testing.T) {
			if err := Screen(tc.with(tc.max), 64<<20); err != nil {
				t.Errorf("with %d: %v", tc.max, err)
			}
			if err := Screen(tc.with(tc.max+1), 64<<20); !errors.Is(err, &fault.Error{Code: fault.ModuleInvalid, Rule: tc.rule}) {
				f, _ := fault.From(err)
				t.Errorf("with %d: got %+v, want it refused by %s", tc.max+1, f, tc.rule)
			}
		})
	}
}

// Blocks that follow each other are not in each other.
func TestNestingEndsWithTheBlock(t *testing.T) {
	long := body(strings.Repeat("\x03\x40\x0b", 2*bounds.Loops) + strings.Repeat("\x02\x40\x0b", 2*bounds.Nesting))
	if err := Screen(command(sections{3: many(2, "\x00"), 10: vec(long, long)}), 64<<20); err != nil {
		t.Error(err)
	}
}

// The walk over the code of a valid module knows every instruction in it: it ends
// where the function does. One that lost its way would see blocks where none
// are, or overlook them.
func TestNestingReadsEveryInstruction(t *testing.T) {
	functions := 0
	walkAll := func(where string, wasm []byte) {
		var deep nesting
		for i, code := range bodies(wasm) {
			functions++
			if bound, whole := deep.walk(code); bound != "" || !whole {
				t.Errorf("%s: function body %d: bound %q, read to its end %v", where, i, bound, whole)
			}
		}
	}
	for _, name := range filters.ReadyNames() {
		wasm, _ := filters.Ready(name)
		walkAll(name, wasm)
	}
	for n := range 200 {
		walkAll("generated", oracle.Generate(oracle.Seed(n), false).Wasm)
	}
	if functions < 1000 {
		t.Errorf("only %d functions were read", functions)
	}
	suite := 0
	err := specModules(func(where, command string, wasm []byte) {
		if command == "module" && oracle.Valid(wasm) && !strings.Contains(where, "simd") {
			suite++
			walkAll(where, wasm)
		}
	})
	switch {
	case errors.Is(err, os.ErrNotExist):
		t.Log("without the test suite of the specification, which is not here: ", err)
	case err != nil:
		t.Fatal(err)
	case suite < 1000:
		t.Errorf("only %d modules of the suite were read", suite)
	}
	t.Logf("%d functions", functions)
}

// bodies gives the code of each function of a well-formed module, without the
// locals.
func bodies(wasm []byte) (all [][]byte) {
	r := &reader{b: wasm[len(header):]}
	for len(r.b) > 0 {
		id, section := r.byte(), &reader{b: r.bytes(r.u32())}
		if id != 10 {
			continue
		}
		for range section.u32() {
			f := &reader{b: section.bytes(section.u32())}
			for range f.u32() {
				f.u32()
				f.byte()
			}
			all = append(all, f.b)
		}
	}
	return all
}

func BenchmarkScreen(b *testing.B) {
	wasm := guestModule(b, "head-schema")
	b.SetBytes(int64(len(wasm)))
	for b.Loop() {
		if err := Screen(wasm, 64<<20); err != nil {
			b.Fatal(err)
		}
	}
}

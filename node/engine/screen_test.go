package engine

import (
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/liop-project/liop/core/fault"
	"github.com/liop-project/liop/filters"
	"github.com/liop-project/liop/node/oracle"
)

const header = "\x00asm\x01\x00\x00\x00"

func TestScreen(t *testing.T) {
	const (
		types   = "\x01\x04\x01\x60\x00\x00"
		funcs   = "\x03\x02\x01\x00"
		memory  = "\x05\x03\x01\x00\x01"
		exports = "\x07\x13\x02\x06memory\x02\x00\x06_start\x00\x00"
		code    = "\x0a\x04\x01\x02\x00\x0b"
	)
	for _, tc := range []struct {
		name, wasm string
		code       fault.Code
		rule       string
	}{
		{"good", header + types + funcs + memory + exports + code, "", ""},
		{"custom sections", header + "\x00\x02\x01x" + types + funcs + memory + exports + "\x00\x02\x01y" + code, "", ""},
		{"empty", "", fault.ModuleInvalid, "magic"},
		{"script", "#!/bin/sh", fault.ModuleInvalid, "magic"},
		{"component", "\x00asm\x0d\x00\x01\x00", fault.ModuleInvalid, "version"},
		{"short", "\x00asm\x01", fault.ModuleInvalid, "version"},
		{"section twice", header + types + types, fault.ModuleInvalid, "sections"},
		{"order", header + funcs + types, fault.ModuleInvalid, "sections"},
		{"unknown section", header + "\x0e\x00", fault.ModuleInvalid, "sections"},
		{"section past the end", header + "\x01\x7f\x00", fault.ModuleInvalid, "sections"},
		{"overlong number", header + "\x01\x80\x80\x80\x80\x80\x00", fault.ModuleInvalid, "sections"},
		{"number over 32 bits", header + "\x01\xff\xff\xff\xff\x7f", fault.ModuleInvalid, "sections"},
		{"imports cut", header + "\x02\x02\x01\x7f", fault.ModuleInvalid, "sections"},
		{"import of a foreign module", header + "\x02\x0b\x01\x03env\x04evil\x00\x00", fault.ModuleInvalid, "imports"},
		{"import of a memory", header + "\x02\x1c\x01\x16wasi_snapshot_preview1\x01m\x02\x00", fault.ModuleInvalid, "imports"},
		{"too many imports", header + "\x02\x02\x81\x01", fault.ModuleInvalid, "imports"},
		{"two memories", header + types + funcs + "\x05\x05\x02\x00\x01\x00\x01", fault.ModuleInvalid, "memories"},
		{"shared memory", header + "\x05\x04\x01\x03\x01\x01", fault.ModuleInvalid, "memory"},
		{"64-bit memory", header + "\x05\x03\x01\x04\x01", fault.ModuleInvalid, "memory"},
		{"starts too large", header + "\x05\x04\x01\x00\x81\x08", fault.LimitMemory, "limits.memory_bytes"},
		{"no start", header + types + funcs + memory + "\x07\x0a\x01\x06memory\x02\x00" + code, fault.ModuleInvalid, "exports"},
		{"no memory", header + types + funcs + "\x07\x0a\x01\x06_start\x00\x00" + code, fault.ModuleInvalid, "exports"},
		{"start is a memory", header + memory + "\x07\x0a\x01\x06_start\x02\x00", fault.ModuleInvalid, "exports"},
		{"too many locals", header + types + funcs + memory + exports + "\x0a\x08\x01\x06\x01\xff\xff\x03\x7f\x0b", fault.ModuleInvalid, "locals"},
		{"locals overflow", header + types + funcs + memory + exports + "\x0a\x10\x01\x0e\x02\xff\xff\xff\xff\x0f\x7f\xff\xff\xff\xff\x0f\x7f\x0b", fault.ModuleInvalid, "locals"},
		{"function cut", header + types + funcs + memory + exports + "\x0a\x03\x01\x7f\x00", fault.ModuleInvalid, "sections"},
		{"large function", header + types + funcs + memory + exports + large(), fault.ModuleInvalid, "function size"},
	} {
		err := Screen([]byte(tc.wasm), 64<<20)
		if tc.code == "" && err == nil {
			continue
		}
		if tc.code == "" || !errors.Is(err, &fault.Error{Code: tc.code, Rule: tc.rule}) {
			f, _ := fault.From(err)
			t.Errorf("%s: %v %+v, want %s by %s", tc.name, err, f, tc.code, tc.rule)
		}
	}
}

// large is a code section with one body of 600,001 bytes.
func large() string {
	return "\x0a\xc5\xcf\x24\x01\xc1\xcf\x24" + strings.Repeat("\x00", 600_001)
}

func TestScreenAcceptsReadyFilters(t *testing.T) {
	for _, name := range filters.ReadyNames() {
		wasm, _ := filters.Ready(name)
		if err := Screen(wasm, 64<<20); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzScreen(f *testing.F) {
	f.Add(probeModule)
	f.Add([]byte(header + "\x02\x0b\x01\x03env\x04evil\x00\x00"))
	f.Add([]byte(header + "\x0a\x10\x01\x0e\x02\xff\xff\xff\xff\x0f\x7f\xff\xff\xff\xff\x0f\x7f\x0b"))
	f.Add(command(sections{10: vec(body(strings.Repeat("\x03\x40", 101) + strings.Repeat("\x0b", 101)))}))
	for n := range 5 {
		f.Add(oracle.Generate(oracle.Seed(n), false).Wasm)
	}
	err := specModules(func(_, command string, wasm []byte) {
		if command == "assert_malformed" {
			f.Add(wasm)
		}
	})
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, wasm []byte) {
		if err := Screen(wasm, 1<<20); err != nil {
			if _, ok := fault.From(err); !ok {
				t.Errorf("not a fault: %v", err)
			}
		}
	})
}

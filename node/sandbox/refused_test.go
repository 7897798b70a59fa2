//go:build cgo

package sandbox

import (
	"slices"
	"strings"
	"testing"

	wasmtime "github.com/bytecodealliance/wasmtime-go/v39"

	"github.com/liop-project/liop/node/oracle"
)

// Modules of the suite that use what is switched off are refused for that, and
// the others are not. wazero has no switch for all of it, so its opinion counts
// in one direction: what the engine accepts must be valid without extensions.
func TestSpecRefused(t *testing.T) {
	eng := newEngine(false, true)
	for folder, want := range map[string]struct {
		refused, accepted int      // at least
		why               []string // one is in each error
	}{
		"v2":                 {412, 61, []string{"SIMD support is not enabled"}},
		"tail-call":          {6, 0, []string{"tail calls support is not enabled"}},
		"threads":            {5, 0, []string{"threads support is not enabled", "threads must be enabled"}},
		"exception-handling": {12, 0, []string{"exceptions support is not enabled", "exceptions proposal not enabled", "without the exception handling feature", "requires `gc` proposal", "function references required"}},
		"typed-function-references": {65, 94, []string{"function references support is not enabled", "function references required",
			"require the function-references proposal", "requires `gc` proposal", "tail calls support is not enabled"}},
	} {
		t.Run(folder, func(t *testing.T) {
			var refused, accepted int
			for _, s := range spec(t, folder) {
				if folder == "v2" && !isVector(s) {
					continue
				}
				for _, c := range s.Commands {
					if c.Type != "module" || c.ModuleType == "text" {
						continue
					}
					wasm, err := s.Wasm(c)
					if err != nil {
						t.Fatal(err)
					}
					m, err := wasmtime.NewModule(eng, wasm)
					if err != nil {
						refused++
						if !slices.ContainsFunc(want.why, func(why string) bool { return strings.Contains(err.Error(), why) }) {
							t.Errorf("%s line %d: refused by %v, want one of %q", s.Name, c.Line, err, want.why)
						}
						continue
					}
					accepted++
					m.Close()
					if !oracle.Valid(wasm) {
						t.Errorf("%s line %d: accepted, although wazero refuses it without extensions", s.Name, c.Line)
					}
				}
			}
			if refused < want.refused || accepted < want.accepted {
				t.Errorf("%d refused and %d accepted, want at least %d and %d", refused, accepted, want.refused, want.accepted)
			}
		})
	}
}

// Each extension of WebAssembly that the engine knows is off.
func TestExtensionsAreOff(t *testing.T) {
	eng := newEngine(false, true)
	for _, tc := range []struct{ name, wat, why string }{
		{"vectors", `(module (func (drop (v128.const i64x2 0 0))))`, "SIMD support is not enabled"},
		{"vector types", `(module (func (param v128)))`, "SIMD support is not enabled"},
		{"shared memory", `(module (memory 1 1 shared))`, "threads must be enabled"},
		{"atomics", `(module (memory 1) (func (drop (i32.atomic.load (i32.const 0)))))`, "threads support is not enabled"},
		{"shared functions", `(module (type (shared (func))))`, "require the shared-everything-threads proposal"},
		{"64-bit memory", `(module (memory i64 1))`, "memory64 must be enabled"},
		{"64-bit table", `(module (table i64 1 funcref))`, "memory64 must be enabled"},
		{"two memories", `(module (memory 1) (memory 1))`, "multiple memories"},
		{"pages of one byte", `(module (memory 1 (pagesize 1)))`, "the custom page sizes proposal must be enabled"},
		{"tail calls", `(module (func $f (return_call $f)))`, "tail calls support is not enabled"},
		{"typed references", `(module (type $t (func)) (func (param (ref $t)) (call_ref $t (local.get 0))))`, "function references required"},
		{"structs", `(module (type (struct (field i32))))`, "without the gc feature"},
		{"31-bit references", `(module (func (drop (ref.i31 (i32.const 0)))))`, "gc support is not enabled"},
		{"exceptions", `(module (tag))`, "exceptions proposal not enabled"},
		{"legacy exceptions", // try end
			"\x00asm\x01\x00\x00\x00\x01\x04\x01\x60\x00\x00\x03\x02\x01\x00\x0a\x07\x01\x05\x00\x06\x40\x0b\x0b", "legacy_exceptions feature required"},
		{"wide arithmetic", `(module (func (param i64) (result i64 i64) (i64.mul_wide_u (local.get 0) (local.get 0))))`, "wide arithmetic support is not enabled"},
		{"stack switching", `(module (type $f (func)) (type (cont $f)))`, "stack switching is disabled"},
		{"components", `(component (core module))`, "was given a WebAssembly component"},
	} {
		wasm := []byte(tc.wat)
		if tc.wat[0] == '(' {
			var err error
			if wasm, err = wasmtime.Wat2Wasm(tc.wat); err != nil {
				t.Errorf("%s: %v", tc.name, err)
				continue
			}
		}
		m, err := wasmtime.NewModule(eng, wasm)
		if err == nil {
			m.Close()
			t.Errorf("%s: accepted", tc.name)
		} else if !strings.Contains(err.Error(), tc.why) {
			t.Errorf("%s: refused by %v, want %q", tc.name, err, tc.why)
		}
	}
	// And it does accept something.
	for name, wat := range map[string]string{
		"several results":    `(module (func (result i32 i64) (i32.const 0) (i64.const 0)))`,
		"references":         `(module (table 1 externref) (func (param externref) (table.set (i32.const 0) (local.get 0))))`,
		"bulk memory":        `(module (memory 1) (func (memory.fill (i32.const 0) (i32.const 0) (i32.const 1))))`,
		"extended constants": `(module (global i32 (i32.add (i32.const 1) (i32.const 2))))`,
	} {
		wasm, err := wasmtime.Wat2Wasm(wat)
		if err == nil {
			_, err = wasmtime.NewModule(eng, wasm)
		}
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

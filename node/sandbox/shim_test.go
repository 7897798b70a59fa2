//go:build cgo

package sandbox

import (
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	wasmtime "github.com/bytecodealliance/wasmtime-go/v39"
)

// The prototypes in engine.h must be those of the engine's own headers.
func TestPrototypes(t *testing.T) {
	cc, err := exec.LookPath("cc")
	if err != nil {
		t.Fatal("cgo needs a C compiler: ", err)
	}
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/bytecodealliance/wasmtime-go/v39").Output()
	if err != nil {
		t.Fatal(err)
	}
	include := filepath.Join(strings.TrimSpace(string(out)), "build", "include")
	msg, err := exec.Command(cc, "-fsyntax-only", "-Wall", "-Werror", "-DLIOP_CHECK_HEADERS", "-I", include, "shim.c").CombinedOutput()
	if err != nil {
		t.Errorf("%v:\n%s", err, msg)
	}
}

// The C pointers are taken from the first field of these Go structs.
func TestPointerFields(t *testing.T) {
	for _, v := range []any{wasmtime.WasiConfig{}, wasmtime.Config{}, wasmtime.Linker{}, wasmtime.Engine{}} {
		f := reflect.TypeOf(v).Field(0)
		if f.Name != "_ptr" || f.Type.Kind() != reflect.Pointer {
			t.Errorf("%T begins with %s %s", v, f.Name, f.Type)
		}
	}
}

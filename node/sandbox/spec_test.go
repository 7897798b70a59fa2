//go:build cgo

package sandbox

import (
	"errors"
	"fmt"
	"math"
	"os"
	"slices"
	"strings"
	"testing"

	wasmtime "github.com/bytecodealliance/wasmtime-go/v39"

	"github.com/liop-project/liop/node/oracle"
	"github.com/liop-project/liop/node/sandbox/wire"
)

func spec(t testing.TB, folder string) []oracle.Script {
	t.Helper()
	scripts, err := oracle.Spec(folder)
	if errors.Is(err, os.ErrNotExist) {
		t.Skip("the test suite of the specification is not here: ", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	return scripts
}

// specVersions are the folders of the suite that the engine must pass, and how
// many commands of a kind they have at least. What is in the text format is
// left out: nodes do not read it.
var specVersions = map[string]map[string]int{
	"v1": {"module": 780, "assert_return": 15_788, "assert_trap": 458, "assert_invalid": 989, "assert_malformed": 661,
		"assert_unlinkable": 95, "assert_uninstantiable": 2, "assert_exhaustion": 15, "action": 42, "register": 10},
	"v2": {"module": 1126, "assert_return": 21_453, "assert_trap": 2354, "assert_invalid": 1477, "assert_malformed": 719,
		"assert_unlinkable": 83, "assert_uninstantiable": 34, "assert_exhaustion": 15, "action": 155, "register": 21},
	"extended-const": {"module": 13, "assert_return": 55, "assert_trap": 5, "assert_invalid": 37, "assert_malformed": 4},
}

// changed are the assertions of version 1 that version 2 of the specification
// turned into their contrary, by script and line. They must fail.
var changed = []struct {
	script, why string
	lines       []int
}{
	{"data", "a segment that does not fit is a trap, no longer found before the module is linked",
		[]int{162, 170, 178, 186, 194, 211, 220, 227, 235, 243, 251, 258, 266, 273}},
	{"elem", "a segment that does not fit is a trap, no longer found before the module is linked",
		[]int{143, 152, 161, 170, 178, 186, 195, 203, 212, 220, 229, 237}},
	{"linking", "a segment that does not fit is a trap, no longer found before the module is linked", []int{207, 228, 239, 299, 335, 345}},
	{"linking", "segments before the one that does not fit are written", []int{236, 248, 342, 354}},
	{"imports", "there may be several tables", []int{310, 314, 318}},
	{"func", "functions may have several results", []int{493, 497}},
	{"type", "functions may have several results", []int{53, 57}},
	{"unreached-invalid", "br_table that is not reached may have labels of different types", []int{539}},
}

func isChanged(folder, script string, line int) bool {
	for _, c := range changed {
		if folder == "v1" && c.script == script && slices.Contains(c.lines, line) {
			return true
		}
	}
	return false
}

// The engine, configured as workers have it, does what the specification says.
func TestSpec(t *testing.T) {
	for folder, atLeast := range specVersions {
		t.Run(folder, func(t *testing.T) {
			counts := map[string]int{}
			for _, s := range spec(t, folder) {
				if folder == "v2" && isVector(s) {
					continue // TestSpecRefused has them
				}
				t.Run(s.Name, func(t *testing.T) { newScript(t, folder, s, counts).run() })
			}
			t.Log(counts)
			for kind, n := range atLeast {
				if counts[kind] < n {
					t.Errorf("%d of %s, want at least %d", counts[kind], kind, n)
				}
			}
		})
	}
}

func isVector(s oracle.Script) bool { return strings.HasPrefix(s.Name, "simd_") }

// A script is one of the suite while it runs.
type script struct {
	*testing.T
	oracle.Script
	folder    string
	counts    map[string]int
	engine    *wasmtime.Engine
	store     *wasmtime.Store
	linker    *wasmtime.Linker
	instances map[string]*wasmtime.Instance
	last      *wasmtime.Instance
}

func newScript(t *testing.T, folder string, s oracle.Script, counts map[string]int) *script {
	t.Helper()
	eng := newEngine(false, true)
	r := &script{T: t, Script: s, folder: folder, counts: counts, engine: eng, store: wasmtime.NewStore(eng),
		linker: wasmtime.NewLinker(eng), instances: map[string]*wasmtime.Instance{}}
	t.Cleanup(r.store.Close)
	r.store.SetEpochDeadline(1) // never reached: nothing moves the epoch
	r.linker.AllowShadowing(true)
	host, err := oracle.SpecHost()
	if err != nil {
		t.Fatal(err)
	}
	inst, err := r.instantiate(host)
	if err == nil {
		err = r.linker.DefineInstance(r.store, "spectest", inst)
	}
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func (r *script) instantiate(wasm []byte) (*wasmtime.Instance, error) {
	m, err := wasmtime.NewModule(r.engine, wasm)
	if err != nil {
		return nil, &notValid{err}
	}
	return r.linker.Instantiate(r.store, m)
}

// notValid is the error of a module that the compiler refuses.
type notValid struct{ error }

func (r *script) run() {
	for _, c := range r.Commands {
		if c.ModuleType == "text" {
			r.counts["text"]++ // nodes do not read the text format
			continue
		}
		r.counts[c.Type]++
		err := r.command(c)
		switch isChanged := isChanged(r.folder, r.Name, c.Line); {
		case err != nil && !isChanged:
			r.Errorf("line %d: %s: %v", c.Line, c.Type, err)
		case err == nil && isChanged:
			r.Errorf("line %d: %s: passes, although it changed in version 2", c.Line, c.Type)
		}
	}
}

func (r *script) command(c oracle.Command) error {
	switch c.Type {
	case "module":
		wasm, err := r.Wasm(c)
		if err != nil {
			return err
		}
		if r.last, err = r.instantiate(wasm); err != nil {
			return err
		}
		if c.Name != "" {
			r.instances[c.Name] = r.last
		}
		return nil
	case "register":
		inst := r.last
		if c.Name != "" {
			inst = r.instances[c.Name]
		}
		return r.linker.DefineInstance(r.store, c.As, inst)
	case "assert_malformed", "assert_invalid", "assert_unlinkable", "assert_uninstantiable":
		wasm, err := r.Wasm(c)
		if err != nil {
			return err
		}
		_, err = r.instantiate(wasm)
		return refusedAs(c, err)
	case "action", "assert_return":
		got, err := r.act(c)
		if err != nil {
			return err
		}
		if c.Type == "action" {
			return nil
		}
		return expect(c, got)
	case "assert_trap":
		_, err := r.act(c)
		return trappedAs(c, err)
	case "assert_exhaustion":
		_, err := r.act(c)
		if ran := outcome(err); ran.Outcome != wire.Outcome_STACK_LIMIT {
			return fmt.Errorf("%v, want %s", ran, c.Text)
		}
		return nil
	}
	return errors.New("unknown command")
}

// refusedAs compares the stage at which a module was refused.
func refusedAs(c oracle.Command, err error) error {
	if err == nil {
		return fmt.Errorf("accepted, want %s", c.Text)
	}
	var invalid *notValid
	stage := "assert_unlinkable"
	switch {
	case errors.As(err, &invalid):
		stage = "assert_invalid"
	case isTrap(err):
		stage = "assert_uninstantiable"
	}
	want := c.Type
	if want == "assert_malformed" {
		want = "assert_invalid" // the compiler does not tell one from the other
	}
	if stage != want {
		return fmt.Errorf("refused as %s by %q, want %s", stage, firstLine(err.Error()), c.Text)
	}
	if stage == "assert_uninstantiable" {
		return trappedAs(c, err)
	}
	return nil
}

// trapWords are what the suite calls the traps.
var trapWords = map[string][]string{
	"memory access out of bounds":          {"out of bounds memory access"},
	"table access out of bounds":           {"out of bounds table access", "undefined element", "undefined"},
	"indirect call to a null table entry":  {"uninitialized"},
	"indirect call with another signature": {"indirect call type mismatch", "indirect call"},
	"integer overflow":                     {"integer overflow"},
	"integer division by zero":             {"integer divide by zero"},
	"float that is no integer":             {"invalid conversion to integer"},
	"unreachable code reached":             {"unreachable"},
}

func trappedAs(c oracle.Command, err error) error {
	if err == nil {
		return fmt.Errorf("no trap, want %s", c.Text)
	}
	ran := outcome(err)
	text := c.Text
	if strings.HasPrefix(text, "uninitialized element") { // and its index
		text = "uninitialized"
	}
	if ran.Outcome != wire.Outcome_TRAP || !slices.Contains(trapWords[ran.Message], text) {
		return fmt.Errorf("%v, want %s", ran, c.Text)
	}
	return nil
}

func (r *script) act(c oracle.Command) ([]wasmtime.Val, error) {
	inst := r.last
	if c.Action.Module != "" {
		inst = r.instances[c.Action.Module]
	}
	if inst == nil {
		return nil, errors.New("no instance to act on")
	}
	e := inst.GetExport(r.store, c.Action.Field)
	if e == nil {
		return nil, fmt.Errorf("no export %q", c.Action.Field)
	}
	if c.Action.Type == "get" {
		return []wasmtime.Val{e.Global().Get(r.store)}, nil
	}
	var args []any
	for _, a := range c.Action.Args {
		v, err := value(a)
		if err != nil {
			return nil, err
		}
		args = append(args, v)
	}
	got, err := e.Func().Call(r.store, args...)
	if err != nil {
		return nil, err
	}
	switch got := got.(type) {
	case nil:
		if len(c.Expected) == 1 { // a null reference
			return []wasmtime.Val{wasmtime.ValExternref(nil)}, nil
		}
		return nil, nil
	case []wasmtime.Val:
		return got, nil
	case int32:
		return []wasmtime.Val{wasmtime.ValI32(got)}, nil
	case int64:
		return []wasmtime.Val{wasmtime.ValI64(got)}, nil
	case float32:
		return []wasmtime.Val{wasmtime.ValF32(got)}, nil
	case float64:
		return []wasmtime.Val{wasmtime.ValF64(got)}, nil
	case *wasmtime.Func:
		return []wasmtime.Val{wasmtime.ValFuncref(got)}, nil
	default:
		return []wasmtime.Val{wasmtime.ValExternref(got)}, nil
	}
}

func value(v oracle.Value) (wasmtime.Val, error) {
	switch v.Type {
	case "externref":
		if v.String() == "null" {
			return wasmtime.ValExternref(nil), nil
		}
		return wasmtime.ValExternref(v.String()), nil
	case "funcref":
		if v.String() != "null" {
			return wasmtime.Val{}, errors.New("a function that is not null")
		}
		return wasmtime.ValFuncref(nil), nil
	}
	bits, err := v.Bits()
	if err != nil {
		return wasmtime.Val{}, err
	}
	switch v.Type {
	case "i32":
		return wasmtime.ValI32(int32(bits)), nil
	case "i64":
		return wasmtime.ValI64(int64(bits)), nil
	case "f32":
		return wasmtime.ValF32(math.Float32frombits(uint32(bits))), nil
	case "f64":
		return wasmtime.ValF64(math.Float64frombits(bits)), nil
	}
	return wasmtime.Val{}, fmt.Errorf("a value of type %s", v.Type)
}

func expect(c oracle.Command, got []wasmtime.Val) error {
	if len(got) != len(c.Expected) {
		return fmt.Errorf("%d results, want %d", len(got), len(c.Expected))
	}
	for i, want := range c.Expected {
		ok, err := equal(got[i], want)
		if err != nil {
			return err
		}
		if !ok {
			return fmt.Errorf("%s(%s): result %d is %v, want %s %s", c.Action.Field, c.Action.Args, i, got[i].Get(), want.Type, want)
		}
	}
	return nil
}

// equal compares bit by bit. A class of NaN must be the canonical NaN, to which
// the engine is set, whatever the class.
func equal(got wasmtime.Val, want oracle.Value) (bool, error) {
	nan := strings.HasPrefix(want.String(), "nan:")
	switch want.Type {
	case "externref":
		if len(want.Value) == 0 { // any
			return got.Get() != nil, nil
		}
		if want.String() == "null" {
			return got.Get() == nil, nil
		}
		return got.Get() == want.String(), nil
	case "funcref":
		f, _ := got.Get().(*wasmtime.Func)
		return (f == nil) == (want.String() == "null"), nil
	case "f32":
		if nan {
			return math.Float32bits(got.F32()) == 0x7fc00000, nil
		}
	case "f64":
		if nan {
			return math.Float64bits(got.F64()) == 0x7ff8000000000000, nil
		}
	}
	v, err := value(want)
	if err != nil || v.Kind() != got.Kind() {
		return false, err
	}
	switch v.Kind() {
	case wasmtime.KindF32:
		return math.Float32bits(v.F32()) == math.Float32bits(got.F32()), nil
	case wasmtime.KindF64:
		return math.Float64bits(v.F64()) == math.Float64bits(got.F64()), nil
	}
	return v.Get() == got.Get(), nil
}

package hostile

import (
	"bytes"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/liop-project/liop/core/fault"
)

func TestCorpus(t *testing.T) {
	name := regexp.MustCompile(`^[a-z0-9-]+$`)
	classes := []Class{CPU, Memory, Compile, IO, HostCall, Malformed, Start}
	seen, used, counts := map[string]bool{}, map[string]bool{}, map[Class]int{}
	for _, a := range Corpus() {
		if !name.MatchString(a.Name) || seen[a.Name] {
			t.Errorf("%q is no name, or is there twice", a.Name)
		}
		seen[a.Name] = true
		counts[a.Class]++
		if !slices.Contains(classes, a.Class) {
			t.Errorf("%s: class %q", a.Name, a.Class)
		}
		if a.What == "" || a.Expect.Words == "" || len(a.Expect.Faults) == 0 && !a.Expect.Held {
			t.Errorf("%s does not say what it does, or what is right", a.Name)
		}
		for _, f := range a.Expect.Faults {
			if f == (Refusal{fault.ModuleFailed, "worker"}) {
				t.Errorf("%s may bring a worker down", a.Name)
			}
		}
		wasm := a.Wasm()
		if n := len(wasm); n > 8<<20-1 {
			t.Errorf("%s has %d bytes, which a grant does not allow unless it says so", a.Name, n)
		}
		if !bytes.Equal(wasm, a.Wasm()) {
			t.Errorf("%s is another module each time", a.Name)
		}
		if committed, ok := Module(a.Name); ok && bytes.Equal(committed, wasm) {
			used[a.Name] = true
		}
	}
	for _, m := range Modules() {
		if !used[m] {
			t.Errorf("module %s is in no attack", m)
		}
	}
	for _, c := range classes {
		if counts[c] < 5 {
			t.Errorf("%d attacks of class %s", counts[c], c)
		}
	}
}

func TestExpect(t *testing.T) {
	e := Expect{Faults: []Refusal{{fault.LimitTime, "limits.wall_ms"}, {fault.ModuleInvalid, ""}}}
	held := Expect{Held: true, Answer: "ok"}
	for _, tc := range []struct {
		name   string
		e      Expect
		answer string
		err    error
		right  bool
		says   string
	}{
		{"refused", e, "", &fault.Error{Code: fault.LimitTime, Rule: "limits.wall_ms"}, true, "limit_time by limits.wall_ms"},
		{"any rule", e, "", &fault.Error{Code: fault.ModuleInvalid, Rule: "x"}, true, "module_invalid by x"},
		{"another rule", e, "", &fault.Error{Code: fault.LimitTime, Rule: "y"}, false, "limit_time by y"},
		{"another code", e, "", &fault.Error{Code: fault.Internal}, false, "internal"},
		{"answered", e, "SECRET\x1b[2J", nil, false, `got through: answered "SECRET\x1b[2J"`},
		{"empty answer", e, "", nil, false, `got through: answered ""`},
		{"dead worker", e, "", &fault.Error{Code: fault.ModuleFailed, Rule: "worker"}, false, "brought its worker process down"},
		{"no fault", e, "", bytes.ErrTooLarge, false, "no refusal: "},
		{"held", held, "ok", nil, true, "held"},
		{"another answer", held, "no", nil, false, `got through: answered "no"`},
		{"refused although it may be held", held, "", &fault.Error{Code: fault.LimitTime}, false, "limit_time"},
	} {
		got, right := tc.e.Check([]byte(tc.answer), tc.err)
		if right != tc.right || !strings.HasPrefix(got, tc.says) {
			t.Errorf("%s: %q, %v, want %q, %v", tc.name, got, right, tc.says, tc.right)
		}
	}
}

func TestUnknownModule(t *testing.T) {
	for _, name := range []string{"", "nope", "../hostile", "modules/loop", "loop.wasm"} {
		if b, ok := Module(name); ok || b != nil {
			t.Errorf("%q is %d bytes", name, len(b))
		}
	}
}

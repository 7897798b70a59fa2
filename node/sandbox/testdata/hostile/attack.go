package hostile

import (
	"errors"
	"fmt"
	"slices"

	"github.com/liop-project/liop/core/fault"
)

// Class is what an attack is aimed at.
type Class string

const (
	CPU       Class = "cpu"       // time of the processor, and the call stack
	Memory    Class = "memory"    // linear memory and tables
	Compile   Class = "compile"   // time and memory of the compiler
	IO        Class = "io"        // files, and the streams that a guest has
	HostCall  Class = "host call" // functions that the node provides
	Malformed Class = "malformed" // the decoder and the validator
	Start     Class = "start"     // what happens before _start is called
)

// Attack is one module that means harm, and what is right for it.
type Attack struct {
	Name  string // unique, of a-z, 0-9 and "-"
	Class Class
	What  string        // what it tries, in a few words
	Wasm  func() []byte // the same bytes on each call
	// Runs are the arguments of each run; nil means one run without any. A
	// second run meets what the first one left behind.
	Runs   [][]string
	Inputs map[string][]byte
	Expect Expect
}

// Arguments are those of each run: at least one.
func (a *Attack) Arguments() [][]string {
	if len(a.Runs) == 0 {
		return [][]string{nil}
	}
	return a.Runs
}

// Expect says what is right for an attack. Everything else is wrong.
type Expect struct {
	// Words is what must happen, for a reader.
	Words string
	// Faults are the refusals that are right, each with a code and a rule, of
	// which "" stands for any.
	Faults []Refusal
	// Held means that the attack may also end well, since bounds hold it, and
	// then answers Answer.
	Held   bool
	Answer string
}

// Refusal is a fault as far as an attack's expectation goes.
type Refusal struct {
	Code fault.Code
	Rule string
}

func (r Refusal) String() string {
	if r.Rule == "" {
		return string(r.Code)
	}
	return fmt.Sprintf("%s by %s", r.Code, r.Rule)
}

// Check says what became of one run, given its answer or error, and whether
// that is right. The words are safe to print: bytes of the answer are quoted.
func (e *Expect) Check(answer []byte, err error) (what string, right bool) {
	if err == nil {
		if e.Held && string(answer) == e.Answer {
			return "held", true
		}
		return fmt.Sprintf("got through: answered %.60q", answer), false
	}
	f, ok := fault.From(err)
	if !ok {
		return fmt.Sprintf("no refusal: %.200v", err), false
	}
	got := Refusal{f.Code, f.Rule}
	right = slices.ContainsFunc(e.Faults, func(want Refusal) bool {
		return errors.Is(f, &fault.Error{Code: want.Code, Rule: want.Rule})
	})
	if got == (Refusal{fault.ModuleFailed, "worker"}) {
		return "brought its worker process down", right
	}
	return got.String(), right
}

// outOfTime is right for attacks that end, but not within a short limit.
var outOfTime = Refusal{fault.LimitTime, "limits.wall_ms"}

// What is right for many attacks. On a busy machine, one that would end in some
// other way may not come so far.
var (
	stopped  = refused("stopped at its time limit", Refusal{fault.LimitTime, "limits.wall_ms"})
	overflow = refused("stopped at the end of its stack", Refusal{fault.LimitStack, "stack"}, outOfTime)
	silenced = refused("stopped at its output limit", Refusal{fault.LimitOutput, "limits.output_bytes"}, outOfTime)
	starved  = refused("refused more memory than its limit", Refusal{fault.LimitMemory, "limits.memory_bytes"}, outOfTime)
	trapped  = refused("ends with a trap, without an answer", Refusal{fault.ModuleFailed, "trap"}, outOfTime)
	exited   = refused("ends with an exit code, without an answer", Refusal{fault.ModuleFailed, "exit_code"}, outOfTime)
	// denied is for modules that report on themselves: they exit with a code of
	// their own if every attempt failed. With little time they do not get there.
	denied   = refused("every attempt is refused by the host", Refusal{fault.ModuleFailed, "exit_code"}, outOfTime)
	tooMuch  = refused("compiling it ends at its limit", Refusal{fault.LimitCompile, "compile"})
	invalid  = refused("does not validate", Refusal{fault.ModuleInvalid, "compile"})
	garbled  = refused("refused before it is compiled", Refusal{fault.ModuleInvalid, "sections"})
	noImport = refused("refused before it is compiled", Refusal{fault.ModuleInvalid, "imports"})
)

func refused(words string, faults ...Refusal) Expect { return Expect{Words: words, Faults: faults} }

// refusedBy is a module that the node refuses for one of its own bounds.
func refusedBy(rule string) Expect {
	return refused("refused before it is compiled", Refusal{fault.ModuleInvalid, rule})
}

// held is an attack that may run, because bounds hold it.
func held(answer string) Expect {
	return Expect{Words: "may run, and does no harm", Held: true, Answer: answer, Faults: []Refusal{outOfTime}}
}

// or adds refusals that are right as well.
func (e Expect) or(words string, faults ...Refusal) Expect {
	e.Words += ", or " + words
	e.Faults = append(slices.Clip(e.Faults), faults...)
	return e
}

// Corpus returns all attacks.
func Corpus() []Attack {
	return slices.Concat(committed(), hostCalls(), bombs(), malformed())
}

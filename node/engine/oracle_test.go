package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/liop-project/liop/core/fault"
	"github.com/liop-project/liop/core/guest"
	"github.com/liop-project/liop/filters"
	"github.com/liop-project/liop/node/oracle"
)

// What a module answers is a matter of module, arguments, stdin and datasets,
// and of nothing else: not of the engine, nor of whether the module was
// compiled before, nor of whether its runner has run it before, nor of clocks
// and random numbers.
//
// A twin runs jobs in all these ways and compares.
type twin struct {
	fresh, reused *Engine // a new runner process for each run; the same while there is one
	wazero        *oracle.Wazero
	compiled      map[[32]byte]bool // modules that were compiled in all ways
}

func newTwin(t *testing.T) *twin {
	w := oracle.NewWazero(false)
	t.Cleanup(func() { w.Close() })
	return &twin{
		fresh: newTest(t, Config{Reuse: 1, Blank: -1}), reused: newTest(t, Config{Blank: -1}),
		wazero: w, compiled: map[[32]byte]bool{},
	}
}

// run runs a job in all ways and returns what came of it. Modules are compiled
// anew only for their first job: large ones take seconds.
func (tw *twin) run(t *testing.T, j oracle.Job) oracle.End {
	t.Helper()
	j.World = 1
	want, err := tw.wazero.Run(j)
	if err != nil {
		t.Fatal(err)
	}
	first := !tw.compiled[sum(j.Wasm)]
	tw.compiled[sum(j.Wasm)] = true
	if first {
		if err := tw.wazero.Forget(j.Wasm); err != nil {
			t.Fatal(err)
		}
	}
	j.World = 2
	again, err := tw.wazero.Run(j)
	if err != nil {
		t.Fatal(err)
	}
	if again.Kind != want.Kind || again.Code != want.Code || !bytes.Equal(again.Stdout, want.Stdout) || !bytes.Equal(again.Stderr, want.Stderr) {
		t.Errorf("other clocks and random numbers: %s %d %q, before %s %d %q", again.Kind, again.Code, again.Stdout, want.Kind, want.Code, want.Stdout)
	}

	job := &Job{Module: sum(j.Wasm), Wasm: j.Wasm, Args: j.Args, Stdin: j.Stdin, Tenant: "a",
		Limits: Limits{Memory: 256 << 20, Output: 1 << 20, Wall: 20 * time.Second}}
	for name, dir := range j.Dirs {
		job.Mounts = append(job.Mounts, Mount{name, dir})
	}
	slices.SortFunc(job.Mounts, func(a, b Mount) int { return strings.Compare(a.Name, b.Name) })
	compare := func(how string, e *Engine, cached bool) {
		t.Helper()
		r, err := e.Run(context.Background(), job)
		if r == nil {
			t.Errorf("%s: %v", how, err)
			return
		}
		if r.Cached != cached {
			t.Errorf("%s: cached is %v", how, r.Cached)
		}
		if diff := differs(r, err, want); diff != "" {
			t.Errorf("%s: %s; wazero: %s %d %v %q", how, diff, want.Kind, want.Code, want.Err, want.Stdout)
		}
	}
	if first {
		compare("cold, fresh", tw.fresh, false)
		compare("cold", tw.reused, false)
	}
	compare("cached, fresh", tw.fresh, true)
	if pid(tw.fresh, job) != 0 {
		t.Error("the fresh engine kept a runner")
	}
	compare("cached", tw.reused, true)
	runner := pid(tw.reused, job)
	if first {
		tw.reused.cache.drop(job.Module)
		compare("cold, reused", tw.reused, false)
	}
	compare("cached, reused", tw.reused, true)
	if p := pid(tw.reused, job); p == 0 || p != runner {
		t.Errorf("the reusing engine has runner %d, had %d", p, runner)
	}
	return want
}

// pid is the runner that waits for another job like this, or 0.
func pid(e *Engine, j *Job) int {
	e.pool.mu.Lock()
	defer e.pool.mu.Unlock()
	for _, r := range e.pool.idle {
		if r.key == keyOf(j) {
			return r.cmd.Process.Pid
		}
	}
	return 0
}

// differs tells what our result has that is not wazero's, or "".
func differs(r *Result, err error, want oracle.End) string {
	f, isFault := fault.From(err)
	if err != nil && !isFault {
		return err.Error()
	}
	answer := want.Stdout
	if want.Kind != oracle.Exit || want.Code != 0 {
		answer = nil // is kept back
	}
	if !bytes.Equal(r.Answer, answer) {
		return fmt.Sprintf("answer %q", r.Answer)
	}
	if !bytes.Equal(r.Stderr, want.Stderr) {
		return fmt.Sprintf("stderr %q, want %q", r.Stderr, want.Stderr)
	}
	same := false
	switch {
	case want.Kind == oracle.Exit && want.Code == 0:
		same = err == nil
	case err == nil:
	case want.Kind == oracle.Exit:
		same = errors.Is(err, &fault.Error{Code: fault.ModuleFailed, Rule: "exit_code"}) &&
			strings.HasSuffix(f.Message, fmt.Sprintf(" exit code %d", want.Code))
	case want.Kind == oracle.StackOverflow:
		same = errors.Is(err, &fault.Error{Code: fault.LimitStack})
	case want.Kind == oracle.Trap:
		_, trap, _ := strings.Cut(f.Message, "the module trapped: ")
		same = errors.Is(err, &fault.Error{Code: fault.ModuleFailed, Rule: "trap"}) && slices.Contains(want.Traps, trap)
	}
	if !same {
		return fmt.Sprintf("ended with %v", err)
	}
	return ""
}

// tables are files as people have them.
var tables = map[string]string{
	"plain": "City,Opened,Visits,Cost\nRome,2024-01-02,3,10.50\nOslo,2024-02-29,12,0.10\nRome,2023-12-31,7,-4.25\nLima,,,\n",
	"empty": "", "header only": "City,Cost\n", "no newline at the end": "City,Cost\nRome,1\nOslo,2",
	"CRLF":      "City,Cost\r\nRome,1\r\nOslo,2\r\nRome,3\r\n",
	"quotes":    "City,Cost,Note\n\"Rome, Italy\",1,\"said \"\"no\"\"\"\n\"Oslo\",2,\"two\nlines\"\nRome,3,\n",
	"not UTF-8": "City,Cost\nR\xf4me,1\n\xff\xfe,2\nOsl\xc3,3\n", "byte order mark": "\ufeffCity,Cost\nRome,1\n",
	"no table":     "Dear Sir,\n\nRome is \"far.\n\x00\x01\n",
	"ragged":       "City,Cost\nRome,1,extra\nOslo\n",
	"large number": "City,Cost\nRome,9223372036854775807\nRome,9223372036854775807\nOslo,1e308\nOslo,1e308\nLima,0.000000000000000001\n",
	"long line":    "City,Cost\n" + strings.Repeat("Rome ", 5000) + ",5\n" + strings.Repeat("Oslo,1\n", 2000),
}

func TestReadyFiltersInTwoEngines(t *testing.T) {
	if testing.Short() {
		t.Skip("compiles two Go modules many times")
	}
	tw := newTwin(t)
	questions := map[string][][]string{
		"stats":       {{"--by", "City", "--column", "Cost", "--sort", "sum", "--top", "2"}, {"--column", "Cost", "--where", "City=Rome"}},
		"grep":        {{"R.m"}, {"--ignore-case", "--max", "2", "ROME|oslo"}},
		"head-schema": {nil},
	}
	codes := map[uint32]int{}
	for _, filter := range filters.ReadyNames() {
		wasm := guestModule(t, filter)
		asked := questions[filter]
		if asked == nil && filter != "merge-stats" { // which reads no tables
			t.Errorf("nothing to ask %s", filter)
		}
		t.Run(filter+"/unknown option", func(t *testing.T) {
			if end := tw.run(t, oracle.Job{Wasm: wasm, Args: []string{"--frobnicate"}}); end.Code != 1 {
				t.Errorf("exit code %d", end.Code)
			}
		})
		for table, text := range tables {
			dir, more := t.TempDir(), t.TempDir()
			write(t, filepath.Join(dir, "a.csv"), text)
			write(t, filepath.Join(more, "years", "2024.csv"), tables["plain"])
			for i, args := range asked {
				t.Run(fmt.Sprintf("%s/%s/%d", filter, table, i), func(t *testing.T) {
					dirs := map[string]string{"d": dir}
					if i%2 == 0 && table != "no table" {
						dirs["more"] = more
					}
					end := tw.run(t, oracle.Job{Wasm: wasm, Args: args, Dirs: dirs})
					codes[end.Code]++
				})
			}
		}
	}
	const north = `{"column":"x","by":"k","rows":2,"skipped":1,"groups":[{"key":"a","count":1,"skipped":0,"sum":0.1,"mean":0.1,"min":0.1,"max":0.1},` +
		`{"key":"b","count":1,"skipped":1,"sum":0,"mean":null,"min":null,"max":null}]}`
	const south = `{"column":"x","by":"k","rows":1,"skipped":0,"groups":[{"key":"a","count":1,"skipped":0,"sum":1e22,"mean":1e22,"min":1e22,"max":1e22}]}`
	for i, tc := range []struct {
		inputs map[string][]byte
		code   uint32
	}{
		{map[string][]byte{"n": []byte(north), "s": []byte(south)}, 0},
		{map[string][]byte{"n": []byte(north), "x": []byte("{}")}, 1},
		{nil, 1},
	} {
		t.Run(fmt.Sprintf("merge-stats/%d", i), func(t *testing.T) {
			end := tw.run(t, oracle.Job{Wasm: guestModule(t, "merge-stats"), Args: []string{"--sort", "sum"}, Stdin: guest.Stdin(tc.inputs)})
			if end.Code != tc.code {
				t.Errorf("exit code %d, want %d", end.Code, tc.code)
			}
		})
	}
	if codes[0] < 40 || codes[1] < 5 {
		t.Errorf("exit codes %v: too few answers or refusals", codes)
	}
}

func write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestGuestsInTwoEngines(t *testing.T) {
	tw := newTwin(t)
	for _, tc := range []struct {
		guest string
		args  []string
		stdin string
		kind  oracle.EndKind
		code  uint32
	}{
		{"hello", nil, "", oracle.Exit, 0},
		{"echo", nil, "", oracle.Exit, 0},
		{"echo", []string{"", "--x=1", "ü\n", "a b"}, "in\x00put\r\n", oracle.Exit, 0},
		{"echo", nil, strings.Repeat("0123456789", 20_000), oracle.Exit, 0},
		{"inputs", nil, "1:a,3:xyz,", oracle.Exit, 0},
		{"inputs", nil, "1:a,", oracle.Exit, 1},
		{"exit3", nil, "", oracle.Exit, 3},
		{"trap", nil, "", oracle.Trap, 0},
		{"recurse", nil, "", oracle.StackOverflow, 0},
	} {
		t.Run(fmt.Sprintf("%s %.10q", tc.guest, tc.stdin), func(t *testing.T) {
			end := tw.run(t, oracle.Job{Wasm: guestModule(t, tc.guest), Args: tc.args, Stdin: []byte(tc.stdin)})
			if end.Kind != tc.kind || end.Code != tc.code {
				t.Errorf("wazero: %s %d, want %s %d", end.Kind, end.Code, tc.kind, tc.code)
			}
		})
	}
	// The worlds are different: a guest that looks sees it.
	a, _ := tw.wazero.Run(oracle.Job{Wasm: guestModule(t, "clock"), World: 1})
	b, _ := tw.wazero.Run(oracle.Job{Wasm: guestModule(t, "clock"), World: 2})
	if len(a.Stdout) == 0 || bytes.Equal(a.Stdout, b.Stdout) {
		t.Errorf("the clocks of two worlds show %q and %q", a.Stdout, b.Stdout)
	}
}

// A failing seed n runs alone with -run 'TestGeneratedInTwoEngines/^n$'. Package
// sandbox has more of them, without worker processes.
func TestGeneratedInTwoEngines(t *testing.T) {
	if testing.Short() {
		t.Skip("short: what is generated is the same, and slow where races are looked for")
	}
	tw := newTwin(t)
	for n := range 24 {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			tw.run(t, oracle.Job{Wasm: oracle.Generate(oracle.Seed(n), false).Wasm})
		})
	}
}

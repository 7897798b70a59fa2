package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/liop-project/liop/core/fault"
	"github.com/liop-project/liop/core/guest"
	"github.com/liop-project/liop/core/liopv1"
	corpus "github.com/liop-project/liop/node/sandbox/testdata/hostile"
)

// workload draws runs of all kinds, honest and hostile, and knows what is right
// for each. It is safe for concurrent use.
type workload struct {
	honest  time.Duration // wall time of honest runs: they need milliseconds
	hostile time.Duration
	tenants int

	echo, stats, loop []byte
	data              string
	statsAnswer       []byte
	attacks           []corpus.Attack
	bombs             []corpus.Attack // that the compiler gives up: each costs its whole time
}

// deed is one run to do, and whether what came of it is right.
type deed struct {
	what  string
	job   *Job
	leave liopv1.Phase // cancel it in that phase; unspecified: do not
	right func(*Result, error) bool
}

// newWorkload makes one of the corpus but for the modules that take long to
// compile.
func newWorkload(t *testing.T, e *Engine, honest, hostile time.Duration, tenants int) *workload {
	t.Helper()
	w := &workload{honest: honest, hostile: hostile, tenants: tenants, data: t.TempDir(),
		echo: guestModule(t, "echo"), stats: guestModule(t, "stats"), loop: guestModule(t, "loop")}
	var rows strings.Builder
	rows.WriteString("k,v\n")
	for i := range 2000 {
		fmt.Fprintf(&rows, "%c,%d\n", 'a'+i%5, i)
	}
	write(t, filepath.Join(w.data, "rows.csv"), rows.String())
	r, err := e.Run(context.Background(), w.statsJob())
	if err != nil {
		t.Fatal(err)
	}
	if want := `"rows":2000,`; !bytes.Contains(r.Answer, []byte(want)) {
		t.Fatalf("stats answers %q, without %s", r.Answer, want)
	}
	w.statsAnswer = r.Answer

	for _, a := range corpus.Corpus() {
		switch {
		case a.Class != corpus.Compile:
			w.attacks = append(w.attacks, a)
		case a.Name == "many-ifs":
			w.bombs = append(w.bombs, a)
		}
	}
	return w
}

func (w *workload) statsJob() *Job {
	j := jobOf(w.stats)
	j.Args, j.Mounts, j.Limits.Wall = []string{"--by", "k", "--column", "v"}, []Mount{{"d", w.data}}, w.honest
	return j
}

// attack is one run of an attack. On a busy machine it may get no further than
// to its deadline.
func (w *workload) attack(a corpus.Attack) deed {
	j := jobOf(a.Wasm())
	j.Args, j.Stdin = a.Arguments()[0], guest.Stdin(a.Inputs)
	j.Mounts, j.Limits.Wall = []Mount{{"d", w.data}}, w.hostile
	return deed{what: a.Name, job: j, right: func(r *Result, err error) bool {
		var answer []byte
		if r != nil {
			answer = r.Answer
		}
		_, right := a.Expect.Check(answer, err)
		return right || errors.Is(err, &fault.Error{Code: fault.LimitTime})
	}}
}

// echoJob echoes what comes from random, and knows the answer.
func (w *workload) echoJob(random *rand.Rand, wasm []byte) (*Job, []byte) {
	j := jobOf(wasm)
	j.Limits.Memory, j.Limits.Output, j.Limits.Wall = 16<<20, 128<<10, w.honest
	j.Args = []string{fmt.Sprint(random.Uint64())}
	j.Stdin = make([]byte, random.IntN(64<<10))
	for i := range j.Stdin {
		j.Stdin[i] = byte(random.Uint32())
	}
	return j, append([]byte(j.Args[0]+"\n"), j.Stdin...)
}

// deed draws the nth run; the same n is the same run.
func (w *workload) deed(n int) deed {
	random := rand.New(rand.NewPCG(1, uint64(n)))
	d := w.draw(random, n)
	tenant := random.IntN(w.tenants)
	d.job.Tenant, d.job.Agent = fmt.Sprint("tenant", tenant), fmt.Sprint("agent", tenant/2)
	return d
}

func (w *workload) draw(random *rand.Rand, n int) deed {
	switch part := random.IntN(400); {
	case part < 1:
		a := w.bombs[random.IntN(len(w.bombs))]
		return w.attack(a)
	case part < 140:
		a := w.attacks[random.IntN(len(w.attacks))]
		return w.attack(a)
	case part < 180:
		return deed{what: "stats", job: w.statsJob(), right: func(r *Result, err error) bool {
			return err == nil && bytes.Equal(r.Answer, w.statsAnswer)
		}}
	case part < 188:
		j := jobOf(w.loop)
		j.Limits.Wall = w.hostile
		phase := []liopv1.Phase{liopv1.Phase_PHASE_COMPILING, liopv1.Phase_PHASE_QUEUED, liopv1.Phase_PHASE_RUNNING}[random.IntN(3)]
		return deed{what: "leave", job: j, leave: phase, right: func(r *Result, err error) bool {
			return errors.Is(err, context.Canceled) || errors.Is(err, &fault.Error{Code: fault.LimitTime}) // that phase was skipped
		}}
	}
	what, wasm, fuel := "echo", w.echo, uint64(0)
	switch part := random.IntN(20); {
	case part < 2: // a module that the node has not seen
		name := fmt.Sprintf("\x08%08x", n)
		what, wasm = "new module", append(append(bytes.Clone(wasm), 0, byte(len(name))), name...)
	case part < 3:
		what, fuel = "fuel", 1e9
	}
	j, want := w.echoJob(random, wasm)
	j.Limits.Fuel = fuel
	return deed{what: what, job: j, right: func(r *Result, err error) bool { return err == nil && bytes.Equal(r.Answer, want) }}
}

// came says what came of a run, for the log of a test.
func came(r *Result, err error) string {
	if err != nil {
		return err.Error()
	}
	return fmt.Sprintf("an answer of %d bytes", len(r.Answer))
}

// do runs it.
func (d deed) do(e *Engine) (*Result, error) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	if d.leave != liopv1.Phase_PHASE_UNSPECIFIED {
		d.job.Progress = func(p liopv1.Phase) {
			if p == d.leave {
				cancel()
			}
		}
	}
	return e.Run(ctx, d.job)
}

// Generous bounds of what should not take long, so that a test that hangs fails,
// and says of what.
const hang = 2 * time.Minute

// await waits until c is closed or something is received.
func await[T any](t *testing.T, c <-chan T, what string) (v T) {
	t.Helper()
	select {
	case v = <-c:
	case <-time.After(hang):
		t.Fatalf("waited %s for %s", hang, what)
	}
	return v
}

// awaitAll waits for wg.
func awaitAll(t *testing.T, wg *sync.WaitGroup, what string) {
	t.Helper()
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()
	await(t, done, what)
}

// awaitTrue looks again and again until what ok asks for is so.
func awaitTrue(t *testing.T, ok func() bool, what string) {
	t.Helper()
	for late := time.Now().Add(hang); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(late) {
			t.Fatalf("waited %s for %s", hang, what)
		}
	}
}

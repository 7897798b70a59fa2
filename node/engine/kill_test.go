//go:build linux

package engine

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/liop-project/liop/core/fault"
	"github.com/liop-project/liop/node/sandbox/wire"
)

var killFor = flag.Duration("kill.for", 3*time.Second, "for how long TestKillAnyWorker kills workers")

// Whichever worker dies, or stops, at whatever moment: it costs the call that it
// worked for, or those that waited for its module, which end with an error that
// says so; every other answer is right; and nothing
// is left over. The long form:
//
//	go test ./node/engine -run TestKillAnyWorker -kill.for 1m -v
func TestKillAnyWorker(t *testing.T) {
	const inFlight = 8
	e := newTest(t, Config{Runners: 4, Idle: 500 * time.Millisecond, CompileTime: 2 * time.Second})
	w := newWorkload(t, e, 5*time.Second, 100*time.Millisecond, 6)
	before := settled(t, e)

	var wg sync.WaitGroup
	var next, right, lost, wrong atomic.Int64
	struck := strikes{}
	end := make(chan struct{}) // of the killing
	go func() {
		defer close(end)
		struck.until(t, e, func(passed time.Duration) bool {
			seen := right.Load() > 0 && struck["compiler"] > 0 && struck["running"] > 0 && struck["blank or binding"] > 0 && struck["stopped"] > 0
			return passed > *killFor && (seen || passed > hang)
		})
	}()
	for range inFlight {
		wg.Go(func() {
			for wrong.Load() < 10 {
				select {
				case <-end:
					return
				default:
				}
				d := w.deed(int(next.Add(1)))
				r, err := d.do(e)
				switch {
				case d.right(r, err):
					right.Add(1)
				case lostWorker(err) && (r == nil || len(r.Answer) == 0):
					lost.Add(1)
				default:
					wrong.Add(1)
					t.Errorf("%s: %s", d.what, came(r, err))
				}
			}
		})
	}
	<-end // by itself, after hang at the latest
	awaitAll(t, &wg, "runs whose workers were killed")
	t.Logf("%d runs were right and %d lost their worker, of %v", right.Load(), lost.Load(), struck)
	if right.Load() == 0 || len(struck) < 4 {
		t.Error("there was too little to see")
	}
	// A compiler may have worked for every run in flight.
	if most := struck.total() + (inFlight-1)*int64(struck["compiler"]+struck["stopped"]); lost.Load() > most {
		t.Errorf("%v were struck, and %d runs lost their worker", struck, lost.Load())
	}

	// Each takes a blank runner; those that are dead are replaced.
	for i := range 2 * cap(e.pool.blanks) {
		j := jobOf(w.echo)
		j.Tenant, j.Args, j.Limits.Wall = fmt.Sprint("after", i), []string{"well"}, 20*time.Second
		if r, err := e.Run(t.Context(), j); err != nil || string(r.Answer) != "well\n" {
			t.Errorf("afterwards: %v, %v", r, err)
		}
	}
	canary(t, e)
	after := settled(t, e)
	t.Logf("before: %s; after: %s", before, after)
	before.resident, after.resident = 0, 0
	if after != before {
		t.Errorf("went from %s to %s", before, after)
	}
}

// lostWorker reports whether an error is what a run may get whose worker was
// killed or stopped.
func lostWorker(err error) bool {
	for _, f := range []fault.Error{
		{Code: fault.ModuleFailed, Rule: "worker"}, {Code: fault.Internal, Rule: "worker"},
		{Code: fault.LimitTime}, {Code: fault.LimitCompile},
	} {
		if errors.Is(err, &f) {
			return true
		}
	}
	return false
}

// strikes counts the workers that were killed or stopped, by what they did.
type strikes map[string]int64

func (s strikes) total() (n int64) {
	for _, v := range s {
		n += v
	}
	return n
}

// until strikes one worker after the other until enough.
func (s strikes) until(t *testing.T, e *Engine, enough func(passed time.Duration) bool) {
	pace := time.NewTicker(30 * time.Millisecond)
	defer pace.Stop()
	random := rand.New(rand.NewPCG(2, 2))
	for start := time.Now(); !enough(time.Since(start)); <-pace.C {
		kids := children(t)
		if len(kids) == 0 {
			continue
		}
		pid, err := strconv.Atoi(kids[random.IntN(len(kids))])
		if err != nil {
			t.Error(err)
			return
		}
		s.strike(e, pid, random.IntN(4) == 0)
	}
}

// strike kills a worker, or stops it if the node is sure to notice soon: one that
// is bound has a deadline of its run, and a compiler has one.
func (s strikes) strike(e *Engine, pid int, stop bool) {
	p, err := os.FindProcess(pid) // from here on, it is this process or none
	if err != nil {
		return
	}
	defer p.Release()
	name, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	own, err := unix.Getpriority(unix.PRIO_PROCESS, 0)
	if err != nil {
		return
	}
	priority, err := unix.Getpriority(unix.PRIO_PROCESS, pid)
	if err != nil {
		return
	}
	what := "starting"
	switch {
	case bytes.HasPrefix(name, []byte(wire.CompilerName)):
		what = "compiler"
	case !bytes.HasPrefix(name, []byte(wire.RunnerName)):
		stop = false
	case priority == own: // a bound one has another
		what, stop = "blank or binding", false
	case e.pool.isIdle(pid):
		what = "idle"
	default:
		what = "running"
	}
	if stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid)); err != nil || !strings.Contains(string(stat), fmt.Sprintf("\nPPid:\t%d\n", os.Getpid())) {
		return
	}
	if !stop {
		err = p.Kill()
	} else if err = p.Signal(unix.SIGSTOP); err == nil {
		s["stopped"]++
		return
	}
	if err == nil {
		s[what]++
	}
}

func (p *pool) isIdle(pid int) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, r := range p.idle {
		if r.cmd.Process.Pid == pid {
			return true
		}
	}
	return false
}

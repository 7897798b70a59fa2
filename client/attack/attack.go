// Package attack is the operator's acceptance test of a data node: it runs the
// corpus of package hostile against a node, as an agent with a grant would, and
// checks that each attack is refused the way it must be while an honest agent,
// the canary, goes on being served.
//
// An attack passes if every run of it ended as its expectation says, and if
// every call of the canary that overlapped with it gave the right answer, with
// a valid receipt, in time. In time is [Options.Late] after the median of the
// calls before the first attack. Machines hiccup: an attack during which the
// canary was late, and only late, is repeated once, alone, and that counts.
//
// What passes says that a node withstands these attacks, not all.
package attack

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/liop-project/liop/client"
	"github.com/liop-project/liop/core/fault"
	"github.com/liop-project/liop/node/sandbox/testdata/hostile"
)

// Defaults of Options.
const (
	// DefaultParallel is enough for attacks to meet each other.
	DefaultParallel = 2
	// DefaultLate is what a person begins to notice.
	DefaultLate = 100 * time.Millisecond
)

// Session runs modules at the node under test. *client.Client is one.
type Session interface {
	Run(context.Context, client.Request) (*client.Answer, error)
}

// Options of Run. The zero value of each field is its default.
type Options struct {
	Parallel int           // attacks at the same time; default DefaultParallel
	Late     time.Duration // how much slower than before the canary may be; default DefaultLate
	// Report, if not nil, hears of each attack when it has ended, one after the
	// other. A late one is reported when it has been repeated.
	Report func(Result)
}

// Result is what became of one attack.
type Result struct {
	Name     string
	Class    hostile.Class
	Expected string
	Got      string        // of the run that was wrong, or else of the last
	Time     time.Duration // of all its runs
	Canary   time.Duration // the slowest call of the canary meanwhile
	Repeated bool          // the canary had been late the first time
	Right    bool          // what the attack got was right
	Late     bool          // the canary was late
	// CanaryError says what was wrong with an answer to the canary; "" if
	// nothing.
	CanaryError string
}

// Passed reports whether nothing was wrong.
func (r *Result) Passed() bool { return r.Right && !r.Late && r.CanaryError == "" }

// Summary is what became of all attacks, in the order in which they ended.
type Summary struct {
	Results []Result
	Quiet   time.Duration // median of the canary's calls before the first attack
	Calls   int           // of the canary
	// Gone says why the node is taken to be gone; "" if it is there. Attacks
	// that had not ended then have no result.
	Gone string
}

// Failed are the results that did not pass.
func (s *Summary) Failed() (failed []Result) {
	for _, r := range s.Results {
		if !r.Passed() {
			failed = append(failed, r)
		}
	}
	return failed
}

// Passed reports whether the node is there and every attack passed.
func (s *Summary) Passed() bool { return s.Gone == "" && len(s.Failed()) == 0 }

// Run runs attacks in one session while the canary calls in the other. Its
// error is only about what keeps it from judging: no attacks, a canary that
// fails before the first of them, or the end of ctx.
func Run(ctx context.Context, attacker, honest Session, attacks []hostile.Attack, o Options) (*Summary, error) {
	if len(attacks) == 0 {
		return nil, errors.New("there is no such attack")
	}
	if o.Parallel <= 0 {
		o.Parallel = DefaultParallel
	}
	if o.Late <= 0 {
		o.Late = DefaultLate
	}
	c, err := newCanary(ctx, honest)
	if err != nil {
		return nil, fmt.Errorf("an honest run fails before any attack: %w", err)
	}
	// The cause ends everything early when the node goes away.
	running, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	d := &driver{o: o, attacker: attacker, canary: c, stop: stop, summary: &Summary{Quiet: c.quiet}}
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		c.sing(running, func(err error) { stop(err) })
	}()

	late := d.all(running, attacks)
	for _, a := range late { // alone
		if running.Err() == nil {
			r, ended := d.one(running, a)
			r.Repeated = true
			if ended {
				d.report(r)
			}
		}
	}
	if cause := context.Cause(running); cause != nil && ctx.Err() == nil {
		d.summary.Gone = cause.Error()
	}
	stop(nil)
	<-watched
	d.summary.Calls = c.calls()
	return d.summary, ctx.Err()
}

type driver struct {
	o        Options
	attacker Session
	canary   *canary
	stop     context.CancelCauseFunc

	mu      sync.Mutex
	summary *Summary
}

// all runs every attack once and returns those whose only fault was a late
// canary.
func (d *driver) all(ctx context.Context, attacks []hostile.Attack) (late []hostile.Attack) {
	next := make(chan hostile.Attack)
	var mu sync.Mutex
	var wg sync.WaitGroup
	for range d.o.Parallel {
		wg.Go(func() {
			for a := range next {
				r, ended := d.one(ctx, a)
				switch {
				case !ended:
				case r.Late && r.Right && r.CanaryError == "":
					mu.Lock()
					late = append(late, a)
					mu.Unlock()
				default:
					d.report(r)
				}
			}
		})
	}
	for _, a := range attacks {
		if ctx.Err() != nil {
			break
		}
		next <- a
	}
	close(next)
	wg.Wait()
	return late
}

func (d *driver) report(r Result) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.summary.Results = append(d.summary.Results, r)
	if d.o.Report != nil {
		d.o.Report(r)
	}
}

// one makes all runs of an attack, up to the first that ends wrong, and then
// waits until the canary has been served after it. It has no result if ctx
// ended meanwhile.
func (d *driver) one(ctx context.Context, a hostile.Attack) (r Result, ended bool) {
	r = Result{Name: a.Name, Class: a.Class, Expected: a.Expect.Words, Right: true}
	wasm := a.Wasm()
	from := time.Now()
	for _, args := range a.Arguments() {
		var answer []byte
		res, err := d.attacker.Run(ctx, client.Request{Module: wasm, Args: args, Inputs: a.Inputs})
		if ctx.Err() != nil {
			return r, false
		}
		if err == nil {
			answer = res.Bytes
		} else if gone(err) {
			d.stop(fmt.Errorf("the node does not answer to %s: %w", a.Name, err))
			return r, false
		}
		if r.Got, r.Right = a.Expect.Check(answer, err); !r.Right {
			break
		}
	}
	r.Time = time.Since(from)
	worst, err := d.canary.during(ctx, from, time.Now())
	if ctx.Err() != nil {
		return r, false
	}
	r.Canary, r.Late = worst, worst > d.canary.quiet+d.o.Late
	if err != nil {
		r.CanaryError = err.Error()
	}
	return r, true
}

// gone reports whether an error means that there is no node to talk to.
func gone(err error) bool {
	f, ok := fault.From(err)
	return ok && (f.Code == fault.Unreachable || f.Code == fault.Draining)
}

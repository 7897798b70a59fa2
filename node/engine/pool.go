package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/liop-project/liop/core/fault"
	"github.com/liop-project/liop/node/bounds"
	"github.com/liop-project/liop/node/sandbox/wire"
)

// pool hands out runners: the schedule says who may have one, and the pool finds
// or starts it. At most as many as may run wait idle for another run of their
// tenant, and a few stand by blank.
//
// Lock order: pool.mu is never held while a worker is started or waited for, or
// while the schedule is asked.
type pool struct {
	log      *slog.Logger
	life     context.Context
	spawner  *spawner
	schedule *schedule
	reuse    int
	idleFor  time.Duration
	idleMax  int // idle runners

	mu     sync.Mutex
	idle   []*runner    // least recently used first
	blanks chan *worker // started, not bound
	refill chan struct{}
	wg     sync.WaitGroup // filler and sweeper, and whoever waits until a killed runner is gone
}

// runner is a worker bound to one tenant, module, memory limit and set of mounts.
type runner struct {
	*worker
	log         *slog.Logger
	key         string
	agent       string
	nice        int    // its priority, for life
	place       *place // what it has in the schedule while it runs
	runs        int
	tired       bool // has less weight than others and cannot get it back
	idleAt      time.Time
	containment *wire.Containment
}

func newPool(life context.Context, s *spawner, c Config) *pool {
	memory := c.Memory - uint64(c.Blank)*bounds.RunnerMemory
	p := &pool{log: c.Log, life: life, spawner: s, reuse: c.Reuse, idleFor: c.Idle, idleMax: c.Runners,
		schedule: newSchedule(rules{what: "runs", name: "queue", runners: c.Runners, agentRunners: c.AgentRunners,
			queue: c.Queue, agentQueue: max(1, c.Queue/bounds.AgentQueue),
			memory: memory, agentMemory: memory - memory/bounds.Reserve, datasetRuns: c.DatasetRuns}),
		blanks: make(chan *worker, c.Blank), refill: make(chan struct{}, 1)}
	p.wg.Add(2)
	go p.fill(c.Blank)
	go p.sweep()
	return p
}

// close kills all runners. Every call of acquire must have returned or be
// about to fail: life is done.
func (p *pool) close() {
	p.wg.Wait()
	p.mu.Lock()
	idle := p.idle
	p.idle = nil
	p.mu.Unlock()
	for _, r := range idle {
		r.kill()
	}
	for {
		select {
		case w := <-p.blanks:
			w.kill()
			continue
		default:
		}
		return
	}
}

// keyOf is what two jobs must share to share a runner process.
func keyOf(j *Job) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%q %x %d", j.Tenant, j.artifact(), j.Limits.Memory)
	for _, m := range j.Mounts {
		fmt.Fprintf(&b, " %q %q", m.Name, m.Dir)
	}
	return b.String()
}

// claimOf is what j takes of what is shared, with everything that its runner
// holds for it.
func claimOf(j *Job) claim {
	c := claim{agent: j.agent(), memory: j.Limits.Memory + j.Limits.Output + uint64(len(j.Stdin)) + bounds.RunnerMemory}
	for _, m := range j.Mounts {
		c.datasets = append(c.datasets, m.Name)
	}
	return c
}

// acquire gives a runner that is bound to j. The caller must release it.
func (p *pool) acquire(ctx context.Context, j *Job, artifact string, queued func()) (*runner, error) {
	place, err := p.schedule.enter(ctx, claimOf(j), queued)
	if err != nil {
		return nil, err
	}
	r, err := p.runner(ctx, j, artifact, place.nth)
	if err != nil {
		p.schedule.leave(place)
		return nil, err
	}
	r.place = place
	return r, nil
}

// runner finds or starts one for the nth run that j's agent has under way.
func (p *pool) runner(ctx context.Context, j *Job, artifact string, nth int) (*runner, error) {
	key := keyOf(j)
	r := p.takeIdle(key)
	p.trim()
	if r != nil {
		return r, nil
	}
	for _, start := range []func() (*worker, error){p.blank, p.fresh} {
		w, err := start()
		if err != nil {
			if p.life.Err() != nil {
				return nil, closed()
			}
			p.log.ErrorContext(ctx, "start runner", "error", err)
			break
		}
		r := &runner{worker: w, log: p.log, key: key, agent: j.agent(), nice: niceOfNth(nth)}
		err = r.bind(ctx, j, artifact)
		if err == nil {
			return r, nil
		}
		r.kill()
		var died *workerDied
		if !errors.As(err, &died) {
			return nil, err
		}
		// No guest has run: a blank that died while it stood by is replaced.
		p.log.ErrorContext(ctx, "runner died before it was bound", "error", died.error, "stderr", r.lastWords())
	}
	return nil, noWorker()
}

// release takes a runner back; it is kept for its tenant if it is still good.
func (p *pool) release(r *runner, good bool) {
	place := r.place // once r is idle, another run may have it
	r.runs++
	if !good || r.tired || r.runs >= p.reuse || p.life.Err() != nil {
		r.kill()
		p.wg.Go(func() { // its memory is in use until then
			select {
			case <-r.done:
			case <-p.life.Done(): // nothing else will start, and the spawner waits for it
			}
			p.schedule.leave(place)
		})
		return
	}
	p.mu.Lock()
	r.idleAt = time.Now()
	p.idle = append(p.idle, r)
	p.mu.Unlock()
	p.schedule.leave(place)
	p.trim()
}

// trim kills idle runners until there are not too many, nor more than fit into
// what is not promised to runs.
func (p *pool) trim() {
	room := min(uint64(p.idleMax), p.schedule.free()/bounds.RunnerMemory)
	var over []*runner
	p.mu.Lock()
	for uint64(len(p.idle)) > room {
		i := p.spare()
		over = append(over, p.idle[i])
		p.idle = slices.Delete(p.idle, i, i+1)
	}
	p.mu.Unlock()
	for _, r := range over {
		r.kill()
	}
}

// spare is which idle runner is missed least: the oldest of the agent that has
// most of them, so that a flood of different modules costs no other agent its
// own. p.mu is held.
func (p *pool) spare() int {
	count := map[string]int{}
	for _, r := range p.idle {
		count[r.agent]++
	}
	least := 0
	for i, r := range p.idle {
		if count[r.agent] > count[p.idle[least].agent] {
			least = i
		}
	}
	return least
}

// takeIdle gives an idle runner for that key, nil if there is none. It forgets
// those that ended while they stood by: no module is to blame for it.
func (p *pool) takeIdle(key string) *runner {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.idle = slices.DeleteFunc(p.idle, func(r *runner) bool {
		ended := r.ended()
		if ended {
			r.kill() // closes its socket
		}
		return ended
	})
	best := -1
	for i, r := range p.idle {
		if r.key == key && (best < 0 || r.nice <= p.idle[best].nice) {
			best = i // of those with the best priority the one that was used last
		}
	}
	if best < 0 {
		return nil
	}
	r := p.idle[best]
	p.idle = slices.Delete(p.idle, best, best+1)
	return r
}

// niceOfNth makes the second runner that an agent uses at the same time weigh
// less than its first, and so on: else an agent with three runs under way would
// have three times the CPU of one with a single run. A runner keeps it, because
// to get a priority back takes a privilege.
func niceOfNth(nth int) int { return min(bounds.Nice+(nth-1)*bounds.NiceStep, bounds.LongRunNice-1) }

// blank gives a worker that stands by, or starts one.
func (p *pool) blank() (*worker, error) {
	select {
	case w := <-p.blanks:
		select {
		case p.refill <- struct{}{}:
		default:
		}
		return w, nil
	default:
		return p.fresh()
	}
}

func (p *pool) fresh() (*worker, error) { return p.spawner.start(wire.RunnerName) }

// fill keeps n blank runners standing by.
func (p *pool) fill(n int) {
	defer p.wg.Done()
	for n > 0 {
		for len(p.blanks) < n && p.life.Err() == nil {
			w, err := p.fresh()
			if err != nil {
				if p.life.Err() == nil {
					p.log.Warn("start blank runner", "error", err)
				}
				break // runs start their own; the next refill tries again
			}
			p.blanks <- w // never blocks: only this goroutine sends
		}
		select {
		case <-p.refill:
		case <-p.life.Done():
			return
		}
	}
}

// sweep ends runners that were idle for too long.
func (p *pool) sweep() {
	defer p.wg.Done()
	t := time.NewTicker(p.idleFor / 2)
	defer t.Stop()
	for {
		select {
		case <-t.C:
		case <-p.life.Done():
			return
		}
		var old []*runner
		p.mu.Lock()
		for len(p.idle) > 0 && time.Since(p.idle[0].idleAt) > p.idleFor {
			old = append(old, p.idle[0])
			p.idle = p.idle[1:]
		}
		p.mu.Unlock()
		for _, r := range old {
			r.kill()
		}
	}
}

// badArtifact means that a runner could not load the compiled module.
type badArtifact struct{ msg string }

func (e *badArtifact) Error() string { return e.msg }

// workerDied means that the process ended, or went silent, before it was bound.
type workerDied struct{ error }

func (r *runner) bind(ctx context.Context, j *Job, artifact string) error {
	r.sock.SetDeadline(time.Now().Add(bounds.Bind))
	stop := context.AfterFunc(ctx, func() { r.sock.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	m := &wire.Bind{Artifact: artifact, MemoryBytes: j.Limits.Memory, Fuel: j.Limits.Fuel > 0}
	for _, x := range j.Mounts {
		m.Mounts = append(m.Mounts, &wire.Mount{Name: x.Name, Dir: x.Dir})
	}
	var bound wire.Bound
	err := r.conn.Send(m, nil)
	if err == nil {
		err = r.conn.Recv(&bound)
	}
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case err != nil:
		return &workerDied{err}
	case !bound.Ok:
		return &badArtifact{bound.Message}
	}
	r.containment = r.spawner.containment(bound.Containment)
	if err := setNice(r.worker, r.nice); err != nil {
		r.log.WarnContext(ctx, "lower a runner's priority", "error", err)
	}
	return nil
}

// run executes j in a bound runner. On an error the runner must not be used again.
func (r *runner) run(ctx context.Context, j *Job) (*wire.Ran, []byte, error) {
	end := time.Now().Add(j.Limits.Wall + bounds.Grace)
	r.sock.SetDeadline(end)
	calm := r.yieldWhenLong()
	stop := context.AfterFunc(ctx, func() { r.sock.SetDeadline(time.Unix(1, 0)) })
	var ran wire.Ran
	var answer []byte
	err := r.conn.Send(&wire.Run{Args: j.Args, WallMs: uint64(j.Limits.Wall.Milliseconds()),
		OutputBytes: j.Limits.Output, StderrBytes: bounds.Stderr, Fuel: j.Limits.Fuel}, notNil(j.Stdin))
	if err == nil {
		err = r.conn.Recv(&ran)
	}
	if err == nil {
		answer, err = r.conn.RecvRaw(int(j.Limits.Output))
	}
	left := !stop()
	calm()
	if err == nil && !left {
		return &ran, answer, nil
	}
	timedOut := !time.Now().Before(end)
	r.kill()
	switch {
	case ctx.Err() != nil:
		return nil, nil, context.Cause(ctx)
	case timedOut:
		return nil, nil, timeFault(j.Limits)
	}
	// The process died under the guest: out of host memory, or an engine bug.
	r.log.WarnContext(ctx, "runner died", "module", hexID(j.Module), "error", errors.Unwrap(err), "stderr", r.lastWords())
	return nil, nil, &fault.Error{Code: fault.ModuleFailed, Rule: "worker", Owner: fault.Module,
		Message: "the module brought its worker process down", Hint: "the node and other runs are not affected; use less memory"}
}

// yieldWhenLong gives a run that goes on for bounds.LongRun less weight than
// those that have just begun: they are short, most of them, and someone waits for
// their answers. The caller must call calm at the end of the run.
func (r *runner) yieldWhenLong() (calm func()) {
	var mu sync.Mutex
	over, long := false, false
	t := time.AfterFunc(bounds.LongRun, func() {
		mu.Lock()
		defer mu.Unlock()
		if !over {
			long = setNice(r.worker, bounds.LongRunNice) == nil
		}
	})
	return func() {
		t.Stop()
		mu.Lock()
		defer mu.Unlock()
		over = true
		r.tired = long && setNice(r.worker, r.nice) != nil
	}
}

func notNil(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}

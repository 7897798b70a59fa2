package engine

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/liop-project/liop/core/fault"
)

// schedule decides who may start next, where many want to and few can. It is
// for runs and, with other numbers, for compilations.
//
// It promises that what it has let in never exceeds its runners, its memory,
// what one agent may hold, or what the owner allows for one dataset; and that
// an agent waits for its own work and its fair turn only, not for the length of
// another's queue: next is always the agent with the fewest under way, and among
// those the one whose last turn is longest ago.
//
// Within an agent it is first in, first out, except that what waits for a
// dataset lets the rest pass. If memory is short, the next one is waited for,
// and nothing smaller overtakes it.
//
// To let one in takes a look at all that wait, at most; no goroutine is started.
// It is safe for concurrent use.
type schedule struct {
	rules

	mu       sync.Mutex
	running  int
	waiting  int
	promised uint64 // memory of all that run
	agents   map[string]*agent
	line     []*agent       // those with something waiting, by their turn
	datasets map[string]int // how many run, of those with a cap
	took     time.Duration  // a recent mean, of how long a place was held
}

// rules are the numbers of a schedule.
type rules struct {
	what         string         // waits in line, for errors: "runs"
	name         string         // of the rule that refuses when too many wait
	runners      int            // at the same time
	agentRunners int            // of one agent
	queue        int            // waiting
	agentQueue   int            // of one agent
	memory       uint64         // bytes, of all that run
	agentMemory  uint64         // of one agent with more than one running
	datasetRuns  map[string]int // at the same time, by dataset; absent: no cap
}

// agent is someone who has something running or waiting.
type agent struct {
	name     string
	running  int
	promised uint64
	waiting  []*place // first in, first out
}

// claim is what someone wants a place for.
type claim struct {
	agent    string
	memory   uint64 // bytes
	datasets []string
}

// place is one claim, in line or let in.
type place struct {
	claim
	ready chan struct{} // closed when it is let in
	in    bool
	nth   int       // of its agent's that run, when it was let in: 1 for the only one
	since time.Time // when it was let in
}

func newSchedule(r rules) *schedule {
	return &schedule{rules: r, agents: map[string]*agent{}, datasets: map[string]int{}}
}

// enter returns when c may start; the caller must leave the place. It calls
// queued if it has to wait. It refuses with code busy what would wait behind
// too many, and with code limit_memory what can never be.
func (s *schedule) enter(ctx context.Context, c claim, queued func()) (*place, error) {
	if c.memory > s.memory {
		return nil, &fault.Error{Code: fault.LimitMemory, Rule: "engine.memory", Owner: fault.Node,
			Message: fmt.Sprintf("the run needs %d bytes of memory, and the node has a budget of %d for all runs", c.memory, s.memory),
			Hint:    fmt.Sprintf("ask for a grant with a memory_bytes that is smaller by at least %d", c.memory-s.memory)}
	}
	p := &place{claim: c, ready: make(chan struct{})}
	s.mu.Lock()
	a := s.push(p)
	s.fill()
	var err error
	if !p.in && (s.waiting > s.queue || len(a.waiting) > s.agentQueue) {
		err = s.busy(a)
		s.remove(p)
	}
	in := p.in
	s.mu.Unlock()
	if err != nil || in {
		return p, err
	}
	queued()
	select {
	case <-p.ready:
		return p, nil
	case <-ctx.Done():
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if p.in {
		s.vacate(p)
	} else {
		s.remove(p)
	}
	s.fill() // it may be what the others were waiting for
	return nil, context.Cause(ctx)
}

// leave ends what enter began.
func (s *schedule) leave(p *place) {
	s.mu.Lock()
	defer s.mu.Unlock()
	const weight = 8 // of what is known already; a mean over the last ten or so
	s.took += (time.Since(p.since) - s.took) / weight
	s.vacate(p)
	s.fill()
}

// free is how much of the memory is not promised, in bytes.
func (s *schedule) free() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.memory - s.promised
}

// The rest is called with s.mu held.

// fill lets in who may start now.
func (s *schedule) fill() {
	for s.running < s.runners {
		p := s.next()
		if p == nil || p.memory > s.memory-s.promised {
			return
		}
		a := s.agents[p.agent]
		a.running++
		a.promised += p.memory
		s.remove(p)
		if len(a.waiting) > 0 { // its turn was now: to the end of the line
			i := slices.Index(s.line, a)
			s.line = append(slices.Delete(s.line, i, i+1), a)
		}
		s.running++
		s.promised += p.memory
		for _, d := range p.datasets {
			if s.datasetRuns[d] > 0 {
				s.datasets[d]++
			}
		}
		p.in, p.nth, p.since = true, a.running, time.Now()
		close(p.ready)
	}
}

// next is whose turn it is, whether or not there is memory for it.
func (s *schedule) next() *place {
	var least *agent
	var p *place
	for _, a := range s.line {
		if a.running >= s.agentRunners || least != nil && a.running >= least.running {
			continue
		}
		if q := s.first(a); q != nil {
			least, p = a, q
		}
	}
	return p
}

// first is what an agent below its cap may start next.
func (s *schedule) first(a *agent) *place {
	for _, p := range a.waiting {
		if slices.ContainsFunc(p.datasets, s.full) {
			continue
		}
		if a.running > 0 && a.promised+p.memory > s.agentMemory {
			return nil // no smaller one of its own overtakes it
		}
		return p
	}
	return nil
}

func (s *schedule) full(dataset string) bool {
	limit := s.datasetRuns[dataset]
	return limit > 0 && s.datasets[dataset] >= limit
}

// push puts a place at the end of its agent's queue.
func (s *schedule) push(p *place) *agent {
	a := s.agents[p.agent]
	if a == nil {
		a = &agent{name: p.agent}
		s.agents[a.name] = a
	}
	if len(a.waiting) == 0 {
		s.line = append(s.line, a)
	}
	a.waiting = append(a.waiting, p)
	s.waiting++
	return a
}

// remove takes a place out of the line.
func (s *schedule) remove(p *place) {
	a := s.agents[p.agent]
	i := slices.Index(a.waiting, p)
	a.waiting = slices.Delete(a.waiting, i, i+1)
	s.waiting--
	if len(a.waiting) == 0 {
		i := slices.Index(s.line, a)
		s.line = slices.Delete(s.line, i, i+1)
	}
	s.forget(a)
}

// vacate takes back a place that was let in.
func (s *schedule) vacate(p *place) {
	a := s.agents[p.agent]
	a.running--
	a.promised -= p.memory
	s.running--
	s.promised -= p.memory
	for _, d := range p.datasets {
		if s.datasetRuns[d] > 0 {
			s.datasets[d]--
		}
	}
	s.forget(a)
}

func (s *schedule) forget(a *agent) {
	if a.running == 0 && len(a.waiting) == 0 {
		delete(s.agents, a.name)
	}
}

// busy refuses an agent. What it says of the wait is how long the shorter of
// the two queues takes: the agent's own, or, if that one is short, everybody's.
func (s *schedule) busy(a *agent) error {
	ahead, side := s.waiting, s.runners
	if len(a.waiting) > s.agentQueue {
		ahead, side = len(a.waiting), s.agentRunners
	}
	return fault.TryAgain(s.name, fault.Node, "the node has too many "+s.what+" waiting",
		s.took*time.Duration(ahead)/time.Duration(side))
}

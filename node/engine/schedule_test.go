package engine

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/liop-project/liop/core/fault"
)

// offer is enter without the waiting.
func (s *schedule) offer(c claim) *place {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := &place{claim: c, ready: make(chan struct{})}
	s.push(p)
	s.fill()
	return p
}

// Each case offers claims in the order of their names, and ends a run in each
// step: the one named first, of those that run. It says who is let in by the
// offers, and then by each end.
func TestScheduleOrder(t *testing.T) {
	roomy := rules{runners: 2, agentRunners: 2, memory: 100, agentMemory: 100}
	with := func(change func(*rules)) rules { r := roomy; change(&r); return r }
	for _, tc := range []struct {
		name   string
		rules  rules
		claims string // agent, number, memory, and perhaps a dataset
		want   string // those let in at once, then one group for each end
	}{
		{"first in, first out", roomy, "a1:1 a2:1 a3:1 a4:1", "a1 a2|a3|a4||"},
		{"the fewest running first", roomy, "a1:1 a2:1 a3:1 a4:1 b1:1 b2:1", "a1 a2|b1|a3|a4|b2||"},
		{"turns, not arrival", with(func(r *rules) { r.runners = 1 }), "a1:1 a2:1 a3:1 b1:1 c1:1 b2:1", "a1|a2|b1|c1|a3|b2|"},
		{"a cap for each agent", with(func(r *rules) { r.runners, r.agentRunners = 3, 2 }), "a1:1 a2:1 a3:1 b1:1 b2:1", "a1 a2 b1|a3|b2|||"},
		{"the next is waited for", roomy, "a1:60 b1:60 c1:1", "a1|b1 c1||"},
		{"and not overtaken by its own agent", roomy, "a1:60 b1:60 b2:1", "a1|b1 b2||"},
		{"a share of the memory", with(func(r *rules) { r.runners, r.agentRunners, r.agentMemory = 4, 4, 75 }), "a1:40 a2:40 a3:1 b1:60", "a1 b1|a2|a3||"},
		{"one run may exceed the share", with(func(r *rules) { r.agentMemory = 75 }), "a1:90 a2:1 b1:1", "a1 b1|a2||"},
		{"a dataset's cap holds up nobody else", with(func(r *rules) { r.runners, r.datasetRuns = 4, map[string]int{"d": 1} }),
			"a1:1:d b1:1:d c1:1:e c2:1:d c3:1", "a1 c1 c3|b1||c2||"},
		{"nor others of its own agent", with(func(r *rules) { r.runners, r.agentRunners, r.datasetRuns = 3, 3, map[string]int{"d": 1} }),
			"a1:1:d a2:1:d a3:1", "a1 a3|a2||"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := newSchedule(tc.rules)
			var places []*place
			seen := map[*place]bool{}
			names := map[*place]string{}
			news := func() string {
				var in []string
				for _, p := range places {
					if p.in && !seen[p] {
						seen[p] = true
						in = append(in, names[p])
					}
				}
				return strings.Join(in, " ")
			}
			for f := range strings.FieldsSeq(tc.claims) {
				part := strings.Split(f, ":")
				c := claim{agent: part[0][:1], datasets: part[2:]}
				fmt.Sscan(part[1], &c.memory)
				p := s.offer(c)
				names[p] = part[0]
				places = append(places, p)
			}
			got := []string{news()}
			ended := map[*place]bool{}
			for range places {
				for _, p := range places {
					if p.in && !ended[p] {
						ended[p] = true
						s.leave(p)
						break
					}
				}
				got = append(got, news())
			}
			if g := strings.Join(got, "|"); strings.TrimRight(g, "|") != strings.TrimRight(tc.want, "|") {
				t.Errorf("let in %q, want %q", g, tc.want)
			}
			s.mustBeEmpty(t)
		})
	}
}

func (s *schedule) mustBeEmpty(t interface{ Errorf(string, ...any) }) {
	if s.running != 0 || s.waiting != 0 || s.promised != 0 || len(s.agents) != 0 || len(s.line) != 0 {
		t.Errorf("left: %d running, %d waiting, %d bytes, %d agents, %d in line", s.running, s.waiting, s.promised, len(s.agents), len(s.line))
	}
	for d, n := range s.datasets {
		if n != 0 {
			t.Errorf("left: %d on dataset %s", n, d)
		}
	}
}

// Whatever comes and goes: nothing exceeds its bound, nobody waits who could
// run, and in the end everybody ran.
func TestScheduleHolds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		number := func(label string, lo, hi int) int { return rapid.IntRange(lo, hi).Draw(t, label) }
		r := rules{runners: number("runners", 1, 5), memory: uint64(number("memory", 1, 100)), datasetRuns: map[string]int{"x": 1, "y": 2}}
		r.agentRunners = number("agent's runners", 1, r.runners)
		r.agentMemory = r.memory - r.memory/4
		s := newSchedule(r)
		var waiting, running []*place
		look := func() {
			var total uint64
			agents, memory, sets := map[string]int{}, map[string]uint64{}, map[string]int{}
			for i := 0; i < len(waiting); i++ {
				if waiting[i].in {
					running = append(running, waiting[i])
					waiting = append(waiting[:i], waiting[i+1:]...)
					i--
				}
			}
			for _, p := range running {
				total += p.memory
				agents[p.agent]++
				memory[p.agent] += p.memory
				for _, d := range p.datasets {
					sets[d]++
				}
			}
			if len(running) > r.runners || total > r.memory || s.free() != r.memory-total || s.running != len(running) || s.waiting != len(waiting) {
				t.Fatalf("%d running of %d (says %d), %d bytes of %d, %d free, %d waiting (says %d)",
					len(running), r.runners, s.running, total, r.memory, s.free(), len(waiting), s.waiting)
			}
			for a, n := range agents {
				if n > r.agentRunners || n > 1 && memory[a] > r.agentMemory {
					t.Fatalf("agent %s has %d running with %d bytes", a, n, memory[a])
				}
			}
			if sets["x"] > 1 || sets["y"] > 2 {
				t.Fatalf("datasets: %v", sets)
			}
			if p := s.next(); p != nil && len(running) < r.runners && p.memory <= s.free() {
				t.Fatalf("%+v could run", p.claim)
			}
		}
		take := func(from *[]*place) *place {
			i := number("which", 0, len(*from)-1)
			p := (*from)[i]
			*from = append((*from)[:i], (*from)[i+1:]...)
			return p
		}
		for range number("steps", 0, 80) {
			switch what := number("what", 0, 3); {
			case what <= 1:
				c := claim{agent: rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "agent"), memory: uint64(number("bytes", 0, int(r.memory)))}
				c.datasets = rapid.SampledFrom([][]string{nil, {"x"}, {"y"}, {"x", "y"}, {"z"}}).Draw(t, "datasets")
				waiting = append(waiting, s.offer(c))
			case what == 2 && len(running) > 0:
				s.leave(take(&running))
			case what == 3 && len(waiting) > 0: // it gives up
				p := take(&waiting)
				s.mu.Lock()
				s.remove(p)
				s.fill()
				s.mu.Unlock()
			}
			look()
		}
		for len(running) > 0 {
			s.leave(take(&running))
			look()
		}
		if len(waiting) > 0 {
			t.Fatalf("%d never ran", len(waiting))
		}
		s.mustBeEmpty(t)
	})
}

func TestScheduleRefusesWhatNeverFits(t *testing.T) {
	s := newSchedule(rules{runners: 1, agentRunners: 1, memory: 100, agentMemory: 75})
	_, err := s.enter(t.Context(), claim{agent: "a", memory: 101}, func() { t.Error("it is queued") })
	if f, ok := fault.From(err); !ok || f.Code != fault.LimitMemory || f.Rule != "engine.memory" || f.Owner != fault.Node || f.Hint == "" {
		t.Errorf("got %+v", err)
	}
	p, err := s.enter(t.Context(), claim{agent: "a", memory: 100}, func() { t.Error("it is queued") })
	if err != nil {
		t.Fatal(err)
	}
	s.leave(p)
	s.mustBeEmpty(t)
}

// An agent fills its own part of the queue, and all agents together the rest.
func TestScheduleQueuesAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSchedule(rules{what: "runs", name: "queue", runners: 1, agentRunners: 1, queue: 4, agentQueue: 2})
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		enter := func(agent string) error {
			ended := make(chan error, 1)
			go func() {
				p, err := s.enter(ctx, claim{agent: agent}, func() {})
				if err == nil {
					<-ctx.Done()
					s.leave(p)
				}
				ended <- err
			}()
			synctest.Wait()
			select {
			case err := <-ended:
				return err
			default:
				return nil
			}
		}
		for i, tc := range []struct {
			agent string
			busy  bool
		}{{"a", false}, {"a", false}, {"a", false}, {"a", true}, {"b", false}, {"c", false}, {"d", true}, {"b", true}} {
			if err := enter(tc.agent); errors.Is(err, &fault.Error{Code: fault.Busy, Rule: "queue"}) != tc.busy || !tc.busy && err != nil {
				t.Errorf("call %d, of %s: %v", i, tc.agent, err)
			}
		}
		cancel()
		synctest.Wait()
		s.mustBeEmpty(t)
	})
}

// Who waits and is cancelled leaves no trace, and lets those run that waited
// behind it.
func TestScheduleCancel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSchedule(rules{runners: 3, agentRunners: 3, queue: 9, agentQueue: 9, memory: 100, agentMemory: 100})
		first, err := s.enter(t.Context(), claim{agent: "a", memory: 60}, func() {})
		if err != nil {
			t.Fatal(err)
		}
		gone := errors.New("gone")
		ctx, cancel := context.WithCancelCause(t.Context())
		big := make(chan error, 1)
		go func() { _, err := s.enter(ctx, claim{agent: "b", memory: 60}, func() {}); big <- err }()
		synctest.Wait()
		small := make(chan *place, 1)
		go func() {
			p, err := s.enter(t.Context(), claim{agent: "c", memory: 1}, func() {})
			if err != nil {
				t.Error(err)
			}
			small <- p
		}()
		synctest.Wait()
		if len(small) != 0 {
			t.Error("the small one overtook")
		}
		cancel(gone)
		if err := <-big; err != gone {
			t.Errorf("got %v", err)
		}
		s.leave(<-small)
		s.leave(first)
		s.mustBeEmpty(t)
	})
}

// A refusal says how long the queue takes, from how long the last ones took.
func TestScheduleSaysWhenToTryAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSchedule(rules{name: "queue", runners: 2, agentRunners: 1, queue: 4, agentQueue: 2})
		for range 100 {
			p, err := s.enter(t.Context(), claim{agent: "a"}, func() {})
			if err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Second)
			s.leave(p)
		}
		busy := func(agent string) time.Duration {
			_, err := s.enter(t.Context(), claim{agent: agent}, func() { t.Errorf("a call of %s waits", agent) })
			f, ok := fault.From(err)
			if !ok || f.Code != fault.Busy {
				t.Fatalf("got %v", err)
			}
			return f.RetryAfter
		}
		for _, agent := range []string{"a", "a", "a"} {
			s.offer(claim{agent: agent})
		}
		// Its own three, one after the other, take three seconds.
		if got := busy("a"); got != 3200*time.Millisecond {
			t.Errorf("behind its own: %s", got)
		}
		for _, agent := range []string{"b", "b", "c"} {
			s.offer(claim{agent: agent})
		}
		// Five, two at a time.
		if got := busy("d"); got != 3200*time.Millisecond {
			t.Errorf("behind all: %s", got)
		}
	})
}

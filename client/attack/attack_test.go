package attack

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/liop-project/liop/client"
	"github.com/liop-project/liop/core/fault"
	"github.com/liop-project/liop/node/sandbox/testdata/hostile"
)

// node plays both sessions of a node. It serves the canary and refuses every
// attack for its time, unless a field says otherwise.
type node struct {
	attack func(n int) (*client.Answer, error) // the nth call, from 1
	canary func(n int) error                   // an error, or "" to answer wrongly
	late   []int                               // while that many attacks have begun, one call of the canary is late
	under  atomic.Int64                        // attacks begun
	called atomic.Int64                        // by the canary
}

type attackSession struct{ *node }
type canarySession struct{ *node }

var refusedForTime = &fault.Error{Code: fault.LimitTime, Rule: "limits.wall_ms"}

func (s attackSession) Run(ctx context.Context, _ client.Request) (*client.Answer, error) {
	n := int(s.under.Add(1))
	time.Sleep(200 * time.Millisecond) // in the bubble's time
	if s.attack != nil {
		return s.attack(n)
	}
	return nil, refusedForTime
}

var errWrong = errors.New("answer wrongly")

func (s canarySession) Run(ctx context.Context, r client.Request) (*client.Answer, error) {
	n := int(s.called.Add(1))
	took := 4 * time.Millisecond
	if i := slices.Index(s.late, int(s.under.Load())); i >= 0 {
		s.late = slices.Delete(s.late, i, i+1) // the canary alone touches it
		took = 150 * time.Millisecond
	}
	time.Sleep(took)
	answer := &client.Answer{Bytes: fmt.Appendf(nil, "1:k,64:%s,", r.Inputs["k"])}
	if s.canary != nil {
		if err := s.canary(n); errors.Is(err, errWrong) {
			answer.Bytes[10] ^= 1
		} else if err != nil {
			return nil, err
		}
	}
	return answer, nil
}

func corpus(n int) (list []hostile.Attack) {
	for i := range n {
		list = append(list, hostile.Attack{Name: fmt.Sprint("a", i), Class: hostile.CPU, Wasm: func() []byte { return nil },
			Expect: hostile.Expect{Words: "stopped", Faults: []hostile.Refusal{{Code: fault.LimitTime, Rule: "limits.wall_ms"}}}})
	}
	return list
}

func TestVerdicts(t *testing.T) {
	for _, tc := range []struct {
		name   string
		node   *node
		failed string // names of attacks that must not pass
		says   string // what the first of them must say
		gone   string
	}{
		{name: "good", node: &node{}},
		{name: "an attack is answered", failed: "a1", says: `got through: answered "data"`,
			node: &node{attack: func(n int) (*client.Answer, error) {
				if n == 2 {
					return &client.Answer{Bytes: []byte("data")}, nil
				}
				return nil, refusedForTime
			}}},
		{name: "an attack is refused by a wrong rule", failed: "a0", says: "limit_memory by limits.memory_bytes",
			node: &node{attack: func(n int) (*client.Answer, error) {
				if n == 1 {
					return nil, &fault.Error{Code: fault.LimitMemory, Rule: "limits.memory_bytes"}
				}
				return nil, refusedForTime
			}}},
		{name: "a worker dies", failed: "a2", says: "brought its worker process down",
			node: &node{attack: func(n int) (*client.Answer, error) {
				if n == 3 {
					return nil, &fault.Error{Code: fault.ModuleFailed, Rule: "worker"}
				}
				return nil, refusedForTime
			}}},
		{name: "an error that is no refusal", failed: "a0 a1 a2", says: "no refusal: what",
			node: &node{attack: func(int) (*client.Answer, error) { return nil, errors.New("what") }}},
		{name: "a wrong answer to the canary", failed: "a0", says: "not what was asked for",
			node: &node{canary: func(n int) error {
				if n == quietCalls+3 {
					return errWrong
				}
				return nil
			}}},
		{name: "the canary is refused", failed: "a0", says: "busy",
			node: &node{canary: func(n int) error {
				if n == quietCalls+3 {
					return &fault.Error{Code: fault.Busy, Message: "busy"}
				}
				return nil
			}}},
		// The second attack is repeated as the fourth.
		{name: "the canary is late once", node: &node{late: []int{2}}},
		{name: "the canary is late twice", failed: "a1", says: "limit_time",
			node: &node{late: []int{2, 4}}},
		{name: "the node ends under an attack", gone: "does not answer to a1",
			node: &node{attack: func(n int) (*client.Answer, error) {
				if n == 2 {
					return nil, &fault.Error{Code: fault.Unreachable, Message: "broke"}
				}
				return nil, refusedForTime
			}}},
		{name: "the node ends under the canary", gone: "an honest agent: broke",
			node: &node{canary: func(n int) error {
				if n > quietCalls+3 {
					return &fault.Error{Code: fault.Unreachable, Message: "broke"}
				}
				return nil
			}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				reported := 0
				s, err := Run(t.Context(), attackSession{tc.node}, canarySession{tc.node}, corpus(3),
					Options{Parallel: 1, Report: func(Result) { reported++ }})
				if err != nil {
					t.Fatal(err)
				}
				var names []string
				for _, r := range s.Failed() {
					names = append(names, r.Name)
				}
				if got := strings.Join(names, " "); got != tc.failed {
					t.Errorf("%q failed, want %q: %+v", got, tc.failed, s.Results)
				} else if got != "" && !strings.Contains(s.Failed()[0].Got+s.Failed()[0].CanaryError, tc.says) {
					t.Errorf("says %+v, want %q", s.Failed()[0], tc.says)
				}
				if (tc.gone == "") != (s.Gone == "") || !strings.Contains(s.Gone, tc.gone) {
					t.Errorf("gone: %q, want %q", s.Gone, tc.gone)
				}
				if s.Passed() != (tc.failed == "" && tc.gone == "") {
					t.Errorf("passed: %v", s.Passed())
				}
				if tc.gone == "" && len(s.Results) != 3 || reported != len(s.Results) {
					t.Errorf("%d results, %d reported", len(s.Results), reported)
				}
				if s.Quiet != 4*time.Millisecond || s.Calls == 0 {
					t.Errorf("quiet %s, %d calls", s.Quiet, s.Calls)
				}
			})
		})
	}
}

// Every run of an attack counts, and those after a wrong one are left out.
func TestAllRunsCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &node{attack: func(n int) (*client.Answer, error) {
			if n == 2 {
				return &client.Answer{}, nil
			}
			return nil, refusedForTime
		}}
		list := corpus(1)
		list[0].Runs = [][]string{{"x"}, {"y"}, {"z"}}
		s, err := Run(t.Context(), attackSession{n}, canarySession{n}, list, Options{})
		if err != nil {
			t.Fatal(err)
		}
		if s.Passed() || n.under.Load() != 2 {
			t.Errorf("passed %v after %d runs", s.Passed(), n.under.Load())
		}
	})
}

func TestNothingToJudge(t *testing.T) {
	n := &node{}
	if _, err := Run(t.Context(), attackSession{n}, canarySession{n}, nil, Options{}); err == nil {
		t.Error("no attacks are no error")
	}
	n.canary = func(int) error { return errors.New("no") }
	if _, err := Run(t.Context(), attackSession{n}, canarySession{n}, corpus(1), Options{}); err == nil || n.under.Load() != 0 {
		t.Errorf("a canary that never sings: %v, %d attacks", err, n.under.Load())
	}
	synctest.Test(t, func(t *testing.T) {
		n := &node{}
		ctx, cancel := context.WithTimeout(t.Context(), 1500*time.Millisecond)
		defer cancel()
		if _, err := Run(ctx, attackSession{n}, canarySession{n}, corpus(100), Options{}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("cut off: %v", err)
		}
	})
}

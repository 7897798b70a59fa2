package client

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/liop-project/liop/core/fault"
	"github.com/liop-project/liop/core/liopv1"
)

// This file decides what a Run may do twice.

// maxPause bounds the time between two tries to reach a node that is gone.
const maxPause = time.Second

// unbegun is the error of a run that cannot have begun on the node.
type unbegun struct{ error }

func (e *unbegun) Unwrap() error { return e.error }

// broke says what a failed stream means for its run: phase is the last that the
// node told. A node is silent about a run that begins at once.
func broke(err error, phase liopv1.Phase) error {
	f, ok := fault.From(err)
	switch {
	case !ok || f.Code != fault.Unreachable && f.Code != fault.Draining:
		return err
	case f.Code == fault.Draining, phase == liopv1.Phase_PHASE_QUEUED, phase == liopv1.Phase_PHASE_COMPILING:
		return &unbegun{err}
	}
	return &fault.Error{Code: fault.Unreachable, Rule: "run", Owner: fault.Node,
		Message: "the connection broke while the run was under way",
		Hint:    "what became of it is not known, and it may count against the grant; run it again if that does no harm"}
}

// patience is how often one Run is tried again.
type patience struct {
	c     *Client
	busy  int       // tries that were refused because the node is busy
	gone  int       // tries that found no node
	since time.Time // of the first of those
}

// again waits before the next try and reports whether there is to be one.
func (p *patience) again(ctx context.Context, err error) bool {
	f, ok := fault.From(err)
	if !ok {
		return false
	}
	switch f.Code {
	case fault.Busy:
		if p.busy++; p.busy > p.c.o.Retries {
			return false
		}
		pause := f.RetryAfter // SPEC §7
		if pause <= 0 {       // it does not say
			pause = min(fault.MinRetryAfter<<min(p.busy-1, 10), fault.MaxRetryAfter)
		}
		return p.wait(ctx, pause)
	case fault.Unreachable, fault.Draining:
		if _, ok := err.(*unbegun); !ok {
			return false
		}
		if p.gone++; p.gone == 1 {
			p.since = time.Now()
		}
		pause := min(fault.MinRetryAfter<<min(p.gone-1, 10), maxPause)
		if time.Since(p.since)+pause > p.c.o.Reconnect {
			return false
		}
		return p.wait(ctx, pause)
	}
	return false
}

// wait waits for about as long as pause. It reports false if ctx ends before
// that, at once if it is known to.
func (p *patience) wait(ctx context.Context, pause time.Duration) bool {
	pause += rand.N(pause/2 + 1) // all who were refused at once must not come at once
	if end, ok := ctx.Deadline(); ok && time.Until(end) <= pause {
		return false
	}
	p.c.o.Progress(Waiting, 0)
	t := time.NewTimer(pause)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

package attack

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/liop-project/liop/client"
	"github.com/liop-project/liop/filters"
)

const (
	// canaryEvery is from the start of one call of the canary to that of the
	// next, if the first has ended by then.
	canaryEvery = 50 * time.Millisecond
	// quietCalls is how many calls are made before the first attack.
	quietCalls = 21
	// canaryInput is how many random bytes each call has echoed.
	canaryInput = 64
)

// canary is an honest agent: it has random bytes echoed, again and again.
type canary struct {
	session Session
	module  []byte
	quiet   time.Duration // median before the first attack

	mu     sync.Mutex
	heard  chan struct{} // closed, and replaced, when a call has ended
	record []call        // in the order of time; calls do not overlap
}

type call struct {
	start, end time.Time
	err        error
}

// newCanary measures how long calls take while nothing else happens.
func newCanary(ctx context.Context, s Session) (*canary, error) {
	module, ok := filters.TestGuest("echo")
	if !ok {
		return nil, errors.New("the module echo is missing")
	}
	c := &canary{session: s, module: module, heard: make(chan struct{})}
	if first := c.call(ctx); first.err != nil { // it compiles
		return nil, first.err
	}
	tick := time.NewTicker(canaryEvery)
	defer tick.Stop()
	var took []time.Duration
	for range quietCalls {
		now := c.call(ctx)
		if now.err != nil {
			return nil, now.err
		}
		took = append(took, now.end.Sub(now.start))
		<-tick.C
	}
	slices.Sort(took)
	c.quiet = took[len(took)/2]
	return c, nil
}

// call makes one call and checks its answer; the client has checked the receipt.
func (c *canary) call(ctx context.Context) call {
	in := make([]byte, canaryInput)
	rand.Read(in)
	now := call{start: time.Now()}
	a, err := c.session.Run(ctx, client.Request{Module: c.module, Inputs: map[string][]byte{"k": in}})
	now.end, now.err = time.Now(), err
	if err == nil && string(a.Bytes) != fmt.Sprintf("1:k,%d:%s,", len(in), in) {
		now.err = errors.New("the answer is not what was asked for")
	}
	return now
}

// sing calls until ctx ends; it calls lost when the node is gone.
func (c *canary) sing(ctx context.Context, lost func(error)) {
	tick := time.NewTicker(canaryEvery)
	defer tick.Stop()
	for ctx.Err() == nil {
		now := c.call(ctx)
		if ctx.Err() != nil {
			break
		}
		if now.err != nil && gone(now.err) {
			lost(fmt.Errorf("the node does not answer to an honest agent: %w", now.err))
		}
		c.mu.Lock()
		c.record = append(c.record, now)
		close(c.heard)
		c.heard = make(chan struct{})
		c.mu.Unlock()
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
}

// during returns the longest of the calls that overlapped with a span of time
// that has passed, and the first error of theirs. It waits for the first call
// that began later, which counts too: the node must serve after an attack.
func (c *canary) during(ctx context.Context, from, to time.Time) (worst time.Duration, err error) {
	for {
		c.mu.Lock()
		heard, n := c.heard, len(c.record)
		done := n > 0 && c.record[n-1].start.After(to)
		if done {
			for _, call := range slices.Backward(c.record) {
				if !call.end.After(from) {
					break
				}
				worst = max(worst, call.end.Sub(call.start))
				if call.err != nil {
					err = call.err
				}
			}
		}
		c.mu.Unlock()
		if done {
			return worst, err
		}
		select {
		case <-heard:
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
}

func (c *canary) calls() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.record)
}

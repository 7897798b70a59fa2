//go:build linux && cgo

package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// samples are how long an operation took, each time.
type samples []time.Duration

// quantile is the smallest sample that a share q of all does not exceed.
func (s samples) quantile(q float64) time.Duration {
	if len(s) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(s))
	return sorted[max(int(math.Ceil(q*float64(len(s))))-1, 0)]
}

func (s samples) p50() time.Duration { return s.quantile(0.50) }
func (s samples) p99() time.Duration { return s.quantile(0.99) }

// contender is one of several that are measured in turns.
type contender struct {
	name string
	op   func(context.Context) error
	// before, if not nil, prepares each operation; its time does not count.
	before func(context.Context) error
	// after, if not nil, ends what an operation left open, if it failed, too; its
	// time does not count.
	after func() error
}

// sideBySide times n operations of each contender, in turns of some operations,
// and before that one turn of each that does not count.
func sideBySide(ctx context.Context, n, turn int, cs ...contender) ([]samples, error) {
	if _, err := inTurns(ctx, min(turn, n), turn, cs...); err != nil {
		return nil, err
	}
	return inTurns(ctx, n, turn, cs...)
}

// inTurns is sideBySide for operations that are cold each time.
func inTurns(ctx context.Context, n, turn int, cs ...contender) ([]samples, error) {
	out := make([]samples, len(cs))
	for at := 0; at < n; at += turn {
		for i, c := range cs {
			for range min(turn, n-at) {
				d, err := c.time(ctx)
				if err != nil {
					return nil, fmt.Errorf("%s: %w", c.name, err)
				}
				out[i] = append(out[i], d)
			}
		}
	}
	return out, nil
}

func (c contender) time(ctx context.Context) (time.Duration, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	if c.before != nil {
		if err := c.before(ctx); err != nil {
			return 0, err
		}
	}
	start := time.Now()
	err := c.op(ctx)
	d := time.Since(start)
	if c.after != nil {
		err = errors.Join(err, c.after())
	}
	return d, err
}

// rate is how many operations a second end when inFlight callers each make one
// after the other, over a time d after a warm-up of a tenth of it. all counts
// those of the warm-up, too.
func rate(ctx context.Context, inFlight int, d time.Duration, op func(context.Context) error) (perSecond float64, all int, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var done atomic.Int64
	var stop atomic.Bool
	errs := make([]error, inFlight)
	var wg sync.WaitGroup
	for i := range inFlight {
		wg.Go(func() {
			for !stop.Load() {
				if errs[i] = op(ctx); errs[i] != nil {
					cancel()
					return
				}
				done.Add(1)
			}
		})
	}
	wait := func(d time.Duration) {
		select {
		case <-time.After(d):
		case <-ctx.Done():
		}
	}
	wait(d / 10)
	before, start := done.Load(), time.Now()
	wait(d)
	n, elapsed := done.Load()-before, time.Since(start)
	stop.Store(true)
	wg.Wait()
	return float64(n) / elapsed.Seconds(), int(done.Load()), firstReal(errs)
}

// firstReal is the first error that is not the cancellation which followed it.
func firstReal(errs []error) error {
	var any error
	for _, err := range errs {
		if err != nil && !errors.Is(err, context.Canceled) {
			return err
		}
		any = errors.Join(any, err)
	}
	return any
}

// median of values of which there is at least one.
func median(v []float64) float64 {
	s := slices.Sorted(slices.Values(v))
	return s[len(s)/2]
}

// ownCPU is the CPU time of this process so far.
func ownCPU() (time.Duration, error) {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		return 0, fmt.Errorf("getrusage: %w", err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()), nil
}

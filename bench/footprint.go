//go:build linux && cgo

package main

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/liop-project/liop/node/bounds"
)

// settleTime bounds the wait until a node has started or ended what it does in
// the background: idle runners live for bounds.Idle and a half.
const settleTime = 2 * bounds.Idle

// mark is what a process holds at one moment.
type mark struct{ rss, childRSS, children, files float64 }

func look(pid int) (m mark, err error) {
	if m.rss, err = rss(pid); err != nil {
		return m, err
	}
	if m.files, err = openFiles(pid); err != nil {
		return m, err
	}
	below, err := children(pid)
	if err != nil {
		return m, err
	}
	m.children = float64(len(below))
	for _, c := range below {
		if n, err := rss(c.pid); err == nil { // it may have ended
			m.childRSS += n
		}
	}
	return m, nil
}

// settled waits until only the blank runners are there.
func settled(ctx context.Context, pid int) (m mark, err error) {
	ctx, cancel := context.WithTimeout(ctx, settleTime)
	defer cancel()
	t := time.NewTicker(50 * time.Millisecond)
	defer t.Stop()
	for {
		if m, err = look(pid); err != nil || m.children == bounds.Blank {
			return m, err
		}
		select {
		case <-t.C:
		case <-ctx.Done():
			return m, fmt.Errorf("the node has %.0f children, and should come to have %d: %w", m.children, bounds.Blank, ctx.Err())
		}
	}
}

// footprint is what a node holds before and after many runs.
func footprint(ctx context.Context, l *lab) ([]row, error) {
	b, err := l.newBed(ctx)
	if err != nil {
		return nil, err
	}
	defer b.close()
	idle, err := settled(ctx, b.node.pid())
	if err != nil {
		return nil, err
	}
	peerIdle, err := rss(b.peer.pid())
	if err != nil {
		return nil, err
	}
	n := l.n(10_000, 500)
	for _, op := range []func(context.Context) error{hello(b.clients["quic"]), b.mtls} {
		if err := times(ctx, n, 16, op); err != nil {
			return nil, err
		}
	}
	busy, err := look(b.node.pid())
	if err != nil {
		return nil, err
	}
	peerBusy, err := rss(b.peer.pid())
	if err != nil {
		return nil, err
	}
	const is = "mTLS server"
	rows := append(idle.rows("idle", peerIdle, is), busy.rows(fmt.Sprintf("after %d runs", n), peerBusy, is)...)
	if l.quick {
		return rows, nil
	}
	after, err := settled(ctx, b.node.pid())
	return append(rows, after.rows("when idle runners have ended", peerBusy, is)...), err
}

func (m mark) rows(when string, peer float64, is string) []row {
	return []row{
		{what: "node RSS, " + when, ours: figure{m.rss, octets}, peer: figure{peer, octets}, peerIs: is},
		{what: fmt.Sprintf("  its %.0f workers, RSS with shared pages", m.children), ours: figure{m.childRSS, octets}},
		{what: "  descriptors", ours: figure{m.files, pieces}},
	}
}

// times does an operation n times with some under way at once.
func times(ctx context.Context, n, inFlight int, op func(context.Context) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var begun atomic.Int64
	errs := make([]error, inFlight)
	var wg sync.WaitGroup
	for i := range inFlight {
		wg.Go(func() {
			for begun.Add(1) <= int64(n) {
				if errs[i] = op(ctx); errs[i] != nil {
					cancel()
					return
				}
			}
		})
	}
	wg.Wait()
	return firstReal(errs)
}

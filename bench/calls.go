//go:build linux && cgo

package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/liop-project/liop/client"
	"github.com/liop-project/liop/core/grant"
	"github.com/liop-project/liop/filters"
	"github.com/liop-project/liop/mesh"
)

// Figures of the public TypeScript SDK, the best of what was measured.
const (
	sdkNote = "the public TypeScript SDK made 212 to 274 calls/s at a p50 of 5.4 to 9 ms on a quiet machine, elsewhere; the better figure stands here"
	sdkIs   = "TypeScript SDK*"
	sdkRate = 274.0
	sdkP50  = 5400 * time.Microsecond
)

const mtlsIs = "mTLS empty call"

// bed is a node, the mTLS peer, and an open session on each transport.
type bed struct {
	node    *dataNode
	peer    *mtls
	mtls    func(context.Context) error // an empty call on the peer
	clients map[string]*client.Client   // by transport
	closers []func()
}

func (l *lab) newBed(ctx context.Context) (_ *bed, err error) {
	b := &bed{clients: map[string]*client.Client{}}
	defer func() {
		if err != nil {
			b.close()
		}
	}()
	if b.peer, err = l.startPeer(ctx); err != nil {
		return nil, err
	}
	b.closers = append(b.closers, b.peer.stop)
	cc, err := b.peer.dial()
	if err != nil {
		return nil, err
	}
	b.closers = append(b.closers, func() { cc.Close() })
	b.mtls = emptyCallOn(cc)
	if b.node, err = l.startNode(ctx, "", ""); err != nil {
		return nil, err
	}
	b.closers = append(b.closers, b.node.stop)
	for _, t := range transports {
		c, err := b.node.dial(ctx, t, smallSet, grant.Limits{})
		if err != nil {
			return nil, err
		}
		b.closers = append(b.closers, func() { c.Close() })
		if got := c.Conn().Transport(); got != t {
			return nil, fmt.Errorf("connected by %q, not %q", got, t)
		}
		b.clients[t] = c
	}
	return b, nil
}

func (b *bed) close() {
	for i := len(b.closers) - 1; i >= 0; i-- {
		b.closers[i]()
	}
}

// empty is an empty call on the control lane of a client.
func empty(c *client.Client) func(context.Context) error {
	return emptyCallOn(c.Conn().Lane(mesh.Control))
}

// hello is an operation: a run of the smallest module, with its receipt
// verified, as always.
func hello(c *client.Client) func(context.Context) error {
	wasm, _ := filters.TestGuest("hello")
	return func(ctx context.Context) error {
		a, err := c.Run(ctx, client.Request{Module: wasm})
		if err != nil {
			return err
		}
		if string(a.Bytes) != "hello\n" {
			return errors.New("hello answered something else")
		}
		return nil
	}
}

// emptyCall is what the mesh costs: the same unary call on a node's control
// lane and on plain gRPC.
func emptyCall(ctx context.Context, l *lab) ([]row, error) {
	b, err := l.newBed(ctx)
	if err != nil {
		return nil, err
	}
	defer b.close()
	cs := []contender{{name: "mtls", op: b.mtls}}
	for _, t := range transports {
		cs = append(cs, contender{name: t, op: empty(b.clients[t])})
	}
	s, err := sideBySide(ctx, l.n(30_000, 3000), 500, cs...)
	if err != nil {
		return nil, err
	}
	var rows []row
	for i, t := range transports {
		rows = append(rows,
			row{what: "empty call, " + t + ", p50", ours: took(s[i+1].p50()), peer: took(s[0].p50()), peerIs: mtlsIs, target: ratioAtMost(1.5)},
			row{what: "empty call, " + t + ", p99", ours: took(s[i+1].p99()), peer: took(s[0].p99()), peerIs: mtlsIs})
	}
	return rows, nil
}

// warmRun is what a run costs beyond a call: sandbox, receipt, both policies.
func warmRun(ctx context.Context, l *lab) ([]row, error) {
	b, err := l.newBed(ctx)
	if err != nil {
		return nil, err
	}
	defer b.close()
	var rows []row
	for _, t := range transports {
		c := b.clients[t]
		s, err := sideBySide(ctx, l.n(15_000, 1000), 250,
			contender{name: t + " run", op: hello(c)}, contender{name: t + " empty", op: empty(c)})
		if err != nil {
			return nil, err
		}
		is := t + " empty call"
		rows = append(rows,
			row{what: "warm run of hello, " + t + ", p50", ours: took(s[0].p50()), peer: took(s[1].p50()), peerIs: is, target: ratioAtMost(2.5)},
			row{what: "warm run of hello, " + t + ", p99", ours: took(s[0].p99()), peer: took(s[1].p99()), peerIs: is},
			row{what: "warm run of hello, " + t + ", p50", ours: took(s[0].p50()), peer: took(sdkP50), peerIs: sdkIs, target: ratioAtMost(1.0 / 15)})
	}
	return rows, nil
}

// throughput is how many runs end in a second, with several under way on one
// connection, and what CPU time that costs the node.
func throughput(ctx context.Context, l *lab) ([]row, error) {
	b, err := l.newBed(ctx)
	if err != nil {
		return nil, err
	}
	defer b.close()
	rounds, each := l.n(5, 1), time.Duration(l.n(2000, 400))*time.Millisecond
	var rows []row
	for _, inFlight := range []int{1, 16, 64} {
		var cs []contender
		for _, t := range transports {
			cs = append(cs, contender{name: t + " run", op: hello(b.clients[t])}, contender{name: t + " empty", op: empty(b.clients[t])})
		}
		loads := make([]load, len(cs))
		for range rounds {
			for i, c := range cs {
				if err := loads[i].add(ctx, b.node.pid(), inFlight, each, c.op); err != nil {
					return nil, fmt.Errorf("%s, %d in flight: %w", c.name, inFlight, err)
				}
			}
		}
		for i, t := range transports {
			runs, calls := loads[2*i], loads[2*i+1]
			what, is := fmt.Sprintf("runs of hello, %s, %d in flight", t, inFlight), t+" empty calls"
			sdk := row{what: what, ours: runs.rate(), peer: figure{sdkRate, perSecond}, peerIs: sdkIs}
			if inFlight == 16 {
				sdk.target = ratioAtLeast(30)
			}
			rows = append(rows, row{what: what, ours: runs.rate(), peer: calls.rate(), peerIs: is}, sdk,
				row{what: "  node CPU for each", ours: runs.each(runs.own), peer: calls.each(calls.own), peerIs: is},
				row{what: "  CPU of its workers for each", ours: runs.each(runs.below)})
		}
	}
	return rows, nil
}

// load is what rounds of the same operation gave, and cost a node.
type load struct {
	rates      []float64
	ended      int
	own, below time.Duration // CPU time of the node, and of its workers
}

func (l *load) add(ctx context.Context, pid, inFlight int, d time.Duration, op func(context.Context) error) error {
	own, below, err := treeCPU(pid)
	if err != nil {
		return err
	}
	r, ended, err := rate(ctx, inFlight, d, op)
	if err != nil {
		return err
	}
	ownAfter, belowAfter, err := treeCPU(pid)
	if err != nil {
		return err
	}
	l.rates = append(l.rates, r)
	l.ended += ended
	l.own += ownAfter - own
	l.below += belowAfter - below
	return nil
}

func (l *load) rate() figure { return figure{median(l.rates), perSecond} }

func (l *load) each(cpu time.Duration) figure {
	return figure{cpu.Seconds() / float64(l.ended), seconds}
}

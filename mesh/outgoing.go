package mesh

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/multiformats/go-multistream"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/keepalive"

	"github.com/liop-project/liop/core/fault"
)

const (
	// keepaliveTime and keepaliveTimeout find a node that is gone although its
	// connection seems to live: after 40 s without a sign of life.
	keepaliveTime    = 30 * time.Second
	keepaliveTimeout = 10 * time.Second

	// redialBase and redialMax pace the attempts to open a lane again while
	// they fail. Calls in between fail at once with the last reason.
	redialBase = 100 * time.Millisecond
	redialMax  = 5 * time.Second
)

// outgoing is one lane of a Conn.
type outgoing struct {
	conn    *Conn
	lane    Lane
	options []grpc.DialOption
	// why the lane does not work, nil while it does. gRPC has no way to pass a
	// typed error from its dialer to the call that caused it.
	why atomic.Pointer[fault.Error]
	// newest stream of the lane: an older one that ends has no say in why.
	newest atomic.Pointer[laneConn]

	mu     sync.Mutex
	track  *track              // for new calls
	left   map[*track]struct{} // those with calls that began before the lane moved
	closed bool
}

// track is what the calls of a lane run on. A lane that has to move to another
// connection gets a new one, so that calls under way are not cut.
type track struct {
	cc *grpc.ClientConn
	// relayed is whether it went over a relay, or would have had to.
	relayed atomic.Bool

	calls int // under way; guarded by outgoing.mu
}

func (c *Conn) newOutgoing(lane Lane) (*outgoing, error) {
	limits, ok := lane.limits()
	if !ok {
		return nil, &fault.Error{
			Code:    fault.InvalidRequest,
			Rule:    "lane",
			Owner:   fault.Protocol,
			Message: "there is no such lane",
			Hint:    fmt.Sprintf("use %s, %s or %s", Control, Events, Bulk),
		}
	}
	o := &outgoing{conn: c, lane: lane, left: map[*track]struct{}{}}
	o.options = []grpc.DialOption{
		grpc.WithTransportCredentials(peerCreds{expect: c.info.ID}),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{
			Time: keepaliveTime, Timeout: keepaliveTimeout, PermitWithoutStream: true,
		}),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: redialBase, Multiplier: 1.6, Jitter: 0.2, MaxDelay: redialMax},
			MinConnectTimeout: DialTimeout,
		}),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(limits.maxAnswer)),
		grpc.WithMaxHeaderListSize(maxHeaderBytes),
		grpc.WithUserAgent(userAgent),
		grpc.WithDisableServiceConfig(),
		grpc.WithNoProxy(),
	}
	if lane == Events {
		o.options = append(o.options, grpc.WithIdleTimeout(0)) // silence is normal
	}
	var err error
	o.track, err = o.newTrack()
	return o, err
}

func (o *outgoing) newTrack() (*track, error) {
	t := &track{}
	cc, err := grpc.NewClient("passthrough:///"+o.conn.info.ID.String(), append(slices.Clip(o.options),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return o.dial(ctx, t) }))...)
	if err != nil {
		return nil, fmt.Errorf("mesh: make client of lane %s: %w", o.lane, err)
	}
	t.cc = cc
	return t, nil
}

// enter begins a call: on another track if a direct connection has come up since
// the one in use had to take a relay. done, which may be called more than once,
// ends it.
func (o *outgoing) enter() (t *track, done func()) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if old := o.track; old.relayed.Load() && !o.closed && o.conn.isDirect() {
		if fresh, err := o.newTrack(); err == nil {
			o.track = fresh
			o.why.Store(nil)
			if old.calls == 0 {
				old.cc.Close()
			} else {
				o.left[old] = struct{}{}
			}
		}
	}
	t = o.track
	t.calls++
	return t, sync.OnceFunc(func() { o.leave(t) })
}

// leave ends a call, and the track if it was the last on one that was left.
func (o *outgoing) leave(t *track) {
	o.mu.Lock()
	t.calls--
	_, left := o.left[t]
	last := left && t.calls == 0
	if last {
		delete(o.left, t)
	}
	o.mu.Unlock()
	if last {
		t.cc.Close()
	}
}

// close cuts the calls.
func (o *outgoing) close() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.closed = true
	err := o.track.cc.Close()
	for t := range o.left {
		err = errors.Join(err, t.cc.Close())
	}
	clear(o.left)
	return err
}

// Invoke implements grpc.ClientConnInterface.
func (o *outgoing) Invoke(ctx context.Context, method string, args, reply any, opts ...grpc.CallOption) error {
	t, done := o.enter()
	defer done()
	return o.explain(t.cc.Invoke(ctx, method, args, reply, opts...))
}

// NewStream implements grpc.ClientConnInterface.
func (o *outgoing) NewStream(ctx context.Context, desc *grpc.StreamDesc, method string, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	t, done := o.enter()
	s, err := t.cc.NewStream(ctx, desc, method, append(slices.Clip(opts), grpc.OnFinish(func(error) { done() }))...)
	if err != nil {
		done()
		return nil, o.explain(err)
	}
	return outgoingStream{s, o}, nil
}

type outgoingStream struct {
	grpc.ClientStream
	o *outgoing
}

func (s outgoingStream) RecvMsg(m any) error {
	err := s.ClientStream.RecvMsg(m)
	if err == nil || err == io.EOF {
		return err
	}
	return s.o.explain(err)
}

// dial opens the libp2p stream of the lane.
func (o *outgoing) dial(ctx context.Context, t *track) (net.Conn, error) {
	c, err := o.open(ctx, t)
	if err != nil {
		var f *fault.Error
		if errors.As(err, &f) {
			o.why.Store(f)
		}
		return nil, err
	}
	return c, nil
}

func (o *outgoing) open(ctx context.Context, t *track) (*laneConn, error) {
	c := o.conn
	nc, err := c.connect(ctx)
	if err != nil {
		return nil, err
	}
	var s network.Stream
	if o.lane != Control && nc.Stat().Limited {
		t.relayed.Store(true)
		if s, err = c.direct(ctx); err != nil {
			return nil, err
		}
		nc = s.Conn()
	} else {
		if o.lane == Control {
			ctx = network.WithAllowLimitedConn(ctx, string(o.lane))
		}
		s, err = nc.NewStream(ctx)
	}
	if err != nil && nc.IsClosed() && c.wasHeard(nc) {
		// It broke since the last call, and libp2p learns of it now.
		if nc, err = c.connect(ctx); err != nil {
			return nil, err
		}
		s, err = nc.NewStream(ctx)
	}
	if err != nil {
		return nil, c.explain(err, nc)
	}
	t.relayed.Store(isRelayed(nc.RemoteMultiaddr()))
	if err := s.SetProtocol(protocol.ID(o.lane)); err != nil {
		s.Reset()
		return nil, c.explain(err, nc)
	}
	conns := c.host.p2p.ConnManager()
	conns.Protect(c.info.ID, s.ID())
	lc := &laneConn{
		stream:   s,
		rw:       multistream.NewMSSelect(s, protocol.ID(o.lane)), // no round trip of its own
		sent:     &c.sent,
		received: &c.received,
		onClose:  func() { conns.Unprotect(c.info.ID, s.ID()) },
	}
	lc.watch = func(n int, err error, heard uint64) {
		switch {
		case o.newest.Load() != lc:
		case n > 0 && heard == 0:
			c.answered(nc)
			o.why.Store(nil)
		case err != nil && (err != io.EOF || heard == 0):
			o.why.Store(c.explain(err, nc))
		}
	}
	o.newest.Store(lc)
	return lc, nil
}

// direct waits for a connection that no relay limits, and opens a stream on it.
func (c *Conn) direct(ctx context.Context) (network.Stream, error) {
	wait, cancel := context.WithTimeout(ctx, c.host.directTimeout)
	defer cancel()
	s, err := c.host.swarm.NewStream(network.WithNoDial(wait, "wait for a direct connection"), c.info.ID)
	switch {
	case err == nil:
		return s, nil
	case ctx.Err() != nil:
		return nil, explainDial(ctx.Err(), c.info.ID)
	}
	return nil, onlyRelayed()
}

// brokenLane fails each call.
type brokenLane struct{ err error }

func (l brokenLane) Invoke(context.Context, string, any, any, ...grpc.CallOption) error { return l.err }

func (l brokenLane) NewStream(context.Context, *grpc.StreamDesc, string, ...grpc.CallOption) (grpc.ClientStream, error) {
	return nil, l.err
}

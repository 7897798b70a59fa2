package mesh

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"time"

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
	conn *Conn
	lane Lane
	cc   *grpc.ClientConn
	// why the lane does not work, nil while it does. gRPC has no way to pass a
	// typed error from its dialer to the call that caused it.
	why atomic.Pointer[fault.Error]
	// newest stream of the lane: an older one that ends has no say in why.
	newest atomic.Pointer[laneConn]
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
	o := &outgoing{conn: c, lane: lane}
	options := []grpc.DialOption{
		grpc.WithTransportCredentials(peerCreds{expect: c.info.ID}),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return o.dial(ctx) }),
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
		options = append(options, grpc.WithIdleTimeout(0)) // silence is normal
	}
	cc, err := grpc.NewClient("passthrough:///"+c.info.ID.String(), options...)
	if err != nil {
		return nil, fmt.Errorf("mesh: make client of lane %s: %w", lane, err)
	}
	o.cc = cc
	return o, nil
}

// Invoke implements grpc.ClientConnInterface.
func (o *outgoing) Invoke(ctx context.Context, method string, args, reply any, opts ...grpc.CallOption) error {
	return o.explain(o.cc.Invoke(ctx, method, args, reply, opts...))
}

// NewStream implements grpc.ClientConnInterface.
func (o *outgoing) NewStream(ctx context.Context, desc *grpc.StreamDesc, method string, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	s, err := o.cc.NewStream(ctx, desc, method, opts...)
	if err != nil {
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
func (o *outgoing) dial(ctx context.Context) (net.Conn, error) {
	c, err := o.open(ctx)
	if err != nil {
		var f *fault.Error
		if errors.As(err, &f) {
			o.why.Store(f)
		}
		return nil, err
	}
	return c, nil
}

func (o *outgoing) open(ctx context.Context) (*laneConn, error) {
	c := o.conn
	nc, err := c.connect(ctx)
	if err != nil {
		return nil, err
	}
	s, err := nc.NewStream(ctx)
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

// brokenLane fails each call.
type brokenLane struct{ err error }

func (l brokenLane) Invoke(context.Context, string, any, any, ...grpc.CallOption) error { return l.err }

func (l brokenLane) NewStream(context.Context, *grpc.StreamDesc, string, ...grpc.CallOption) (grpc.ClientStream, error) {
	return nil, l.err
}

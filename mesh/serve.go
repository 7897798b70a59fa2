package mesh

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"

	"github.com/liop-project/liop/core/fault"
)

// Limits of a serving lane that do not depend on the lane.
const (
	// DefaultConnectionTimeout is how long a stream may take to become an
	// HTTP/2 connection, from its first moment. A stream that sends nothing is
	// reset then.
	DefaultConnectionTimeout = 10 * time.Second
	// DefaultLaneConns is how many HTTP/2 connections one peer may have on one
	// lane. An honest client has one, and for a moment two when it redials.
	DefaultLaneConns = 4

	// acceptBacklog is how many accepted streams wait for gRPC, which takes
	// them at once; a full backlog means a flood.
	acceptBacklog = 64
	// maxHeaderBytes bounds the headers and trailers of a call; an error with
	// its details is about 1 KiB.
	maxHeaderBytes = 16 << 10
	// minPing is the shortest time between a client's keepalive pings. Ours
	// sends one in keepaliveTime, twice that.
	minPing = 15 * time.Second
	// maxIdle ends a lane without calls; the client opens it again at its next.
	maxIdle = 30 * time.Minute
	// peerPing and peerPingTimeout find clients that are gone although their
	// connection seems to live.
	peerPing        = 60 * time.Second
	peerPingTimeout = 20 * time.Second
)

// ServeOptions bound what a peer can do on one lane. Zero means the default.
type ServeOptions struct {
	// MaxRecv is the largest request message in bytes. Default ControlMaxRecv
	// or EventsMaxRecv; required on Bulk.
	MaxRecv int
	// MaxAnswer is the largest answer message in bytes. Default the lane's,
	// which is what Conn accepts.
	MaxAnswer int
	// MaxCalls is the number of calls at once on one HTTP/2 connection; more
	// wait at the client. Default the lane's.
	MaxCalls uint32
	// MaxConns is the number of HTTP/2 connections of one peer on this lane;
	// more are reset. Default DefaultLaneConns.
	MaxConns int
	// ConnectionTimeout bounds the time before a stream is an HTTP/2
	// connection. Default DefaultConnectionTimeout.
	ConnectionTimeout time.Duration
}

func (o ServeOptions) withDefaults(lane Lane) (ServeOptions, error) {
	limits, ok := lane.limits()
	if !ok {
		return o, fmt.Errorf("mesh: serve %q: not a lane", lane)
	}
	switch {
	case o.MaxRecv < 0:
		return o, errors.New("mesh: ServeOptions.MaxRecv is negative")
	case o.MaxRecv == 0 && limits.maxRecv == 0:
		return o, fmt.Errorf("mesh: ServeOptions.MaxRecv is required on lane %s", lane)
	case o.MaxAnswer < 0:
		return o, errors.New("mesh: ServeOptions.MaxAnswer is negative")
	case o.MaxConns < 0:
		return o, errors.New("mesh: ServeOptions.MaxConns is negative")
	case o.ConnectionTimeout < 0:
		return o, errors.New("mesh: ServeOptions.ConnectionTimeout is negative")
	}
	orDefault(&o.MaxRecv, limits.maxRecv)
	orDefault(&o.MaxAnswer, limits.maxAnswer)
	orDefault(&o.MaxCalls, limits.maxCalls)
	orDefault(&o.MaxConns, DefaultLaneConns)
	if o.ConnectionTimeout == 0 {
		o.ConnectionTimeout = DefaultConnectionTimeout
	}
	return o, nil
}

// server is one lane being served.
type server struct {
	grpc *grpc.Server
	l    *listener
}

// Serve serves a lane until Drain or Close. The register function adds the
// services and MUST NOT keep its argument. Serve does not block; an error means
// that nothing is served: a bad option, a lane served already, a host that is
// draining or closed.
//
// A handler finds its caller with [Caller]. Of an error that it returns, the
// caller sees this:
//
//   - the first *fault.Error in its chain, with all its fields;
//   - Canceled or DeadlineExceeded, if it is or wraps the context's error;
//   - Unimplemented, as generated code returns it;
//   - for anything else, and for a panic, fault.Internal. The log has the rest.
//
// Handlers MUST return soon after their context ends.
func (h *Host) Serve(lane Lane, o ServeOptions, register func(grpc.ServiceRegistrar)) error {
	o, err := o.withDefaults(lane)
	if err != nil {
		return err
	}
	in := incoming{host: h, lane: lane}
	s := h.newServer(o,
		grpc.ChainUnaryInterceptor(in.unary),
		grpc.ChainStreamInterceptor(in.stream),
	)
	register(s.grpc)

	if err := h.start(lane, s); err != nil {
		s.grpc.Stop()
		return err
	}
	h.p2p.SetStreamHandler(protocol.ID(lane), func(st network.Stream) { h.accept(lane, st) })
	return nil
}

func (h *Host) start(lane Lane, s *server) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.closed:
		return fmt.Errorf("mesh: serve lane %s: the host is closed", lane)
	case h.draining.Load():
		return fmt.Errorf("mesh: serve lane %s: the host is draining", lane)
	case h.lanes[lane] != nil:
		return fmt.Errorf("mesh: lane %s is served already", lane)
	}
	h.lanes[lane] = s
	h.startLocked(s)
	return nil
}

func (h *Host) newServer(o ServeOptions, more ...grpc.ServerOption) *server {
	return &server{
		l: newListener(h.ID(), o.MaxConns, h.p2p.ConnManager()),
		grpc: grpc.NewServer(append([]grpc.ServerOption{
			grpc.Creds(peerCreds{}),
			grpc.ConnectionTimeout(o.ConnectionTimeout),
			grpc.MaxRecvMsgSize(o.MaxRecv),
			grpc.MaxSendMsgSize(o.MaxAnswer),
			grpc.MaxConcurrentStreams(o.MaxCalls),
			grpc.MaxHeaderListSize(maxHeaderBytes),
			grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: minPing, PermitWithoutStream: true}),
			grpc.KeepaliveParams(keepalive.ServerParameters{
				MaxConnectionIdle: maxIdle, Time: peerPing, Timeout: peerPingTimeout,
			}),
			grpc.WaitForHandlers(true),
		}, more...)...),
	}
}

// startLocked lets s accept. The listener's end is not an error.
func (h *Host) startLocked(s *server) {
	h.wg.Go(func() { s.grpc.Serve(s.l) })
}

// accept gives an incoming stream to its lane, or to the refuser.
func (h *Host) accept(lane Lane, st network.Stream) {
	h.mu.Lock()
	s := h.lanes[lane]
	if h.refuser != nil {
		s = h.refuser
	}
	h.mu.Unlock()
	s.l.offer(st)
}

// serves reports whether p has an open lane to this host.
func (h *Host) serves(p peer.ID) bool {
	h.mu.Lock()
	servers := h.serversLocked()
	h.mu.Unlock()
	for _, s := range servers {
		if s.l.serves(p) {
			return true
		}
	}
	return false
}

func (h *Host) serversLocked() []*server {
	all := make([]*server, 0, len(h.lanes)+1)
	for _, s := range h.lanes {
		all = append(all, s)
	}
	return all
}

// Drain stops taking calls and waits for those under way. New calls are refused
// with fault.Draining, also on lanes opened from now on, until Close. When ctx
// ends first, the calls left are cut and Drain returns an error that wraps the
// context's. Long-lived streams count as calls: their handlers should end them
// when the node begins to drain.
func (h *Host) Drain(ctx context.Context) error {
	h.mu.Lock()
	if h.closed {
		h.mu.Unlock()
		return nil
	}
	if !h.draining.Swap(true) {
		h.refuser = h.newRefuser()
		h.startLocked(h.refuser)
	}
	servers := h.serversLocked()
	h.mu.Unlock()

	var graceful sync.WaitGroup
	for _, s := range servers {
		graceful.Go(s.grpc.GracefulStop)
	}
	drained := make(chan struct{})
	go func() {
		graceful.Wait()
		close(drained)
	}()
	select {
	case <-drained:
		return nil
	case <-ctx.Done():
	}
	for _, s := range servers {
		s.grpc.Stop()
	}
	<-drained
	return fmt.Errorf("mesh: drain: calls were cut: %w", ctx.Err())
}

// newRefuser makes a server that tells every call why it is not served. A reset
// stream could not.
func (h *Host) newRefuser() *server {
	o, err := ServeOptions{MaxCalls: 16}.withDefaults(Control)
	if err != nil {
		panic(err) // constant
	}
	return h.newServer(o, grpc.UnknownServiceHandler(func(any, grpc.ServerStream) error {
		return isDraining().GRPCStatus().Err()
	}))
}

func isDraining() *fault.Error {
	return &fault.Error{
		Code:    fault.Draining,
		Rule:    "drain",
		Owner:   fault.Node,
		Message: "the node is shutting down and takes no new calls",
		Hint:    "try again in a while, or another node",
	}
}

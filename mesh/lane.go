package mesh

import (
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/connmgr"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
)

// Lane is the libp2p protocol id of one kind of traffic. One lane is one libp2p
// stream that carries one HTTP/2 connection with all its calls. Streams of one
// QUIC connection do not wait for each other's lost packets, so a lane is as
// good as a connection of its own and costs no handshake.
type Lane string

const (
	// Control carries small calls that must not wait.
	Control Lane = "/liop/grpc/1.0.0"
	// Events carries long streams that are silent most of the time.
	Events Lane = "/liop/grpc-events/1.0.0"
	// Bulk carries modules, inputs and answers.
	Bulk Lane = "/liop/grpc-bulk/1.0.0"
)

// Message sizes in bytes: what a server accepts (MaxRecv) and what it may
// answer (MaxAnswer). A client accepts MaxAnswer.
const (
	ControlMaxRecv   = 256 << 10
	ControlMaxAnswer = 256 << 10
	EventsMaxRecv    = 64 << 10
	EventsMaxAnswer  = 64 << 10
	// The server's owner says how large modules and inputs may be, so there is
	// no BulkMaxRecv: ServeOptions.MaxRecv is required on this lane.
	// BulkMaxAnswer is four times the largest piece worth sending at once.
	BulkMaxAnswer = 4 << 20
)

// Calls at the same time on one HTTP/2 connection.
const (
	ControlMaxCalls = 256
	// EventsMaxCalls are one per subscription, about 12 KiB each.
	EventsMaxCalls = 12_000
	BulkMaxCalls   = 16
)

// laneLimits are the defaults of a lane.
type laneLimits struct {
	maxRecv   int // zero: the server must say
	maxAnswer int
	maxCalls  uint32
}

func (l Lane) limits() (limits laneLimits, ok bool) {
	switch l {
	case Control:
		return laneLimits{ControlMaxRecv, ControlMaxAnswer, ControlMaxCalls}, true
	case Events:
		return laneLimits{EventsMaxRecv, EventsMaxAnswer, EventsMaxCalls}, true
	case Bulk:
		return laneLimits{0, BulkMaxAnswer, BulkMaxCalls}, true
	}
	return laneLimits{}, false
}

// laneConn makes a libp2p stream a net.Conn that gRPC can live on.
type laneConn struct {
	stream network.Stream
	rw     io.ReadWriter // stream, or stream behind a negotiation under way

	// watch, if not nil, hears of what was read. heard is how many bytes of
	// this lane had arrived before.
	watch          func(n int, err error, heard uint64)
	sent, received *atomic.Uint64 // totals to add to; nil: nobody counts
	heard          atomic.Uint64

	writing atomic.Int32 // Write calls under way
	ready   atomic.Bool  // gRPC has finished its handshake
	closing sync.Once
	onClose func()
}

var _ net.Conn = (*laneConn)(nil)

func (c *laneConn) Read(b []byte) (int, error) {
	n, err := c.rw.Read(b)
	before := c.heard.Add(uint64(n)) - uint64(n)
	if c.received != nil {
		c.received.Add(uint64(n))
	}
	if c.watch != nil {
		c.watch(n, err, before)
	}
	return n, err
}

func (c *laneConn) Write(b []byte) (int, error) {
	if c.sent != nil { // before, so that who has the answer finds the request counted
		c.sent.Add(uint64(len(b)))
	}
	c.writing.Add(1)
	n, err := c.rw.Write(b)
	c.writing.Add(-1)
	if c.sent != nil && n < len(b) {
		c.sent.Add(-uint64(len(b) - n))
	}
	return n, err
}

// Close ends both directions. gRPC counts on Close to end a Write that waits
// for a peer who does not read, which closing a libp2p stream does not promise:
// then, and before anything was heard, the stream is reset instead.
func (c *laneConn) Close() error { return c.end(0) }

func (c *laneConn) end(code network.StreamErrorCode) (err error) {
	c.closing.Do(func() {
		// First, so that a peer who sees the end finds its slot free.
		if c.onClose != nil {
			c.onClose()
		}
		if code != 0 || c.writing.Load() > 0 || c.heard.Load() == 0 {
			err = c.stream.ResetWithError(code)
		} else {
			err = c.stream.Close()
		}
	})
	return err
}

func (c *laneConn) LocalAddr() net.Addr  { return peerAddr(c.stream.Conn().LocalPeer()) }
func (c *laneConn) RemoteAddr() net.Addr { return peerAddr(c.stream.Conn().RemotePeer()) }

// SetDeadline also tells us where gRPC is: a server sets a deadline before its
// handshake and takes it away after.
func (c *laneConn) SetDeadline(t time.Time) error {
	if t.IsZero() {
		c.ready.Store(true)
	}
	return c.stream.SetDeadline(t)
}

func (c *laneConn) SetReadDeadline(t time.Time) error  { return c.stream.SetReadDeadline(t) }
func (c *laneConn) SetWriteDeadline(t time.Time) error { return c.stream.SetWriteDeadline(t) }

// peerAddr is a peer id as a net.Addr.
type peerAddr peer.ID

func (peerAddr) Network() string  { return "libp2p" }
func (a peerAddr) String() string { return peer.ID(a).String() }

// listener hands incoming streams of one lane to a gRPC server.
type listener struct {
	addr    peerAddr
	maxOpen int // streams per peer
	conns   connmgr.ConnManager

	backlog chan *laneConn
	stop    chan struct{}

	mu     sync.Mutex
	closed bool
	open   map[peer.ID]map[*laneConn]struct{}
}

var _ net.Listener = (*listener)(nil)

func newListener(id peer.ID, maxOpen int, conns connmgr.ConnManager) *listener {
	return &listener{
		addr:    peerAddr(id),
		maxOpen: maxOpen,
		conns:   conns,
		backlog: make(chan *laneConn, acceptBacklog),
		stop:    make(chan struct{}),
		open:    map[peer.ID]map[*laneConn]struct{}{},
	}
}

// offer takes a stream over, or resets it if there is no room for it.
func (l *listener) offer(s network.Stream) {
	c := &laneConn{stream: s, rw: s}
	c.onClose = func() { l.forget(c) }
	if code := l.add(c); code != 0 {
		c.end(code)
	}
}

func (l *listener) add(c *laneConn) network.StreamErrorCode {
	p := c.stream.Conn().RemotePeer()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return network.StreamShutdown
	}
	if len(l.open[p]) >= l.maxOpen {
		return network.StreamResourceLimitExceeded
	}
	select {
	case l.backlog <- c:
	default:
		return network.StreamRateLimited
	}
	if l.open[p] == nil {
		l.open[p] = map[*laneConn]struct{}{}
	}
	l.open[p][c] = struct{}{}
	l.conns.Protect(p, c.stream.ID())
	return 0
}

func (l *listener) forget(c *laneConn) {
	p := c.stream.Conn().RemotePeer()
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, ok := l.open[p][c]; !ok {
		return // never had room
	}
	delete(l.open[p], c)
	if len(l.open[p]) == 0 {
		delete(l.open, p)
	}
	l.conns.Unprotect(p, c.stream.ID())
}

// serves reports whether p has an open stream here.
func (l *listener) serves(p peer.ID) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.open[p]) > 0
}

func (l *listener) Accept() (net.Conn, error) {
	select {
	case <-l.stop:
		return nil, net.ErrClosed
	case c := <-l.backlog:
		return c, nil
	}
}

// Close stops accepting. Streams that have not finished the HTTP/2 handshake
// are reset, because gRPC would wait for them before it stops.
func (l *listener) Close() error {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return nil
	}
	l.closed = true
	close(l.stop)
	var unready []*laneConn
	for _, cs := range l.open {
		for c := range cs {
			if !c.ready.Load() {
				unready = append(unready, c)
			}
		}
	}
	l.mu.Unlock()
	var errs error
	for _, c := range unready {
		errs = errors.Join(errs, c.end(network.StreamShutdown))
	}
	return errs
}

func (l *listener) Addr() net.Addr { return l.addr }

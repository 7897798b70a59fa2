package mesh

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/peerstore"
	"github.com/libp2p/go-libp2p/p2p/net/swarm"
	"github.com/libp2p/go-libp2p/p2p/protocol/identify"
	"github.com/libp2p/go-libp2p/p2p/protocol/ping"
	"google.golang.org/grpc"

	ma "github.com/multiformats/go-multiaddr"
)

// DialTimeout is how long Dial tries, and each attempt to dial again, unless its
// context ends sooner.
const DialTimeout = 15 * time.Second

// DirectTimeout is how long a call on a lane other than Control waits for a
// direct connection while there is only a relayed one. A hole punch that works
// takes a few round trips.
const DirectTimeout = 10 * time.Second

const (
	// staleAfter is how long known addresses are tried before Config.Resolve is
	// asked for others; they are not given up then.
	staleAfter = 2 * time.Second
	// maxResolved bounds what it may find: each address costs a dial.
	maxResolved = 32
)

// Conn is a connection to one peer with its lanes. It lives through failures: a
// call after the connection broke dials again, at addresses that Config.Resolve
// finds if those of before have stopped working. All methods are safe for
// concurrent use.
//
// Through a relay that limits what it carries, only lane Control works. Calls on
// other lanes wait up to DirectTimeout for a direct connection, which a hole punch
// may make (see Reach); once there is one, each lane moves to it at its next call,
// and calls under way stay where they are.
type Conn struct {
	host *Host
	info peer.AddrInfo // of Dial

	sent, received atomic.Uint64

	mu     sync.Mutex
	lanes  map[Lane]*outgoing
	last   network.Conn // the newest libp2p connection
	heard  network.Conn // the newest one on which a lane was answered
	closed bool
}

// Dial connects to the peer at a multiaddr that ends in /p2p/ID; see ParseAddr.
// Lanes open at their first call. Errors are *fault.Error: InvalidRequest for
// the address, Denied if this host refuses the peer, Cancelled if ctx is
// cancelled, else Unreachable.
//
// A node that does not admit this host lets the connection through and then
// cuts it, so that is what the first call reports, with code Denied; or Dial, if
// this host has a membership token to show.
func (h *Host) Dial(ctx context.Context, addr string) (*Conn, error) {
	info, err := ParseAddr(addr)
	if err != nil {
		return nil, err
	}
	return h.DialInfo(ctx, info)
}

// DialInfo is Dial for a peer whose addresses were found some other way.
func (h *Host) DialInfo(ctx context.Context, info peer.AddrInfo) (*Conn, error) {
	switch {
	case !isEd25519(info.ID):
		return nil, badAddr("the peer id is not that of an Ed25519 key")
	case info.ID == h.ID():
		return nil, badAddr("the address is that of this host itself")
	}
	c := &Conn{host: h, info: info, lanes: map[Lane]*outgoing{}}
	if _, err := c.connect(ctx); err != nil {
		return nil, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return nil, errClosed()
	}
	h.dialed[c] = struct{}{}
	return c, nil
}

// Peer is the id of the peer, proved by its handshake.
func (c *Conn) Peer() peer.ID { return c.info.ID }

// Lane returns the connection for calls on a lane. Its errors are those of
// gRPC, where fault.From finds what the node sent, or *fault.Error for what
// happened on the way: Denied, Unreachable, Busy. Messages larger than the
// lane's MaxAnswer are refused.
func (c *Conn) Lane(lane Lane) grpc.ClientConnInterface {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return brokenLane{errClosed()}
	}
	if o := c.lanes[lane]; o != nil {
		return o
	}
	o, err := c.newOutgoing(lane)
	if err != nil {
		return brokenLane{err}
	}
	c.lanes[lane] = o
	return o
}

// Transport is "quic" or "tcp", "relay" for a connection through one, or empty
// while not connected.
func (c *Conn) Transport() string {
	nc := c.live()
	switch {
	case nc == nil:
		return ""
	case isRelayed(nc.RemoteMultiaddr()):
		return "relay"
	case strings.HasPrefix(nc.ConnState().Transport, "quic"):
		return "quic"
	}
	return "tcp"
}

// PostQuantum reports whether the keys of the connection were agreed upon with
// X25519MLKEM768, so that a recording of it stays secret from a later quantum
// computer. Over TCP it is false, because libp2p does not tell; Noise never is
// post-quantum.
func (c *Conn) PostQuantum() bool {
	nc := c.live()
	return nc != nil && postQuantum(nc)
}

// BytesSent is the number of bytes written to lanes so far: HTTP/2 frames,
// without the overhead of encryption and network.
func (c *Conn) BytesSent() uint64 { return c.sent.Load() }

// BytesReceived is BytesSent for the other direction.
func (c *Conn) BytesReceived() uint64 { return c.received.Load() }

// Ping measures one round trip to the peer, dialing again if needed.
func (c *Conn) Ping(ctx context.Context) (time.Duration, error) {
	nc, err := c.connect(ctx)
	if err != nil {
		return 0, err
	}
	pingCtx, cancel := context.WithCancel(ctx)
	defer cancel()
	select {
	case r, ok := <-ping.Ping(pingCtx, c.host.p2p, c.info.ID):
		if ok && r.Error == nil {
			c.answered(nc)
			return r.RTT, nil
		}
		if ctx.Err() == nil {
			return 0, c.explain(r.Error, nc)
		}
	case <-ctx.Done():
	}
	return 0, explainDial(ctx.Err(), c.info.ID)
}

// Close ends the calls and closes the connection, unless another Conn or a lane
// that the peer opened uses it. It may be called more than once.
func (c *Conn) Close() error {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return nil
	}
	c.closed = true
	lanes := c.lanes
	c.mu.Unlock()

	var err error
	for _, o := range lanes {
		err = errors.Join(err, o.close())
	}
	c.host.release(c)
	return err
}

// release forgets c, and closes the connections that were made for it alone.
func (h *Host) release(c *Conn) {
	h.mu.Lock()
	delete(h.dialed, c)
	shared := false
	for other := range h.dialed {
		shared = shared || other.info.ID == c.info.ID
	}
	h.mu.Unlock()
	if shared || h.serves(c.info.ID) {
		return
	}
	for _, nc := range h.swarm.ConnsToPeer(c.info.ID) {
		if nc.Stat().Direction == network.DirOutbound && !isInUse(nc) {
			nc.Close()
		}
	}
}

// isInUse reports whether a protocol of somebody else's, such as discovery, has
// a stream on nc. Lanes end with their Conn, and the others by themselves.
func isInUse(nc network.Conn) bool {
	return slices.ContainsFunc(nc.GetStreams(), func(s network.Stream) bool {
		switch p := s.Protocol(); p {
		case "", ping.ID, identify.ID, identify.IDPush, memberProtocol:
			return false
		default:
			_, isLane := Lane(p).limits()
			return !isLane
		}
	})
}

// connect returns the best connection to the peer, and makes one if there is
// none.
func (c *Conn) connect(ctx context.Context) (network.Conn, error) {
	c.mu.Lock()
	closed := c.closed
	c.mu.Unlock()
	if closed {
		return nil, errClosed()
	}
	ctx, cancel := context.WithTimeout(ctx, DialTimeout)
	defer cancel()
	nc, err := c.dialKnown(ctx)
	if err != nil && c.host.resolve != nil && ctx.Err() == nil && !errors.Is(err, swarm.ErrGaterDisallowedConnection) {
		nc, err = c.dialFresh(ctx, err)
	}
	if err != nil {
		if why := c.host.members.why(c.info.ID); why != nil && errors.Is(err, swarm.ErrGaterDisallowedConnection) {
			return nil, why
		}
		return nil, explainDial(err, c.info.ID)
	}
	c.mu.Lock()
	c.last = nc
	c.mu.Unlock()
	return nc, nil
}

// dialKnown tries the addresses that we have, but not until ctx ends if there is
// someone to ask for others.
func (c *Conn) dialKnown(ctx context.Context) (network.Conn, error) {
	s := c.host.swarm
	if s.Connectedness(c.info.ID) != network.Connected {
		// Someone waits for this attempt, so an earlier failure is no reason
		// not to make it; and libp2p forgets addresses after a while.
		s.Backoff().Clear(c.info.ID)
		s.Peerstore().AddAddrs(c.info.ID, c.info.Addrs, peerstore.TempAddrTTL)
	}
	if c.host.resolve != nil {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, c.host.staleAfter)
		defer cancel()
	}
	return s.DialPeer(ctx, c.info.ID)
}

// dialFresh asks for addresses and tries all once more. why is what came of those
// that we have.
func (c *Conn) dialFresh(ctx context.Context, why error) (network.Conn, error) {
	found, err := c.host.resolve(ctx, c.info.ID)
	if err != nil && ctx.Err() == nil {
		c.host.log.LogAttrs(ctx, slog.LevelDebug, "mesh.resolve_failed",
			slog.String("peer", c.info.ID.String()), slog.Any("err", err))
	}
	var fresh []ma.Multiaddr
	for _, a := range found[:min(len(found), maxResolved)] {
		if transport, id := peer.SplitAddr(a); len(transport) > 0 && (id == "" || id == c.info.ID) &&
			checkTransport(transport, c.info.ID) == nil {
			fresh = append(fresh, transport)
		}
	}
	if len(fresh) == 0 && !errors.Is(why, context.DeadlineExceeded) {
		return nil, why
	}
	s := c.host.swarm
	s.Backoff().Clear(c.info.ID)
	s.Peerstore().AddAddrs(c.info.ID, fresh, peerstore.TempAddrTTL)
	return s.DialPeer(ctx, c.info.ID)
}

// live is the newest connection, a direct one before one through a relay, or nil.
func (c *Conn) live() network.Conn {
	c.mu.Lock()
	best := c.last
	c.mu.Unlock()
	if best != nil && best.IsClosed() {
		best = nil
	}
	if best != nil && !isRelayed(best.RemoteMultiaddr()) {
		return best
	}
	for _, nc := range c.host.swarm.ConnsToPeer(c.info.ID) {
		if !nc.IsClosed() && (best == nil || !isRelayed(nc.RemoteMultiaddr())) {
			best = nc
		}
	}
	return best
}

// isDirect reports whether there is a direct connection.
func (c *Conn) isDirect() bool {
	nc := c.live()
	return nc != nil && !isRelayed(nc.RemoteMultiaddr())
}

// answered notes that the peer talks to us on nc.
func (c *Conn) answered(nc network.Conn) {
	c.mu.Lock()
	c.heard = nc
	c.mu.Unlock()
}

// wasHeard reports whether the peer has talked to us on nc. If it made the
// connection it did, and does not refuse us.
func (c *Conn) wasHeard(nc network.Conn) bool {
	if nc.Stat().Direction == network.DirInbound {
		return true
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.heard == nc
}

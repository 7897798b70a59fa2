// Package mesh connects agents and data nodes: gRPC inside libp2p streams.
//
// A [Host] is one identity on the network. It promises:
//
//   - Each call carries the peer id that the handshake proved ([Caller]). No
//     message can claim another. Only Ed25519 keys take part.
//   - A peer that Config.Admit refuses gets no stream: it is cut right after
//     the handshake, and asked about again before each call. In a closed mesh,
//     Config.Members, a peer may show a token there, and nothing else.
//   - Small calls, events and bulk travel in separate [Lane]s over one
//     connection, so that a lost packet of one does not delay the others.
//   - Whatever a peer can make grow is bounded: connections, streams, calls,
//     messages, headers, the time before the first byte. [Limits] and
//     [ServeOptions] list the bounds with their defaults.
//   - A caller gets a *fault.Error that says what was refused and what to do,
//     and never the text of an error that was not written for it.
//
// It does not find peers, and has no opinion on what a call may do: that is for
// the services registered on a lane. QUIC comes first, then TCP with TLS 1.3 or
// Noise. What is done about NATs is up to [Reach], by default nothing: then
// there is no relay, no port mapping and no reachability service.
package mesh

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/host/peerstore/pstoremem"
	"github.com/libp2p/go-libp2p/p2p/muxer/yamux"
	"github.com/libp2p/go-libp2p/p2p/net/connmgr"
	"github.com/libp2p/go-libp2p/p2p/net/swarm"
	"github.com/libp2p/go-libp2p/p2p/security/noise"
	libp2ptls "github.com/libp2p/go-libp2p/p2p/security/tls"
	libp2pquic "github.com/libp2p/go-libp2p/p2p/transport/quic"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"

	ma "github.com/multiformats/go-multiaddr"
)

// userAgent is what other peers see of this program: no version, no platform.
const userAgent = "liop"

// Config is what a Host is made from. Only Key is required.
type Config struct {
	// Key is the identity: an Ed25519 private key.
	Key crypto.PrivKey

	// Listen has one multiaddr per address to listen on, /quic-v1 or /tcp; see
	// DefaultListen. Port 0 lets the kernel choose. Empty: an agent that dials
	// and does not listen.
	Listen []string

	// Admit says whether a peer may be at the other end. It is asked before a
	// connection is dialed, after the handshake of an incoming one, and before
	// each incoming call. It must be fast and safe for concurrent use. Nil
	// admits everyone whose handshake succeeds, unless Members.Operators are set.
	Admit func(peer.ID) bool

	// Members are let in although Admit refuses them. Default: there are none.
	Members Members

	// RequirePQ refuses connections whose keys were not agreed upon with
	// X25519MLKEM768, incoming and outgoing, and with them all of TCP and all
	// relayed ones: libp2p does not tell which keys those use. Default false:
	// X25519MLKEM768 is used where both ends know it, and not required.
	RequirePQ bool

	// Log gets this package's events. Nil discards them.
	Log *slog.Logger

	// Limits of connections, streams and memory. Zero fields mean the defaults.
	Limits Limits

	// Reach says what is done about NATs. Its zero value does nothing.
	Reach Reach

	// Resolve finds addresses of a peer that a Conn knows and cannot reach at
	// those it has; the peer's key proves who is there, so they may come from
	// anywhere. It is asked while a Conn dials, within DialTimeout. Nil: a Conn
	// has the addresses that it began with.
	Resolve func(context.Context, peer.ID) ([]ma.Multiaddr, error)
}

// Validate reports the first field that New would not accept.
func (c Config) Validate() error {
	if c.Key == nil {
		return errors.New("mesh: Config.Key is missing")
	}
	if c.Key.Type() != crypto.Ed25519 {
		return errors.New("mesh: Config.Key is not an Ed25519 key")
	}
	for i, s := range c.Listen {
		a, err := parseListen(s)
		if err == nil && c.RequirePQ && isTCP(a) {
			err = errors.New("over TCP nobody can tell whether a connection is post-quantum, which is required; listen on QUIC only")
		}
		if err != nil {
			return fmt.Errorf("mesh: Config.Listen[%d] %q: %w", i, s, err)
		}
	}
	own, err := peer.IDFromPrivateKey(c.Key)
	if err != nil {
		return fmt.Errorf("mesh: Config.Key: %w", err)
	}
	if err := c.Members.validate(own); err != nil {
		return err
	}
	if err := c.Reach.validate(); err != nil {
		return err
	}
	return c.Limits.validate()
}

// Host is one identity on the network: it serves lanes, dials peers, or both.
// All methods are safe for concurrent use.
type Host struct {
	p2p     host.Host
	swarm   *swarm.Swarm
	members *members
	admit   func(peer.ID) bool // by Config.Admit or as a member
	log     *slog.Logger

	reach   *reach
	resolve func(context.Context, peer.ID) ([]ma.Multiaddr, error) // nil: nothing is asked
	// The constants of these names, except in tests.
	directTimeout, staleAfter time.Duration

	mu      sync.Mutex // guards what follows; never held while calling out
	lanes   map[Lane]*server
	refuser *server // answers lanes while draining; nil before
	dialed  map[*Conn]struct{}
	watches []event.Subscription // of OnAddrsChanged
	closed  bool

	draining atomic.Bool // set with mu held
	closing  sync.Once
	wg       sync.WaitGroup // serving goroutines
}

// New makes a host and listens. It fails if an address is taken; an address
// family that this machine lacks is only logged, unless it was the only one.
// The caller must Close the host.
func New(c Config) (*Host, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	own, err := peer.IDFromPrivateKey(c.Key)
	if err != nil {
		return nil, fmt.Errorf("mesh: Config.Key: %w", err)
	}
	h := &Host{
		members: newMembers(c, own),
		log:     c.Log,
		resolve: c.Resolve,

		directTimeout: DirectTimeout,
		staleAfter:    staleAfter,

		lanes:  map[Lane]*server{},
		dialed: map[*Conn]struct{}{},
	}
	h.admit = h.members.admits
	if h.log == nil {
		h.log = slog.New(slog.DiscardHandler)
	}

	limits := c.Limits.withDefaults()
	resources, err := limits.resourceManager()
	if err != nil {
		return nil, fmt.Errorf("mesh: make resource manager: %w", err)
	}
	rates := newStreamLimiter(resources, limits.MaxConns)
	var scopes network.ResourceManager = rates
	if h.members.mayKnock() {
		scopes = provisionalScopes{rates, h.members}
	}
	low, high := limits.waterMarks()
	conns, err := connmgr.NewConnManager(low, high)
	if err != nil {
		resources.Close()
		return nil, fmt.Errorf("mesh: make connection manager: %w", err)
	}
	peers, err := pstoremem.NewPeerstore(
		pstoremem.WithMaxAddresses(limits.MaxConns*addrsPerConn),
		pstoremem.WithMaxSignedPeerRecords(limits.MaxConns*recordsPerConn))
	if err != nil {
		conns.Close()
		resources.Close()
		return nil, fmt.Errorf("mesh: make peer store: %w", err)
	}
	r, reachOptions := newReach(c, h.admit, h.log)
	h.reach = r
	h.p2p, err = libp2p.New(
		libp2p.Identity(c.Key),
		libp2p.Peerstore(peers),
		libp2p.UserAgent(userAgent),
		libp2p.NoListenAddrs, // see listen
		libp2p.Transport(libp2pquic.NewTransport),
		// Sharing the port would let another process of the same user listen
		// beside us, and hide that a port is taken.
		libp2p.Transport(tcp.NewTCPTransport, tcp.DisableReuseport()),
		libp2p.Security(libp2ptls.ID, libp2ptls.New),
		libp2p.Security(noise.ID, noise.New),
		libp2p.Muxer(yamux.ID, yamux.DefaultTransport),
		libp2p.ConnectionGater(gater{members: h.members, requirePQ: c.RequirePQ}),
		libp2p.ResourceManager(scopes),
		libp2p.ConnectionManager(conns),
		libp2p.ChainOptions(reachOptions...),
		libp2p.DisableMetrics(),
		libp2p.Ping(true),
	)
	if err != nil {
		peers.Close()
		conns.Close()
		resources.Close()
		return nil, fmt.Errorf("mesh: make libp2p host: %w", err)
	}
	h.swarm = h.p2p.Network().(*swarm.Swarm) // what libp2p.New always makes
	h.members.swarm = h.swarm
	if c.Members.enabled() {
		h.p2p.SetStreamHandler(memberProtocol, h.members.serveKnown)
	}
	rates.forgetOn(h.swarm)
	listen := c.Listen
	if len(listen) == 0 && c.Reach.HolePunch {
		listen = punchListen()
	}
	if err := errors.Join(h.listen(listen), h.reach.start(h)); err != nil {
		h.reach.close()
		h.members.close()
		h.p2p.Close()
		return nil, err
	}
	return h, nil
}

// listen opens the addresses one by one: libp2p would be content with any one
// of them, and a node that lost its TCP port to another program must say so.
func (h *Host) listen(addrs []string) error {
	var skipped error
	opened := 0
	for _, s := range addrs {
		a, err := parseListen(s)
		if err != nil {
			return fmt.Errorf("mesh: listen on %s: %w", s, err)
		}
		err = h.swarm.AddListenAddr(a)
		switch {
		case err == nil:
			opened++
		case errors.Is(err, syscall.EAFNOSUPPORT), isIP6Unspecified(a) && errors.Is(err, syscall.EADDRNOTAVAIL):
			h.log.LogAttrs(context.Background(), slog.LevelWarn, "mesh.listen_skipped",
				slog.String("addr", s), slog.Any("err", err))
			skipped = err
		default:
			return fmt.Errorf("mesh: listen on %s: %w", s, err)
		}
	}
	if skipped != nil && opened == 0 {
		return fmt.Errorf("mesh: listen: no address is left: %w", skipped)
	}
	return nil
}

// ID is the peer id of Config.Key.
func (h *Host) ID() peer.ID { return h.p2p.ID() }

// Libp2p is the host beneath, for packages that speak protocols of libp2p's own
// on it, such as discovery. What they open counts against the same limits.
func (h *Host) Libp2p() host.Host { return h.p2p }

// Addrs are the multiaddrs under which this host can be dialed, each ending in
// /p2p/ and its id: QUIC before TCP, loopback before others, those at relays
// last. An unspecified listen address becomes one per interface. Empty for an
// agent that does not listen. See [Reach] for what comes and goes with NATs, and
// OnAddrsChanged.
func (h *Host) Addrs() []string { return dialable(h.p2p.Addrs(), h.ID()) }

// OnDisconnect calls f when the last connection to a peer is gone, also for
// peers that this host dialed. The peer may be back when f runs, and f may run
// twice for one departure. f runs on a goroutine of the network: it must be
// quick, and must not call Close.
func (h *Host) OnDisconnect(f func(peer.ID)) {
	h.swarm.Notify(&network.NotifyBundle{
		DisconnectedF: func(n network.Network, c network.Conn) {
			if n.Connectedness(c.RemotePeer()) == network.NotConnected {
				f(c.RemotePeer())
			}
		},
	})
}

// Disconnect cuts all connections to p, and with them its calls. To keep a peer
// out, have Admit refuse it first.
func (h *Host) Disconnect(p peer.ID) error {
	if err := h.swarm.ClosePeer(p); err != nil {
		return fmt.Errorf("mesh: disconnect %s: %w", p, err)
	}
	return nil
}

// Close cuts all calls and connections and waits until the handlers of this
// host's lanes have returned: they MUST return soon after their context ends.
// Further calls of Close wait for the first one and return nil.
func (h *Host) Close() error {
	var err error
	h.closing.Do(func() {
		h.mu.Lock()
		h.closed = true
		dialed := make([]*Conn, 0, len(h.dialed))
		for c := range h.dialed {
			dialed = append(dialed, c)
		}
		servers := h.serversLocked()
		if h.refuser != nil {
			servers = append(servers, h.refuser)
		}
		watches := h.watches
		h.mu.Unlock()

		for _, w := range watches {
			w.Close()
		}
		h.reach.close()

		for _, c := range dialed {
			c.Close()
		}
		for _, s := range servers {
			s.grpc.Stop()
		}
		h.members.close() // libp2p waits for connections that are being made
		if e := h.p2p.Close(); e != nil {
			err = fmt.Errorf("mesh: close: %w", e)
		}
		h.wg.Wait()
	})
	return err
}

package mesh

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	basichost "github.com/libp2p/go-libp2p/p2p/host/basic"
	"github.com/libp2p/go-libp2p/p2p/host/eventbus"
	relayv2 "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/relay"
	"github.com/libp2p/go-libp2p/p2p/protocol/holepunch"

	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
)

// MaxRelays is how many relays one host keeps slots at. Each costs a connection
// and up to 100 bytes in each record that names this host; two survive the loss
// of one.
const MaxRelays = 8

// maxPunches bounds the hole punches that late peers can have us make at the same
// time. Each takes a stream, and some seconds if it fails.
const maxPunches = 16

// punchListen is where an agent that punches holes listens: a hole is punched
// for a socket that also accepts, so it needs one. The kernel chooses the port.
// TCP is left out, because that takes a shared port, which New does not set.
func punchListen() []string { return []string{"/ip4/0.0.0.0/udp/0/quic-v1", "/ip6/::/udp/0/quic-v1"} }

// Reach says how a host is reached, and reaches others, across NATs. Its zero
// value does nothing about them: the host dials and is dialed directly.
type Reach struct {
	// AutoNAT asks peers to dial the addresses at which this host was seen, and
	// does the same for them (libp2p AutoNAT v2). Addresses that nobody can dial
	// are then no longer given out, and seen ones are once they are confirmed.
	// The peer that dials back does so with a fresh key, so it cannot work where
	// Config.Admit refuses strangers: there it is off, which is logged.
	AutoNAT bool
	// DialRelays lets the host dial addresses with /p2p-circuit, and be dialed
	// through relays. It is on with Relays or HolePunch.
	DialRelays bool
	// HolePunch makes a relayed connection a direct one where the NATs allow it
	// (libp2p DCUtR). A host without Listen listens on a UDP port of the
	// kernel's choice then, on which it accepts whom Config.Admit admits.
	HolePunch bool
	// Relays are the addresses, as ParseAddr takes them, of hosts that relay for
	// this one: it keeps a slot at each, and is dialed through them while none
	// of its own addresses is known to be reachable. Config.Admit must admit
	// them. At most 8.
	Relays []string
	// MapPort asks the router for ports to the listen addresses (UPnP, NAT-PMP).
	MapPort bool
	// Serve relays for others, within these limits; nil does not. Only peers
	// whom Config.Admit admits are served, at both ends.
	Serve *RelayLimits
}

func (r Reach) relayTransport() bool { return r.DialRelays || r.HolePunch || len(r.Relays) > 0 }

func (r Reach) validate() error {
	if len(r.Relays) > MaxRelays {
		return fmt.Errorf("mesh: Config.Reach.Relays has %d addresses; at most %d", len(r.Relays), MaxRelays)
	}
	if _, err := r.relays(); err != nil {
		return err
	}
	if r.Serve != nil {
		if err := r.Serve.validate(); err != nil {
			return err
		}
	}
	return nil
}

// CheckRelay reports what is wrong with one of Reach.Relays.
func CheckRelay(addr string) error {
	_, err := parseRelay(addr)
	return err
}

func parseRelay(s string) (peer.AddrInfo, error) {
	info, err := ParseAddr(s)
	if err == nil && isRelayed(info.Addrs[0]) {
		err = errors.New("a relay must be dialed directly")
	}
	return info, err
}

// relays are Relays with all addresses of each together.
func (r Reach) relays() ([]peer.AddrInfo, error) {
	var out []peer.AddrInfo
	for i, s := range r.Relays {
		info, err := parseRelay(s)
		if err != nil {
			return nil, fmt.Errorf("mesh: Config.Reach.Relays[%d] %q: %w", i, s, err)
		}
		if j := slices.IndexFunc(out, func(o peer.AddrInfo) bool { return o.ID == info.ID }); j >= 0 {
			out[j].Addrs = append(out[j].Addrs, info.Addrs...)
		} else {
			out = append(out, info)
		}
	}
	return out, nil
}

// Defaults of RelayLimits, those of libp2p: enough to introduce two peers to each
// other and for small calls, and too little to be worth stealing.
const (
	DefaultRelayReservations = 128
	DefaultRelayCircuits     = 16
	DefaultRelayDuration     = 2 * time.Minute
	DefaultRelayData         = 128 << 10
)

// The most that RelayLimits may allow: what one host serves beside its own work,
// and values that libp2p can hold.
const (
	MaxRelayReservations = 4096
	MaxRelayCircuits     = 256
	MaxRelayDuration     = 24 * time.Hour
	MaxRelayData         = 1 << 30
)

// relaysPerIP bounds the slots of one IP address: some nodes of a company sit
// behind one, and one address must not take all slots.
const relaysPerIP = 32

// RelayLimits bound what a host relays for others. Zero means the default.
type RelayLimits struct {
	// Reservations is how many peers may keep a slot. Default 128. One IP
	// address gets at most 32 of them.
	Reservations int
	// CircuitsPerPeer is how many relayed connections one peer may have at the
	// same time. Default 16.
	CircuitsPerPeer int
	// Duration is how long a relayed connection may live. Default 2 minutes.
	Duration time.Duration
	// Data is how many bytes a relayed connection may carry in each direction.
	// Default 128 KiB.
	Data int64
}

// validate reports the first field that is out of bounds, by its name.
func (l RelayLimits) validate() error {
	switch {
	case l.Reservations < 0 || l.Reservations > MaxRelayReservations:
		return fmt.Errorf("mesh: Config.Reach.Serve.Reservations: want 1 to %d", MaxRelayReservations)
	case l.CircuitsPerPeer < 0 || l.CircuitsPerPeer > MaxRelayCircuits:
		return fmt.Errorf("mesh: Config.Reach.Serve.CircuitsPerPeer: want 1 to %d", MaxRelayCircuits)
	case l.Duration < 0 || l.Duration > MaxRelayDuration || l.Duration%time.Second != 0:
		return fmt.Errorf("mesh: Config.Reach.Serve.Duration: want whole seconds, at most %v", MaxRelayDuration)
	case l.Data < 0 || l.Data > MaxRelayData:
		return fmt.Errorf("mesh: Config.Reach.Serve.Data: want 1 to %d", MaxRelayData)
	}
	return nil
}

func (l RelayLimits) withDefaults() RelayLimits {
	orDefault(&l.Reservations, DefaultRelayReservations)
	orDefault(&l.CircuitsPerPeer, DefaultRelayCircuits)
	orDefault(&l.Data, DefaultRelayData)
	if l.Duration == 0 {
		l.Duration = DefaultRelayDuration
	}
	return l
}

func (l RelayLimits) resources() relayv2.Resources {
	r := relayv2.DefaultResources()
	r.Limit = &relayv2.RelayLimit{Duration: l.Duration, Data: l.Data}
	r.MaxReservations, r.MaxCircuits = l.Reservations, l.CircuitsPerPeer
	r.MaxReservationsPerIP = min(relaysPerIP, l.Reservations)
	return r
}

// relayACL asks Config.Admit again: a slot may be older than the owner's mind.
type relayACL struct{ admit func(peer.ID) bool }

var _ relayv2.ACLFilter = relayACL{}

func (a relayACL) AllowReserve(p peer.ID, _ ma.Multiaddr) bool { return a.admit(p) }
func (a relayACL) AllowConnect(src peer.ID, _ ma.Multiaddr, dest peer.ID) bool {
	return a.admit(src) && a.admit(dest)
}

// reach is what a Host does about NATs while it lives.
type reach struct {
	config Reach
	log    *slog.Logger
	admit  func(peer.ID) bool

	p2p    atomic.Pointer[host.Host]            // nil until libp2p.New returns
	mapper atomic.Pointer[basichost.NATManager] // nil without MapPort
	punch  atomic.Pointer[holepunch.Service]    // nil without HolePunch
	relay  *relayv2.Relay                       // nil unless Serve
	moved  event.Emitter                        // of relay addresses; nil without Relays
	stop   context.CancelFunc                   // ends what follows
	wg     sync.WaitGroup                       // goroutines
	mu     sync.Mutex                           // guards slots
	slots  map[peer.ID][]ma.Multiaddr           // where relays have one for us, ending in /p2p-circuit
}

// newReach also returns what libp2p needs to know of it.
func newReach(c Config, admit func(peer.ID) bool, log *slog.Logger) (*reach, []libp2p.Option) {
	r := &reach{config: c.Reach, log: log, admit: admit, stop: func() {}, slots: map[peer.ID][]ma.Multiaddr{}}
	if r.config.AutoNAT && !admitsStrangers(admit) {
		r.config.AutoNAT = false
		log.LogAttrs(context.Background(), slog.LevelInfo, "mesh.autonat_off",
			slog.String("why", "strangers are not admitted, and a peer that dials back is one"))
	}
	options := []libp2p.Option{libp2p.AddrsFactory(r.addrs)}
	if r.config.relayTransport() {
		options = append(options, libp2p.EnableRelay())
	} else {
		options = append(options, libp2p.DisableRelay())
	}
	if r.config.AutoNAT {
		options = append(options, libp2p.EnableAutoNATv2())
	}
	if r.config.HolePunch {
		options = append(options, libp2p.EnableHolePunching(func(s *holepunch.Service) error {
			r.punch.Store(s)
			return nil
		}))
	}
	if r.config.MapPort {
		options = append(options, libp2p.NATManager(func(n network.Network) basichost.NATManager {
			m := basichost.NewNATManager(n)
			r.mapper.Store(&m)
			return m
		}))
	}
	return r, options
}

// admitsStrangers tries a key that nobody has seen.
func admitsStrangers(admit func(peer.ID) bool) bool {
	key, _, err := crypto.GenerateEd25519Key(rand.Reader)
	if err != nil {
		return false
	}
	id, err := peer.IDFromPrivateKey(key)
	return err == nil && admit(id)
}

// start does what needs the host.
func (r *reach) start(h *Host) error {
	r.p2p.Store(&h.p2p)
	if r.config.Serve != nil {
		var err error
		r.relay, err = relayv2.New(h.p2p,
			relayv2.WithResources(r.config.Serve.withDefaults().resources()),
			relayv2.WithACL(relayACL{r.admit}),
			// Private addresses, too: relays join the networks of a company.
			relayv2.WithReservationAddressFilter(func(a ma.Multiaddr) bool { return !manet.IsIPLoopback(a) }))
		if err != nil {
			return fmt.Errorf("mesh: serve as relay: %w", err)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	r.stop = cancel
	if r.config.HolePunch {
		ready, err := h.p2p.EventBus().Subscribe(new(event.EvtPeerProtocolsUpdated))
		if err != nil {
			return fmt.Errorf("mesh: watch for hole punches: %w", err)
		}
		r.wg.Go(func() { r.punchLate(ctx, h, ready) })
	}
	if len(r.config.Relays) == 0 {
		return nil
	}
	var err error
	if r.moved, err = h.p2p.EventBus().Emitter(new(event.EvtAutoRelayAddrsUpdated), eventbus.Stateful); err != nil {
		return fmt.Errorf("mesh: announce relay addresses: %w", err)
	}
	relays, err := r.config.relays()
	if err != nil {
		return err // New has validated them
	}
	for _, relay := range relays {
		r.wg.Go(func() { newSlot(r, h, relay).keep(ctx) })
	}
	return nil
}

// punchLate punches holes to peers that were not ready for it when they came. An
// agent that has just started is not: it dials us before libp2p has noticed at
// which address the relay sees it, and libp2p tries once.
func (r *reach) punchLate(ctx context.Context, h *Host, ready event.Subscription) {
	defer ready.Close()
	slots := make(chan struct{}, maxPunches)
	for {
		var p peer.ID
		select {
		case <-ctx.Done():
			return
		case got := <-ready.Out():
			e, ok := got.(event.EvtPeerProtocolsUpdated)
			if !ok || !slices.Contains(e.Added, holepunch.Protocol) {
				continue
			}
			p = e.Peer
		}
		behind := h.swarm.Connectedness(p) == network.Limited &&
			slices.ContainsFunc(h.swarm.ConnsToPeer(p), func(c network.Conn) bool { return c.Stat().Direction == network.DirInbound })
		// While we are not ready either, libp2p would have us wait without end.
		if !behind || !slices.Contains(h.p2p.Mux().Protocols(), holepunch.Protocol) {
			continue
		}
		select {
		case slots <- struct{}{}:
			h.wg.Go(func() { // ends with the host
				defer func() { <-slots }()
				if err := r.punch.Load().DirectConnect(p); err != nil {
					r.log.LogAttrs(ctx, slog.LevelDebug, "mesh.punch_failed", slog.String("peer", p.String()), slog.Any("err", err))
				}
			})
		default: // many peers are at it; this one stays on the relay
		}
	}
}

// close ends it before the host.
func (r *reach) close() {
	r.stop()
	r.wg.Wait()
	if r.moved != nil {
		r.moved.Close()
	}
	if r.relay != nil {
		r.relay.Close()
	}
}

// have notes that relay p has a slot for us, at addrs, or none.
func (r *reach) have(p peer.ID, addrs []ma.Multiaddr) {
	r.mu.Lock()
	same := slices.EqualFunc(addrs, r.slots[p], ma.Multiaddr.Equal)
	r.slots[p] = addrs
	r.mu.Unlock()
	if !same {
		r.moved.Emit(event.EvtAutoRelayAddrsUpdated{RelayAddrs: r.relayed()})
	}
}

// relayed are our addresses at relays, in a stable order.
func (r *reach) relayed() []ma.Multiaddr {
	r.mu.Lock()
	out := slices.Concat(slices.Collect(maps.Values(r.slots))...)
	r.mu.Unlock()
	slices.SortFunc(out, ma.Multiaddr.Compare)
	return out
}

// addrs is what the host tells of itself, made from what libp2p would tell: the
// addresses of its interfaces unless they are known to be out of reach, those
// that its router maps, those where others saw it once someone has dialed them
// (a few peers could name any address), and, while none of them is known to be
// reachable, those at relays.
func (r *reach) addrs(known []ma.Multiaddr) []ma.Multiaddr {
	h := r.p2p.Load()
	if h == nil {
		return known
	}
	var reachable, listen []ma.Multiaddr
	if c, ok := (*h).(interface {
		ConfirmedAddrs() (reachable, unreachable, unknown []ma.Multiaddr)
	}); ok {
		reachable, _, _ = c.ConfirmedAddrs()
	}
	sure := reachable
	if all, err := (*h).Network().InterfaceListenAddresses(); err == nil {
		sure = slices.Concat(sure, all)
		listen = (*h).Network().ListenAddresses()
	}
	if m := r.mapper.Load(); m != nil {
		for _, l := range listen {
			if a := (*m).GetMapping(l); a != nil {
				sure = append(sure, a)
			}
		}
	}
	out := make([]ma.Multiaddr, 0, len(known)+len(r.config.Relays))
	for _, a := range known {
		if !isRelayed(a) && (!manet.IsPublicAddr(a) || slices.ContainsFunc(sure, a.Equal)) {
			out = append(out, a)
		}
	}
	if len(reachable) == 0 {
		out = append(out, r.relayed()...)
	}
	return out
}

// OnAddrsChanged calls f, not concurrently with itself, after Addrs has changed,
// and perhaps once more. f runs on a goroutine of its own and must not call
// Close, which waits for it.
func (h *Host) OnAddrsChanged(f func()) error {
	sub, err := h.p2p.EventBus().Subscribe(new(event.EvtLocalAddressesUpdated))
	if err != nil {
		return fmt.Errorf("mesh: watch addresses: %w", err)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		sub.Close()
		return errClosed()
	}
	h.watches = append(h.watches, sub)
	h.wg.Go(func() {
		for range sub.Out() {
			f()
		}
	})
	return nil
}

// isRelayed reports whether a leads through a relay.
func isRelayed(a ma.Multiaddr) bool {
	_, err := a.ValueForProtocol(ma.P_CIRCUIT)
	return err == nil
}

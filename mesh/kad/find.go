package kad

import (
	"cmp"
	"context"
	"errors"
	"iter"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/routing"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/liop-project/liop/core/fault"
)

// MaxProviders is how many peers Providers yields: more than anyone would ask,
// and few enough that a flood of liars costs little.
const MaxProviders = 100

// Providers yields peers that say they have the dataset, each once, with its
// addresses, and never this host. They come as they are found, or, with a
// Config.Policy, when the search is over, best first. It ends after
// MaxProviders, or when ctx ends, or when the search is over. An empty routing
// table ends it at once: see WaitReady.
func (d *DHT) Providers(ctx context.Context, name string) iter.Seq[peer.AddrInfo] {
	found := func(yield func(peer.AddrInfo) bool) { d.providers(ctx, name, yield) }
	if _, ok := d.policy.(everyone); ok {
		return found
	}
	return func(yield func(peer.AddrInfo) bool) {
		all := slices.Collect(found)
		slices.SortStableFunc(all, func(a, b peer.AddrInfo) int {
			return cmp.Compare(d.policy.Score(b.ID), d.policy.Score(a.ID))
		})
		for _, p := range all {
			if !yield(p) {
				return
			}
		}
	}
}

func (d *DHT) providers(ctx context.Context, name string, yield func(peer.AddrInfo) bool) {
	ctx, cancel := d.bind(ctx)
	defer cancel()
	seen := map[peer.ID]bool{d.host.ID(): true}
	var bare []peer.ID // without an address so far
	// kad-dht repeats a peer when it learns an address; the one more is for this
	// host itself.
	for p := range d.dht.FindProvidersAsync(ctx, NameKey(name), MaxProviders+1) {
		switch {
		case seen[p.ID] || p.ID.Validate() != nil:
		case len(p.Addrs) == 0:
			bare = append(bare, p.ID)
		default:
			seen[p.ID] = true
			if p.Addrs = reachable(p.Addrs); !yield(p) || len(seen) > MaxProviders {
				return
			}
		}
	}
	for _, id := range bare {
		if seen[id] || ctx.Err() != nil {
			continue
		}
		seen[id] = true
		if p, err := d.FindPeer(ctx, id); err == nil && (!yield(p) || len(seen) > MaxProviders) {
			return
		}
	}
}

// valueSettles is how long Value goes on when it has a value. Of the peers
// nearest to a key, those that live answer at about the same time; one that is
// gone would take seconds to be given up.
const valueSettles = time.Second

// Value returns the value of p that the validator likes best, of those that the
// peers nearest to it give within a second of the first. The error is a
// *fault.Error with code Unreachable if there is none, or ctx ended before one
// came.
func (d *DHT) Value(ctx context.Context, p peer.ID) ([]byte, error) {
	ctx, cancel := d.bind(ctx)
	defer cancel()
	found, err := d.dht.SearchValue(ctx, ValueKey(p))
	if err != nil {
		return nil, d.explain(err, "the search in the mesh failed", "try again")
	}
	var best []byte
	var settle *time.Timer
	for v := range found { // each better than the one before
		if settle == nil {
			settle = time.AfterFunc(valueSettles, cancel)
		}
		best = v
	}
	if settle != nil {
		settle.Stop()
		return best, nil
	}
	return nil, d.explain(ctx.Err(), "no peer of the mesh has a record of that node",
		"the node may be new, or have been away for long; check its id")
}

// FindPeer returns the addresses of p. The error is a *fault.Error with code
// Unreachable if nobody knows any, or ctx ended before.
func (d *DHT) FindPeer(ctx context.Context, p peer.ID) (peer.AddrInfo, error) {
	ctx, cancel := d.bind(ctx)
	defer cancel()
	info, err := d.dht.FindPeer(ctx, p)
	if info.Addrs = reachable(info.Addrs); err == nil && len(info.Addrs) > 0 {
		return info, nil
	}
	return peer.AddrInfo{}, d.explain(err, "no peer of the mesh knows an address of that peer",
		"it may be away; check its id, or use its address")
}

// explain makes the error for a search that found nothing.
func (d *DHT) explain(err error, message, hint string) error {
	f := &fault.Error{Code: fault.Unreachable, Rule: "mesh", Owner: fault.Agent, Message: message, Hint: hint}
	switch {
	case errors.Is(err, context.Canceled):
		return cancelled()
	case errors.Is(err, context.DeadlineExceeded):
		f.Message = "the mesh did not answer in time"
		f.Hint = "try again, or with more time"
	case d.empty():
		return noPeers()
	case err != nil && !errors.Is(err, routing.ErrNotFound):
		f.Message = "the search in the mesh failed"
		f.Hint = "try again"
	}
	return f
}

func cancelled() *fault.Error {
	return &fault.Error{Code: fault.Cancelled, Rule: "context", Owner: fault.Agent, Message: "the search was cancelled"}
}

func noPeers() *fault.Error {
	return &fault.Error{
		Code:    fault.Unreachable,
		Rule:    "mesh.bootstrap",
		Owner:   fault.Agent,
		Message: "no peer of the mesh has answered",
		Hint:    "check that a bootstrap peer is given, that it runs, and that its address can be reached from here",
	}
}

// bind makes a context that ends with ctx, and with the DHT.
func (d *DHT) bind(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(d.ctx, cancel)
	return ctx, func() {
		stop()
		cancel()
	}
}

// Ready is closed when the first peer has come into the routing table. It may
// have left since.
func (d *DHT) Ready() <-chan struct{} { return d.ready }

// WaitReady waits for Ready. The error is a *fault.Error: Unreachable if ctx
// ends before, Cancelled if it is cancelled or the DHT closed.
func (d *DHT) WaitReady(ctx context.Context) error {
	select {
	case <-d.ready:
		return nil
	default:
	}
	select {
	case <-d.ready:
		return nil
	case <-d.ctx.Done():
		return cancelled()
	case <-ctx.Done():
		if errors.Is(ctx.Err(), context.Canceled) {
			return cancelled()
		}
		return noPeers()
	}
}

// Peer is an entry of the routing table.
type Peer struct {
	ID        peer.ID
	Addrs     []ma.Multiaddr
	Connected bool
	Latency   time.Duration // a moving average; zero if never measured
	Since     time.Time     // when it came into the table
	Answered  time.Time     // when it last answered
}

// Peers is the routing table, longest known first.
func (d *DHT) Peers() []Peer {
	infos := d.dht.RoutingTable().GetPeerInfos()
	peers := make([]Peer, 0, len(infos))
	for _, p := range infos {
		peers = append(peers, Peer{
			ID:        p.Id,
			Addrs:     d.host.Peerstore().Addrs(p.Id),
			Connected: d.host.Network().Connectedness(p.Id) == network.Connected,
			Latency:   d.host.Peerstore().LatencyEWMA(p.Id),
			Since:     p.AddedAt,
			Answered:  p.LastSuccessfulOutboundQueryAt,
		})
	}
	slices.SortFunc(peers, func(a, b Peer) int { return a.Since.Compare(b.Since) })
	return peers
}

package kad

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/net/swarm"
)

const (
	// joinBase and joinMax pace the attempts to reach bootstrap peers while
	// nobody is in the routing table.
	joinBase = time.Second
	joinMax  = time.Minute
	// joinTimeout is how long one attempt may take.
	joinTimeout = 15 * time.Second
)

// join brings peers into the routing table, and does so again when it is empty.
func (d *DHT) join() {
	backoff := joinBase
	for {
		d.connect()
		empty, next := d.empty(), d.tuning.Refresh
		if empty {
			// Not at the same moment as all the others that lost this peer.
			next = backoff/2 + rand.N(backoff)
			backoff = min(2*backoff, joinMax)
		} else {
			backoff = joinBase
		}
		if !d.pause(next, empty) {
			return
		}
	}
}

// pause ends after so long, or when the routing table is no longer as empty as
// it was; it is false when the DHT closes.
func (d *DHT) pause(long time.Duration, empty bool) bool {
	timer := time.NewTimer(long)
	defer timer.Stop()
	for {
		select {
		case <-d.ctx.Done():
			return false
		case <-timer.C:
			return true
		case <-d.joinWake:
			// The target of a lookup is asked whoever it is, and kad-dht puts
			// into its table whoever answers.
			for _, p := range d.dht.RoutingTable().ListPeers() {
				if !d.policy.Route(p) {
					d.dht.RoutingTable().RemovePeer(p)
				}
			}
			if d.empty() != empty {
				return true
			}
		}
	}
}

func (d *DHT) empty() bool { return d.dht.RoutingTable().Size() == 0 }

// connect dials the bootstrap peers that are not connected, all at once.
func (d *DHT) connect() {
	var dials sync.WaitGroup
	for _, p := range d.boot {
		if p.ID == d.host.ID() || d.host.Network().Connectedness(p.ID) == network.Connected {
			continue
		}
		dials.Go(func() { d.dial(p) })
	}
	dials.Wait()
	if d.empty() {
		d.dht.Bootstrap(d.ctx) // looks at who is connected; it has no error to return
	}
}

func (d *DHT) dial(p peer.AddrInfo) {
	ctx, cancel := context.WithTimeout(d.ctx, joinTimeout)
	defer cancel()
	if s, ok := d.host.Network().(*swarm.Swarm); ok {
		s.Backoff().Clear(p.ID) // the pace is ours
	}
	if err := d.host.Connect(ctx, p); err != nil && d.ctx.Err() == nil {
		d.log.LogAttrs(ctx, slog.LevelInfo, "kad.bootstrap_unreachable",
			slog.String("peer", p.ID.String()), slog.Any("err", err))
	}
}

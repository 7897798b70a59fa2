package kad

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/discovery/mdns"
	"golang.org/x/time/rate"
)

const (
	// mdnsService is what peers of the local network ask for.
	mdnsService = "_liop._udp"
	// Anyone on the local network can name any number of peers to us, without
	// proof: they are dialed at this rate, with these many at a time, and the
	// rest is forgotten. Whoever is there says so again.
	mdnsDialsPerSecond = 2
	mdnsBurst          = 32
	mdnsDials          = 8
	// mdnsAddrs is how many addresses of a peer are tried.
	mdnsAddrs = 16
)

// lan finds peers on the local network. Whoever is found is dialed like anyone
// else: the host's Admit decides.
type lan struct {
	d       *DHT
	service mdns.Service
	limit   *rate.Limiter
	slots   chan struct{}

	mu     sync.Mutex // guards closed and wg.Add
	closed bool
	wg     sync.WaitGroup
}

// startLAN begins to find peers. A machine without multicast is none that cannot
// have a DHT.
func (d *DHT) startLAN() {
	l := &lan{d: d, limit: rate.NewLimiter(mdnsDialsPerSecond, mdnsBurst), slots: make(chan struct{}, mdnsDials)}
	l.service = mdns.NewMdnsService(d.host, mdnsService, l)
	if err := l.service.Start(); err != nil {
		d.log.LogAttrs(d.ctx, slog.LevelWarn, "kad.mdns_unavailable", slog.Any("err", err))
		l.service.Close()
		return
	}
	d.lan = l
}

// HandlePeerFound implements mdns.Notifee.
func (l *lan) HandlePeerFound(p peer.AddrInfo) {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return
	}
	l.wg.Add(1)
	l.mu.Unlock()
	defer l.wg.Done()

	if p.ID == l.d.host.ID() || l.d.host.Network().Connectedness(p.ID) == network.Connected || !l.limit.Allow() {
		return
	}
	select {
	case l.slots <- struct{}{}:
	default:
		return
	}
	defer func() { <-l.slots }()
	p.Addrs = p.Addrs[:min(len(p.Addrs), mdnsAddrs)]
	ctx, cancel := context.WithTimeout(l.d.ctx, joinTimeout)
	defer cancel()
	start := time.Now()
	if err := l.d.host.Connect(ctx, p); err != nil {
		l.d.log.LogAttrs(ctx, slog.LevelDebug, "kad.mdns_unreachable", slog.String("peer", p.ID.String()), slog.Any("err", err))
		return
	}
	l.d.log.LogAttrs(ctx, slog.LevelDebug, "kad.mdns_found",
		slog.String("peer", p.ID.String()), slog.Duration("took", time.Since(start)))
}

// Close stops finding. The context of the DHT has ended.
func (l *lan) Close() error {
	err := l.service.Close()
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
	l.wg.Wait()
	return err
}

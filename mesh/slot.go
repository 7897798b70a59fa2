package mesh

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/peerstore"
	circuit "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/client"

	ma "github.com/multiformats/go-multiaddr"
)

const (
	// reserveTimeout bounds one attempt to get a slot, dial included.
	reserveTimeout = 30 * time.Second
	// reserveAgainMin and reserveAgainMax pace attempts at a relay that has no
	// slot for us. A relay that restarts is back in seconds.
	reserveAgainMin = time.Second
	reserveAgainMax = time.Minute
	// renewMin and renewMax are when a slot is renewed: in the middle of its
	// life, but a relay cannot have us ask without end, or never.
	renewMin = 10 * time.Second
	renewMax = 30 * time.Minute
)

// slot is our place at one relay (circuit v2 reservation), which lives as long as
// our connection to it. libp2p's AutoRelay is not used because it never names
// relays with private addresses, and leaves a relay that failed alone for long.
type slot struct {
	reach *reach
	host  *Host
	relay peer.AddrInfo
	addrs []ma.Multiaddr // of this host through the relay
	gone  chan struct{}  // has a value when the relay has gone away
}

func newSlot(r *reach, h *Host, relay peer.AddrInfo) *slot {
	through := ma.StringCast("/p2p/" + relay.ID.String() + "/p2p-circuit")
	s := &slot{reach: r, host: h, relay: relay, gone: make(chan struct{}, 1)}
	for _, a := range relay.Addrs {
		s.addrs = append(s.addrs, a.Encapsulate(through))
	}
	return s
}

// keep holds the slot until ctx ends.
func (s *slot) keep(ctx context.Context) {
	watch := &network.NotifyBundle{DisconnectedF: func(n network.Network, c network.Conn) {
		if c.RemotePeer() == s.relay.ID && n.Connectedness(s.relay.ID) == network.NotConnected {
			select {
			case s.gone <- struct{}{}:
			default:
			}
		}
	}}
	s.host.swarm.Notify(watch)
	defer s.host.swarm.StopNotify(watch)
	conns := s.host.p2p.ConnManager()
	conns.Protect(s.relay.ID, "relay")
	defer conns.Unprotect(s.relay.ID, "relay")

	pause, told := reserveAgainMin, false
	for ctx.Err() == nil {
		end, err := s.reserve(ctx)
		var wait time.Duration
		if err == nil {
			s.reach.have(s.relay.ID, s.addrs)
			pause, told = reserveAgainMin, false
			wait = min(max(time.Until(end)/2, renewMin), renewMax)
		} else {
			s.reach.have(s.relay.ID, nil)
			if !told && ctx.Err() == nil { // once for each outage
				s.reach.log.LogAttrs(ctx, slog.LevelWarn, "mesh.relay_lost",
					slog.String("relay", s.relay.ID.String()), slog.Any("err", err))
				told = true
			}
			wait = pause/2 + rand.N(pause) // so that not all come back at once
			pause = min(2*pause, reserveAgainMax)
		}
		s.wait(ctx, wait, err == nil)
	}
}

// wait waits for d, or the relay's end if a slot is there to lose.
func (s *slot) wait(ctx context.Context, d time.Duration, have bool) {
	t := time.NewTimer(d)
	defer t.Stop()
	gone := s.gone
	if !have {
		gone = nil
	}
	select {
	case <-ctx.Done():
	case <-gone:
		s.reach.have(s.relay.ID, nil)
	case <-t.C:
	}
}

func (s *slot) reserve(ctx context.Context) (end time.Time, err error) {
	ctx, cancel := context.WithTimeout(ctx, reserveTimeout)
	defer cancel()
	select { // what went away before is no news
	case <-s.gone:
	default:
	}
	if s.host.swarm.Connectedness(s.relay.ID) != network.Connected {
		s.host.swarm.Backoff().Clear(s.relay.ID)
		s.host.swarm.Peerstore().AddAddrs(s.relay.ID, s.relay.Addrs, peerstore.TempAddrTTL)
	}
	got, err := circuit.Reserve(ctx, s.host.p2p, s.relay)
	if err != nil {
		return time.Time{}, err
	}
	return got.Expiration, nil
}

package mesh

import (
	"context"
	"net/netip"
	"slices"
	"sync"

	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
)

// maxLobby is how many connections of unknown peers wait to present a token at
// the same time. A member needs two round trips, so this is a hundred members
// per second; each place costs a handshake, and memory as provisionalStreams says.
const maxLobby = 32

// lobby is where connections of unknown peers wait. When it is full a newcomer
// takes the place of another: of the one that waits longest among those from
// the network that has most of them. So who floods it from one network drives
// out only their own, and a member of another network keeps its place.
type lobby struct {
	mu      sync.Mutex
	waiting []*visitor // in order of arrival
}

type visitor struct {
	network netip.Prefix
	cancel  context.CancelFunc
}

// enter takes a place. The context ends with ctx, or when the place is taken
// away. The caller must call leave.
func (l *lobby) enter(ctx context.Context, from ma.Multiaddr) (_ context.Context, leave func()) {
	ctx, cancel := context.WithCancel(ctx)
	v := &visitor{network: networkOf(from), cancel: cancel}
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.waiting) >= maxLobby {
		l.dropLocked()
	}
	l.waiting = append(l.waiting, v)
	return ctx, func() {
		cancel()
		l.mu.Lock()
		defer l.mu.Unlock()
		if i := slices.Index(l.waiting, v); i >= 0 {
			l.waiting = slices.Delete(l.waiting, i, i+1)
		}
	}
}

func (l *lobby) dropLocked() {
	count := map[netip.Prefix]int{}
	for _, v := range l.waiting {
		count[v.network]++
	}
	most := 0
	for i, v := range l.waiting {
		if count[v.network] > count[l.waiting[most].network] {
			most = i
		}
	}
	l.waiting[most].cancel()
	l.waiting = slices.Delete(l.waiting, most, most+1)
}

// networkOf is what one attacker has for nothing, as in MaxPeersPerSubnet: one
// IPv4 address or an IPv6 /56. What has no address is one network together.
func networkOf(a ma.Multiaddr) netip.Prefix {
	ip, err := manet.ToIP(a)
	if err != nil {
		return netip.Prefix{}
	}
	addr, _ := netip.AddrFromSlice(ip)
	addr = addr.Unmap()
	bits := 32
	if addr.Is6() {
		bits = 56
	}
	p, _ := addr.Prefix(bits)
	return p
}

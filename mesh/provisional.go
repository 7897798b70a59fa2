package mesh

import (
	"fmt"
	"sync/atomic"

	"github.com/libp2p/go-libp2p/core/network"

	ma "github.com/multiformats/go-multiaddr"
)

// provisionalStreams is how many streams an unknown peer may open on Yamux: the
// one for its token. Yamux itself would take 256 with a buffer of 256 KiB each.
// QUIC needs no such bound: all streams that nobody reads share one window of
// 768 KiB.
const provisionalStreams = 1

// provisionalScopes bounds the streams of peers that have not been let in. The
// resource manager beneath bounds peers, and does not know who is one of ours.
type provisionalScopes struct {
	network.ResourceManager
	members *members
}

func (r provisionalScopes) OpenConnection(d network.Direction, usefd bool, endpoint ma.Multiaddr) (network.ConnManagementScope, error) {
	s, err := r.ResourceManager.OpenConnection(d, usefd, endpoint)
	if err != nil || d != network.DirInbound {
		return s, err
	}
	return &provisional{ConnManagementScope: s, members: r.members}, nil
}

// provisional is the scope of an incoming connection.
type provisional struct {
	network.ConnManagementScope
	members *members
	letIn   atomic.Bool
	streams atomic.Int32
}

// PeerScope is what the muxer takes its streams' memory from.
func (p *provisional) PeerScope() network.PeerScope {
	s := p.ConnManagementScope.PeerScope()
	if s == nil || p.members.admits(s.Peer()) {
		return s
	}
	return provisionalPeer{s, p}
}

type provisionalPeer struct {
	network.PeerScope
	conn *provisional
}

// BeginSpan begins a stream. Its error ends the connection.
func (p provisionalPeer) BeginSpan() (network.ResourceScopeSpan, error) {
	if !p.conn.letIn.Load() && p.conn.streams.Add(1) > provisionalStreams {
		return nil, fmt.Errorf("mesh: a peer that is not admitted opens another stream: %w", network.ErrResourceLimitExceeded)
	}
	return p.PeerScope.BeginSpan()
}

// letIn takes the bound away.
func letIn(c network.Conn) {
	if p, ok := c.Scope().(*provisional); ok {
		p.letIn.Store(true)
	}
}

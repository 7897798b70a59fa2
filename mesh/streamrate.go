package mesh

import (
	"fmt"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"golang.org/x/time/rate"
)

const (
	// streamsPerSecond is how many streams one peer may open in the long run. An
	// honest one opens a few when it connects, and one for each query or ping.
	streamsPerSecond = 100
	// streamBurst is how many it may open at once before that counts: all that it
	// may have open, a few times over.
	streamBurst = 4 * DefaultMaxStreamsPerPeer
)

// streamLimiter bounds how often peers open streams, where the resource manager
// bounds how many are open: one that is opened and reset at once is never many,
// and still costs a goroutine and a negotiation. It is asked before those.
type streamLimiter struct {
	network.ResourceManager
	now  func() time.Time
	most int // peers, far above those that can be connected

	mu    sync.Mutex
	peers map[peer.ID]*rate.Limiter // of connected peers that have opened a stream
}

func newStreamLimiter(r network.ResourceManager, maxConns int) *streamLimiter {
	return &streamLimiter{ResourceManager: r, now: time.Now, most: 2 * maxConns, peers: map[peer.ID]*rate.Limiter{}}
}

// OpenStream implements network.ResourceManager.
func (l *streamLimiter) OpenStream(p peer.ID, d network.Direction) (network.StreamManagementScope, error) {
	if d == network.DirInbound && !l.take(p) {
		return nil, fmt.Errorf("mesh: more than %d streams a second: %w", streamsPerSecond, network.ErrResourceLimitExceeded)
	}
	return l.ResourceManager.OpenStream(p, d)
}

func (l *streamLimiter) take(p peer.ID) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	r := l.peers[p]
	if r == nil {
		if len(l.peers) >= l.most { // a stream may come after its peer was forgotten
			clear(l.peers)
		}
		r = rate.NewLimiter(streamsPerSecond, streamBurst)
		l.peers[p] = r
	}
	return r.AllowN(l.now(), 1)
}

// forgetOn has peers that go away forgotten: coming back takes a handshake, of
// which there is a limit, too.
func (l *streamLimiter) forgetOn(n network.Network) {
	n.Notify(&network.NotifyBundle{DisconnectedF: func(n network.Network, c network.Conn) {
		if n.Connectedness(c.RemotePeer()) == network.NotConnected {
			l.mu.Lock()
			delete(l.peers, c.RemotePeer())
			l.mu.Unlock()
		}
	}})
}

package kad

import (
	"context"
	"errors"

	"github.com/hashicorp/golang-lru/simplelru"
	pb "github.com/libp2p/go-libp2p-kad-dht/pb"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/protocol"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
)

// maxRequestBytes bounds a request: a value, its key, and the addresses of the
// peer that sends it. kad-dht would make room for any 4 MiB that a peer
// promises to send.
const maxRequestBytes = MaxValueBytes + 16<<10

// guardedHost bounds the requests that the DHT reads.
type guardedHost struct{ host.Host }

func (h guardedHost) SetStreamHandler(id protocol.ID, handle network.StreamHandler) {
	h.Host.SetStreamHandler(id, func(s network.Stream) { handle(&requestStream{Stream: s}) })
}

var errTooLarge = errors.New("kad: the request is too large")

// requestStream reads frames, each its length as an unsigned varint and then so
// many bytes, and ends before a frame that is too large. Its reader has seen
// the length only when it was good.
type requestStream struct {
	network.Stream
	left   uint64 // of the frame
	length uint64 // as far as it was read
	shift  uint
}

func (s *requestStream) Read(b []byte) (int, error) {
	n, err := s.Stream.Read(b)
	for rest := b[:n]; len(rest) > 0; {
		if s.left > 0 {
			skip := min(s.left, uint64(len(rest)))
			s.left -= skip
			rest = rest[skip:]
			continue
		}
		s.length |= uint64(rest[0]&0x7f) << s.shift
		s.shift += 7
		if s.length > maxRequestBytes || s.shift > 28 {
			s.Reset()
			return 0, errTooLarge
		}
		if rest[0] < 0x80 {
			s.left, s.length, s.shift = s.length, 0, 0
		}
		rest = rest[1:]
	}
	return n, err
}

// onRequest takes out of a request what its sender has no right to. A peer can
// make others keep its own value only, as kad-dht has it for provider records:
// so whoever wants to fill their disks needs a connection for each record.
func onRequest(_ context.Context, s network.Stream, m *pb.Message) {
	if m.GetType() == pb.Message_PUT_VALUE && string(m.GetKey()) != ValueKey(s.Conn().RemotePeer()) {
		m.Record = nil // which kad-dht refuses
	}
}

// reachable leaves out addresses of loopback, which mean another machine to
// everyone else, unless there is nothing else: then all peers are on this one.
// It is for addresses of this host and of others. Private addresses stay:
// meshes live in private networks.
func reachable(addrs []ma.Multiaddr) []ma.Multiaddr {
	var out []ma.Multiaddr
	for _, a := range addrs {
		if !manet.IsIPLoopback(a) {
			out = append(out, a)
		}
	}
	if len(out) == 0 {
		return addrs
	}
	return out
}

// noCache stands in for the cache of the provider manager, which grows with
// each provider that announces itself: what is answered is what the store has.
type noCache struct{}

func (noCache) Add(any, any) bool              { return false }
func (noCache) Get(any) (any, bool)            { return nil, false }
func (noCache) Contains(any) bool              { return false }
func (noCache) Peek(any) (any, bool)           { return nil, false }
func (noCache) Remove(any) bool                { return false }
func (noCache) RemoveOldest() (any, any, bool) { return nil, nil, false }
func (noCache) GetOldest() (any, any, bool)    { return nil, nil, false }
func (noCache) Keys() []any                    { return nil }
func (noCache) Len() int                       { return 0 }
func (noCache) Purge()                         {}
func (noCache) Resize(int) int                 { return 0 }

var _ simplelru.LRUCache = noCache{}

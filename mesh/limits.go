package mesh

import (
	"fmt"
	"net/netip"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/protocol"
	rcmgr "github.com/libp2p/go-libp2p/p2p/host/resource-manager"
	"github.com/libp2p/go-libp2p/p2p/protocol/autonatv2"
	"github.com/libp2p/go-libp2p/x/rate"
)

// Defaults of Limits.
const (
	// DefaultMaxConns costs about 0.1 MiB each when idle.
	DefaultMaxConns = 1024
	// DefaultMaxConnsPerPeer leaves room for QUIC and TCP over several
	// interfaces while an old connection still times out.
	DefaultMaxConnsPerPeer = 8
	// DefaultMaxPeersPerSubnet is generous: a company's agents sit behind one
	// address.
	DefaultMaxPeersPerSubnet = 256
	// DefaultMaxStreamsPerPeer is far above what lanes, identify, ping and
	// discovery use together. QUIC itself stops at 256 per connection.
	DefaultMaxStreamsPerPeer = 128
	// DefaultMaxMemory bounds the buffers that libp2p accounts for; little of
	// it is in use unless many peers stop reading at once.
	DefaultMaxMemory = 1 << 30
)

const (
	// newConnsPerSecond is how many connections one subnet may open, in the
	// long run. libp2p's own default of one in five seconds would starve agents
	// behind one address; a handshake costs about 2 ms of CPU.
	newConnsPerSecond = 16

	// systemStreamsPerConn is the mean number of streams per connection that
	// the host as a whole has room for.
	systemStreamsPerConn = 16

	// addrsPerConn and recordsPerConn bound what is remembered of peers that are
	// not connected, which other peers name: addresses, at about 100 bytes each,
	// and signed lists of addresses of at most 8 KiB. libp2p's own bounds are a
	// million and a hundred thousand.
	addrsPerConn   = 64
	recordsPerConn = 4

	// laneStreamsPerPeer is the hard stop of libp2p behind MaxConnsPerPeer of
	// ServeOptions, in each direction.
	laneStreamsPerPeer = 64

	// kadProtocol is that of package kad, which bounds what is said on it. Peers
	// keep one stream open in each direction and send one request after the
	// other; another may begin while an old one ends.
	kadProtocol       = protocol.ID("/liop/kad/1.0.0")
	kadStreamsPerPeer = 8
	kadStreamsPerConn = 2 // in the mean
	kadShareOfMemory  = 4 // a quarter
)

// Limits bound what peers can make this host hold. Zero means the default.
type Limits struct {
	// MaxConns is the number of connections of all peers, incoming, outgoing
	// and in handshake. Default DefaultMaxConns. Close to it, connections that
	// have been up for a minute and have no open lane are dropped.
	MaxConns int
	// MaxConnsPerPeer is the number of connections of one peer. Default
	// DefaultMaxConnsPerPeer.
	MaxConnsPerPeer int
	// MaxPeersPerSubnet is the number of connections from one IPv4 address or
	// one IPv6 /56; an IPv6 /48 gets four times as many. Loopback is bounded by
	// MaxConns alone. Default DefaultMaxPeersPerSubnet.
	MaxPeersPerSubnet int
	// MaxStreamsPerPeer is the number of libp2p streams of one peer in each
	// direction; a lane is one stream, however many calls it carries. Default
	// DefaultMaxStreamsPerPeer. Beside it, a peer may open 100 streams a second in
	// the long run, and 512 at once; more are reset.
	MaxStreamsPerPeer int
	// MaxMemory is the number of bytes that libp2p may hold in stream and
	// connection buffers. Default DefaultMaxMemory.
	MaxMemory int64
}

func (l Limits) validate() error {
	for _, f := range []struct {
		name  string
		value int64
	}{
		{"MaxConns", int64(l.MaxConns)},
		{"MaxConnsPerPeer", int64(l.MaxConnsPerPeer)},
		{"MaxPeersPerSubnet", int64(l.MaxPeersPerSubnet)},
		{"MaxStreamsPerPeer", int64(l.MaxStreamsPerPeer)},
		{"MaxMemory", l.MaxMemory},
	} {
		if f.value < 0 {
			return fmt.Errorf("mesh: Config.Limits.%s is negative; zero means the default", f.name)
		}
	}
	return nil
}

func (l Limits) withDefaults() Limits {
	orDefault(&l.MaxConns, DefaultMaxConns)
	orDefault(&l.MaxConnsPerPeer, DefaultMaxConnsPerPeer)
	orDefault(&l.MaxPeersPerSubnet, DefaultMaxPeersPerSubnet)
	orDefault(&l.MaxStreamsPerPeer, DefaultMaxStreamsPerPeer)
	orDefault(&l.MaxMemory, DefaultMaxMemory)
	return l
}

func orDefault[T int | uint32 | int64](v *T, d T) {
	if *v == 0 {
		*v = d
	}
}

// waterMarks of the connection manager: past high it drops connections without
// an open lane until low are left, so that peers who only sit there cannot use
// up MaxConns. Peers with an open lane are protected.
func (l Limits) waterMarks() (low, high int) {
	return l.MaxConns - l.MaxConns/8, l.MaxConns - l.MaxConns/16
}

// AutoNAT v2, which libp2p has no limits of its own for: a peer asks for one
// address at a time, and gets one answer on another connection.
var (
	autoNATStreams     = rcmgr.BaseLimit{StreamsInbound: 64, StreamsOutbound: 64, Streams: 128, Memory: 4 << 20}
	autoNATPeerStreams = rcmgr.BaseLimit{StreamsInbound: 4, StreamsOutbound: 4, Streams: 8, Memory: 1 << 20}
)

// resources has a finite limit in every scope.
func (l Limits) resources() rcmgr.ConcreteLimitConfig {
	// What is not set below, such as the limits of identify, ping, hole punches
	// and relaying, is libp2p's own, scaled to our memory.
	scaling := rcmgr.DefaultLimits
	libp2p.SetDefaultServiceLimits(&scaling)
	scaling.AddServiceLimit(autonatv2.ServiceName, autoNATStreams, rcmgr.BaseLimitIncrease{})
	scaling.AddServicePeerLimit(autonatv2.ServiceName, autoNATPeerStreams, rcmgr.BaseLimitIncrease{})
	for _, id := range []protocol.ID{autonatv2.DialProtocol, autonatv2.DialBackProtocol} {
		scaling.AddProtocolLimit(id, autoNATStreams, rcmgr.BaseLimitIncrease{})
		scaling.AddProtocolPeerLimit(id, autoNATPeerStreams, rcmgr.BaseLimitIncrease{})
	}
	base := scaling.Scale(l.MaxMemory, l.MaxConns)

	conns := rcmgr.LimitVal(l.MaxConns)
	streams := conns * systemStreamsPerConn
	// Handshakes and negotiations under way: a quarter, but enough for a host
	// with few connections, and twice what one address may have, so that one
	// which begins handshakes and never ends them leaves room for others.
	transient := max(conns/4, min(conns, rcmgr.LimitVal(2*l.MaxPeersPerSubnet)), 32)
	perPeer := rcmgr.LimitVal(l.MaxStreamsPerPeer)

	partial := rcmgr.PartialLimitConfig{
		System: rcmgr.ResourceLimits{
			Conns: conns, ConnsInbound: conns, ConnsOutbound: conns, FD: conns,
			Streams: streams, StreamsInbound: streams, StreamsOutbound: streams,
			Memory: rcmgr.LimitVal64(l.MaxMemory),
		},
		Transient: rcmgr.ResourceLimits{
			Conns: transient, ConnsInbound: transient, ConnsOutbound: transient, FD: transient,
			Streams: 4 * transient, StreamsInbound: 4 * transient, StreamsOutbound: 4 * transient,
			Memory: rcmgr.LimitVal64(max(l.MaxMemory/4, 1)),
		},
		PeerDefault: rcmgr.ResourceLimits{
			Conns:         rcmgr.LimitVal(l.MaxConnsPerPeer),
			ConnsInbound:  rcmgr.LimitVal(l.MaxConnsPerPeer),
			ConnsOutbound: rcmgr.LimitVal(l.MaxConnsPerPeer),
			FD:            rcmgr.LimitVal(l.MaxConnsPerPeer),
			Streams:       2 * perPeer, StreamsInbound: perPeer, StreamsOutbound: perPeer,
		},
		Protocol:     map[protocol.ID]rcmgr.ResourceLimits{},
		ProtocolPeer: map[protocol.ID]rcmgr.ResourceLimits{},
	}
	for _, lane := range []Lane{Control, Events, Bulk} {
		partial.Protocol[protocol.ID(lane)] = rcmgr.ResourceLimits{
			Streams: streams, StreamsInbound: streams, StreamsOutbound: streams,
			Memory: rcmgr.LimitVal64(l.MaxMemory),
		}
		partial.ProtocolPeer[protocol.ID(lane)] = rcmgr.ResourceLimits{
			Streams: 2 * laneStreamsPerPeer, StreamsInbound: laneStreamsPerPeer, StreamsOutbound: laneStreamsPerPeer,
			Memory: rcmgr.LimitVal64(l.MaxMemory),
		}
	}
	// libp2p's own limit, 512 streams in, is less than the connections.
	kad := conns * kadStreamsPerConn
	partial.Protocol[kadProtocol] = rcmgr.ResourceLimits{
		Streams: 2 * kad, StreamsInbound: kad, StreamsOutbound: kad,
		Memory: rcmgr.LimitVal64(max(l.MaxMemory/kadShareOfMemory, 1)),
	}
	partial.ProtocolPeer[kadProtocol] = rcmgr.ResourceLimits{
		Streams: 2 * kadStreamsPerPeer, StreamsInbound: kadStreamsPerPeer, StreamsOutbound: kadStreamsPerPeer,
		Memory: rcmgr.LimitVal64(max(l.MaxMemory/kadShareOfMemory, 1)),
	}

	return partial.Build(base)
}

func (l Limits) resourceManager() (network.ResourceManager, error) {
	n := l.MaxPeersPerSubnet
	burst := func(n int) rate.Limit { return rate.Limit{RPS: newConnsPerSecond, Burst: 2 * n} }
	return rcmgr.NewResourceManager(rcmgr.NewFixedLimiter(l.resources()),
		rcmgr.WithMetricsDisabled(),
		rcmgr.WithNetworkPrefixLimit(
			[]rcmgr.NetworkPrefixLimit{{Network: netip.MustParsePrefix("127.0.0.0/8"), ConnCount: l.MaxConns}},
			[]rcmgr.NetworkPrefixLimit{{Network: netip.MustParsePrefix("::1/128"), ConnCount: l.MaxConns}},
		),
		rcmgr.WithLimitPerSubnet(
			[]rcmgr.ConnLimitPerSubnet{{PrefixLength: 32, ConnCount: n}},
			[]rcmgr.ConnLimitPerSubnet{{PrefixLength: 56, ConnCount: n}, {PrefixLength: 48, ConnCount: 4 * n}},
		),
		rcmgr.WithConnRateLimiters(&rate.Limiter{
			// A zero rate is no limit: who is on this machine has better ways
			// to burn its CPU.
			NetworkPrefixLimits: []rate.PrefixLimit{
				{Prefix: netip.MustParsePrefix("127.0.0.0/8")},
				{Prefix: netip.MustParsePrefix("::1/128")},
			},
			SubnetRateLimiter: rate.SubnetLimiter{
				IPv4SubnetLimits: []rate.SubnetLimit{{PrefixLength: 32, Limit: burst(n)}},
				IPv6SubnetLimits: []rate.SubnetLimit{{PrefixLength: 56, Limit: burst(n)}, {PrefixLength: 48, Limit: burst(4 * n)}},
			},
		}),
	)
}

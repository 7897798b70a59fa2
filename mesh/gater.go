package mesh

import (
	"crypto/tls"

	"github.com/libp2p/go-libp2p/core/connmgr"
	"github.com/libp2p/go-libp2p/core/control"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/quic-go/quic-go"

	ma "github.com/multiformats/go-multiaddr"

	"github.com/liop-project/liop/core/fault"
)

// gater refuses peers between the handshake and the first stream.
type gater struct {
	members   *members
	requirePQ bool
}

var _ connmgr.ConnectionGater = gater{}

func (g gater) InterceptPeerDial(p peer.ID) bool {
	return isEd25519(p) && (g.members.mayKnock() || g.members.admits(p))
}

func (gater) InterceptAddrDial(peer.ID, ma.Multiaddr) bool { return true }

// InterceptAccept knows only an address, and no address is special.
func (gater) InterceptAccept(network.ConnMultiaddrs) bool { return true }

// InterceptSecured runs when the handshake has proved the peer's key and no
// stream exists. Outgoing connections were asked about in InterceptPeerDial.
func (g gater) InterceptSecured(d network.Direction, p peer.ID, _ network.ConnMultiaddrs) bool {
	return isEd25519(p) && (d == network.DirOutbound || g.members.mayKnock() || g.members.admits(p))
}

// InterceptUpgraded runs when streams are possible and libp2p has not taken the
// connection over: nobody can open one before it returns.
func (g gater) InterceptUpgraded(c network.Conn) (bool, control.DisconnectReason) {
	why := g.judge(c)
	if c.Stat().Direction == network.DirOutbound {
		g.members.note(c.RemotePeer(), why)
	}
	return why == nil, 0
}

func (g gater) judge(c network.Conn) *fault.Error {
	if g.requirePQ && !postQuantum(c) {
		return &fault.Error{Code: fault.Denied, Rule: "require_pq", Owner: fault.Agent,
			Message: "the connection is not post-quantum, which this host requires",
			Hint:    "the peer must offer X25519MLKEM768, over QUIC"}
	}
	if !g.members.enabled() {
		return nil
	}
	return g.members.pass(c)
}

// postQuantum reports whether the keys of c were agreed upon with
// X25519MLKEM768. Of TLS over TCP libp2p does not tell; Noise has no such thing.
func postQuantum(c network.Conn) bool {
	var q *quic.Conn
	return c.As(&q) && q.ConnectionState().TLS.CurveID == tls.X25519MLKEM768
}

// isEd25519 reports whether p is the id of an Ed25519 key. Those ids contain
// the key, so the answer needs nothing else.
func isEd25519(p peer.ID) bool {
	k, err := p.ExtractPublicKey()
	return err == nil && k.Type() == crypto.Ed25519
}

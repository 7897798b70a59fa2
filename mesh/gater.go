package mesh

import (
	"github.com/libp2p/go-libp2p/core/connmgr"
	"github.com/libp2p/go-libp2p/core/control"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"

	ma "github.com/multiformats/go-multiaddr"
)

// gater refuses peers between the handshake and the first stream.
type gater struct{ admit func(peer.ID) bool }

var _ connmgr.ConnectionGater = gater{}

func (g gater) InterceptPeerDial(p peer.ID) bool { return isEd25519(p) && g.admit(p) }

func (gater) InterceptAddrDial(peer.ID, ma.Multiaddr) bool { return true }

// InterceptAccept knows only an address, and no address is special.
func (gater) InterceptAccept(network.ConnMultiaddrs) bool { return true }

// InterceptSecured runs when the handshake has proved the peer's key and no
// stream exists. Outgoing connections were asked about in InterceptPeerDial.
func (g gater) InterceptSecured(d network.Direction, p peer.ID, _ network.ConnMultiaddrs) bool {
	return isEd25519(p) && (d == network.DirOutbound || g.admit(p))
}

func (gater) InterceptUpgraded(network.Conn) (bool, control.DisconnectReason) { return true, 0 }

// isEd25519 reports whether p is the id of an Ed25519 key. Those ids contain
// the key, so the answer needs nothing else.
func isEd25519(p peer.ID) bool {
	k, err := p.ExtractPublicKey()
	return err == nil && k.Type() == crypto.Ed25519
}

package mesh

import (
	"context"
	"errors"
	"fmt"
	"net"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"google.golang.org/grpc/credentials"
	grpcpeer "google.golang.org/grpc/peer"
)

// PeerAuth says who is at the other end of a call. It comes from the handshake
// of the libp2p connection, never from a message.
type PeerAuth struct {
	credentials.CommonAuthInfo
	ID        peer.ID
	PublicKey crypto.PubKey // Ed25519; ID is made from it
	Conn      network.Conn  // for its addresses and state
}

// AuthType is "libp2p".
func (PeerAuth) AuthType() string { return "libp2p" }

// Caller returns who makes the call that ctx belongs to. It is false outside of
// calls that came in through a lane; a handler of a lane always has a caller.
func Caller(ctx context.Context) (PeerAuth, bool) {
	p, ok := grpcpeer.FromContext(ctx)
	if !ok {
		return PeerAuth{}, false
	}
	a, ok := p.AuthInfo.(PeerAuth)
	return a, ok && a.ID != ""
}

// peerCreds are gRPC credentials without a handshake of their own: libp2p has
// authenticated both ends. They fail closed.
type peerCreds struct {
	expect peer.ID // empty: anyone
}

var _ credentials.TransportCredentials = peerCreds{}

func (p peerCreds) ClientHandshake(_ context.Context, _ string, c net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return p.check(c)
}

func (p peerCreds) ServerHandshake(c net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return p.check(c)
}

func (p peerCreds) check(c net.Conn) (net.Conn, credentials.AuthInfo, error) {
	l, ok := c.(*laneConn)
	if !ok {
		return nil, nil, errors.New("mesh: not a stream of a lane")
	}
	conn := l.stream.Conn()
	id, key := conn.RemotePeer(), conn.RemotePublicKey()
	switch {
	case key == nil || key.Type() != crypto.Ed25519 || !id.MatchesPublicKey(key):
		return nil, nil, errors.New("mesh: the connection has no Ed25519 identity")
	case p.expect != "" && id != p.expect:
		return nil, nil, fmt.Errorf("mesh: connected to %s instead of %s", id, p.expect)
	}
	return c, PeerAuth{
		CommonAuthInfo: credentials.CommonAuthInfo{SecurityLevel: credentials.PrivacyAndIntegrity},
		ID:             id,
		PublicKey:      key,
		Conn:           conn,
	}, nil
}

func (peerCreds) Info() credentials.ProtocolInfo {
	return credentials.ProtocolInfo{SecurityProtocol: "libp2p"}
}
func (p peerCreds) Clone() credentials.TransportCredentials { return p }
func (peerCreds) OverrideServerName(string) error           { return nil }

package mesh

import (
	"errors"
	"fmt"
	"slices"

	"github.com/libp2p/go-libp2p/core/peer"

	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"

	"github.com/liop-project/liop/core/fault"
)

// DefaultPort is where a node listens unless told otherwise, on UDP and TCP.
const DefaultPort = 7447

// maxAddrLen bounds the text of an address before it is parsed. The longest
// host name is 253 bytes, a peer id 52, of which there may be two.
const maxAddrLen = 512

// DefaultListen is the addresses that a node listens on unless told otherwise:
// DefaultPort on all interfaces, QUIC and TCP, IPv4 and IPv6.
func DefaultListen() []string {
	return []string{
		fmt.Sprintf("/ip4/0.0.0.0/udp/%d/quic-v1", DefaultPort),
		fmt.Sprintf("/ip6/::/udp/%d/quic-v1", DefaultPort),
		fmt.Sprintf("/ip4/0.0.0.0/tcp/%d", DefaultPort),
		fmt.Sprintf("/ip6/::/tcp/%d", DefaultPort),
	}
}

// ParseAddr reads the address of a peer: a multiaddr with an IP address or host
// name, /udp/PORT/quic-v1 or /tcp/PORT, and /p2p/ID with the id of an Ed25519
// key. /dnsaddr/NAME/p2p/ID is good too, and such an address of a relay followed
// by /p2p-circuit/p2p/ID. The error is a *fault.Error with code
// fault.InvalidRequest and rule "address".
func ParseAddr(s string) (peer.AddrInfo, error) {
	if len(s) > maxAddrLen {
		return peer.AddrInfo{}, badAddr(fmt.Sprintf("the address has more than %d bytes", maxAddrLen))
	}
	a, err := ma.NewMultiaddr(s)
	if err != nil {
		return peer.AddrInfo{}, badAddr("the address is not a multiaddr")
	}
	transport, id := peer.SplitAddr(a)
	if id == "" {
		return peer.AddrInfo{}, badAddr("the address does not end in the id of a peer")
	}
	if !isEd25519(id) {
		return peer.AddrInfo{}, badAddr("the peer id is not that of an Ed25519 key")
	}
	if len(transport) == 0 {
		return peer.AddrInfo{}, badAddr("the address says who to reach, and not where")
	}
	if err := checkTransport(transport, id); err != nil {
		return peer.AddrInfo{}, err
	}
	return peer.AddrInfo{ID: id, Addrs: []ma.Multiaddr{transport}}, nil
}

// checkTransport reports why one could not dial peer id at a.
func checkTransport(a ma.Multiaddr, id peer.ID) error {
	if n := len(a) - 1; a[n].Code() == ma.P_CIRCUIT {
		if n < 2 {
			return badAddr("the address does not say which peer relays, and where it is")
		}
		through, relay := peer.SplitAddr(a[:n])
		switch {
		case !isEd25519(relay):
			return badAddr("the relay's peer id is not that of an Ed25519 key")
		case relay == id:
			return badAddr("the address leads to the relay itself")
		}
		a = through
	}
	if len(a) == 1 && a[0].Code() == ma.P_DNSADDR {
		return nil
	}
	where, how := splitHost(a)
	switch {
	case len(where) == 0:
		return badAddr("the address does not begin with a host")
	case !isTransport(how):
		return badAddr("the address has a transport other than quic-v1 and tcp")
	case how[0].Value() == "0":
		return badAddr("the address has port 0")
	case manet.IsIPUnspecified(where):
		return badAddr("the address means every interface of its own machine")
	}
	return nil
}

func badAddr(message string) *fault.Error {
	return &fault.Error{
		Code:    fault.InvalidRequest,
		Rule:    "address",
		Owner:   fault.Protocol,
		Message: message,
		Hint: "use the address that the node prints, such as /ip4/192.0.2.7/udp/7447/quic-v1/p2p/12D3KooW…, " +
			"or the same with /tcp/7447 instead of /udp/7447/quic-v1",
	}
}

// parseListen reads one of Config.Listen.
func parseListen(s string) (ma.Multiaddr, error) {
	a, err := ma.NewMultiaddr(s)
	if err != nil {
		return nil, fmt.Errorf("parse multiaddr: %w", err)
	}
	where, how := splitHost(a)
	if len(where) == 0 || !isIP(where[len(where)-1]) || !isTransport(how) {
		return nil, errors.New("want /ip4/ADDRESS or /ip6/ADDRESS, then /udp/PORT/quic-v1 or /tcp/PORT")
	}
	return a, nil
}

// splitHost cuts a after its host, which may have an IPv6 zone before it.
func splitHost(a ma.Multiaddr) (host, rest ma.Multiaddr) {
	n := 0
	if len(a) > 1 && a[0].Code() == ma.P_IP6ZONE && a[1].Code() == ma.P_IP6 {
		n = 2
	} else if len(a) > 0 {
		switch a[0].Code() {
		case ma.P_IP4, ma.P_IP6, ma.P_DNS, ma.P_DNS4, ma.P_DNS6:
			n = 1
		}
	}
	return a[:n], a[n:]
}

func isIP(c ma.Component) bool { return c.Code() == ma.P_IP4 || c.Code() == ma.P_IP6 }

// isIP6Unspecified reports whether a listens on all IPv6 interfaces.
func isIP6Unspecified(a ma.Multiaddr) bool {
	return len(a) > 0 && a[0].Code() == ma.P_IP6 && manet.IsIPUnspecified(a[:1])
}

func isTransport(a ma.Multiaddr) bool {
	switch len(a) {
	case 1:
		return a[0].Code() == ma.P_TCP
	case 2:
		return a[0].Code() == ma.P_UDP && a[1].Code() == ma.P_QUIC_V1
	}
	return false
}

func isTCP(a ma.Multiaddr) bool {
	_, err := a.ValueForProtocol(ma.P_TCP)
	return err == nil
}

// dialable makes addresses of this host what Dial takes.
func dialable(as []ma.Multiaddr, id peer.ID) []string {
	as = slices.Clone(as)
	rank := func(a ma.Multiaddr) int {
		n := 0
		if !manet.IsIPLoopback(a) {
			n++
		}
		if _, err := a.ValueForProtocol(ma.P_QUIC_V1); err != nil {
			n += 2
		}
		if isRelayed(a) {
			n += 4
		}
		return n
	}
	slices.SortStableFunc(as, func(a, b ma.Multiaddr) int { return rank(a) - rank(b) })
	out := make([]string, len(as))
	for i, a := range as {
		out[i] = a.String() + "/p2p/" + id.String()
	}
	return out
}

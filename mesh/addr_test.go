package mesh

import (
	"crypto/rand"
	"strings"
	"testing"

	"github.com/libp2p/go-libp2p/core/crypto"

	"github.com/liop-project/liop/core/fault"
)

const (
	someID  = "/p2p/12D3KooWD3eckifWpRn9wQpMG9R9hX3sD158z7EqHWmweQAJU5SA"
	otherID = "/p2p/12D3KooWPjceQrSwdWXPyLLeABRXmuqt69Rg3sBYbU1Nft9HyQ6X"
)

func TestParseAddr(t *testing.T) {
	secp, _, err := crypto.GenerateSecp256k1Key(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for _, good := range []string{
		"/ip4/192.0.2.7/udp/7447/quic-v1",
		"/ip4/192.0.2.7/tcp/7447",
		"/ip6/2001:db8::7/udp/7447/quic-v1",
		"/ip6zone/eth0/ip6/fe80::1/tcp/7447",
		"/dns/data.example/udp/7447/quic-v1",
		"/dns4/data.example/tcp/7447",
		"/dnsaddr/data.example",
		"/ip4/192.0.2.7/udp/7447/quic-v1" + otherID + "/p2p-circuit",
		"/dnsaddr/relay.example" + otherID + "/p2p-circuit",
	} {
		info, err := ParseAddr(good + someID)
		if err != nil {
			t.Errorf("%s: %v", good, err)
			continue
		}
		if "/p2p/"+info.ID.String() != someID || len(info.Addrs) != 1 || info.Addrs[0].String() != good {
			t.Errorf("%s: got %v", good, info)
		}
	}
	for name, bad := range map[string]string{
		"empty":            "",
		"host and port":    "192.0.2.7:7447",
		"no id":            "/ip4/192.0.2.7/tcp/7447",
		"only an id":       someID,
		"id not at end":    someID + "/ip4/192.0.2.7/tcp/7447",
		"two ids":          "/ip4/192.0.2.7/tcp/7447" + someID + someID,
		"relay itself":     "/ip4/192.0.2.7/tcp/7447" + someID + "/p2p-circuit" + someID,
		"only a circuit":   "/p2p-circuit" + someID,
		"relay nowhere":    otherID + "/p2p-circuit" + someID,
		"relay unknown":    "/ip4/192.0.2.7/tcp/7447/p2p-circuit" + someID,
		"relay's key":      "/ip4/192.0.2.7/tcp/7447/p2p/" + idOf(t, secp).String() + "/p2p-circuit" + someID,
		"relay's port":     "/ip4/192.0.2.7/tcp/0" + otherID + "/p2p-circuit" + someID,
		"two relays":       "/ip4/192.0.2.7/tcp/7447" + otherID + "/p2p-circuit" + otherID + "/p2p-circuit" + someID,
		"beyond the relay": "/ip4/192.0.2.7/tcp/7447" + otherID + "/p2p-circuit/ip4/192.0.2.8/tcp/7447" + someID,
		"id of other key":  "/ip4/192.0.2.7/tcp/7447/p2p/" + idOf(t, secp).String(),
		"id of an RSA key": "/ip4/192.0.2.7/tcp/7447/p2p/QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N",
		"no port":          "/ip4/192.0.2.7" + someID,
		"port 0":           "/ip4/192.0.2.7/tcp/0" + someID,
		"unspecified":      "/ip4/0.0.0.0/udp/7447/quic-v1" + someID,
		"websocket":        "/ip4/192.0.2.7/tcp/7447/ws" + someID,
		"webtransport":     "/ip4/192.0.2.7/udp/7447/quic-v1/webtransport" + someID,
		"plain udp":        "/ip4/192.0.2.7/udp/7447" + someID,
		"unix":             "/unix/tmp/socket" + someID,
		"too long":         "/dns4/" + strings.Repeat("a", maxAddrLen) + "/tcp/7447" + someID,
	} {
		_, err := ParseAddr(bad)
		if err == nil {
			t.Errorf("%s: no error", name)
			continue
		}
		f := wantFault(t, err, fault.Error{Code: fault.InvalidRequest, Rule: "address", Hint: "/quic-v1/p2p/"})
		if f.Message == "" || strings.HasSuffix(f.Message, ".") {
			t.Errorf("%s: message %q", name, f.Message)
		}
	}
}

func FuzzParseAddr(f *testing.F) {
	for _, s := range []string{
		"/ip4/192.0.2.7/udp/7447/quic-v1" + someID,
		"/ip6zone/eth0/ip6/fe80::1/tcp/7447" + someID,
		"/dnsaddr/data.example" + someID,
		"/ip4/192.0.2.7/tcp/7447" + otherID + "/p2p-circuit" + someID,
		"/p2p-circuit" + someID,
		"/unix/a" + someID,
		"//", "",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		info, err := ParseAddr(s)
		if err != nil {
			if _, ok := fault.From(err); !ok {
				t.Fatalf("error %v is not a fault", err)
			}
			return
		}
		if !isEd25519(info.ID) || len(info.Addrs) != 1 {
			t.Fatalf("%q: got %v", s, info)
		}
		again, err := ParseAddr(info.Addrs[0].String() + "/p2p/" + info.ID.String())
		if err != nil || again.ID != info.ID || !again.Addrs[0].Equal(info.Addrs[0]) {
			t.Fatalf("%q: reads as %v, and that as %v, %v", s, info, again, err)
		}
	})
}

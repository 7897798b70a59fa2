package mesh

import (
	"testing"

	"github.com/libp2p/go-libp2p/core/network"

	"github.com/liop-project/liop/core/identity"
)

// A Conn that closes takes its connection with it, unless somebody else uses it.
func TestCloseLeavesWhatOthersUse(t *testing.T) {
	node, err := New(Config{Key: identity.Generate().Key(), Listen: []string{"/ip4/127.0.0.1/udp/0/quic-v1"}})
	if err != nil {
		t.Fatal(err)
	}
	defer node.Close()
	const other = "/test/other/1.0.0"
	node.p2p.SetStreamHandler(other, func(s network.Stream) {})
	agent, err := New(Config{Key: identity.Generate().Key()})
	if err != nil {
		t.Fatal(err)
	}
	defer agent.Close()
	visit := func() {
		t.Helper()
		c, err := agent.Dial(t.Context(), node.Addrs()[0])
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Ping(t.Context()); err != nil {
			t.Fatal(err)
		}
		c.Close()
	}
	visit()
	if n := len(agent.swarm.ConnsToPeer(node.ID())); n != 0 {
		t.Errorf("%d connections are left", n)
	}
	c, err := agent.Dial(t.Context(), node.Addrs()[0])
	if err != nil {
		t.Fatal(err)
	}
	s, err := agent.p2p.NewStream(t.Context(), node.ID(), other)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	c.Close()
	visit()
	if n := len(agent.swarm.ConnsToPeer(node.ID())); n != 1 {
		t.Errorf("%d connections, want the one that is in use", n)
	}
}

package mesh

import (
	"testing"
	"time"

	ma "github.com/multiformats/go-multiaddr"

	"github.com/liop-project/liop/core/identity"
)

// Peers can name any number of others; what is remembered of those is bounded.
func TestAddressesAreBounded(t *testing.T) {
	h, err := New(Config{Key: identity.Generate().Key(), Limits: Limits{MaxConns: 2}})
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	const most = 2 * addrsPerConn
	kept := func() (n int) {
		for _, p := range h.p2p.Peerstore().PeersWithAddrs() {
			n += len(h.p2p.Peerstore().Addrs(p))
		}
		return n
	}
	for range 2 * most {
		a, err := ma.NewMultiaddr("/ip4/192.0.2.1/tcp/1")
		if err != nil {
			t.Fatal(err)
		}
		h.p2p.Peerstore().AddAddr(identity.Generate().ID(), a, time.Hour)
	}
	if n := kept(); n == 0 || n > most {
		t.Errorf("%d addresses are kept, want 1 to %d", n, most)
	}
}

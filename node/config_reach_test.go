package node

import (
	"strings"
	"testing"

	"github.com/liop-project/liop/core/conf"
	"time"

	"github.com/liop-project/liop/mesh"
)

func TestReachTable(t *testing.T) {
	const relay = `/ip4/192.0.2.7/udp/7447/quic-v1/p2p/12D3KooWPjceQrSwdWXPyLLeABRXmuqt69Rg3sBYbU1Nft9HyQ6X`
	for _, c := range []struct {
		name, toml, want string // want: what the error names; empty: none
	}{
		{"absent", "", ""},
		{"all", "[mesh.reach]\nauto_nat = false\nhole_punch = false\nmap_port = true\nrelays = ['" + relay + "']\nserve_relay = true\n" +
			"[mesh.reach.relay]\nreservations = 7\ncircuits_per_peer = 3\nduration = '30s'\ndata = '1MiB'\n", ""},
		{"no relay", "[mesh.reach]\nrelays = ['relay.example']\n", "mesh.reach.relays[0]"},
		{"many relays", "[mesh.reach]\nrelays = [" + strings.Repeat("'"+relay+"',", 9) + "]\n", "mesh.reach.relays: at most 8"},
		{"limits of nothing", "[mesh.reach.relay]\nreservations = 7\n", "serve_relay"},
		{"reservations", "[mesh.reach]\nserve_relay = true\n[mesh.reach.relay]\nreservations = 5000\n", "mesh.reach.relay.reservations"},
		{"circuits", "[mesh.reach]\nserve_relay = true\n[mesh.reach.relay]\ncircuits_per_peer = -1\n", "mesh.reach.relay.circuits_per_peer"},
		{"duration", "[mesh.reach]\nserve_relay = true\n[mesh.reach.relay]\nduration = '1500ms'\n", "mesh.reach.relay.duration"},
		{"data", "[mesh.reach]\nserve_relay = true\n[mesh.reach.relay]\ndata = '2GiB'\n", "mesh.reach.relay.data"},
	} {
		var config Config
		err := conf.Parse([]byte(c.toml), &config)
		if err == nil {
			err = config.Validate()
		}
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: got %v, want %q", c.name, err, c.want)
			continue
		}
		m := config.Mesh.Reach.mesh()
		switch c.name {
		case "absent":
			if !m.AutoNAT || !m.HolePunch || !m.DialRelays || m.MapPort || m.Serve != nil || m.Relays != nil {
				t.Errorf("defaults: %+v", m)
			}
		case "all":
			if m.AutoNAT || m.HolePunch || !m.MapPort || len(m.Relays) != 1 ||
				*m.Serve != (mesh.RelayLimits{Reservations: 7, CircuitsPerPeer: 3, Duration: 30 * time.Second, Data: 1 << 20}) {
				t.Errorf("all: %+v, %+v", m, m.Serve)
			}
		}
	}
}

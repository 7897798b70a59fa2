package kad

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/liop-project/liop/mesh"
)

// A bootstrap peer that is not there is tried again, and one that comes back is
// found again. What was said when nobody was there is said then.
func TestBootstrapComesLate(t *testing.T) {
	// Of TCP, a port where nobody listens says so at once.
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	listen := fmt.Sprintf("/ip4/127.0.0.1/tcp/%d", l.Addr().(*net.TCPAddr).Port)
	l.Close()
	key := newKey(t)
	id, err := peer.IDFromPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	boot := peer.AddrInfo{ID: id, Addrs: []ma.Multiaddr{ma.StringCast(listen)}}
	node := start(t, quic, Config{Server: true, Bootstrap: []peer.AddrInfo{boot}})
	value := sign(t, node.key, 1, "catalog")
	if err := node.Publish(t.Context(), value); err != nil {
		t.Fatal(err)
	}
	if err := node.Announce([]string{"sales"}); err != nil {
		t.Fatal(err)
	}
	said := func(b *member) {
		t.Helper()
		ready(t, node)
		eventually(t, func(context.Context) error {
			v, err := b.valueOf(t, node.id())
			if err == nil && !bytes.Equal(v, value) {
				err = errors.New("another value")
			}
			return err
		})
		has(t, b, "sales", node.id())
	}
	b := startKey(t, key, listen, server())
	said(b)
	b.stop()
	eventually(t, func(context.Context) error {
		if node.mesh.Libp2p().Network().Connectedness(id) == network.Connected {
			return errors.New("still connected")
		}
		return nil
	})
	<-node.dht.RefreshRoutingTable() // notices, as it would in Tuning.Refresh
	second(node.FindPeer(t.Context(), testID(t)))
	said(startKey(t, key, listen, server()))
}

// Records are on the peers that are nearest now, not on those that were.
func TestNamesAreTakenBack(t *testing.T) {
	a := start(t, quic, server())
	node := start(t, quic, server(), a)
	ready(t, node)
	if err := node.Announce([]string{"old"}); err != nil {
		t.Fatal(err)
	}
	has(t, a, "old", node.id())
	if err := node.Announce([]string{"new"}); err != nil {
		t.Fatal(err)
	}
	has(t, a, "new", node.id())
	node.said.mu.Lock()
	names := node.said.names
	node.said.mu.Unlock()
	if len(names) != 1 || !bytes.Equal(names[0], NameKey("new").Hash()) {
		t.Errorf("announces %v", names)
	}
	many := make([]string, MaxNamesPerPeer+1)
	for i := range many {
		many[i] = fmt.Sprint(i)
	}
	if err := node.Announce(many); err == nil {
		t.Error("too many names were announced")
	}
	if err := node.Announce(many[1:]); err != nil {
		t.Error(err)
	}
}

// picky is a policy that the tests change.
type picky struct {
	mu     sync.Mutex
	banned map[peer.ID]bool
	asked  map[peer.ID]bool
	score  map[peer.ID]float64
}

func (p *picky) Route(id peer.ID) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return !p.banned[id]
}

func (p *picky) Query(i peer.AddrInfo) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asked[i.ID] = true
	return true
}

func (p *picky) Score(id peer.ID) float64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.score[id]
}

// Peers on loopback are in no routing table that is for the public internet.
func TestFilters(t *testing.T) {
	a := start(t, quic, server())
	for _, f := range []Filter{Any, Public} {
		agent := start(t, "", Config{Tuning: Tuning{RoutingFilter: f, QueryFilter: f}}, a)
		if f == Any {
			ready(t, agent)
			continue
		}
		eventually(t, func(context.Context) error { // it is known well enough to be taken
			if ps, err := agent.host.Peerstore().SupportsProtocols(a.id(), Protocol); err != nil || len(ps) == 0 {
				return fmt.Errorf("the peer is not identified: %v", err)
			}
			return nil
		})
		if err := agent.dht.RefreshRoutingTable(); err == nil { // it is tried once more
			t.Log("nobody to refresh from")
		}
		if n := len(agent.Peers()); n != 0 {
			t.Errorf("%s: %d peers", f, n)
		}
	}
}

func TestPolicy(t *testing.T) {
	a := start(t, quic, server())
	var nodes []*member
	for range 4 {
		n := start(t, quic, server(), a)
		if err := n.Announce([]string{"sales"}); err != nil {
			t.Fatal(err)
		}
		nodes = append(nodes, n)
	}
	ready(t, nodes...)
	for _, n := range nodes {
		has(t, a, "sales", n.id())
	}
	p := &picky{banned: map[peer.ID]bool{nodes[3].id(): true}, asked: map[peer.ID]bool{},
		score: map[peer.ID]float64{nodes[0].id(): 1, nodes[1].id(): 3, nodes[2].id(): 2}}
	agent := start(t, "", Config{Policy: p}, a, nodes[3])
	ready(t, agent)
	want := []peer.ID{nodes[1].id(), nodes[2].id(), nodes[0].id(), nodes[3].id()}
	eventually(t, func(ctx context.Context) error {
		var got []peer.ID
		for p := range agent.Providers(ctx, "sales") {
			got = append(got, p.ID)
		}
		if !slices.Equal(got, want) {
			return fmt.Errorf("found %v, want %v", got, want)
		}
		return nil
	})
	for range agent.Providers(t.Context(), "sales") {
		break // and nothing stays behind: goleak looks
	}
	// Even the target of a lookup, which is always asked, does not stay.
	if _, err := agent.FindPeer(t.Context(), nodes[3].id()); err != nil {
		t.Error(err)
	}
	eventually(t, func(context.Context) error {
		for _, e := range agent.Peers() {
			if e.ID == nodes[3].id() {
				return errors.New("whom the policy refuses is in the routing table")
			}
		}
		return nil
	})
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.asked) == 0 || p.asked[nodes[3].id()] {
		t.Errorf("the policy was asked about %v", p.asked)
	}
}

// Nobody is dialed whom the host does not admit.
func TestAdmit(t *testing.T) {
	a := start(t, quic, server())
	b := start(t, quic, server(), a)
	ready(t, a, b)
	h, err := mesh.New(mesh.Config{Key: newKey(t), Listen: []string{quic}, Admit: func(p peer.ID) bool { return p != b.id() }})
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	d, err := New(t.Context(), Config{Host: h, Server: true, Validator: signed{}, Bootstrap: []peer.AddrInfo{a.info(), b.info()}})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	m := &member{DHT: d, mesh: h}
	ready(t, m)
	<-m.dht.RefreshRoutingTable()
	for _, p := range m.Peers() {
		if p.ID == b.id() {
			t.Error("whom the host does not admit is in the routing table")
		}
		if p.ID == a.id() && (!p.Connected || len(p.Addrs) == 0 || p.Since.IsZero() || p.Answered.IsZero()) {
			t.Errorf("entry %+v", p)
		}
	}
	if h.Libp2p().Network().Connectedness(b.id()) == network.Connected {
		t.Error("whom the host does not admit is connected")
	}
}

func TestMDNS(t *testing.T) {
	var log syncBuffer
	logger := slog.New(slog.NewTextHandler(&log, nil))
	every := "/ip4/0.0.0.0/udp/0/quic-v1" // multicast is not for loopback
	a := start(t, every, Config{Server: true, MDNS: true, Log: logger})
	if a.lan == nil {
		t.Skipf("this machine has no multicast: %s", log.String())
	}
	b := start(t, every, Config{Server: true, MDNS: true})
	ctx, cancel := context.WithTimeout(t.Context(), patience/6)
	defer cancel()
	if err := b.WaitReady(ctx); err != nil {
		t.Skipf("multicast does not come through on this machine: %v", err)
	}
	ready(t, a)
}

// A flood of names on the local network costs a few dials.
func TestMDNSFlood(t *testing.T) {
	a := start(t, quic, server())
	a.startLAN()
	if a.lan == nil {
		t.Skip("this machine has no multicast")
	}
	var dials sync.WaitGroup
	for range 200 {
		p := peer.AddrInfo{ID: testID(t), Addrs: []ma.Multiaddr{ma.StringCast("/ip4/127.0.0.1/tcp/1")}}
		dials.Go(func() { a.lan.HandlePeerFound(p) })
	}
	dials.Wait()
	if left := a.lan.limit.Tokens(); left > mdnsBurst/2 {
		t.Errorf("%v dials are left", left)
	}
	known := 0
	for _, p := range a.mesh.Libp2p().Peerstore().PeersWithAddrs() {
		if p != a.id() {
			known++
		}
	}
	if known > mdnsBurst+mdnsDialsPerSecond*10 {
		t.Errorf("%d peers were dialed", known)
	}
}

type syncBuffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// The wanted keys were made with another program.
func TestNameKey(t *testing.T) {
	for name, want := range map[string]string{
		"sales": "bafkreigfut5slu2tnds5wmcraqthaylmj7jza6ir5bsiqffswxhypmiswa",
		"":      "bafkreiadfolzrg6sk3ulkkqecey4stiagm54kzxbkjac6zlbijxzyhqmte",
	} {
		if got := NameKey(name).String(); got != want {
			t.Errorf("%q: %s, want %s", name, got, want)
		}
	}
}

func TestReachable(t *testing.T) {
	parse := func(ss ...string) (as []ma.Multiaddr) {
		for _, s := range ss {
			as = append(as, ma.StringCast(s))
		}
		return as
	}
	const loop4, loop6, lan, public = "/ip4/127.0.0.1/tcp/1", "/ip6/::1/tcp/1", "/ip4/192.168.0.7/tcp/1", "/ip4/192.0.2.7/tcp/1"
	for _, tc := range []struct{ in, want []ma.Multiaddr }{
		{nil, nil},
		{parse(loop4, loop6), parse(loop4, loop6)},
		{parse(loop4, lan, loop6, public), parse(lan, public)},
	} {
		got := reachable(tc.in)
		if !slices.EqualFunc(got, tc.want, ma.Multiaddr.Equal) {
			t.Errorf("%v: %v, want %v", tc.in, got, tc.want)
		}
	}
}

func TestConfigValidate(t *testing.T) {
	a := start(t, quic, server())
	good := Config{Host: a.mesh, Validator: signed{}}
	for want, change := range map[string]func(*Config){
		"":                        func(*Config) {},
		"Config.Host":             func(c *Config) { c.Host = nil },
		"Config.Validator":        func(c *Config) { c.Validator = nil },
		"Config.Bootstrap[0]":     func(c *Config) { c.Bootstrap = []peer.AddrInfo{{ID: a.id()}} },
		"Config.Bootstrap has":    func(c *Config) { c.Bootstrap = make([]peer.AddrInfo, MaxBootstrap+1) },
		"Config.Tuning: refresh:": func(c *Config) { c.Tuning.Refresh = 1 },
	} {
		c := good
		change(&c)
		err := c.Validate()
		if (want == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
	if _, err := New(t.Context(), Config{}); err == nil {
		t.Error("New took a bad config")
	}
	notADir := Config{Host: a.mesh, Validator: signed{}, Dir: "/dev/null/kad"}
	if _, err := New(t.Context(), notADir); err == nil {
		t.Error("New took a folder that cannot be")
	}
}

package mesh

import (
	"context"
	"errors"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/peerstore"
	"google.golang.org/grpc"

	ma "github.com/multiformats/go-multiaddr"

	"github.com/liop-project/liop/core/fault"
	"github.com/liop-project/liop/core/liopv1"
)

// relayed makes a relay, and a node with a slot at it. It returns the node's
// address through the relay.
func relayed(t *testing.T, node Config, limits RelayLimits) (n, relay *Host, through string) {
	t.Helper()
	relay = newHost(t, Config{Listen: []string{transports["quic"]}, Reach: Reach{Serve: &limits}})
	node.Reach.Relays = []string{relay.Addrs()[0]}
	n = newHost(t, node)
	return n, relay, relayAddr(t, n)
}

// relayAddr waits until h has an address at a relay.
func relayAddr(t *testing.T, h *Host) string {
	t.Helper()
	changed := make(chan struct{}, 16)
	if err := h.OnAddrsChanged(func() { changed <- struct{}{} }); err != nil {
		t.Fatal(err)
	}
	for {
		addrs := h.Addrs()
		if i := slices.IndexFunc(addrs, func(a string) bool { return strings.Contains(a, "/p2p-circuit/") }); i >= 0 {
			return addrs[i]
		}
		receive(t, "change of addresses", changed)
	}
}

func TestRelayedCall(t *testing.T) {
	callers := make(chan PeerAuth, 1)
	l := logicMesh{negotiate: func(ctx context.Context, _ *liopv1.IntentRequest) (*liopv1.IntentResponse, error) {
		a, _ := Caller(ctx)
		callers <- a
		return &liopv1.IntentResponse{}, nil
	}}
	// A node that does not listen: nobody reaches it but through the relay.
	node, _, addr := relayed(t, Config{}, RelayLimits{})
	serve(t, node, Control, ServeOptions{}, l)
	serve(t, node, Bulk, ServeOptions{MaxRecv: 1000}, l)

	agent := newHost(t, Config{Reach: Reach{DialRelays: true}})
	agent.directTimeout = 50 * time.Millisecond
	c := dial(t, agent, addr)
	if c.Transport() != "relay" {
		t.Errorf("transport is %q", c.Transport())
	}
	if err := negotiate(t, c); err != nil {
		t.Fatal(err)
	}
	// Who calls is proved end to end; the relay is nobody.
	if a := receive(t, "caller", callers); a.ID != agent.ID() || !a.Conn.Stat().Limited {
		t.Errorf("the node sees %s, limited: %v", a.ID, a.Conn.Stat().Limited)
	}
	if _, err := c.Ping(testContext(t)); err != nil {
		t.Error(err)
	}
	for range 2 {
		wantFault(t, execute(t, c, Bulk, &liopv1.LogicRequest{}),
			fault.Error{Code: fault.Unreachable, Rule: "relay", Message: "only a relayed connection", Hint: "try again"})
	}
}

// Calls under way stay on the relay, new ones take the direct connection.
func TestLanesMoveToTheDirectConnection(t *testing.T) {
	node, _, addr := relayed(t, Config{Listen: []string{transports["quic"]}}, RelayLimits{})
	running, release := make(chan struct{}), make(chan struct{})
	limited := make(chan bool, 1)
	l := logicMesh{
		negotiate: func(ctx context.Context, _ *liopv1.IntentRequest) (*liopv1.IntentResponse, error) {
			a, _ := Caller(ctx)
			limited <- a.Conn.Stat().Limited
			return &liopv1.IntentResponse{}, nil
		},
		execute: func(r *liopv1.LogicRequest, s grpc.ServerStreamingServer[liopv1.LogicResponse]) error {
			if r.SessionToken == "wait" {
				close(running)
				<-release
			}
			return s.Send(&liopv1.LogicResponse{Receipt: "done"})
		},
	}
	serve(t, node, Control, ServeOptions{}, l)
	serve(t, node, Bulk, ServeOptions{MaxRecv: 1000}, l)
	agent := newHost(t, Config{Reach: Reach{DialRelays: true}})
	agent.directTimeout = 50 * time.Millisecond
	c := dial(t, agent, addr)
	if err := negotiate(t, c); err != nil || !receive(t, "call", limited) {
		t.Fatalf("the first call: %v, or not over the relay", err)
	}
	wantFault(t, execute(t, c, Bulk, &liopv1.LogicRequest{}), fault.Error{Rule: "relay", Code: fault.Unreachable})
	under := make(chan error, 1)
	go func() { under <- execute(t, c, Control, &liopv1.LogicRequest{SessionToken: "wait"}) }()
	receive(t, "call under way", running)

	// What a hole punch does.
	info, err := ParseAddr(node.Addrs()[0])
	if err != nil {
		t.Fatal(err)
	}
	agent.swarm.Peerstore().AddAddrs(info.ID, info.Addrs, peerstore.TempAddrTTL)
	if _, err := agent.swarm.DialPeer(network.WithForceDirectDial(testContext(t), "test"), node.ID()); err != nil {
		t.Fatal(err)
	}

	if err := negotiate(t, c); err != nil || receive(t, "call", limited) {
		t.Fatalf("the call after: %v, or still over the relay", err)
	}
	if err := execute(t, c, Bulk, &liopv1.LogicRequest{}); err != nil {
		t.Fatalf("bulk over the direct connection: %v", err)
	}
	if c.Transport() != "quic" {
		t.Errorf("transport is %q", c.Transport())
	}
	close(release)
	if err := receive(t, "end of the call under way", under); err != nil {
		t.Errorf("the call that began on the relay: %v", err)
	}
	o := c.Lane(Control).(*outgoing)
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.left) != 0 {
		t.Errorf("%d tracks are left behind", len(o.left))
	}
}

func TestAdmissionThroughARelay(t *testing.T) {
	var admitted atomic.Pointer[peer.ID]
	relayHost := newHost(t, Config{Listen: []string{transports["quic"]}, Reach: Reach{Serve: &RelayLimits{}}})
	node := newHost(t, Config{
		Reach: Reach{Relays: []string{relayHost.Addrs()[0]}},
		Admit: func(p peer.ID) bool { f := admitted.Load(); return p == relayHost.ID() || f != nil && p == *f },
	})
	addr := relayAddr(t, node)
	serve(t, node, Control, ServeOptions{}, logicMesh{})
	agent := newHost(t, Config{Reach: Reach{DialRelays: true}})
	call := func() error {
		c, err := agent.Dial(testContext(t), addr)
		if err != nil {
			return err
		}
		defer c.Close()
		return negotiate(t, c)
	}
	wantFault(t, call(), fault.Error{Code: fault.Denied, Rule: "peer"})
	id := agent.ID()
	admitted.Store(&id)
	if err := call(); err != nil {
		t.Fatal(err)
	}
	// And who does not admit the relay does not use it.
	picky := newHost(t, Config{Reach: Reach{DialRelays: true}, Admit: func(p peer.ID) bool { return p == node.ID() }})
	if _, err := picky.Dial(testContext(t), addr); err == nil {
		t.Fatal("dialed through a relay that is not admitted")
	}
}

func TestRelayLimits(t *testing.T) {
	node, relay, addr := relayed(t, Config{}, RelayLimits{CircuitsPerPeer: 1, Reservations: 1})
	serve(t, node, Control, ServeOptions{}, logicMesh{})
	first := newHost(t, Config{Reach: Reach{DialRelays: true}})
	if err := negotiate(t, dial(t, first, addr)); err != nil {
		t.Fatal(err)
	}
	second := newHost(t, Config{Reach: Reach{DialRelays: true}})
	_, err := second.Dial(testContext(t), addr)
	wantFault(t, err, fault.Error{Code: fault.Busy, Rule: "relay"})
	nobody := strings.Replace(addr, node.ID().String(), idOf(t, newKey(t)).String(), 1)
	_, err = second.Dial(testContext(t), nobody)
	wantFault(t, err, fault.Error{Code: fault.Unreachable, Rule: "relay", Message: "no slot"})
	_, err = newHost(t, Config{}).Dial(testContext(t), addr)
	wantFault(t, err, fault.Error{Code: fault.Unreachable, Rule: "address"})

	var log logBuffer
	newHost(t, Config{Reach: Reach{Relays: []string{relay.Addrs()[0]}}, Log: log.logger()})
	for late := time.Now().Add(patience); !strings.Contains(log.String(), "mesh.relay_lost"); time.Sleep(time.Millisecond) {
		if time.Now().After(late) {
			t.Fatal("a second reservation")
		}
	}
}

func TestRelayRestarts(t *testing.T) {
	key := newKey(t)
	relay := newHost(t, Config{Key: key, Listen: []string{transports["tcp"]}, Reach: Reach{Serve: &RelayLimits{}}})
	at := relay.swarm.ListenAddresses()[0].String()
	node := newHost(t, Config{Reach: Reach{Relays: []string{relay.Addrs()[0]}}})
	relayAddr(t, node)
	changed := make(chan struct{}, 16)
	if err := node.OnAddrsChanged(func() { changed <- struct{}{} }); err != nil {
		t.Fatal(err)
	}
	relay.Close()
	for len(node.Addrs()) > 0 {
		receive(t, "loss of the relay", changed)
	}
	newHost(t, Config{Key: key, Listen: []string{at}, Reach: Reach{Serve: &RelayLimits{}}})
	relayAddr(t, node)
}

func TestResolveAfterMove(t *testing.T) {
	eachTransport(t, func(t *testing.T, listen string) {
		key := newKey(t)
		node := newHost(t, Config{Key: key, Listen: []string{listen}})
		serve(t, node, Control, ServeOptions{}, logicMesh{})
		var now atomic.Pointer[[]ma.Multiaddr]
		agent := newHost(t, Config{Resolve: func(_ context.Context, p peer.ID) ([]ma.Multiaddr, error) {
			if p != node.ID() {
				t.Errorf("asked for %s", p)
			}
			if as := now.Load(); as != nil {
				return *as, nil
			}
			return nil, errors.New("nothing is known")
		}})
		agent.staleAfter = 200 * time.Millisecond
		c := dial(t, agent, node.Addrs()[0])
		if err := negotiate(t, c); err != nil {
			t.Fatal(err)
		}
		gone := make(chan peer.ID, 8)
		agent.OnDisconnect(func(p peer.ID) { gone <- p })
		node.Close()
		receive(t, "end of the node", gone)
		for strings.Contains(listen, "/tcp/") { // over QUIC it takes seconds to know
			if f := wantFault(t, negotiate(t, c), fault.Error{Code: fault.Unreachable}); f.Rule == "address" {
				break // else gRPC has not heard of the end yet
			}
		}

		node = newHost(t, Config{Key: key, Listen: []string{listen}})
		serve(t, node, Control, ServeOptions{}, logicMesh{})
		// Beside what is no address of a node, and one of another peer.
		found := []ma.Multiaddr{
			ma.StringCast("/ip4/127.0.0.1/tcp/1/ws"), ma.StringCast("/p2p/" + node.ID().String()),
			ma.StringCast("/ip4/127.0.0.1/tcp/1" + someID),
		}
		for _, a := range node.Addrs() {
			found = append(found, ma.StringCast(a))
		}
		now.Store(&found)
		late := time.Now().Add(patience)
		for err := negotiate(t, c); err != nil; err = negotiate(t, c) { // while gRPC pauses between attempts
			if time.Now().After(late) {
				t.Fatal(err)
			}
		}
	})
}

func TestReachConfig(t *testing.T) {
	key := newKey(t)
	plain := "/ip4/192.0.2.7/tcp/7447" + otherID
	for _, c := range []struct {
		name  string
		reach Reach
		want  string
	}{
		{"all", Reach{AutoNAT: true, DialRelays: true, HolePunch: true, Relays: []string{plain}, Serve: &RelayLimits{Duration: time.Minute}}, ""},
		{"no address", Reach{Relays: []string{plain, "relay"}}, "Reach.Relays[1]"},
		{"relay behind a relay", Reach{Relays: []string{plain + "/p2p-circuit" + someID}}, "directly"},
		{"too many", Reach{Relays: slices.Repeat([]string{plain}, MaxRelays+1)}, "Reach.Relays"},
		{"reservations", Reach{Serve: &RelayLimits{Reservations: -1}}, "Reach.Serve.Reservations"},
		{"circuits", Reach{Serve: &RelayLimits{CircuitsPerPeer: 1000}}, "Reach.Serve.CircuitsPerPeer"},
		{"duration", Reach{Serve: &RelayLimits{Duration: time.Millisecond}}, "Reach.Serve.Duration"},
		{"data", Reach{Serve: &RelayLimits{Data: 1 << 40}}, "Reach.Serve.Data"},
	} {
		err := Config{Key: key, Reach: c.reach}.Validate()
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: got %v, want %q", c.name, err, c.want)
		}
	}
}

// With everything on, a host ends without leaving anything, which goleak checks
// after all tests.
func TestReachAllOn(t *testing.T) {
	var log logBuffer
	all := Reach{AutoNAT: true, HolePunch: true, DialRelays: true, Serve: &RelayLimits{}}
	node := newHost(t, Config{Listen: []string{transports["quic"]}, Reach: all, Log: log.logger()})
	serve(t, node, Control, ServeOptions{}, logicMesh{})
	agent := newHost(t, Config{Reach: Reach{HolePunch: true}})
	if err := negotiate(t, dial(t, agent, node.Addrs()[0])); err != nil {
		t.Fatal(err)
	}
	if len(agent.Addrs()) == 0 {
		t.Error("an agent that punches holes does not listen")
	}
	if strings.Contains(log.String(), "autonat_off") {
		t.Error("AutoNAT is off in an open mesh")
	}
	newHost(t, Config{Listen: []string{transports["quic"]}, Reach: all, Log: log.logger(), Admit: func(peer.ID) bool { return false }})
	if !strings.Contains(log.String(), "autonat_off") {
		t.Error("AutoNAT is on in a closed mesh")
	}
}

// What others claim to have seen is given out only once someone has dialed it.
func TestSeenAddressesMustBeConfirmed(t *testing.T) {
	h := newHost(t, Config{Listen: []string{transports["quic"]}, Reach: Reach{AutoNAT: true}})
	own := h.swarm.ListenAddresses()[0]
	_, port, err := net.SplitHostPort("127.0.0.1:" + must(own.ValueForProtocol(ma.P_UDP)))
	if err != nil {
		t.Fatal(err)
	}
	seen := ma.StringCast("/ip4/1.2.3.4/udp/" + port + "/quic-v1")
	lan := ma.StringCast("/ip4/10.0.0.7/udp/" + port + "/quic-v1")
	got := h.reach.addrs([]ma.Multiaddr{own, lan, seen})
	if len(got) != 2 || !got[0].Equal(own) || !got[1].Equal(lan) {
		t.Errorf("got %v", got)
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

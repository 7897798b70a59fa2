package mesh

import (
	"context"
	"crypto/rand"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"

	"github.com/liop-project/liop/core/fault"
	"github.com/liop-project/liop/core/liopv1"
)

func TestConn(t *testing.T) {
	for name, listen := range transports {
		t.Run(name, func(t *testing.T) {
			node := newHost(t, Config{Listen: []string{listen}})
			serve(t, node, Control, ServeOptions{}, logicMesh{})
			c := dial(t, newHost(t, Config{}), node.Addrs()[0])
			if c.Peer() != node.ID() {
				t.Errorf("peer is %s, want %s", c.Peer(), node.ID())
			}
			if c.Transport() != name {
				t.Errorf("transport is %q, want %q", c.Transport(), name)
			}
			if c.PostQuantum() != (name == "quic") {
				t.Errorf("post-quantum is %v over %s", c.PostQuantum(), name)
			}
			if c.BytesSent() != 0 || c.BytesReceived() != 0 {
				t.Error("bytes were counted before a lane was open")
			}
			grant := strings.Repeat("g", 10_000)
			if _, err := liopv1.NewLogicMeshClient(c.Lane(Control)).NegotiateIntent(testContext(t),
				&liopv1.IntentRequest{Grant: grant}); err != nil {
				t.Fatal(err)
			}
			if n := c.BytesSent(); n < 10_000 || n > 20_000 {
				t.Errorf("sent %d bytes for a message of 10000", n)
			}
			if n := c.BytesReceived(); n == 0 || n > 5_000 {
				t.Errorf("received %d bytes for an empty answer", n)
			}
			if rtt, err := c.Ping(testContext(t)); err != nil || rtt <= 0 || rtt > patience {
				t.Errorf("ping: %v, %v", rtt, err)
			}
			wantFault(t, execute(t, c, Events, &liopv1.LogicRequest{}),
				fault.Error{Code: fault.Unreachable, Rule: "lane", Message: "does not serve"})
			wantFault(t, execute(t, c, "/liop/other/1.0.0", &liopv1.LogicRequest{}),
				fault.Error{Code: fault.InvalidRequest, Rule: "lane"})

			c.Close()
			c.Close()
			wantFault(t, negotiate(t, c), fault.Error{Code: fault.Cancelled, Rule: "connection"})
			if _, err := c.Ping(testContext(t)); err == nil {
				t.Error("a closed Conn pings")
			}
		})
	}
}

func TestDialErrors(t *testing.T) {
	// A port where nothing listens: taken from the kernel, and given back.
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed := "/ip4/127.0.0.1/tcp/" + l.Addr().String()[len("127.0.0.1:"):]
	l.Close()
	// A server that is no libp2p host.
	other, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	go func() {
		for {
			c, err := other.Accept()
			if err != nil {
				return
			}
			c.Write([]byte("220 mail.example ESMTP\r\n"))
			c.Close()
		}
	}()
	foreign := "/ip4/127.0.0.1/tcp/" + other.Addr().String()[len("127.0.0.1:"):]

	agent := newHost(t, Config{Listen: []string{transports["tcp"]}})
	// Each case has a peer of its own, because a host remembers addresses.
	someone := func() string { return "/p2p/" + idOf(t, newKey(t)).String() }
	for _, c := range []struct {
		name, addr string
		want       fault.Error
	}{
		{"not an address", "localhost:7447", fault.Error{Code: fault.InvalidRequest, Rule: "address"}},
		{"itself", agent.Addrs()[0], fault.Error{Code: fault.InvalidRequest, Rule: "address", Message: "itself"}},
		{"nothing there", closed + someone(), fault.Error{Code: fault.Unreachable, Message: "nothing answers", Hint: "firewall"}},
		{"not a node", foreign + someone(), fault.Error{Code: fault.Unreachable, Message: "handshake"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := agent.Dial(testContext(t), c.addr)
			wantFault(t, err, c.want)
		})
	}

	t.Run("cancelled", func(t *testing.T) {
		ctx, cancel := context.WithCancel(testContext(t))
		cancel()
		_, err := agent.Dial(ctx, closed+someone())
		wantFault(t, err, fault.Error{Code: fault.Cancelled})
	})
	t.Run("in time", func(t *testing.T) {
		// A UDP socket that never answers.
		deaf, err := net.ListenPacket("udp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer deaf.Close()
		ctx, cancel := context.WithTimeout(testContext(t), 100*time.Millisecond)
		defer cancel()
		_, port, _ := net.SplitHostPort(deaf.LocalAddr().String())
		_, err = agent.Dial(ctx, "/ip4/127.0.0.1/udp/"+port+"/quic-v1"+someone())
		wantFault(t, err, fault.Error{Code: fault.Unreachable, Message: "in time", Hint: "firewall"})
	})
	t.Run("not admitted here", func(t *testing.T) {
		picky := newHost(t, Config{Admit: func(peer.ID) bool { return false }})
		_, err := picky.Dial(testContext(t), closed+someone())
		wantFault(t, err, fault.Error{Code: fault.Denied, Rule: "peer", Owner: fault.Agent})
	})
}

func TestAnotherPeerAnswers(t *testing.T) {
	eachTransport(t, func(t *testing.T, listen string) {
		node := newHost(t, Config{Listen: []string{listen}})
		addr, _, _ := strings.Cut(node.Addrs()[0], "/p2p/")
		_, err := newHost(t, Config{}).Dial(testContext(t), addr+someID)
		wantFault(t, err, fault.Error{
			Code: fault.Unreachable, Rule: "peer", Message: "another peer answers at that address", Hint: node.ID().String(),
		})
	})
}

func TestRedialAfterCut(t *testing.T) {
	eachTransport(t, func(t *testing.T, listen string) {
		key := newKey(t)
		node := newHost(t, Config{Key: key, Listen: []string{listen}})
		serve(t, node, Control, ServeOptions{}, logicMesh{})
		agent := newHost(t, Config{})
		c := dial(t, agent, node.Addrs()[0])
		if err := negotiate(t, c); err != nil {
			t.Fatal(err)
		}
		cut := make(chan peer.ID, 8)
		agent.OnDisconnect(func(p peer.ID) { cut <- p })
		again := func(what string) {
			t.Helper()
			receive(t, what, cut)
			err := negotiate(t, c)
			if f, ok := fault.From(err); ok && f.Code == fault.Unreachable && f.Rule == "connection" {
				err = negotiate(t, c) // gRPC may not have noticed yet, and the call may have been under way
			}
			if err != nil {
				f, _ := fault.From(err)
				t.Fatalf("after %s: %v: %+v", what, err, f)
			}
			if _, err := c.Ping(testContext(t)); err != nil {
				t.Fatalf("after %s: ping: %v", what, err)
			}
		}

		if err := node.Disconnect(agent.ID()); err != nil {
			t.Fatal(err)
		}
		again("the node cut the connection")
		if err := agent.Disconnect(node.ID()); err != nil {
			t.Fatal(err)
		}
		again("we cut the connection")

		at := node.swarm.ListenAddresses()[0].String()
		if err := node.Close(); err != nil {
			t.Fatal(err)
		}
		receive(t, "end of the node", cut)
		node = newHost(t, Config{Key: key, Listen: []string{at}})
		serve(t, node, Control, ServeOptions{}, logicMesh{})
		deadline := time.Now().Add(patience)
		for { // until gRPC's own pause between attempts is over
			if err := negotiate(t, c); err == nil {
				break
			} else if time.Now().After(deadline) {
				t.Fatal(err)
			}
		}
	})
}

// libp2p remembers failed addresses for five seconds and more. Someone who dials
// again has started the node in between.
func TestDialAgainAfterFailure(t *testing.T) {
	key := newKey(t)
	node := newHost(t, Config{Key: key, Listen: []string{transports["tcp"]}})
	addr, at := node.Addrs()[0], node.swarm.ListenAddresses()[0].String()
	node.Close()
	agent := newHost(t, Config{})
	_, err := agent.Dial(testContext(t), addr)
	wantFault(t, err, fault.Error{Code: fault.Unreachable, Message: "nothing answers"})
	node = newHost(t, Config{Key: key, Listen: []string{at}})
	serve(t, node, Control, ServeOptions{}, logicMesh{})
	if err := negotiate(t, dial(t, agent, addr)); err != nil {
		t.Fatal(err)
	}
}

func TestGater(t *testing.T) {
	secp, _, err := crypto.GenerateSecp256k1Key(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	friend, stranger, other := idOf(t, newKey(t)), idOf(t, newKey(t)), idOf(t, secp)
	g := gater{members: newMembers(Config{Admit: func(p peer.ID) bool { return p != stranger }}, friend)}
	for _, c := range []struct {
		name              string
		peer              peer.ID
		dial, in, outward bool
	}{
		{"friend", friend, true, true, true},
		{"stranger", stranger, false, false, true}, // outward: asked at the dial
		{"friend with another kind of key", other, false, false, false},
		{"garbage", "garbage", false, false, false},
	} {
		dial := g.InterceptPeerDial(c.peer)
		in := g.InterceptSecured(network.DirInbound, c.peer, nil)
		outward := g.InterceptSecured(network.DirOutbound, c.peer, nil)
		if dial != c.dial || in != c.in || outward != c.outward {
			t.Errorf("%s: dial %v, in %v, outward %v; want %v, %v, %v", c.name, dial, in, outward, c.dial, c.in, c.outward)
		}
	}
}

func TestOnlyEd25519(t *testing.T) {
	eachTransport(t, func(t *testing.T, listen string) {
		node := newHost(t, Config{Listen: []string{listen}})
		serve(t, node, Control, ServeOptions{}, logicMesh{})
		secp, _, err := crypto.GenerateSecp256k1Key(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		rsa, _, err := crypto.GenerateRSAKeyPair(2048, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		for _, key := range []crypto.PrivKey{secp, rsa} {
			h, err := libp2p.New(libp2p.Identity(key), libp2p.NoListenAddrs, libp2p.DisableMetrics())
			if err != nil {
				t.Fatal(err)
			}
			info, err := ParseAddr(node.Addrs()[0])
			if err != nil {
				t.Fatal(err)
			}
			err = h.Connect(testContext(t), info)
			if err == nil {
				var s network.Stream
				if s, err = h.NewStream(testContext(t), node.ID(), protocol.ID(Control)); err == nil {
					_, err = s.Read(make([]byte, 1))
				}
			}
			if err == nil {
				t.Errorf("a peer with a key of type %v got an answer", key.Type())
			}
			h.Close()
		}
	})
}

func TestNoRoom(t *testing.T) {
	eachTransport(t, func(t *testing.T, listen string) {
		node := newHost(t, Config{Listen: []string{listen}, Limits: Limits{MaxConns: 1}})
		serve(t, node, Control, ServeOptions{}, logicMesh{})
		if err := negotiate(t, dial(t, newHost(t, Config{}), node.Addrs()[0])); err != nil {
			t.Fatal(err)
		}
		_, err := newHost(t, Config{}).Dial(testContext(t), node.Addrs()[0])
		f, ok := fault.From(err)
		if !ok || (f.Code != fault.Busy && !strings.Contains(f.Hint, "no room")) {
			t.Fatalf("got %v (%+v), want to hear that the node is full", err, f)
		}
	})
}

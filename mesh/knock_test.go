package mesh

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"io"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/control"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/peerstore"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/p2p/muxer/yamux"
	"github.com/libp2p/go-libp2p/p2p/protocol/identify"
	"github.com/libp2p/go-libp2p/p2p/protocol/ping"
	"github.com/libp2p/go-libp2p/p2p/security/noise"
	libp2pquic "github.com/libp2p/go-libp2p/p2p/transport/quic"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
	ma "github.com/multiformats/go-multiaddr"
	"github.com/multiformats/go-multistream"

	"github.com/liop-project/liop/core/member"
)

// TestUnknownPeerReachesNothing: whatever protocol it asks for, the host never
// has its connection, and answers it nothing.
func TestUnknownPeerReachesNothing(t *testing.T) {
	eachTransport(t, func(t *testing.T, listen string) {
		node, calls := closedNode(t, newOperator(t), listen, nil)
		var reached atomic.Int32
		const secret protocol.ID = "/liop/test-secret/1.0.0"
		node.p2p.SetStreamHandler(secret, func(s network.Stream) { reached.Add(1); s.Reset() })
		node.swarm.Notify(&network.NotifyBundle{ConnectedF: func(network.Network, network.Conn) { reached.Add(1) }})
		for _, p := range []protocol.ID{secret, identify.ID, identify.IDPush, ping.ID, protocol.ID(Control), protocol.ID(Events), "/ipfs/kad/1.0.0"} {
			agent := newHost(t, Config{})
			agent.p2p.Peerstore().AddAddrs(node.ID(), node.swarm.ListenAddresses(), peerstore.PermanentAddrTTL)
			s, err := agent.p2p.NewStream(testContext(t), node.ID(), p)
			if err == nil {
				s.SetDeadline(time.Now().Add(patience))
				_, err = s.Read(make([]byte, 1))
			}
			if err == nil {
				t.Errorf("%s is answered", p)
			}
		}
		if reached.Load() != 0 || calls.Load() != 0 || len(node.swarm.Conns()) != 0 || len(node.p2p.Peerstore().PeersWithKeys()) != 1 {
			t.Errorf("%d handlers were reached, %d connections, %d keys", reached.Load(), len(node.swarm.Conns()), len(node.p2p.Peerstore().PeersWithKeys()))
		}
	})
}

// knocker is a peer that does with each connection what it wants before its
// libp2p has it.
type knocker struct {
	gater
	do func(muxer)
}

func (k knocker) InterceptPeerDial(peer.ID) bool               { return true }
func (k knocker) InterceptAddrDial(peer.ID, ma.Multiaddr) bool { return true }
func (k knocker) InterceptSecured(network.Direction, peer.ID, network.ConnMultiaddrs) bool {
	return true
}
func (k knocker) InterceptUpgraded(c network.Conn) (bool, control.DisconnectReason) {
	mux, ok := muxerOf(c)
	if ok {
		k.do(mux)
	}
	return false, 0
}

// knock dials node as somebody new, and returns when do has.
func knock(t testing.TB, node *Host, do func(muxer)) {
	t.Helper()
	h, err := libp2p.New(libp2p.Identity(newKey(t)), libp2p.NoListenAddrs, libp2p.DisableRelay(), libp2p.DisableMetrics(),
		libp2p.Transport(libp2pquic.NewTransport), libp2p.Transport(tcp.NewTCPTransport),
		libp2p.Security(noise.ID, noise.New), libp2p.Muxer(yamux.ID, yamux.DefaultTransport),
		libp2p.ResourceManager(&network.NullResourceManager{}), libp2p.ConnectionGater(knocker{do: do}))
	if err != nil {
		t.Error(err)
		return
	}
	defer h.Close()
	h.Connect(testContext(t), peer.AddrInfo{ID: node.ID(), Addrs: node.swarm.ListenAddresses()})
}

// ended waits until the other end has cut the connection.
func ended(t testing.TB, mux muxer) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	defer context.AfterFunc(ctx, mux.cut)()
	if s, err := mux.accept(ctx); err == nil {
		t.Errorf("the node opened a stream: %T", s)
	}
	if ctx.Err() != nil {
		t.Error("the node does not end the connection")
	}
}

// hello is multistream-select for a protocol.
func hello(p protocol.ID) []byte { return append(delimited(multistream.ProtocolID), delimited(p)...) }

func TestBadKnocks(t *testing.T) {
	frame := func(n int, b []byte) []byte {
		return append(binary.BigEndian.AppendUint16(hello(memberProtocol), uint16(n)), b...)
	}
	eachTransport(t, func(t *testing.T, listen string) {
		o := newOperator(t)
		node, calls := closedNode(t, o, listen, nil)
		node.members.wait = time.Second // which some of these use up
		for _, c := range []struct {
			name string
			send []byte
			more int // further streams
		}{
			{"silence", nil, 0},
			{"a byte, and silence", []byte{19}, 0},
			{"half a token", frame(500, []byte("eyJ")), 0},
			{"no multistream", []byte(strings.Repeat("GET / HTTP/1.1\r\n", 100)), 0},
			{"a token of multistream without end", bytes.Repeat([]byte{0xff}, 4096), 0},
			{"another protocol", hello(ping.ID), 0},
			{"then another protocol", append(hello("/liop/member/2.0.0"), hello(memberProtocol)...), 0},
			{"no token", frame(0, nil), 0},
			{"larger than a token", frame(member.MaxToken+1, make([]byte, member.MaxToken+1)), 0},
			{"larger than anything", frame(0xffff, make([]byte, 0xffff)), 0},
			{"not text", frame(100, make([]byte, 100)), 0},
			{"many streams", hello(memberProtocol), 300},
		} {
			t.Run(c.name, func(t *testing.T) {
				knock(t, node, func(mux muxer) {
					ctx := testContext(t)
					s, err := mux.open(ctx)
					if err != nil {
						t.Error(err)
						return
					}
					s.Write(c.send) // may fail: the node ends as soon as it knows
					ctx, cancel := context.WithTimeout(ctx, time.Second)
					defer cancel()
					for range c.more {
						s, err := mux.open(ctx)
						if err != nil {
							break
						}
						s.Write([]byte("x"))
					}
					ended(t, mux)
				})
				if calls.Load() != 0 || len(node.swarm.Conns()) != 0 {
					t.Errorf("%d calls, %d connections", calls.Load(), len(node.swarm.Conns()))
				}
			})
		}
		node.members.wait = knockTimeout
		agent := newHost(t, Config{})
		show(agent, o.token(t, agent.ID()))
		if err := try(t, agent, node.Addrs()[0]); err != nil {
			t.Errorf("a member, after all that: %v", err)
		}
	})
}

// Over Yamux a second stream ends the connection of a peer that is not let in;
// one that is let in can open as many as others.
func TestUnknownPeerHasOneStream(t *testing.T) {
	o := newOperator(t)
	node, _ := closedNode(t, o, transports["tcp"], nil)
	node.members.wait = 2 * patience // so that it is not time that ends it
	knock(t, node, func(mux muxer) {
		for range provisionalStreams + 1 {
			if s, err := mux.open(testContext(t)); err == nil {
				s.Write([]byte{19})
			}
		}
		ended(t, mux)
	})
	const open protocol.ID = "/liop/test-open/1.0.0"
	node.p2p.SetStreamHandler(open, func(network.Stream) {})
	agent := newHost(t, Config{})
	show(agent, o.token(t, agent.ID()))
	c := dial(t, agent, node.Addrs()[0])
	if err := negotiate(t, c); err != nil {
		t.Fatal(err)
	}
	nc := agent.swarm.ConnsToPeer(node.ID())[0]
	for range 8 {
		s, err := nc.NewStream(testContext(t))
		if err != nil {
			t.Fatal(err)
		}
		defer s.Reset()
		if err := multistream.SelectProtoOrFail(open, s); err != nil {
			t.Fatal(err)
		}
	}
	if err := negotiate(t, c); err != nil {
		t.Error(err)
	}
}

// Strangers who hold all places of the lobby do not keep a member out, and are
// never more than there are places.
func TestFloodOfKnocks(t *testing.T) {
	eachTransport(t, func(t *testing.T, listen string) {
		o := newOperator(t)
		node, _ := closedNode(t, o, listen, nil)
		const flood = maxLobby + 8
		inside, cut := make(chan struct{}, flood), make(chan struct{}, flood)
		for range flood {
			go knock(t, node, func(mux muxer) {
				if s, err := mux.open(testContext(t)); err == nil {
					s.Write([]byte{19})
				}
				inside <- struct{}{}
				ended(t, mux)
				cut <- struct{}{}
			})
		}
		for range flood {
			receive(t, "a stranger's connection", inside)
		}
		agent := newHost(t, Config{})
		show(agent, o.token(t, agent.ID()))
		if err := try(t, agent, node.Addrs()[0]); err != nil {
			t.Errorf("a member: %v", err)
		}
		node.members.lobby.mu.Lock()
		waiting := len(node.members.lobby.waiting)
		node.members.lobby.mu.Unlock()
		if waiting > maxLobby {
			t.Errorf("%d wait", waiting)
		}
		node.Close() // ends those that wait
		for range flood {
			receive(t, "the end of a stranger's connection", cut)
		}
	})
}

func TestLobbyIsFair(t *testing.T) {
	var l lobby
	enter := func(addr string) context.Context {
		a, err := ma.NewMultiaddr(addr)
		if err != nil {
			t.Fatal(err)
		}
		ctx, leave := l.enter(context.Background(), a)
		t.Cleanup(leave)
		return ctx
	}
	first := enter("/ip6/2001:db8:1::1/udp/1/quic-v1")
	member := enter("/ip4/192.0.2.1/tcp/1")
	var flood []context.Context
	for range 3 * maxLobby {
		flood = append(flood, enter("/ip6/2001:db8:2:00ff::1/udp/1/quic-v1"), enter("/ip6/2001:db8:2::2/tcp/1"))
	}
	if len(l.waiting) != maxLobby || first.Err() != nil || member.Err() != nil {
		t.Errorf("%d wait; the first: %v, a member: %v", len(l.waiting), first.Err(), member.Err())
	}
	for i, ctx := range flood {
		if gone := i < len(flood)-(maxLobby-2); (ctx.Err() != nil) != gone {
			t.Errorf("visitor %d of %d from one network: %v", i, len(flood), ctx.Err())
		}
	}
	if late := enter("/ip4/198.51.100.1/tcp/1"); late.Err() != nil || member.Err() != nil {
		t.Error("a newcomer of another network has no place, or took the wrong one")
	}
	enter("/dns4/example.org/tcp/1") // no address: must not panic
}

func TestFrame(t *testing.T) {
	for _, token := range []string{"", "x", strings.Repeat("x", member.MaxToken)} {
		var b bytes.Buffer
		if err := writeFrame(&b, token); err != nil {
			t.Fatal(err)
		}
		if got, err := readFrame(&b); err != nil || got != token || b.Len() != 0 {
			t.Errorf("%d bytes: %d bytes, %v", len(token), len(got), err)
		}
	}
	if err := writeFrame(io.Discard, strings.Repeat("x", member.MaxToken+1)); err == nil {
		t.Error("a frame that no reader takes is written")
	}
	if _, err := readFrame(strings.NewReader("\xff\xff" + strings.Repeat("x", 0xffff))); !errors.Is(err, errFrame) {
		t.Errorf("got %v", err)
	}
}

// written is a first stream whose bytes came all at once.
type written struct {
	io.Reader
	bytes.Buffer
}

func (w *written) Read(b []byte) (int, error) { return w.Reader.Read(b) }
func (w *written) Close() error               { return nil }

type oneStream struct {
	muxer
	s *written
}

func (o oneStream) accept(context.Context) (io.ReadWriteCloser, error) { return o.s, nil }

type connOf struct {
	network.Conn
	p peer.ID
}

func (c connOf) RemotePeer() peer.ID      { return c.p }
func (c connOf) Scope() network.ConnScope { return &network.NullScope{} }

// FuzzKnock gives a listener any bytes for a first stream. It lets nobody in but
// the holder of the token, and says nothing of its own before.
func FuzzKnock(f *testing.F) {
	key := func(name string) crypto.PrivKey {
		seed := sha256.Sum256([]byte("liop test key " + name))
		k, err := crypto.UnmarshalEd25519PrivateKey(ed25519.NewKeyFromSeed(seed[:]))
		if err != nil {
			f.Fatal(err)
		}
		return k
	}
	o, visitor := operator{key("operator")}, idOf(f, key("agent"))
	now := time.Unix(1_800_000_000, 0)
	token := o.token(f, visitor, func(_ *member.Spec, at *time.Time) { *at = now })
	var good bytes.Buffer
	good.Write(hello(memberProtocol))
	if err := writeFrame(&good, token); err != nil {
		f.Fatal(err)
	}
	f.Add(good.Bytes())
	f.Add(good.Bytes()[:60])
	f.Add(hello(ping.ID))
	f.Add(append(hello(memberProtocol), 0xff, 0xff))
	f.Fuzz(func(t *testing.T, b []byte) {
		m := newMembers(Config{Members: Members{Operators: map[peer.ID]bool{idOf(t, o.key): true}, Mesh: "acme",
			Token: func() string { return "own" }}}, idOf(t, o.key))
		defer m.close()
		m.now = func() time.Time { return now }
		s := &written{Reader: bytes.NewReader(b)}
		err := m.answerFirst(context.Background(), oneStream{s: s}, connOf{p: visitor})
		if (err == nil) != m.admits(visitor) || err == nil && !bytes.Contains(b, []byte(token)) {
			t.Fatalf("%v, and let in: %v", err, m.admits(visitor))
		}
		if out := s.Buffer.Bytes(); err != nil && !bytes.HasPrefix(hello(memberProtocol), out) {
			t.Fatalf("a stranger was told %q", out)
		}
	})
}

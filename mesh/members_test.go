package mesh

import (
	"context"
	"crypto/ed25519"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/liop-project/liop/core/fault"
	"github.com/liop-project/liop/core/liopv1"
	"github.com/liop-project/liop/core/member"
)

// operator is whose tokens count in a mesh of the tests.
type operator struct{ key crypto.PrivKey }

func newOperator(t testing.TB) operator { return operator{newKey(t)} }

func (o operator) id(t testing.TB) peer.ID { return idOf(t, o.key) }

// token makes a token that has begun now, or at another time that change says.
func (o operator) token(t testing.TB, p peer.ID, change ...func(*member.Spec, *time.Time)) string {
	t.Helper()
	s, at := member.Spec{Member: p, Mesh: "acme"}, time.Now()
	for _, c := range change {
		c(&s, &at)
	}
	raw, err := o.key.Raw()
	if err != nil {
		t.Fatal(err)
	}
	token, err := member.Issue(ed25519.PrivateKey(raw), s, at)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// members asks for tokens of o, and shows one of its own.
func (o operator) members(t testing.TB, k crypto.PrivKey) Members {
	token := o.token(t, idOf(t, k))
	return Members{Operators: map[peer.ID]bool{o.id(t): true}, Mesh: "acme", Token: func() string { return token }}
}

// show lets a host present any text, which New would not accept.
func show(h *Host, token string) { h.members.Token = func() string { return token } }

// closedNode serves a control lane to members of o, and counts the calls.
func closedNode(t testing.TB, o operator, listen string, admit func(peer.ID) bool) (*Host, *atomic.Int32) {
	t.Helper()
	key := newKey(t)
	node := newHost(t, Config{Key: key, Listen: []string{listen}, Admit: admit, Members: o.members(t, key)})
	calls := new(atomic.Int32)
	serve(t, node, Control, ServeOptions{}, logicMesh{
		negotiate: func(context.Context, *liopv1.IntentRequest) (*liopv1.IntentResponse, error) {
			calls.Add(1)
			return &liopv1.IntentResponse{}, nil
		},
	})
	return node, calls
}

// try dials and makes one call, and returns the first error.
func try(t testing.TB, from *Host, addr string) error {
	t.Helper()
	c, err := from.Dial(testContext(t), addr)
	if err != nil {
		return err
	}
	defer c.Close()
	return negotiate(t, c)
}

func TestClosedMesh(t *testing.T) {
	eachTransport(t, func(t *testing.T, listen string) {
		o, other := newOperator(t), newOperator(t)
		friend := newKey(t)
		node, calls := closedNode(t, o, listen, func(p peer.ID) bool { return p == idOf(t, friend) })
		expired := func(_ *member.Spec, at *time.Time) { *at = at.Add(-member.DefaultLifetime) }
		later := func(_ *member.Spec, at *time.Time) { *at = at.Add(time.Hour) }
		for _, c := range []struct {
			name  string
			key   crypto.PrivKey
			token func(peer.ID) string // nil: presents none
			hint  string               // of the refusal; empty: let in
		}{
			{"on the list", friend, nil, ""},
			{"on the list, with a token that is none", friend, func(peer.ID) string { return "x" }, ""},
			{"member", newKey(t), func(p peer.ID) string { return o.token(t, p) }, ""},
			{"stranger", newKey(t), nil, "liop member issue --for"},
			{"no token", newKey(t), func(peer.ID) string { return "" }, "liop member issue --for"},
			{"expired", newKey(t), func(p peer.ID) string { return o.token(t, p, expired) }, "expired"},
			{"not yet", newKey(t), func(p peer.ID) string { return o.token(t, p, later) }, "whether those are right"},
			{"another mesh", newKey(t), func(p peer.ID) string {
				return o.token(t, p, func(s *member.Spec, _ *time.Time) { s.Mesh = "umbrella" })
			}, `mesh "umbrella"`},
			{"another operator", newKey(t), func(p peer.ID) string { return other.token(t, p) }, other.id(t).String()},
			{"token of another peer", newKey(t), func(peer.ID) string { return o.token(t, idOf(t, friend)) }, ""},
			{"token of the node", newKey(t), func(peer.ID) string { return node.members.token() }, ""},
			{"garbage", newKey(t), func(peer.ID) string { return strings.Repeat("\xff", member.MaxToken) }, "liop member issue --for"},
		} {
			t.Run(c.name, func(t *testing.T) {
				agent := newHost(t, Config{Key: c.key})
				if c.token != nil {
					show(agent, c.token(agent.ID()))
				}
				calls.Store(0)
				err := try(t, agent, node.Addrs()[0])
				if good := c.hint == "" && !strings.HasPrefix(c.name, "token of"); good {
					if err != nil || calls.Load() != 1 {
						f, _ := fault.From(err)
						t.Fatalf("%d calls, %v: %+v", calls.Load(), err, f)
					}
					return
				}
				wantFault(t, err, fault.Error{Code: fault.Denied, Rule: "peer", Owner: fault.Node, Hint: c.hint})
				if calls.Load() != 0 || node.admit(agent.ID()) {
					t.Fatal("a call got through")
				}
			})
		}
	})
}

// A member needs one handshake, and its token counts for the next connection.
func TestMemberIsKnown(t *testing.T) {
	eachTransport(t, func(t *testing.T, listen string) {
		o := newOperator(t)
		node, calls := closedNode(t, o, listen, nil)
		agent := newHost(t, Config{})
		show(agent, o.token(t, agent.ID()))
		c := dial(t, agent, node.Addrs()[0])
		if err := negotiate(t, c); err != nil {
			t.Fatal(err)
		}
		if n := len(node.swarm.ConnsToPeer(agent.ID())); n != 1 {
			t.Errorf("%d connections", n)
		}
		c.Close()
		show(agent, "")
		if err := try(t, agent, node.Addrs()[0]); err != nil {
			t.Errorf("the second time: %v", err)
		}
		// The node restarts and has forgotten everybody.
		node.members.mu.Lock()
		clear(node.members.known)
		node.members.mu.Unlock()
		wantFault(t, try(t, agent, node.Addrs()[0]), fault.Error{Code: fault.Denied, Owner: fault.Node})
		show(agent, o.token(t, agent.ID()))
		if err := try(t, agent, node.Addrs()[0]); err != nil {
			t.Errorf("with the token again: %v", err)
		}
		if calls.Load() != 3 {
			t.Errorf("%d calls", calls.Load())
		}
	})
}

// Who requires members does so in both directions.
func TestBothEndsAreMembers(t *testing.T) {
	eachTransport(t, func(t *testing.T, listen string) {
		o, other := newOperator(t), newOperator(t)
		a, _ := closedNode(t, o, listen, nil)
		b, _ := closedNode(t, o, listen, nil)
		gone := make(chan peer.ID, 8)
		b.OnDisconnect(func(p peer.ID) { gone <- p })
		if err := try(t, a, b.Addrs()[0]); err != nil {
			t.Fatal(err)
		}
		receive(t, "end of the connection", gone)
		if err := try(t, b, a.Addrs()[0]); err != nil {
			t.Fatal(err)
		}
		if !a.admit(b.ID()) || !b.admit(a.ID()) {
			t.Error("not admitted by both")
		}
		open := newHost(t, Config{Listen: []string{listen}})
		serve(t, open, Control, ServeOptions{}, logicMesh{})
		foreign, _ := closedNode(t, other, listen, nil)
		silent, _ := closedNode(t, o, listen, func(peer.ID) bool { return true })
		show(silent, "")
		for name, h := range map[string]*Host{"an open node": open, "a node without a token": silent} {
			f := wantFault(t, try(t, a, h.Addrs()[0]), fault.Error{Code: fault.Denied, Rule: "member", Owner: fault.Agent,
				Message: "no member of this mesh", Hint: "--for " + h.ID().String() + " --mesh acme"})
			if f == nil || h.swarm.Connectedness(a.ID()) == network.Connected && a.swarm.Connectedness(h.ID()) == network.Connected {
				t.Errorf("%s: stays connected", name)
			}
		}
		wantFault(t, try(t, a, foreign.Addrs()[0]), fault.Error{Code: fault.Denied, Rule: "peer", Owner: fault.Node})
	})
}

// A token is for whoever asks: an agent with one talks to open nodes as before.
func TestTokenAtAnOpenNode(t *testing.T) {
	eachTransport(t, func(t *testing.T, listen string) {
		node := newHost(t, Config{Listen: []string{listen}})
		serve(t, node, Control, ServeOptions{}, logicMesh{})
		agent := newHost(t, Config{})
		show(agent, newOperator(t).token(t, agent.ID()))
		if err := try(t, agent, node.Addrs()[0]); err != nil {
			t.Fatal(err)
		}
	})
}

// Everything that dials through the host beneath is subject to the same.
func TestConnectPresentsTheToken(t *testing.T) {
	o := newOperator(t)
	node, _ := closedNode(t, o, transports["quic"], nil)
	member, _ := closedNode(t, o, transports["quic"], nil)
	stranger := newHost(t, Config{})
	for h, want := range map[*Host]network.Connectedness{member: network.Connected, stranger: network.NotConnected} {
		h.Libp2p().Connect(testContext(t), peer.AddrInfo{ID: node.ID(), Addrs: node.swarm.ListenAddresses()})
		if got := node.swarm.Connectedness(h.ID()); got != want {
			t.Errorf("%v, want %v", got, want)
		}
	}
}

func TestMembershipExpires(t *testing.T) {
	eachTransport(t, func(t *testing.T, listen string) {
		o := newOperator(t)
		node, _ := closedNode(t, o, listen, nil)
		gone := make(chan peer.ID, 8)
		node.OnDisconnect(func(p peer.ID) { gone <- p })
		agent := newHost(t, Config{})
		short := func(s *member.Spec, at *time.Time) { s.Lifetime, *at = 2*time.Second, at.Add(time.Second) }
		show(agent, o.token(t, agent.ID(), short))
		c := dial(t, agent, node.Addrs()[0])
		if err := negotiate(t, c); err != nil {
			t.Fatal(err)
		}
		if p := receive(t, "end of the connection", gone); p != agent.ID() || node.admit(p) {
			t.Fatalf("%s left, admitted: %v", p, node.admit(p))
		}
		c.Close() // the agent may not know yet that the connection is gone
		wantFault(t, try(t, agent, node.Addrs()[0]), fault.Error{Code: fault.Denied, Rule: "peer", Hint: "expired"})
		show(agent, o.token(t, agent.ID()))
		if err := try(t, agent, node.Addrs()[0]); err != nil {
			t.Fatalf("with a new token: %v", err)
		}
	})
}

// A newer token counts from when it was shown, without a cut in between.
func TestMembershipIsRenewed(t *testing.T) {
	o := newOperator(t)
	node, _ := closedNode(t, o, transports["quic"], nil)
	p := idOf(t, newKey(t))
	now := time.Now()
	node.members.now = func() time.Time { return now }
	if err := node.members.verify(p, o.token(t, p, func(s *member.Spec, _ *time.Time) { s.Lifetime = time.Hour })); err != nil {
		t.Fatal(err)
	}
	if err := node.members.verify(p, o.token(t, p)); err != nil {
		t.Fatal(err)
	}
	now = now.Add(2 * time.Hour)
	node.members.expire(p) // the timer of the first token, late
	if !node.admit(p) {
		t.Error("the newer token does not count")
	}
	now = now.Add(member.DefaultLifetime)
	if node.admit(p) {
		t.Error("admitted after its time")
	}
	node.members.expire(p)
	if len(node.members.known) != 0 {
		t.Error("it is remembered after its time")
	}
}

func TestMembersValidate(t *testing.T) {
	key, o := newKey(t), newOperator(t)
	good := o.members(t, key)
	for _, c := range []struct {
		name, want string
		change     func(*Members)
	}{
		{"good", "", func(*Members) {}},
		{"none", "", func(m *Members) { *m = Members{} }},
		{"token only", "", func(m *Members) { m.Operators, m.Mesh = nil, "" }},
		{"operators only", "", func(m *Members) { m.Token = nil }},
		{"no mesh", "Members.Mesh", func(m *Members) { m.Mesh = "" }},
		{"mesh a peer", "Members.Mesh", func(m *Members) { m.Mesh = o.id(t).String() }},
		{"mesh without operators", "Operators", func(m *Members) { m.Operators = nil }},
		{"operator of another kind", "Operators", func(m *Members) { m.Operators = map[peer.ID]bool{"x": true} }},
		{"token no token", "membership token", func(m *Members) { m.Token = func() string { return "x" } }},
		{"token of another", "another peer", func(m *Members) {
			token := o.token(t, o.id(t))
			m.Token = func() string { return token }
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := good
			c.change(&m)
			err := Config{Key: key, Members: m}.Validate()
			if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

// When a hole is punched both ends dial and neither would answer: who is
// connected already needs no token for another connection.
func TestSecondWayNeedsNoToken(t *testing.T) {
	o := newOperator(t)
	a, _ := closedNode(t, o, transports["quic"], nil)
	b, _ := closedNode(t, o, transports["quic"], nil)
	punched := outbound{connOf{p: b.ID()}}
	if a.members.pass(punched) == nil {
		t.Fatal("a stranger needs no token")
	}
	c := dial(t, a, b.Addrs()[0])
	if err := negotiate(t, c); err != nil {
		t.Fatal(err)
	}
	if f := a.members.pass(punched); f != nil {
		t.Errorf("got %+v", f)
	}
	if f := b.members.pass(outbound{connOf{p: a.ID()}}); f != nil {
		t.Errorf("the other end: %+v", f)
	}
}

// outbound is a connection without a muxer.
type outbound struct{ connOf }

func (outbound) Stat() network.ConnStats {
	return network.ConnStats{Stats: network.Stats{Direction: network.DirOutbound}}
}
func (outbound) As(any) bool { return false }

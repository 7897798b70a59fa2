package netlab_test

import (
	"strings"
	"testing"
	"time"

	"github.com/liop-project/liop/mesh"
	"github.com/liop-project/liop/mesh/netlab"
)

// behindNATs is an agent and a node behind a NAT each, and a relay in the open, two
// hops apart from each other. Addresses count as public or not, as libp2p sees them,
// so those in the open are from a block that is; nothing leaves the lab.
func behindNATs(t *testing.T, nat netlab.NAT, delay time.Duration) (agent, node, relay *netlab.Namespace) {
	lab := netlab.For(t)
	hop := netlab.Link{Delay: delay}
	open := lab.Namespace()
	open.Forward()
	inside := func(outer, gateway, router, inner string) *netlab.Namespace {
		home, n := lab.Namespace(), lab.Namespace()
		outside := lab.Join(home, outer, open, gateway, hop)
		lab.Join(n, inner, home, router, netlab.Link{})
		home.Route("default", gateway)
		n.Route("default", router)
		home.Masquerade(outside, nat)
		return n
	}
	agent = inside("44.0.1.1", "44.0.1.2", "10.1.0.1", "10.1.0.2")
	node = inside("44.0.2.1", "44.0.2.2", "10.2.0.1", "10.2.0.2")
	relay = lab.Namespace()
	lab.Join(relay, "44.0.3.1", open, "44.0.3.2", hop)
	relay.Route("default", "44.0.3.2")
	return agent, node, relay
}

const (
	anywhere = "/ip4/0.0.0.0/udp/7447/quic-v1"
	inOpen   = "/ip4/44.0.3.1/udp/7447/quic-v1"
)

// connect starts relay, node and agent, and returns the latter.
func connect(t *testing.T, nat netlab.NAT, delay time.Duration) *process {
	t.Helper()
	inA, inB, inOpenNet := behindNATs(t, nat, delay)
	relay := start(t, inOpenNet, "relay", mesh.Config{Listen: []string{inOpen}, Reach: mesh.Reach{AutoNAT: true, Serve: &mesh.RelayLimits{}}}, "")
	at := relay.says(t, "direct")
	node := start(t, inB, "node", mesh.Config{Listen: []string{anywhere},
		Reach: mesh.Reach{AutoNAT: true, HolePunch: true, Relays: []string{at}}}, "")
	through := node.says(t, "relayed")
	if !strings.HasPrefix(through, at+"/p2p-circuit/p2p/") {
		t.Fatalf("the node's address is %s", through)
	}
	return start(t, inA, "agent", mesh.Config{Reach: mesh.Reach{DialRelays: true, HolePunch: true}}, through)
}

// On the short way the agent dials before it knows where the relay sees it, and
// libp2p's own attempt comes too early.
func TestTwoNATs(t *testing.T) {
	for _, delay := range []time.Duration{time.Millisecond / 2, 5 * time.Millisecond} {
		t.Run(delay.String(), func(t *testing.T) {
			agent := connect(t, netlab.NAT{}, delay)
			// The first answer does not wait for the hole.
			got := agent.ask(t, "control")
			t.Logf("first answer: %s", got)
			if !strings.HasPrefix(got, "ok relay") {
				t.Error("want it over the relay")
			}
			got = agent.ask(t, "upgrade")
			t.Logf("hole punch: %s", got)
			if !strings.HasPrefix(got, "ok quic") {
				t.Fatal("want a direct connection")
			}
			for _, what := range []string{"bulk", "control"} {
				if got := agent.ask(t, what); !strings.HasPrefix(got, "ok quic") {
					t.Errorf("%s over the hole: %s", what, got)
				}
			}
			t.Logf("round trip: %s", agent.ask(t, "rtt"))
		})
	}
}

// Where no hole can be punched, small calls work and others say why they do not.
func TestTwoNATsWithRandomPorts(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for a hole punch to fail")
	}
	agent := connect(t, netlab.NAT{RandomPorts: true}, time.Millisecond)
	if got := agent.ask(t, "control"); !strings.HasPrefix(got, "ok relay") {
		t.Errorf("control: %s", got)
	}
	got := agent.ask(t, "bulk")
	t.Logf("bulk: %s", got)
	if !strings.HasPrefix(got, "unreachable/relay relay") {
		t.Errorf("bulk: %s", got)
	}
	if got := agent.ask(t, "control"); !strings.HasPrefix(got, "ok relay") {
		t.Errorf("control after: %s", got)
	}
}

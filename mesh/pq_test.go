package mesh

import (
	"strings"
	"testing"

	"github.com/libp2p/go-libp2p/core/network"

	"github.com/liop-project/liop/core/fault"
)

// classical makes crypto/tls offer X25519 and no hybrid, as an older peer does.
func classical(t *testing.T) { t.Setenv("GODEBUG", "tlsmlkem=0,tlssecpmlkem=0") }

func TestRequirePQ(t *testing.T) {
	refused := fault.Error{Code: fault.Denied, Rule: "require_pq", Owner: fault.Agent, Message: "post-quantum", Hint: "X25519MLKEM768"}
	t.Run("both offer it", func(t *testing.T) {
		node := newHost(t, Config{Listen: []string{transports["quic"]}, RequirePQ: true})
		serve(t, node, Control, ServeOptions{}, logicMesh{})
		c := dial(t, newHost(t, Config{RequirePQ: true}), node.Addrs()[0])
		if err := negotiate(t, c); err != nil || !c.PostQuantum() {
			t.Errorf("%v, post-quantum: %v", err, c.PostQuantum())
		}
	})
	t.Run("the node requires it", func(t *testing.T) {
		classical(t)
		node := newHost(t, Config{Listen: []string{transports["quic"]}, RequirePQ: true})
		serve(t, node, Control, ServeOptions{}, logicMesh{})
		agent := newHost(t, Config{})
		wantFault(t, try(t, agent, node.Addrs()[0]), fault.Error{Code: fault.Denied, Owner: fault.Node})
		if node.swarm.Connectedness(agent.ID()) != network.NotConnected {
			t.Error("connected")
		}
	})
	t.Run("the agent requires it", func(t *testing.T) {
		classical(t)
		node := newHost(t, Config{Listen: []string{transports["quic"]}})
		wantFault(t, try(t, newHost(t, Config{RequirePQ: true}), node.Addrs()[0]), refused)
	})
	t.Run("nobody requires it", func(t *testing.T) {
		classical(t)
		node := newHost(t, Config{Listen: []string{transports["quic"]}})
		serve(t, node, Control, ServeOptions{}, logicMesh{})
		c := dial(t, newHost(t, Config{}), node.Addrs()[0])
		if err := negotiate(t, c); err != nil || c.PostQuantum() {
			t.Errorf("%v, post-quantum: %v; this test makes no classical connection", err, c.PostQuantum())
		}
	})
	t.Run("over TCP nobody can tell", func(t *testing.T) {
		node := newHost(t, Config{Listen: []string{transports["tcp"]}})
		wantFault(t, try(t, newHost(t, Config{RequirePQ: true}), node.Addrs()[0]), refused)
		err := Config{Key: newKey(t), Listen: []string{transports["quic"], transports["tcp"]}, RequirePQ: true}.Validate()
		if err == nil || !strings.Contains(err.Error(), "Config.Listen[1]") {
			t.Errorf("got %v", err)
		}
	})
}

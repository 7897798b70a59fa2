package client_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/liop-project/liop/client"
	"github.com/liop-project/liop/core/catalog"
	"github.com/liop-project/liop/core/fault"
	"github.com/liop-project/liop/core/grant"
	"github.com/liop-project/liop/core/identity"
	"github.com/liop-project/liop/core/liopv1"
	"github.com/liop-project/liop/core/member"
	"github.com/liop-project/liop/mesh"
	"github.com/liop-project/liop/mesh/kad"
)

// settler is a node of a mesh that serves dataset "d" and answers nothing.
type settler struct {
	id    *identity.Identity
	host  *mesh.Host
	dht   *kad.DHT
	calls atomic.Int32
}

// town is a mesh of nodes.
type town struct {
	t      *testing.T
	issuer *identity.Identity
	agent  *identity.Identity
	nodes  []*settler
}

func newTown(t *testing.T) *town {
	return &town{t: t, issuer: identity.Generate(), agent: identity.Generate()}
}

// add makes a node that joins by the first one. Its record says what change wants.
func (w *town) add(change func(*settler, *catalog.Record)) *settler {
	w.t.Helper()
	n := &settler{id: identity.Generate()}
	w.start(n, change)
	w.nodes = append(w.nodes, n)
	return n
}

// start starts n, at a port that it did not have before.
func (w *town) start(n *settler, change func(*settler, *catalog.Record)) {
	t := w.t
	t.Helper()
	var err error
	if n.host, err = mesh.New(mesh.Config{Key: n.id.Key(), Listen: []string{"/ip4/127.0.0.1/udp/0/quic-v1"}}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.host.Close() })
	l := &life{token: "t", run: func(*liopv1.LogicRequest, liopv1.LogicMesh_ExecuteLogicServer) error {
		n.calls.Add(1)
		return reached
	}}
	if err := n.host.Serve(mesh.Control, mesh.ServeOptions{}, func(r grpc.ServiceRegistrar) { liopv1.RegisterLogicMeshServer(r, l) }); err != nil {
		t.Fatal(err)
	}
	var boot []peer.AddrInfo
	if len(w.nodes) > 0 {
		boot = []peer.AddrInfo{parse(t, w.nodes[0].host.Addrs()[0])}
	}
	if n.dht, err = kad.New(t.Context(), kad.Config{Host: n.host, Server: true, Bootstrap: boot, Validator: catalog.Validator{Now: time.Now}}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.dht.Close() })
	if boot != nil {
		if err := n.dht.WaitReady(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	now := time.Now()
	r := &catalog.Record{V: catalog.Version, Node: n.id.ID(), Seq: uint64(now.UnixMilli()), Issued: now.Unix(), Expires: now.Add(time.Hour).Unix(),
		Realm: "town", Datasets: []catalog.Dataset{{Name: "d"}}}
	change(n, r)
	text, err := catalog.Sign(n.id.Ed25519(), r)
	if err != nil {
		t.Fatal(err)
	}
	if err := n.dht.Publish(t.Context(), []byte(text)); err != nil {
		t.Fatal(err)
	}
	names := []string{"*"}
	for _, d := range r.Datasets {
		names = append(names, d.Name)
	}
	if err := n.dht.Announce(names); err != nil {
		t.Fatal(err)
	}
}

// stop ends n.
func (n *settler) stop() {
	n.dht.Close()
	n.host.Close()
}

func parse(t *testing.T, addr string) peer.AddrInfo {
	t.Helper()
	info, err := mesh.ParseAddr(addr)
	if err != nil {
		t.Fatal(err)
	}
	return info
}

func plain(*settler, *catalog.Record) {}

// join waits until the agent finds as many providers of d as there are nodes.
func (w *town) join(o client.JoinOptions) *client.Mesh {
	w.t.Helper()
	o.Identity, o.Bootstrap = w.agent, []string{w.nodes[0].host.Addrs()[0]}
	m, err := client.Join(w.t.Context(), o)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { m.Close() })
	for {
		seen := map[peer.ID]bool{}
		for p, err := range m.Find(w.t.Context(), "*") {
			if err != nil {
				w.t.Fatal(err)
			}
			seen[p.Node] = true
		}
		if len(seen) == len(w.nodes) {
			return m
		}
	}
}

func (w *town) grant(audience string) string {
	w.t.Helper()
	g, err := grant.Issue(w.issuer.Ed25519(), grant.Spec{Holder: w.agent.ID(), Audience: audience, Datasets: []string{"d", "own/*"}}, time.Now())
	if err != nil {
		w.t.Fatal(err)
	}
	return g
}

func (w *town) vouch(by *identity.Identity, n *settler, in string, serves ...string) string {
	w.t.Helper()
	token, err := member.Issue(by.Ed25519(), member.Spec{Member: n.id.ID(), Mesh: in, Serves: serves}, time.Now())
	if err != nil {
		w.t.Fatal(err)
	}
	return token
}

// Every node gets its result, good or bad, and too few answers are an error.
func TestRunAll(t *testing.T) {
	w := newTown(t)
	var grants []string
	for range 3 {
		n := w.add(plain)
		grants = append(grants, w.grant(n.id.ID().String()))
	}
	m := w.join(client.JoinOptions{})
	told := 0
	o := client.AllOptions{Options: client.Options{Identity: w.agent, Mesh: m, Grant: strings.Join(grants[:2], "\n")},
		Result: func(client.NodeResult) { told++ }}
	results, err := client.RunAll(t.Context(), "d", client.Request{Module: []byte{0}}, o)
	if !errors.Is(err, &fault.Error{Code: fault.ModuleFailed, Rule: "min_nodes"}) && !errors.Is(err, &fault.Error{Code: fault.Denied, Rule: "min_nodes"}) {
		t.Errorf("no answer is enough: %v", err)
	}
	if len(results) != 3 || told != 3 {
		t.Fatalf("%d results, %d told", len(results), told)
	}
	for _, r := range results {
		want := error(reached)
		if r.Node == w.nodes[2].id.ID() {
			want = &fault.Error{Code: fault.Denied, Rule: "grant"}
		}
		if !errors.Is(r.Err, want) || r.Answer != nil {
			t.Errorf("%s: %v", r.Node, r.Err)
		}
	}
	if w.nodes[2].calls.Load() != 0 {
		t.Error("a node without a grant was asked")
	}
	_, err = client.RunAll(t.Context(), "nothing", client.Request{Module: []byte{0}}, o)
	if !errors.Is(err, &fault.Error{Code: fault.Unreachable, Rule: "dataset"}) {
		t.Errorf("nothing is there: %v", err)
	}
}

// A grant for a realm, or a scoped name, reaches nobody for whom nobody vouches.
func TestWhomAnAgentAsks(t *testing.T) {
	w := newTown(t)
	operator, stranger := identity.Generate(), identity.Generate()
	byIssuer := w.add(func(n *settler, r *catalog.Record) { r.Vouchers = []string{w.vouch(w.issuer, n, "town")} })
	byOperator := w.add(func(n *settler, r *catalog.Record) {
		r.Vouchers = []string{w.vouch(operator, n, "town", "own/*")}
		r.Datasets = append(r.Datasets, catalog.Dataset{Name: "own/d"})
	})
	w.add(func(n *settler, r *catalog.Record) { r.Vouchers = []string{w.vouch(stranger, n, "town", "own/*")} })
	w.add(func(n *settler, r *catalog.Record) { r.Vouchers = []string{w.vouch(w.issuer, byIssuer, "town")} }) // another's token
	w.add(func(n *settler, r *catalog.Record) { r.Vouchers = []string{w.vouch(w.issuer, n, "village")} })
	w.add(func(n *settler, r *catalog.Record) { r.Realm, r.Vouchers = "", []string{w.vouch(w.issuer, n, "town")} })
	for name, tc := range map[string]struct {
		join    client.JoinOptions
		dataset string
		want    []*settler
	}{
		"the issuer vouches": {client.JoinOptions{}, "d", []*settler{byIssuer}},
		"trusted operator":   {client.JoinOptions{Trust: []peer.ID{operator.ID()}}, "d", []*settler{byIssuer, byOperator}},
		"unknown owner":      {client.JoinOptions{Trust: []peer.ID{operator.ID()}}, "own/d", nil},
		"owner": {client.JoinOptions{Trust: []peer.ID{operator.ID()},
			Owners: map[string]peer.ID{"own": operator.ID()}}, "own/d", []*settler{byOperator}},
		"another owner of that name": {client.JoinOptions{Trust: []peer.ID{operator.ID()},
			Owners: map[string]peer.ID{"own": stranger.ID()}}, "own/d", nil},
	} {
		m := w.join(tc.join)
		before := map[*settler]int32{}
		for _, n := range w.nodes {
			before[n] = n.calls.Load()
		}
		o := client.AllOptions{Options: client.Options{Identity: w.agent, Mesh: m, Grant: w.grant("town")}}
		if _, err := client.RunAll(t.Context(), tc.dataset, client.Request{Module: []byte{0}}, o); err == nil {
			t.Errorf("%s: no error", name)
		}
		want := map[*settler]bool{}
		for _, n := range tc.want {
			want[n] = true
		}
		for i, n := range w.nodes {
			if got := n.calls.Load() > before[n]; got != want[n] {
				t.Errorf("%s: node %d asked: %v", name, i, got)
			}
		}
	}
}

// Dial by name passes over nodes that refuse or are gone, and by id asks the mesh.
func TestDialByName(t *testing.T) {
	w := newTown(t)
	w.add(plain)
	gone, there := w.add(plain), w.add(plain)
	m := w.join(client.JoinOptions{})
	gone.host.Close()
	grants := fmt.Sprint(w.grant(gone.id.ID().String()), " ", w.grant(there.id.ID().String()))
	for _, pick := range []client.Pick{client.First, client.Nearest} {
		o := client.Options{Identity: w.agent, Mesh: m, Grant: grants, Pick: pick}
		c, err := client.Dial(t.Context(), "@d", o)
		if err != nil {
			t.Fatalf("%s: %v", pick, err)
		}
		if c.Conn().Peer() != there.id.ID() {
			t.Errorf("%s: asked %s", pick, c.Conn().Peer())
		}
		c.Close()
	}
	c, err := client.Dial(t.Context(), there.id.ID().String(), client.Options{Identity: w.agent, Mesh: m, Grant: grants, Datasets: []string{"d"}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Run(t.Context(), client.Request{Module: []byte{0}}); !errors.Is(err, reached) {
		t.Errorf("run: %v", err)
	}
}

// A client follows a node that comes back somewhere else.
func TestRunFollowsANodeThatMoved(t *testing.T) {
	if testing.Short() {
		t.Skip("short: the dial of where the node was takes 15 s to fail")
	}
	w := newTown(t)
	w.add(plain)
	n := w.add(plain)
	m := w.join(client.JoinOptions{})
	moved := make(chan struct{})
	c, err := client.Dial(t.Context(), "@d", client.Options{Identity: w.agent, Mesh: m, Grant: w.grant(n.id.ID().String()), Reconnect: time.Minute,
		Progress: func(p client.Phase, _ int) {
			if p != client.Waiting { // it was noticed that the node is gone
				return
			}
			select {
			case <-moved:
			default:
				w.start(n, plain)
				close(moved)
			}
		}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	before := n.host.Addrs()[0]
	n.stop()
	if err := settled(t, c); !errors.Is(err, reached) {
		t.Fatalf("run: %v", err)
	}
	<-moved
	if n.host.Addrs()[0] == before {
		t.Error("the node did not move")
	}
}

func TestMeshRefuses(t *testing.T) {
	id := identity.Generate()
	if _, err := client.Join(t.Context(), client.JoinOptions{Identity: id}); !errors.Is(err, &fault.Error{Code: fault.InvalidRequest, Rule: "bootstrap"}) {
		t.Errorf("no bootstrap: %v", err)
	}
	short, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	_, err := client.Join(short, client.JoinOptions{Identity: id, Bootstrap: []string{"/ip4/127.0.0.1/tcp/1/p2p/" + identity.Generate().ID().String()}})
	if !errors.Is(err, &fault.Error{Code: fault.Unreachable}) {
		t.Errorf("nobody there: %v", err)
	}
	w := newTown(t)
	w.add(plain)
	m := w.join(client.JoinOptions{})
	for _, pattern := range []string{"", "We ather", "a/b/c", "[", strings.Repeat("*", 300)} {
		for p, err := range m.Find(t.Context(), pattern) {
			if p != nil || !errors.Is(err, &fault.Error{Code: fault.InvalidRequest, Rule: "name"}) {
				t.Errorf("%q: %v, %v", pattern, p, err)
			}
		}
	}
	g := w.grant(w.nodes[0].id.ID().String())
	for node, rule := range map[string]string{"localhost:7447": "node", "@We": "datasets", "/ip4/1.2.3.4": "address", "": "node"} {
		if _, err := client.Dial(t.Context(), node, client.Options{Identity: w.agent, Mesh: m, Grant: g}); !errors.Is(err, &fault.Error{Code: fault.InvalidRequest, Rule: rule}) {
			t.Errorf("%q: %v", node, err)
		}
	}
	if _, err := client.Dial(t.Context(), "@d", client.Options{Identity: w.agent, Grant: g}); !errors.Is(err, &fault.Error{Code: fault.InvalidRequest, Rule: "bootstrap"}) {
		t.Errorf("no mesh: %v", err)
	}
}

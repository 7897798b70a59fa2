// Package node is the data node: it serves the datasets of one owner to agents
// that hold a grant, on nothing but libp2p, and runs their logic in worker
// processes.
//
// It puts the parts together and holds no policy of its own: mesh knows who
// calls, admission what they may do, engine how modules run, dataset what they
// read, ledger what was used up.
package node

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/liop-project/liop/core/identity"
	"github.com/liop-project/liop/core/liopv1"
	"github.com/liop-project/liop/mesh"
	"github.com/liop-project/liop/node/admission"
	"github.com/liop-project/liop/node/bounds"
	"github.com/liop-project/liop/node/dataset"
	"github.com/liop-project/liop/node/engine"
	"github.com/liop-project/liop/node/ledger"
	"github.com/liop-project/liop/node/sandbox/wire"
)

const (
	// probeTime bounds the trial run of a worker at start.
	probeTime = 30 * time.Second
	// messageSlack is what a request has besides module and inputs, in bytes.
	messageSlack = 256 << 10
)

// Node is a running data node.
type Node struct {
	log      *slog.Logger
	host     *mesh.Host
	engine   *engine.Engine
	ledger   *ledger.Ledger
	datasets map[string]*dataset.Dataset
	service  *service
	// announcer is nil until the node has joined the mesh.
	announcer *announcer
	health    *health.Server
	longest   time.Duration // no run lasts longer
	compile   time.Duration // nor, in CPU time, does a compilation
}

// Start makes a node from the owner's configuration. home is where its identity
// lies and where it keeps state; it must not be inside a dataset. When Start
// returns, the node accepts calls.
func Start(ctx context.Context, home string, id *identity.Identity, c Config, log *slog.Logger) (_ *Node, err error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	n := &Node{log: log, datasets: map[string]*dataset.Dataset{}}
	defer func() {
		if err != nil {
			n.Close()
		}
	}()

	policy, err := newPolicy(id.ID(), c)
	if err != nil {
		return nil, err
	}
	net, err := network(id, c, log)
	if err != nil {
		return nil, err
	}
	n.longest = time.Duration(policy.Longest()) * time.Millisecond
	n.compile = cmp.Or(time.Duration(c.Engine.CompileTime), bounds.CompileTime)
	state := filepath.Join(home, "state")
	if err := os.MkdirAll(state, 0o700); err != nil {
		return nil, fmt.Errorf("make state folder: %w", err)
	}
	if err := n.openDatasets(home, state, c.Datasets); err != nil {
		return nil, err
	}
	if n.ledger, err = ledger.Open(filepath.Join(state, "ledger.db"), ledger.Options{}); err != nil {
		return nil, err
	}
	atOnce := map[string]int{}
	for _, d := range c.Datasets {
		atOnce[d.Name] = d.RunsAtOnce
	}
	n.engine, err = engine.New(engine.Config{Dir: filepath.Join(state, "modules"), CacheBytes: int64(c.Engine.Cache),
		Runners: c.Engine.Runners, AgentRunners: c.Engine.AgentRunners, Queue: c.Engine.Queue,
		Memory: uint64(c.Engine.Memory), DatasetRuns: atOnce,
		CompileTime: time.Duration(c.Engine.CompileTime), Log: log})
	if err != nil {
		return nil, err
	}
	if err := n.probe(ctx, c.Containment); err != nil {
		return nil, err
	}

	if n.host, err = mesh.New(net); err != nil {
		return nil, err
	}
	n.service = &service{log: log, id: id, policy: policy, datasets: n.datasets,
		sessions: newSessions(time.Now), budgets: newBudgets(n.ledger, time.Now),
		sandbox: n.engine, has: n.engine.Has, now: time.Now}
	n.host.OnDisconnect(n.service.sessions.drop)
	n.health = health.NewServer()
	register := func(r grpc.ServiceRegistrar) {
		liopv1.RegisterLogicMeshServer(r, n.service)
		healthpb.RegisterHealthServer(r, n.health)
	}
	for lane, o := range map[mesh.Lane]mesh.ServeOptions{
		mesh.Control: {},
		mesh.Bulk:    {MaxRecv: int(policy.LargestRequest()) + messageSlack},
	} {
		if err := n.host.Serve(lane, o, register); err != nil {
			return nil, err
		}
	}
	if err := n.joinMesh(ctx, state, id, c); err != nil {
		return nil, err
	}
	log.InfoContext(ctx, "node started", "id", id.ID(), "datasets", len(n.datasets), "addresses", n.host.Addrs())
	return n, nil
}

// ID is the node's identity.
func (n *Node) ID() peer.ID { return n.host.ID() }

// Addrs are the multiaddrs that agents can dial, each ending in /p2p/ID.
func (n *Node) Addrs() []string { return n.host.Addrs() }

// Drain ends the node in good order: no new session or run, and those that run
// end by themselves or at their limit, or when ctx is done. Close must follow.
func (n *Node) Drain(ctx context.Context) {
	n.service.draining.Store(true)
	n.health.Shutdown()
	n.log.InfoContext(ctx, "draining")
	ctx, cancel := context.WithTimeout(ctx, n.longest+4*n.compile)
	defer cancel()
	n.host.Drain(ctx)
}

// Close ends the node at once. It is idempotent.
func (n *Node) Close() error {
	var errs []error
	if n.announcer != nil {
		errs = append(errs, n.announcer.close())
	}
	if n.host != nil {
		errs = append(errs, n.host.Close())
	}
	if n.engine != nil {
		errs = append(errs, n.engine.Close())
	}
	for _, d := range n.datasets {
		d.Close()
	}
	if n.ledger != nil {
		errs = append(errs, n.ledger.Close())
	}
	return errors.Join(errs...)
}

// network is how the node is reached and by whom. It is checked before anything
// is opened.
func network(id *identity.Identity, c Config, log *slog.Logger) (mesh.Config, error) {
	net := mesh.Config{Key: id.Key(), Listen: c.Listen, Admit: c.Mesh.admit(), RequirePQ: c.Mesh.RequirePQ,
		Reach: c.Mesh.Reach.mesh(), Log: log}
	overTCP := func(a string) bool { return strings.Contains(a, "/tcp/") }
	if len(net.Listen) == 0 {
		net.Listen = mesh.DefaultListen()
		if c.Mesh.RequirePQ {
			net.Listen = slices.DeleteFunc(net.Listen, overTCP)
		}
	}
	if i := slices.IndexFunc(net.Listen, overTCP); i >= 0 && c.Mesh.RequirePQ {
		return net, fmt.Errorf("listen: %q: mesh.require_pq excludes TCP, where nobody can tell whether a connection is post-quantum; "+
			"listen on /udp/PORT/quic-v1 only", net.Listen[i])
	}
	var err error
	if net.Members, err = c.Mesh.members(id.ID(), time.Now(), log); err != nil {
		return net, err
	}
	if err := net.Validate(); err != nil {
		return net, fmt.Errorf("listen: %w", err)
	}
	return net, nil
}

func newPolicy(id peer.ID, c Config) (*admission.Policy, error) {
	p := &admission.Policy{Node: id, Realm: c.Realm, Issuers: map[peer.ID]bool{id: true},
		Defaults: c.Limits.Default.grant(), Caps: c.Limits.Max.grant(), Datasets: map[string]admission.Dataset{}}
	for _, f := range c.Issuers {
		issuer, err := identity.ReadIDFile(f)
		if err != nil {
			return nil, fmt.Errorf("issuer: %w", err)
		}
		p.Issuers[issuer] = true
	}
	for _, d := range c.Datasets {
		var allow []peer.ID
		for _, a := range d.Allow {
			allow = append(allow, a.ID)
		}
		p.Datasets[d.Name] = admission.Dataset{Allow: allow, Caps: d.Limits.grant()}
	}
	return p, nil
}

func (n *Node) openDatasets(home, state string, sets []Dataset) error {
	salts, err := dataset.LoadSalts(state)
	if err != nil {
		return err
	}
	for _, d := range sets {
		salt, err := salts.For(d.Name)
		if err != nil {
			return err
		}
		ds, err := dataset.Open(d.Name, d.Dir, salt, dataset.Options{Forbid: []string{home}})
		if err != nil {
			return err
		}
		n.datasets[d.Name] = ds
	}
	return nil
}

// probe runs a trivial module, so that a machine on which nothing can run is
// noticed now, and says what containment the workers have.
func (n *Node) probe(ctx context.Context, want Containment) error {
	ctx, cancel := context.WithTimeout(ctx, probeTime)
	defer cancel()
	c, err := n.engine.Probe(ctx)
	if err != nil {
		return fmt.Errorf("trial run of a worker: %w", err)
	}
	return judge(ctx, n.log, c, want)
}

// judge says what workers have and lack, and refuses a lack if none is wanted.
func judge(ctx context.Context, log *slog.Logger, c *wire.Containment, want Containment) error {
	log.InfoContext(ctx, "containment", "active", c.Active)
	var lacks []string
	for _, g := range c.Gaps {
		log.WarnContext(ctx, "containment lacks", "what", g.Feature, "why", g.Reason, "mend", g.Mend)
		lacks = append(lacks, g.Feature)
	}
	if want == Strict && len(lacks) > 0 {
		return fmt.Errorf(`containment = "strict" and this machine lacks %s; liop doctor says how to mend that`, strings.Join(lacks, ", "))
	}
	return nil
}

// Disconnect cuts all connections of a peer. Its sessions end with them.
func (n *Node) Disconnect(p peer.ID) error { return n.host.Disconnect(p) }

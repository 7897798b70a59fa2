package client

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"maps"
	"path"
	"strings"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/liop-project/liop/core/catalog"
	"github.com/liop-project/liop/core/fault"
	"github.com/liop-project/liop/core/guest"
	"github.com/liop-project/liop/core/identity"
	"github.com/liop-project/liop/mesh"
	"github.com/liop-project/liop/mesh/kad"
)

const (
	// MaxProviders is how many nodes one search looks at.
	MaxProviders = kad.MaxProviders
	// lookups is how many providers are looked up at the same time.
	lookups = 16
	// lookupTime bounds what one provider may take: its record, and a ping.
	lookupTime = 10 * time.Second
	// pingTime bounds the dial and ping of one provider: the mesh remembers nodes
	// for hours after they have gone.
	pingTime = 3 * time.Second
	// quiet ends a search that has found nothing more for that long: peers that are
	// gone would be waited for much longer.
	quiet = 3 * time.Second
	// joinTime bounds the wait for the first peer of the mesh.
	joinTime = 15 * time.Second
	// maxPattern bounds a pattern, in bytes.
	maxPattern = 2 * guest.MaxDatasetName
)

// JoinOptions say how an agent takes part in a mesh. Identity is required, and
// Bootstrap or MDNS.
type JoinOptions struct {
	// Identity is who the agent is.
	Identity *identity.Identity
	// Bootstrap are multiaddrs of peers of the mesh, each ending in /p2p/ID. One
	// that answers is enough.
	Bootstrap []string
	// MDNS also looks for peers on the local network.
	MDNS bool
	// Member is the agent's membership token, for a closed mesh; default: none.
	Member string
	// Owners are the scopes of dataset names that the agent knows, and whose key
	// each means (SPEC §10.4).
	Owners map[string]peer.ID
	// Trust are operators who may vouch for the nodes of a realm, besides the
	// issuer of a grant.
	Trust []peer.ID
	// Policy chooses whom the agent asks on its way, and which providers come
	// first. Nil: everyone, as they come.
	Policy kad.Policy
	// Log gets what goes on beneath. Nil discards it.
	Log *slog.Logger
}

// Mesh is an agent's place in a mesh: it finds nodes, and connects to them. It is
// safe for concurrent use.
type Mesh struct {
	host   *mesh.Host
	dht    *kad.DHT
	owners map[string]peer.ID
	trust  map[peer.ID]bool
	now    func() time.Time
}

// Join makes the agent a client of the mesh's DHT. It returns when a peer of the
// mesh answers; or after 15 s, or when all bootstrap peers have refused, with an
// error of code Unreachable or Denied. The caller must Close the Mesh.
func Join(ctx context.Context, o JoinOptions) (*Mesh, error) {
	if o.Identity == nil {
		return nil, errors.New("client: JoinOptions.Identity is missing")
	}
	if len(o.Bootstrap) == 0 && !o.MDNS {
		return nil, &fault.Error{Code: fault.InvalidRequest, Rule: "bootstrap", Owner: fault.Agent,
			Message: "no peer of the mesh is known", Hint: "name one with its multiaddr, or look for peers of the local network with mDNS"}
	}
	var boot []peer.AddrInfo
	for _, a := range o.Bootstrap {
		info, err := mesh.ParseAddr(a)
		if err != nil {
			return nil, err
		}
		boot = append(boot, info)
	}
	m, err := start(ctx, o, boot)
	if err != nil {
		return nil, err
	}
	if err := m.wait(ctx, boot, o.MDNS); err != nil {
		m.Close()
		return nil, err
	}
	return m, nil
}

// wait waits for the first peer of the mesh. It gives up before joinTime if every
// bootstrap peer refuses, and nobody else can come.
func (m *Mesh) wait(ctx context.Context, boot []peer.AddrInfo, others bool) error {
	ctx, cancel := context.WithTimeout(ctx, joinTime)
	why := make(chan error, len(boot))
	var pings sync.WaitGroup
	defer pings.Wait()
	defer cancel()
	for _, b := range boot {
		pings.Go(func() {
			_, err := m.Ping(ctx, b)
			why <- err
		})
	}
	ready := make(chan error, 1)
	pings.Go(func() { ready <- m.dht.WaitReady(ctx) })
	refused := 0
	for {
		select {
		case err := <-ready:
			return err
		case err := <-why:
			if err != nil {
				refused++
			}
			if refused == len(boot) && !others {
				return err
			}
		}
	}
}

// Alone is Join without a mesh: it reaches nodes whose multiaddrs are known.
func Alone(o JoinOptions) (*Mesh, error) {
	if o.Identity == nil {
		return nil, errors.New("client: JoinOptions.Identity is missing")
	}
	o.MDNS = false
	return start(context.Background(), o, nil)
}

func start(ctx context.Context, o JoinOptions, boot []peer.AddrInfo) (*Mesh, error) {
	m := &Mesh{owners: maps.Clone(o.Owners), trust: map[peer.ID]bool{}, now: time.Now}
	for _, p := range o.Trust {
		m.trust[p] = true
	}
	var err error
	if m.host, err = newHost(o.Identity, o.Member, o.Log, mesh.Reach{DialRelays: true, HolePunch: true}, m.resolve); err != nil {
		return nil, err
	}
	m.dht, err = kad.New(ctx, kad.Config{Host: m.host, Bootstrap: boot, MDNS: o.MDNS, Policy: o.Policy, Log: o.Log,
		Validator: catalog.Validator{Now: m.now}})
	if err != nil {
		m.Close()
		return nil, err
	}
	return m, nil
}

// Close leaves the mesh. Clients that were dialed through it are closed first by
// their callers.
func (m *Mesh) Close() error {
	var errs []error
	if m.dht != nil {
		errs = append(errs, m.dht.Close())
	}
	if m.host != nil {
		errs = append(errs, m.host.Close())
	}
	return errors.Join(errs...)
}

// Peers are the peers by which this agent finds others.
func (m *Mesh) Peers() []kad.Peer { return m.dht.Peers() }

// Provider is a node that says it has a dataset. Nothing in it is proved but
// Owners.
type Provider struct {
	Node    peer.ID
	Addrs   []ma.Multiaddr
	Dataset catalog.Dataset // by its name at least
	// Record is what the node publishes of itself. Nil if it publishes nothing,
	// and Err says why; or if it was not looked up, because the grant is for just
	// this node.
	Record *catalog.Record
	// Owners are those who vouch that this node may serve this dataset, now.
	Owners []peer.ID
	// RTT is one round trip to the node, zero if it does not answer, and Err says
	// why.
	RTT time.Duration
	Err error
}

// Find yields the nodes that say they have datasets of that name or pattern, as
// they are found, each once per dataset; at most MaxProviders nodes. In a
// pattern, * is any text and ? any character. It ends when the mesh has no more,
// or with an error: of the pattern, or of ctx.
func (m *Mesh) Find(ctx context.Context, pattern string) iter.Seq2[*Provider, error] {
	return m.find(ctx, pattern, search{ping: true})
}

// search says what find does for each provider.
type search struct {
	ping bool
	// known reports that a node's catalog record would decide nothing, so that it
	// need not be looked up. Nil: it always decides.
	known func(node peer.ID) bool
}

func (m *Mesh) find(ctx context.Context, pattern string, s search) iter.Seq2[*Provider, error] {
	return func(yield func(*Provider, error) bool) {
		key, matches, err := parsePattern(pattern)
		if err != nil {
			yield(nil, err)
			return
		}
		ctx, cancel := context.WithCancel(ctx)
		found := make(chan *Provider)
		var all sync.WaitGroup
		defer all.Wait()
		defer cancel()
		all.Go(func() {
			defer close(found)
			var some sync.WaitGroup
			defer some.Wait()
			room := make(chan struct{}, lookups)
			search, stop := context.WithCancel(ctx)
			defer stop()
			var ends *time.Timer
			for info := range m.dht.Providers(search, key) {
				if ends == nil {
					ends = time.AfterFunc(quiet, stop)
				}
				ends.Reset(quiet)
				select {
				case room <- struct{}{}:
				case <-ctx.Done():
					return
				}
				some.Go(func() {
					defer func() { <-room }()
					m.look(ctx, info, key, matches, s, found)
				})
			}
		})
		for p := range found {
			if !yield(p, nil) {
				return
			}
		}
		if ctx.Err() != nil {
			yield(nil, ctx.Err())
		}
	}
}

// look sends what a node says of its datasets that match.
func (m *Mesh) look(ctx context.Context, info peer.AddrInfo, key string, matches func(string) bool, s search, found chan<- *Provider) {
	look, cancel := context.WithTimeout(ctx, lookupTime)
	defer cancel()
	var record *catalog.Record
	var err error
	if s.known == nil || !s.known(info.ID) {
		record, err = m.record(look, info.ID)
	}
	base := Provider{Node: info.ID, Addrs: info.Addrs, Record: record, Err: err}
	var sets []catalog.Dataset
	if record != nil {
		for _, d := range record.Datasets {
			if matches(d.Name) {
				sets = append(sets, d)
			}
		}
		base.Addrs = mergeAddrs(record.Addrs, info.Addrs)
	} else if guest.ValidDataset(key) == nil {
		sets = []catalog.Dataset{{Name: key}}
	}
	if len(sets) == 0 { // announced once, and served no longer
		return
	}
	if s.ping {
		look, cancel := context.WithTimeout(look, pingTime)
		defer cancel()
		rtt, err := m.Ping(look, base.Info())
		if base.RTT = rtt; err != nil && base.Err == nil {
			base.Err = err
		}
	}
	for _, d := range sets {
		p := base
		p.Dataset, p.Owners = d, vouching(record, info.ID, d.Name, m.now())
		select {
		case found <- &p:
		case <-ctx.Done():
			return
		}
	}
}

// record is the catalog record of a node.
func (m *Mesh) record(ctx context.Context, node peer.ID) (*catalog.Record, error) {
	b, err := m.dht.Value(ctx, node)
	if err != nil {
		return nil, err
	}
	return catalog.Parse(string(b), m.now())
}

// Ping measures one round trip to a node.
func (m *Mesh) Ping(ctx context.Context, node peer.AddrInfo) (time.Duration, error) {
	c, err := m.host.DialInfo(ctx, node)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	return c.Ping(ctx)
}

// Locate finds the id and addresses of a node: a multiaddr, or a peer id that is
// looked up in the mesh.
func (m *Mesh) Locate(ctx context.Context, node string) (peer.AddrInfo, error) {
	if strings.HasPrefix(node, "/") {
		return mesh.ParseAddr(node)
	}
	id, err := identity.ParseID(node)
	if err != nil {
		return peer.AddrInfo{}, badNode()
	}
	look, cancel := context.WithTimeout(ctx, lookupTime)
	defer cancel()
	info := peer.AddrInfo{ID: id}
	if r, err := m.record(look, id); err == nil {
		info.Addrs = mergeAddrs(r.Addrs, nil)
	}
	if len(info.Addrs) == 0 { // it publishes nothing, or is only an agent
		if found, err := m.dht.FindPeer(look, id); err == nil {
			info.Addrs = found.Addrs
		}
	}
	if ctx.Err() != nil {
		return info, ctx.Err()
	}
	if len(info.Addrs) == 0 {
		return info, &fault.Error{Code: fault.Unreachable, Rule: "node", Owner: fault.Agent,
			Message: "nobody in the mesh knows where peer " + id.String() + " is",
			Hint:    "check the id and that the node runs, or use its multiaddr"}
	}
	return info, nil
}

// resolve is asked for a node that is not where it was.
func (m *Mesh) resolve(ctx context.Context, id peer.ID) ([]ma.Multiaddr, error) {
	info, err := m.Locate(ctx, id.String())
	return info.Addrs, err
}

// Info is where the node is to be reached.
func (p *Provider) Info() peer.AddrInfo { return peer.AddrInfo{ID: p.Node, Addrs: p.Addrs} }

// mergeAddrs are the addresses of a record, which are text of another peer and
// were checked, and those that the DHT knows.
func mergeAddrs(record []string, known []ma.Multiaddr) []ma.Multiaddr {
	var out []ma.Multiaddr
	for _, s := range record {
		if a, err := ma.NewMultiaddr(s); err == nil {
			out = append(out, a)
		}
	}
	return ma.Unique(append(out, known...))
}

// parsePattern is the name under which the providers are to be found that a
// pattern could mean, and which of their datasets it does.
func parsePattern(pattern string) (key string, matches func(string) bool, err error) {
	if guest.ValidDataset(pattern) == nil {
		return pattern, func(name string) bool { return name == pattern }, nil
	}
	// A star crosses the slash, which path.Match would not let it.
	flat := func(s string) string { return strings.ReplaceAll(s, "/", ":") }
	if _, err := path.Match(flat(pattern), ""); err != nil || len(pattern) > maxPattern || !strings.ContainsAny(pattern, "*?") {
		return "", nil, &fault.Error{Code: fault.InvalidRequest, Rule: "name", Owner: fault.Agent,
			Message: fmt.Sprintf("%.80q is neither the name of a dataset nor a pattern", pattern),
			Hint:    "a name such as weather or acme/weather, or a pattern such as 'acme/*' or '*weather*'"}
	}
	matches = func(name string) bool {
		ok, err := path.Match(flat(pattern), flat(name))
		return ok && err == nil
	}
	if scope, _, ok := strings.Cut(pattern, "/"); ok && guest.ValidDataset(scope) == nil {
		return scope + "/*", matches, nil
	}
	return "*", matches, nil
}

// ValidNode checks the form of what Dial takes as a node.
func ValidNode(node string) error {
	if name, ok := strings.CutPrefix(node, "@"); ok {
		return guest.ValidDataset(name)
	}
	if strings.HasPrefix(node, "/") {
		_, err := mesh.ParseAddr(node)
		return err
	}
	if _, err := identity.ParseID(node); err != nil {
		return badNode()
	}
	return nil
}

func badNode() *fault.Error {
	return &fault.Error{Code: fault.InvalidRequest, Rule: "node", Owner: fault.Protocol,
		Message: "the node is neither a multiaddr, nor a peer id, nor @ and a dataset name",
		Hint:    "/ip4/192.0.2.7/udp/7447/quic-v1/p2p/12D3KooW…, 12D3KooW…, or @weather"}
}

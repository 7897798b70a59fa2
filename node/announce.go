package node

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/liop-project/liop/core/catalog"
	"github.com/liop-project/liop/core/identity"
	"github.com/liop-project/liop/core/member"
	"github.com/liop-project/liop/mesh"
	"github.com/liop-project/liop/mesh/kad"
	"github.com/liop-project/liop/node/dataset"
)

const (
	// recordLife is how long a catalog record is good for, and recordRenewal how
	// often a new one is made: a node that misses three is forgotten.
	recordLife    = 24 * time.Hour
	recordRenewal = 6 * time.Hour
	// publishTime bounds one attempt to put a record into the DHT.
	publishTime = time.Minute
	// quickSizes is how long the first record waits for the sizes of datasets.
	quickSizes = 2 * time.Second
	// settleTime is how long addresses that changed may change again before a
	// record says so.
	settleTime = time.Second
)

// announcer tells the mesh what the node has (SPEC §10).
type announcer struct {
	log      *slog.Logger
	id       *identity.Identity
	host     *mesh.Host
	dht      *kad.DHT
	realm    string
	vouchers []string // files with membership tokens
	listed   []Dataset
	datasets map[string]*dataset.Dataset
	now      func() time.Time

	seq    uint64
	cancel context.CancelFunc
	wg     sync.WaitGroup
}

// joinMesh makes the node a server of the mesh's DHT and begins to announce.
func (n *Node) joinMesh(ctx context.Context, state string, id *identity.Identity, c Config) error {
	var boot []peer.AddrInfo
	for i, s := range c.Mesh.Bootstrap {
		info, err := mesh.ParseAddr(s)
		if err != nil {
			return fmt.Errorf("mesh.bootstrap[%d]: %w", i, err)
		}
		if info.ID != id.ID() { // one list may serve all nodes of a mesh
			boot = append(boot, info)
		}
	}
	dht, err := kad.New(ctx, kad.Config{Host: n.host, Server: true, Bootstrap: boot, Dir: filepath.Join(state, "kad"),
		MDNS: c.Mesh.MDNS, Policy: c.Mesh.Policy, Tuning: c.Mesh.Kad.Tuning(), Validator: catalog.Validator{Now: time.Now}, Log: n.log})
	if err != nil {
		return err
	}
	a := &announcer{log: n.log, id: id, host: n.host, dht: dht, realm: c.Realm, datasets: n.datasets, now: time.Now,
		vouchers: c.Mesh.vouchers()}
	n.announcer = a
	names := []string{}
	for _, d := range c.Datasets {
		if d.announced(c.Mesh) {
			a.listed = append(a.listed, d)
			names = append(names, d.Name)
		}
	}
	if len(a.listed) > catalog.MaxDatasets {
		return fmt.Errorf("dataset: %d are announced, at most %d; keep some to yourself with announce = false", len(a.listed), catalog.MaxDatasets)
	}
	if _, err := a.sign(nil, a.addrs()); err != nil { // before anyone waits for it
		return err
	}
	if err := dht.Announce(announced(names)); err != nil {
		return err
	}
	changed, err := n.host.Libp2p().EventBus().Subscribe(new(event.EvtLocalAddressesUpdated))
	if err != nil {
		return fmt.Errorf("watch addresses: %w", err)
	}
	run, cancel := context.WithCancel(context.WithoutCancel(ctx))
	a.cancel = cancel
	a.wg.Go(func() {
		defer changed.Close()
		a.run(run, changed.Out())
	})
	n.log.InfoContext(ctx, "mesh joined", "bootstrap", len(boot), "announced", names)
	return nil
}

// announced are the names under which datasets are to be found (SPEC §10.2).
func announced(datasets []string) []string {
	if len(datasets) == 0 {
		return nil
	}
	names := append([]string{"*"}, datasets...)
	for _, d := range datasets {
		if scope, _, ok := strings.Cut(d, "/"); ok {
			names = append(names, scope+"/*")
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

func (a *announcer) close() error {
	if a.cancel != nil {
		a.cancel()
	}
	a.wg.Wait()
	return a.dht.Close()
}

// run publishes a record now, when the sizes of the datasets are known, when the
// addresses change, and before the last one expires.
func (a *announcer) run(ctx context.Context, changed <-chan any) {
	quick, cancel := context.WithTimeout(ctx, quickSizes)
	sizes := a.sizes(quick)
	cancel()
	a.publish(ctx, sizes)
	if len(sizes) < len(a.listed) { // one of them is large
		a.publish(ctx, a.sizes(ctx))
	}
	renew := time.NewTicker(recordRenewal)
	defer renew.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-renew.C:
		case <-changed:
			settle := time.NewTimer(settleTime)
			for waiting := true; waiting; {
				select {
				case <-changed:
				case <-settle.C:
					waiting = false
				case <-ctx.Done():
					settle.Stop()
					return
				}
			}
		}
		a.publish(ctx, a.sizes(ctx))
	}
}

// sizes are those of the announced datasets. One that cannot be read is left
// out.
func (a *announcer) sizes(ctx context.Context) map[string]uint64 {
	sizes := map[string]uint64{}
	for _, d := range a.listed {
		v, err := a.datasets[d.Name].Snapshot(ctx)
		if err != nil {
			if ctx.Err() == nil {
				a.log.WarnContext(ctx, "size of dataset unknown", "dataset", d.Name, "error", err)
			}
			continue
		}
		sizes[d.Name] = uint64(v.Bytes)
	}
	return sizes
}

func (a *announcer) publish(ctx context.Context, sizes map[string]uint64) {
	if ctx.Err() != nil {
		return
	}
	text, err := a.sign(sizes, a.addrs())
	if err == nil {
		put, cancel := context.WithTimeout(ctx, publishTime)
		defer cancel()
		err = a.dht.Publish(put, []byte(text))
	}
	if err != nil && ctx.Err() == nil {
		a.log.ErrorContext(ctx, "catalog record not published", "error", err)
	}
}

// addrs are where the node is to be reached, without its id.
func (a *announcer) addrs() []string {
	var out []string
	for _, s := range a.host.Addrs() {
		s, _ = strings.CutSuffix(s, "/p2p/"+a.id.ID().String())
		if len(s) <= catalog.MaxAddr {
			out = append(out, s)
		}
	}
	// Loopback helps nobody on another machine, and is all there is in a test.
	if far := slices.DeleteFunc(slices.Clone(out), isLoopback); len(far) > 0 {
		out = far
	}
	return out[:min(len(out), catalog.MaxAddrs)]
}

func isLoopback(addr string) bool {
	return strings.HasPrefix(addr, "/ip4/127.") || strings.HasPrefix(addr, "/ip6/::1/")
}

func (a *announcer) sign(sizes map[string]uint64, addrs []string) (string, error) {
	now := a.now()
	// The time, so that a node that lost its state goes on where it was.
	a.seq = max(a.seq+1, uint64(now.UnixMilli()))
	r := &catalog.Record{
		V: catalog.Version, Node: a.id.ID(), Seq: a.seq, Issued: now.Unix(), Expires: now.Add(recordLife).Unix(),
		Realm: a.realm, Addrs: addrs, Assurance: []string{"signed"}, Vouchers: a.tokens(), Datasets: []catalog.Dataset{},
	}
	for _, d := range a.listed {
		r.Datasets = append(r.Datasets, catalog.Dataset{Name: d.Name, Title: d.Title, Schema: d.Schema,
			Bytes: catalog.Rough(sizes[d.Name]), Logic: []string{"wasip1"}})
	}
	text, err := catalog.Sign(a.id.Ed25519(), r)
	if err != nil {
		return "", fmt.Errorf("what node.toml says of the datasets: %w", err)
	}
	return text, nil
}

// tokens are the membership tokens that vouch for the node now.
func (a *announcer) tokens() []string {
	out := []string{}
	for _, f := range a.vouchers {
		text, err := member.ReadFile(f)
		if err == nil {
			_, err = member.Of(a.id.ID(), text, a.now())
		}
		if err != nil {
			a.log.Warn("membership token is not published", "file", f, "error", err)
			continue
		}
		out = append(out, text)
	}
	return out
}

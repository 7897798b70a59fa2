// Package kad finds nodes by the names of their datasets: a Kademlia DHT
// (Maymounkov and Mazières 2002, as in the libp2p kad-dht specification) over a
// mesh.Host, with the protocol [Protocol].
//
// It keeps two kinds of records on the peers nearest to their key:
//
//   - that a node has a dataset ([NameKey]): [DHT.Announce], [DHT.Providers];
//   - what a node says of itself ([ValueKey]), signed by it: [DHT.Publish],
//     [DHT.Value].
//
// It promises:
//
//   - What Value returns was accepted by Config.Validator, wherever it came from.
//     Who is nearest to a key can hide its records, and cannot forge a value.
//     That a peer has a dataset is the word of that peer alone.
//   - A peer can make others keep its own value and MaxNamesPerPeer names of its
//     own, and nothing of other peers. What all peers together can make this one
//     keep is bounded by Tuning.MaxValues and Tuning.MaxProviders.
//   - A client (Config.Server false) is in nobody's routing table.
//   - Nothing on disk is needed: a damaged store is set aside.
//
// Peers on private addresses take part like any others. An address of loopback
// is passed on only by a peer that has no other.
package kad

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"

	"github.com/ipfs/go-log/v2"
	dht "github.com/libp2p/go-libp2p-kad-dht"
	"github.com/libp2p/go-libp2p-kad-dht/records"
	record "github.com/libp2p/go-libp2p-record"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/liop-project/liop/mesh"
)

// Policy is where an embedder plugs in routing decisions of its own. It is
// asked often and from many goroutines: it must be fast and safe for concurrent
// use, and must not call the DHT. Whom the host's Admit refuses is never
// connected to, whatever the policy says.
type Policy interface {
	// Route says whether p may be in the routing table, and so be named to
	// others.
	Route(p peer.ID) bool
	// Query says whether a peer that another one named may be asked on the way
	// to a key. A peer that Route refuses is not asked either.
	Query(p peer.AddrInfo) bool
	// Score ranks the peers that have a dataset: those with the higher score come
	// first.
	Score(p peer.ID) float64
}

// Config is what a DHT is made from. Host and Validator are required.
type Config struct {
	// Host is what the DHT runs on. It must outlive the DHT.
	Host *mesh.Host
	// Server keeps records and answers others: for nodes. Clients only ask.
	Server bool
	// Bootstrap is by whom the DHT joins. They are tried at once, and again while
	// nobody is in the routing table; later, those that are not connected are
	// tried every Tuning.Refresh, so that two halves of a mesh find together. At
	// most MaxBootstrap.
	Bootstrap []peer.AddrInfo
	// Validator judges values under ValueKey, after their size and key. It must
	// be safe for concurrent use.
	Validator record.Validator
	// Dir is where records survive a restart; it is made if needed. Empty: they
	// are in memory.
	Dir string
	// MDNS also finds peers on the local network, by RFC 6762 multicast, and
	// shows this host there.
	MDNS bool
	// Tuning has sizes and times.
	Tuning Tuning
	// Policy is the embedder's; nil takes everyone, by arrival.
	Policy Policy
	// Log gets this package's events. Nil discards them.
	Log *slog.Logger
}

// MaxBootstrap bounds the peers that are dialed at once at start.
const MaxBootstrap = 64

// Validate reports the first field that New would not accept.
func (c Config) Validate() error {
	switch {
	case c.Host == nil:
		return errors.New("kad: Config.Host is missing")
	case c.Validator == nil:
		return errors.New("kad: Config.Validator is missing")
	case len(c.Bootstrap) > MaxBootstrap:
		return fmt.Errorf("kad: Config.Bootstrap has more than %d peers", MaxBootstrap)
	}
	for i, p := range c.Bootstrap {
		if p.ID.Validate() != nil || len(p.Addrs) == 0 {
			return fmt.Errorf("kad: Config.Bootstrap[%d] has no id or no address", i)
		}
	}
	if err := c.Tuning.Validate(); err != nil {
		return fmt.Errorf("kad: Config.Tuning: %w", err)
	}
	return nil
}

// DHT is this host's part of the DHT. All methods are safe for concurrent use.
type DHT struct {
	host   host.Host
	dht    *dht.IpfsDHT
	valid  record.Validator
	policy Policy
	log    *slog.Logger
	tuning Tuning
	store  *store
	boot   []peer.AddrInfo
	lan    *lan // nil without MDNS

	ctx     context.Context
	cancel  context.CancelFunc
	wg      sync.WaitGroup
	closing sync.Once
	open    atomic.Bool // the routing table may take peers

	ready     chan struct{} // closed when the first peer is in the routing table
	readyOnce sync.Once
	joined    atomic.Int64  // peers that came into it since all was said
	joinWake  chan struct{} // the routing table has changed
	saidWake  chan struct{} // so has what is announced

	said said
}

// New makes a DHT on c.Host and joins in the background: see Ready. It fails if
// the config is bad or Config.Dir cannot be written. The caller must Close it,
// before the host. ctx is only for the start.
func New(ctx context.Context, c Config) (*DHT, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	d := &DHT{
		host: c.Host.Libp2p(), valid: validator{c.Validator}, policy: c.Policy, log: c.Log,
		tuning: c.Tuning.WithDefaults(), boot: c.Bootstrap,
		ready: make(chan struct{}), joinWake: make(chan struct{}, 1), saidWake: make(chan struct{}, 1),
	}
	if d.policy == nil {
		d.policy = everyone{}
	}
	if d.log == nil {
		d.log = slog.New(slog.DiscardHandler)
	}
	quiet()
	d.ctx, d.cancel = context.WithCancel(context.Background())
	if err := d.start(ctx, c); err != nil {
		d.Close()
		return nil, err
	}
	return d, nil
}

func (d *DHT) start(ctx context.Context, c Config) (err error) {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("kad: start: %w", err)
	}
	if d.store, err = openStore(c.Dir, d.host.ID(), d.tuning, d.log); err != nil {
		return err
	}
	mode := dht.ModeClient
	if c.Server {
		mode = dht.ModeServer // never by reachability: in a private network nobody is reachable from outside
	}
	t := d.tuning
	inTable, asked := t.RoutingFilter.routing(), t.QueryFilter.query()
	d.dht, err = dht.New(guardedHost{d.host},
		dht.ProtocolPrefix(Prefix),
		dht.Mode(mode),
		dht.Datastore(d.store),
		// This way there are no validators for the keys of other networks.
		dht.Validator(record.NamespacedValidator{namespace: d.valid}),
		dht.BucketSize(t.BucketSize),
		dht.Concurrency(t.Concurrency),
		dht.Resiliency(t.Resiliency),
		dht.RoutingTableRefreshPeriod(t.Refresh),
		dht.MaxRecordAge(t.RecordAge),
		dht.ValueGCInterval(t.RecordAge/2),
		dht.ProviderManagerOpts(records.ProvideValidity(t.ProviderAge), records.ProviderAddrTTL(t.ProviderAge),
			records.CleanupInterval(t.ProviderAge/16), records.Cache(noCache{})),
		dht.RoutingTableFilter(func(self any, p peer.ID) bool { return d.open.Load() && inTable(self, p) && d.policy.Route(p) }),
		// kad-dht puts into its table whoever answers a query.
		dht.QueryFilter(func(self any, p peer.AddrInfo) bool {
			return asked(self, p) && d.policy.Route(p.ID) && d.policy.Query(p)
		}),
		dht.AddressFilter(reachable),
		dht.OnRequestHook(onRequest),
	)
	if err != nil {
		return fmt.Errorf("kad: make DHT: %w", err)
	}
	d.watchTable()
	if err := d.watchAddrs(); err != nil {
		return err
	}
	if c.MDNS {
		d.startLAN()
	}
	d.wg.Go(d.join)
	d.wg.Go(d.keepSaying)
	return nil
}

// watchTable hears of changes in the routing table. The table is empty and
// takes nobody until this is done: kad-dht has no other moment for it.
func (d *DHT) watchTable() {
	table := d.dht.RoutingTable()
	added, removed := table.PeerAdded, table.PeerRemoved
	table.PeerAdded = func(p peer.ID) { // with the table locked
		added(p)
		if d.policy.Route(p) {
			d.readyOnce.Do(func() { close(d.ready) })
		}
		d.joined.Add(1)
		wake(d.joinWake)
		wake(d.saidWake)
	}
	table.PeerRemoved = func(p peer.ID) {
		removed(p)
		wake(d.joinWake)
	}
	d.open.Store(true)
}

func wake(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default: // it will look anyway
	}
}

// Close leaves the DHT, and waits for what it started. What was announced stays
// on other peers until it ends. It may be called more than once.
func (d *DHT) Close() error {
	var errs []error
	d.closing.Do(func() {
		d.cancel()
		d.host.RemoveStreamHandler(Protocol)
		if d.lan != nil {
			errs = append(errs, d.lan.Close())
		}
		d.wg.Wait()
		if d.dht != nil {
			errs = append(errs, d.dht.Close())
		}
		if d.store != nil {
			errs = append(errs, d.store.Close())
		}
	})
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("kad: close: %w", err)
	}
	return nil
}

type everyone struct{}

func (everyone) Route(peer.ID) bool       { return true }
func (everyone) Query(peer.AddrInfo) bool { return true }
func (everyone) Score(peer.ID) float64    { return 0 }

// quiet keeps what kad-dht prints by itself off stderr, unless someone asked for
// it in the way of its logger. What matters of it shows in what we log.
var quiet = sync.OnceFunc(func() {
	if os.Getenv("GOLOG_LOG_LEVEL") != "" {
		return
	}
	for _, name := range []string{"dht", "dht.pb", "dht/netsize", "dht/provider", "dht/RtRefreshManager", "providers", "table"} {
		log.SetLogLevel(name, "fatal") // no error: the names are those of packages that we import
	}
})

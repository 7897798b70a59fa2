package kad

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p-kad-dht/provider"
	kbucket "github.com/libp2p/go-libp2p-kbucket"
	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/p2p/host/eventbus"
	"github.com/multiformats/go-multihash"
)

const (
	// sayAgainAfter is the least time between two announcements that the network
	// causes: a peer that joins meets many others within a second.
	sayAgainAfter = 5 * time.Second
	// putTimeout bounds a lookup and the puts after it.
	putTimeout = time.Minute
)

// said is what this host tells the DHT.
type said struct {
	putting sync.Mutex // one put at a time, so that the newest is the last

	mu       sync.Mutex
	names    []multihash.Multihash // sorted
	newNames bool                  // since they were announced
	value    []byte
	newValue bool // since it was put
	newAddrs bool
}

// Announce says in the DHT that this host has the datasets with these names, and
// takes back what an earlier call said, which others may believe for
// Tuning.ProviderAge. It does not wait for the network. It is said again every
// Tuning.Reprovide, when the addresses of this host change, and when the mesh
// has grown. The error is for more than MaxNamesPerPeer names: nothing has
// changed then.
func (d *DHT) Announce(names []string) error {
	keys := make([]multihash.Multihash, 0, len(names))
	for _, n := range names {
		keys = append(keys, NameKey(n).Hash())
	}
	slices.SortFunc(keys, slices.Compare)
	keys = slices.CompactFunc(keys, slices.Equal)
	if len(keys) > MaxNamesPerPeer {
		return fmt.Errorf("kad: announce %d names: at most %d", len(keys), MaxNamesPerPeer)
	}
	d.said.mu.Lock()
	d.said.names, d.said.newNames = keys, true
	d.said.mu.Unlock()
	d.sayHere(keys)
	wake(d.saidWake)
	return nil
}

// sayHere keeps the records of this host's own names, for those who ask it: it
// may be the only one that there is.
func (d *DHT) sayHere(names []multihash.Multihash) {
	for _, n := range names {
		if err := d.dht.Provide(d.ctx, cid.NewCidV1(cid.Raw, n), false); err != nil && d.ctx.Err() == nil {
			d.log.LogAttrs(d.ctx, slog.LevelWarn, "kad.announce_failed", slog.Any("err", err))
		}
	}
}

// Publish puts value under ValueKey of this host, here and on the peers nearest
// to it, and again every Tuning.Republish and as Announce does. While nobody is
// in the routing table, it is put here, and on others when they come. It waits
// for the network at most until ctx ends; then it is tried again later.
//
// The error is for a value that the validator refuses, or likes less than the
// one before, which may be from before a restart. Value is not copied.
func (d *DHT) Publish(ctx context.Context, value []byte) error {
	key := ValueKey(d.host.ID())
	if err := d.valid.Validate(key, value); err != nil {
		return fmt.Errorf("kad: publish: %w", err)
	}
	d.said.putting.Lock()
	defer d.said.putting.Unlock()
	if err := d.put(ctx, value); err != nil && ctx.Err() == nil {
		return fmt.Errorf("kad: publish: %w", err)
	}
	d.said.mu.Lock()
	d.said.value, d.said.newValue = value, d.dht.RoutingTable().Size() == 0 || ctx.Err() != nil
	d.said.mu.Unlock()
	wake(d.saidWake)
	return nil
}

// put needs said.putting.
func (d *DHT) put(ctx context.Context, value []byte) error {
	err := d.dht.PutValue(ctx, ValueKey(d.host.ID()), value)
	if errors.Is(err, kbucket.ErrLookupFailure) {
		return nil // nobody is there; it is kept here
	}
	return err
}

// watchAddrs hears of new addresses of this host, which provider records have.
func (d *DHT) watchAddrs() error {
	sub, err := d.host.EventBus().Subscribe(new(event.EvtLocalAddressesUpdated), eventbus.BufSize(16))
	if err != nil {
		return fmt.Errorf("kad: watch addresses: %w", err)
	}
	d.wg.Go(func() {
		defer sub.Close()
		for {
			select {
			case <-d.ctx.Done():
				return
			case _, ok := <-sub.Out():
				if !ok {
					return
				}
				d.said.mu.Lock()
				d.said.newAddrs = true
				d.said.mu.Unlock()
				wake(d.saidWake)
			}
		}
	})
	return nil
}

// keepSaying tells the DHT what is new when it is new, and all of it again when
// the addresses of this host have changed or there are as many new peers as there
// were then: records lie on those that were the nearest.
func (d *DHT) keepSaying() {
	var (
		p     *provider.SweepingProvider // made when there is someone to talk to
		told  []multihash.Multihash      // names
		peers int64                      // in the routing table when all was told
	)
	defer func() {
		if p != nil {
			p.Close()
		}
	}()
	republish := time.NewTicker(d.tuning.Republish)
	defer republish.Stop()
	rest := time.NewTimer(0) // runs while it is too early to tell all again
	defer rest.Stop()
	rested := false
	for {
		due := false
		select {
		case <-d.ctx.Done():
			return
		case <-rest.C:
			rested = true
		case <-republish.C:
			due = true
		case <-d.saidWake:
		}
		size := int64(d.dht.RoutingTable().Size())
		s := &d.said
		if size == 0 {
			if due {
				s.mu.Lock()
				names := s.names
				s.mu.Unlock()
				d.sayHere(names)
			}
			continue
		}
		s.mu.Lock()
		names, newNames, newValue := s.names, s.newNames, s.newValue
		all := rested && (d.joined.Load() >= max(1, peers) || s.newAddrs)
		s.newNames, s.newValue, s.newAddrs = false, false, s.newAddrs && !all
		s.mu.Unlock()
		if all {
			peers = size
			d.joined.Store(0)
		}

		if p == nil && len(names) > 0 {
			var err error
			if p, err = d.newProvider(); err != nil {
				d.log.LogAttrs(d.ctx, slog.LevelError, "kad.provider_failed", slog.Any("err", err))
				return
			}
		}
		if p != nil && (all || newNames) {
			d.tell(p, told, names, all)
			told = names
		}
		if all || newValue || due {
			d.putAgain()
		}
		if all {
			rested = false
			rest.Reset(sayAgainAfter)
		}
	}
}

// tell hands p what is new in names, or all of them, and takes back the rest.
func (d *DHT) tell(p *provider.SweepingProvider, told, names []multihash.Multihash, all bool) {
	var gone []multihash.Multihash
	for _, k := range told {
		if _, ok := slices.BinarySearchFunc(names, k, slices.Compare); !ok {
			gone = append(gone, k)
		}
	}
	err := errors.Join(p.StopProviding(gone...), p.StartProviding(all, names...))
	if err != nil && d.ctx.Err() == nil {
		d.log.LogAttrs(d.ctx, slog.LevelWarn, "kad.announce_failed", slog.Any("err", err))
	}
}

func (d *DHT) putAgain() {
	ctx, cancel := context.WithTimeout(d.ctx, putTimeout)
	defer cancel()
	d.said.putting.Lock()
	defer d.said.putting.Unlock()
	d.said.mu.Lock()
	value := d.said.value
	d.said.mu.Unlock()
	if value == nil {
		return
	}
	if err := d.put(ctx, value); err != nil && d.ctx.Err() == nil {
		d.log.LogAttrs(ctx, slog.LevelWarn, "kad.publish_failed", slog.Any("err", err))
	}
}

// newProvider announces many names with few lookups: it walks the keyspace, and
// gives each region's peers all names of the region at once.
func (d *DHT) newProvider() (*provider.SweepingProvider, error) {
	return provider.New(
		provider.WithHost(d.host),
		provider.WithRouter(d.dht),
		provider.WithMessageSender(d.dht.MessageSender()),
		provider.WithSelfAddrs(d.dht.FilteredAddrs),
		provider.WithAddLocalRecord(func(ctx context.Context, h multihash.Multihash) error {
			return d.dht.Provide(ctx, cid.NewCidV1(cid.Raw, h), false)
		}),
		provider.WithReplicationFactor(d.tuning.BucketSize),
		provider.WithReprovideInterval(d.tuning.Reprovide),
		provider.WithMaxReprovideDelay(d.tuning.Reprovide/8),
		provider.WithResumeCycle(false), // all names are announced at each start
	)
}

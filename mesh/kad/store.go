package kad

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"

	"github.com/ipfs/go-datastore"
	"github.com/ipfs/go-datastore/query"
	leveldb "github.com/ipfs/go-ds-leveldb"
	"github.com/libp2p/go-libp2p-kad-dht/records"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/multiformats/go-base32"
)

const (
	// MaxNamesPerPeer bounds the names that one peer can make another keep, and
	// those of Announce.
	MaxNamesPerPeer = 1024
	// maxPeersPerName bounds the provider records of one name, so that an answer
	// with all of them is far below the 4 MiB of a message.
	maxPeersPerName = 1024
)

var (
	errFull   = errors.New("kad: no room for more records")
	errClosed = errors.New("kad: closed")
)

// store keeps the records of the DHT, those of other peers within bounds. When
// a bound is reached, new records are refused and the old ones stay until they
// end: who floods cannot push out what is there.
//
// Records are but copies. If the disk fails, the store goes on in memory.
type store struct {
	log       *slog.Logger
	values    int // the bounds
	providers int
	ownValue  string
	ownPeer   string

	mu      sync.Mutex // held over each write, so that the counts are true
	inner   datastore.Batching
	held    counts
	closed  bool
	durable bool
}

type counts struct {
	values, providers int
	byName, byPeer    map[string]int
}

var _ datastore.Batching = (*store)(nil)

// openStore opens the records in dir, or in memory if dir is empty.
func openStore(dir string, self peer.ID, t Tuning, log *slog.Logger) (*store, error) {
	s := &store{
		log: log, values: t.MaxValues, providers: t.MaxProviders,
		ownValue: base32.RawStdEncoding.EncodeToString([]byte(ValueKey(self))),
		ownPeer:  base32.RawStdEncoding.EncodeToString([]byte(self)),
		durable:  dir != "",
	}
	if dir != "" {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, fmt.Errorf("kad: make folder for records: %w", err)
		}
	}
	inner, err := open(dir)
	if err == nil {
		err = s.use(inner)
	}
	if err != nil && dir != "" {
		// A damaged store is set aside for whoever wants to know why. The one
		// before it goes: there is no use in a collection.
		aside := dir + ".damaged"
		log.LogAttrs(context.Background(), slog.LevelWarn, "kad.store_damaged",
			slog.String("moved_to", aside), slog.Any("err", err))
		if inner != nil {
			inner.Close()
		}
		err = errors.Join(os.RemoveAll(aside), os.Rename(dir, aside))
		if err == nil {
			if inner, err = open(dir); err == nil {
				err = s.use(inner)
			}
		}
	}
	if err != nil {
		return nil, fmt.Errorf("kad: open records in %s: %w", dir, err)
	}
	return s, nil
}

// open makes the smallest buffers that leveldb takes: there are few records.
// Writes do not wait for the disk. What the kernel has survives the end of this
// process; a power cut may cost the last records, which others have too.
func open(dir string) (datastore.Batching, error) {
	d, err := leveldb.NewDatastore(dir, &leveldb.Options{
		NoSync:                 true,
		DisableBufferPool:      true, // its goroutine would outlive a failure to open
		WriteBuffer:            1 << 20,
		BlockCacheCapacity:     1 << 20,
		OpenFilesCacheCapacity: 32,
	})
	if err != nil {
		return nil, err
	}
	return d, nil
}

// use counts what is in d, and takes it.
func (s *store) use(d datastore.Batching) error {
	s.held = counts{byName: map[string]int{}, byPeer: map[string]int{}}
	all, err := d.Query(context.Background(), query.Query{KeysOnly: true})
	if err != nil {
		return err
	}
	defer all.Close()
	for e := range all.Next() {
		if e.Error != nil {
			return e.Error
		}
		s.held.add(s.split(datastore.RawKey(e.Key)), 1)
	}
	s.inner = d
	return nil
}

// place is what a datastore key says: a value, or that peer has name.
type place struct {
	value, provider, own bool
	name, peer           string
}

func (s *store) split(k datastore.Key) place {
	path := k.String()
	if v, ok := strings.CutPrefix(path, "/"+namespace+"/"); ok {
		return place{value: true, own: v == s.ownValue}
	}
	if v, ok := strings.CutPrefix(path, records.ProvidersKeyPrefix); ok {
		name, p, ok := strings.Cut(v, "/")
		return place{provider: ok, own: p == s.ownPeer, name: name, peer: p}
	}
	return place{}
}

func (c *counts) add(p place, n int) {
	switch {
	case p.own:
	case p.value:
		c.values += n
	case p.provider:
		c.providers += n
		addTo(c.byName, p.name, n)
		addTo(c.byPeer, p.peer, n)
	}
}

func addTo(m map[string]int, k string, n int) {
	if m[k] += n; m[k] <= 0 {
		delete(m, k)
	}
}

// room reports whether a record that is not there yet may be put at p.
func (s *store) room(p place) bool {
	switch {
	case p.own:
		return true
	case p.value:
		return s.held.values < s.values
	case p.provider:
		return s.held.providers < s.providers &&
			s.held.byName[p.name] < maxPeersPerName && s.held.byPeer[p.peer] < MaxNamesPerPeer
	}
	return false
}

// Get implements datastore.Datastore. An error of the disk is the same as no
// record.
func (s *store) Get(ctx context.Context, k datastore.Key) ([]byte, error) {
	d, err := s.current()
	if err != nil {
		return nil, err
	}
	b, err := d.Get(ctx, k)
	if err != nil && !errors.Is(err, datastore.ErrNotFound) && ctx.Err() == nil {
		s.log.LogAttrs(ctx, slog.LevelWarn, "kad.store_read", slog.Any("err", err))
		return nil, datastore.ErrNotFound
	}
	return b, err
}

// Has implements datastore.Datastore.
func (s *store) Has(ctx context.Context, k datastore.Key) (bool, error) {
	d, err := s.current()
	if err != nil {
		return false, err
	}
	return d.Has(ctx, k)
}

// GetSize implements datastore.Datastore.
func (s *store) GetSize(ctx context.Context, k datastore.Key) (int, error) {
	d, err := s.current()
	if err != nil {
		return -1, err
	}
	return d.GetSize(ctx, k)
}

// Query implements datastore.Datastore.
func (s *store) Query(ctx context.Context, q query.Query) (query.Results, error) {
	d, err := s.current()
	if err != nil {
		return nil, err
	}
	return d.Query(ctx, q)
}

// Sync implements datastore.Datastore.
func (s *store) Sync(ctx context.Context, k datastore.Key) error {
	d, err := s.current()
	if err != nil {
		return err
	}
	return d.Sync(ctx, k)
}

func (s *store) current() (datastore.Batching, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, errClosed
	}
	return s.inner, nil
}

// Put implements datastore.Datastore. It is an error if there is no room.
func (s *store) Put(ctx context.Context, k datastore.Key, v []byte) error {
	refused, err := s.write(ctx, map[datastore.Key][]byte{k: v})
	if err == nil && refused > 0 {
		return errFull
	}
	return err
}

// Delete implements datastore.Datastore.
func (s *store) Delete(ctx context.Context, k datastore.Key) error {
	_, err := s.write(ctx, map[datastore.Key][]byte{k: nil})
	return err
}

// Batch implements datastore.Batching. Its Commit leaves out what there is no
// room for.
func (s *store) Batch(context.Context) (datastore.Batch, error) {
	return &batch{s: s, writes: map[datastore.Key][]byte{}}, nil
}

type batch struct {
	s      *store
	writes map[datastore.Key][]byte // nil: delete
}

func (b *batch) Put(_ context.Context, k datastore.Key, v []byte) error {
	if v == nil {
		v = []byte{}
	}
	b.writes[k] = v
	return nil
}

func (b *batch) Delete(_ context.Context, k datastore.Key) error {
	b.writes[k] = nil
	return nil
}

func (b *batch) Commit(ctx context.Context) error {
	_, err := b.s.write(ctx, b.writes)
	return err
}

// write makes the writes there is room for, all or none.
func (s *store) write(ctx context.Context, writes map[datastore.Key][]byte) (refused int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return 0, errClosed
	}
	if refused, err = s.tryLocked(ctx, writes); err == nil || !s.durable || ctx.Err() != nil {
		return refused, err
	}
	s.log.LogAttrs(ctx, slog.LevelError, "kad.store_failed",
		slog.String("now", "records are kept in memory until the node starts again"), slog.Any("err", err))
	memory, err := open("")
	if err != nil {
		return 0, err
	}
	s.inner.Close()
	s.durable = false
	if err := s.use(memory); err != nil {
		return 0, err
	}
	return s.tryLocked(ctx, writes)
}

func (s *store) tryLocked(ctx context.Context, writes map[datastore.Key][]byte) (refused int, err error) {
	b, err := s.inner.Batch(ctx)
	if err != nil {
		return 0, err
	}
	var undo []func()
	defer func() {
		if err != nil {
			for _, f := range undo {
				f()
			}
		}
	}()
	for k, v := range writes {
		p := s.split(k)
		has, err := s.inner.Has(ctx, k)
		switch {
		case err != nil:
			return 0, err
		case v == nil && has:
			if err := b.Delete(ctx, k); err != nil {
				return 0, err
			}
			s.held.add(p, -1)
			undo = append(undo, func() { s.held.add(p, 1) })
		case v == nil:
		case !has && !s.room(p):
			refused++
		default:
			if err := b.Put(ctx, k, v); err != nil {
				return 0, err
			}
			if !has {
				s.held.add(p, 1)
				undo = append(undo, func() { s.held.add(p, -1) })
			}
		}
	}
	return refused, b.Commit(ctx)
}

// Close implements datastore.Datastore. Requests still under way get errors.
func (s *store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	return s.inner.Close()
}

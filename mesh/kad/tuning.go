package kad

import (
	"fmt"
	"time"

	dht "github.com/libp2p/go-libp2p-kad-dht"
	"github.com/libp2p/go-libp2p/core/peer"
)

// Defaults of Tuning.
const (
	// DefaultBucketSize is k of Kademlia: how many peers a bucket holds, and on
	// how many peers a record lies. 20 is the value of the paper (Maymounkov and
	// Mazières 2002, section 2.1), chosen so that all 20 are unlikely to leave
	// within an hour.
	DefaultBucketSize = 20
	// DefaultConcurrency is alpha: the requests of one lookup at a time. The
	// paper has 3; libp2p measured that 10 hides peers that do not answer.
	DefaultConcurrency = 10
	// DefaultResiliency is beta: the peers closest to the target that must have
	// answered before a lookup ends.
	DefaultResiliency = 3
	// DefaultRefresh finds peers that are gone, and new ones, at the cost of some
	// twenty lookups.
	DefaultRefresh = 10 * time.Minute
	// DefaultRecordAge is how long a dead node's record can still be read. A live
	// one puts its record again far more often.
	DefaultRecordAge = 24 * time.Hour
	// DefaultRepublish lets peers that joined in the last hour have the record.
	DefaultRepublish = time.Hour
	// DefaultProviderAge is how long a node that is gone is still named as one
	// that has a dataset.
	DefaultProviderAge = 24 * time.Hour
	// DefaultReprovide lets two announcements fail before a record ends.
	DefaultReprovide = 8 * time.Hour
	// DefaultMaxValues bounds the records of other peers that this one keeps, at
	// MaxValueBytes each: 128 MiB. With k = 20 a peer is asked to keep about 20.
	DefaultMaxValues = 2048
	// DefaultMaxProviders bounds the provider records of other peers that this
	// one keeps, each about 200 bytes.
	DefaultMaxProviders = 1 << 16
)

// Tuning is the [mesh.kad] table of node.toml. Zero means the default.
type Tuning struct {
	BucketSize   int           // k; 1 to 100, default DefaultBucketSize; MUST be the same on all peers
	Concurrency  int           // alpha; 1 to 64, default DefaultConcurrency
	Resiliency   int           // beta; 1 to BucketSize, default DefaultResiliency or BucketSize
	Refresh      time.Duration // of the routing table; 1 s to 24 h, default DefaultRefresh
	RecordAge    time.Duration // of values; 1 s to 30 days, default DefaultRecordAge
	Republish    time.Duration // of the own value; 1 s to half of RecordAge, default DefaultRepublish
	ProviderAge  time.Duration // of provider records; 1 s to 30 days, default DefaultProviderAge
	Reprovide    time.Duration // of the own names; 1 s to half of ProviderAge, default DefaultReprovide
	MaxValues    int           // of others; 1 to 1<<20, default DefaultMaxValues
	MaxProviders int           // records of others; 1 to 1<<24, default DefaultMaxProviders
	// RoutingFilter and QueryFilter choose by address whom the routing table takes
	// and whom a query asks, before Config.Policy does. Default Any.
	RoutingFilter, QueryFilter Filter
}

// Filter chooses peers by their addresses, as the filters of kad-dht do.
type Filter string

const (
	Any     Filter = "any"     // whatever addresses they have
	Public  Filter = "public"  // those with an address of the public internet, not counting relays
	Private Filter = "private" // those of the same private network; in a query, those with any address
)

func (f Filter) validate() error {
	switch f {
	case "", Any, Public, Private:
		return nil
	}
	return fmt.Errorf("%q is not %q, %q or %q", string(f), Any, Public, Private)
}

func (f Filter) query() dht.QueryFilterFunc {
	switch f {
	case Public:
		return dht.PublicQueryFilter
	case Private:
		return dht.PrivateQueryFilter
	}
	return func(any, peer.AddrInfo) bool { return true }
}

func (f Filter) routing() dht.RouteTableFilterFunc {
	switch f {
	case Public:
		return dht.PublicRoutingTableFilter
	case Private:
		return dht.PrivateRoutingTableFilter
	}
	return func(any, peer.ID) bool { return true }
}

const (
	maxRefresh = 24 * time.Hour
	maxAge     = 30 * 24 * time.Hour // what is older than a month helps nobody
	minEvery   = time.Second
)

// WithDefaults fills in what is zero.
func (t Tuning) WithDefaults() Tuning {
	orDefault(&t.BucketSize, DefaultBucketSize)
	orDefault(&t.Concurrency, DefaultConcurrency)
	orDefault(&t.Resiliency, min(DefaultResiliency, t.BucketSize))
	orDefault(&t.Refresh, DefaultRefresh)
	orDefault(&t.RecordAge, DefaultRecordAge)
	orDefault(&t.Republish, min(DefaultRepublish, t.RecordAge/2))
	orDefault(&t.ProviderAge, DefaultProviderAge)
	orDefault(&t.Reprovide, min(DefaultReprovide, t.ProviderAge/2))
	orDefault(&t.MaxValues, DefaultMaxValues)
	orDefault(&t.MaxProviders, DefaultMaxProviders)
	return t
}

func orDefault[T int | time.Duration](v *T, d T) {
	if *v == 0 {
		*v = d
	}
}

// Validate reports the first field that New would not accept, by its key in
// node.toml.
func (t Tuning) Validate() error {
	t = t.WithDefaults()
	if err := t.RoutingFilter.validate(); err != nil {
		return fmt.Errorf("routing_filter: %w", err)
	}
	if err := t.QueryFilter.validate(); err != nil {
		return fmt.Errorf("query_filter: %w", err)
	}
	for _, f := range []struct {
		key           string
		value, lo, hi int
	}{
		{"bucket_size", t.BucketSize, 1, 100},
		{"concurrency", t.Concurrency, 1, 64},
		{"resiliency", t.Resiliency, 1, t.BucketSize},
		{"max_values", t.MaxValues, 1, 1 << 20},
		{"max_providers", t.MaxProviders, 1, 1 << 24},
	} {
		if f.value < f.lo || f.value > f.hi {
			return fmt.Errorf("%s: must be %d to %d", f.key, f.lo, f.hi)
		}
	}
	for _, f := range []struct {
		key           string
		value, lo, hi time.Duration
	}{
		{"refresh", t.Refresh, minEvery, maxRefresh},
		{"record_age", t.RecordAge, 2 * minEvery, maxAge},
		{"republish", t.Republish, minEvery, t.RecordAge / 2},
		{"provider_age", t.ProviderAge, 2 * minEvery, maxAge},
		{"reprovide", t.Reprovide, minEvery, t.ProviderAge / 2},
	} {
		if f.value < f.lo || f.value > f.hi {
			return fmt.Errorf("%s: must be %s to %s", f.key, f.lo, f.hi)
		}
	}
	return nil
}

package node

import (
	"fmt"
	"time"

	"github.com/liop-project/liop/mesh/kad"
)

// Kad is the [mesh.kad] table of node.toml: how the node takes part in the DHT.
// The defaults are those of kad.Tuning, each with its reason there.
type Kad struct {
	BucketSize   int      `toml:"bucket_size"`   // peers per bucket, and per record; default 20, the same in all of a mesh
	Concurrency  int      `toml:"concurrency"`   // requests of one lookup at a time; default 10
	Resiliency   int      `toml:"resiliency"`    // nearest peers that must answer before a lookup ends; default 3
	Refresh      Duration `toml:"refresh"`       // of the routing table; default "10m"
	RecordAge    Duration `toml:"record_age"`    // how long a node's record is kept after it was last put; default "24h"
	Republish    Duration `toml:"republish"`     // how often this node puts its own; default "1h"
	ProviderAge  Duration `toml:"provider_age"`  // how long an announced name is kept; default "24h"
	Reprovide    Duration `toml:"reprovide"`     // how often this node announces its names; default "8h"
	MaxValues    int      `toml:"max_values"`    // records of other nodes kept here, up to 64 KiB each; default 2048
	MaxProviders int      `toml:"max_providers"` // names announced by other nodes kept here; default 65536
	// RoutingFilter and QueryFilter are "any", the default, "public" or "private":
	// whom the routing table takes, and whom a query asks, by their addresses.
	RoutingFilter string `toml:"routing_filter"`
	QueryFilter   string `toml:"query_filter"`
}

// Tuning is k in the words of package kad.
func (k Kad) Tuning() kad.Tuning {
	return kad.Tuning{
		BucketSize: k.BucketSize, Concurrency: k.Concurrency, Resiliency: k.Resiliency,
		Refresh: time.Duration(k.Refresh), RecordAge: time.Duration(k.RecordAge), Republish: time.Duration(k.Republish),
		ProviderAge: time.Duration(k.ProviderAge), Reprovide: time.Duration(k.Reprovide),
		MaxValues: k.MaxValues, MaxProviders: k.MaxProviders,
		RoutingFilter: kad.Filter(k.RoutingFilter), QueryFilter: kad.Filter(k.QueryFilter),
	}
}

func (k Kad) validate() error {
	if err := k.Tuning().Validate(); err != nil {
		return fmt.Errorf("mesh.kad.%w", err)
	}
	return nil
}

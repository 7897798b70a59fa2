package node

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/liop-project/liop/core/conf"
	"github.com/liop-project/liop/mesh/kad"
)

func TestKadConfig(t *testing.T) {
	var c Config
	err := conf.Parse([]byte(`
[mesh.kad]
bucket_size = 8
concurrency = 3
resiliency = 2
refresh = "1m"
record_age = "12h"
republish = "30m"
provider_age = "6h"
reprovide = "2h"
max_values = 100
max_providers = 200
routing_filter = "private"
query_filter = "public"
`), &c)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
	want := kad.Tuning{
		BucketSize: 8, Concurrency: 3, Resiliency: 2,
		Refresh: time.Minute, RecordAge: 12 * time.Hour, Republish: 30 * time.Minute,
		ProviderAge: 6 * time.Hour, Reprovide: 2 * time.Hour, MaxValues: 100, MaxProviders: 200,
		RoutingFilter: kad.Private, QueryFilter: kad.Public,
	}
	if got := c.Mesh.Kad.Tuning(); got != want {
		t.Errorf("read as %+v, want %+v", got, want)
	}
	// A field that was forgotten would be zero above.
	for v, i := reflect.ValueOf(want), 0; i < v.NumField(); i++ {
		if v.Field(i).IsZero() {
			t.Errorf("%s is not tested", v.Type().Field(i).Name)
		}
	}
}

func TestKadConfigRefuses(t *testing.T) {
	for _, tc := range []struct{ toml, want string }{
		{`bucket_size = 101`, "mesh.kad.bucket_size: must be 1 to 100"},
		{`concurrency = -1`, "mesh.kad.concurrency: must be 1 to 64"},
		{"bucket_size = 4\nresiliency = 5", "mesh.kad.resiliency: must be 1 to 4"},
		{`refresh = "500ms"`, "mesh.kad.refresh: must be 1s to 24h0m0s"},
		{`record_age = "1s"`, "mesh.kad.record_age: must be 2s to 720h0m0s"},
		{"record_age = \"2h\"\nrepublish = \"90m\"", "mesh.kad.republish: must be 1s to 1h0m0s"},
		{`provider_age = "1000h"`, "mesh.kad.provider_age: must be 2s to 720h0m0s"},
		{`reprovide = "13h"`, "mesh.kad.reprovide: must be 1s to 12h0m0s"},
		{`routing_filter = "lan"`, `mesh.kad.routing_filter: "lan" is not "any", "public" or "private"`},
		{`query_filter = "lan"`, `mesh.kad.query_filter: "lan" is not`},
		{`max_values = -1`, "mesh.kad.max_values: must be 1 to 1048576"},
		{`max_providers = 100000000`, "mesh.kad.max_providers: must be 1 to 16777216"},
	} {
		var c Config
		err := conf.Parse([]byte("[mesh.kad]\n"+tc.toml), &c)
		if err != nil {
			t.Errorf("%s: %v", tc.toml, err)
			continue
		}
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want %q", tc.toml, err, tc.want)
		}
	}
}

package spec

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/liop-project/liop/core/catalog"
	"github.com/liop-project/liop/core/fault"
)

type catalogCase struct {
	Name   string          `json:"name"`
	Key    string          `json:"key"`
	Record string          `json:"record"`
	Now    int64           `json:"now"` // seconds since 1970
	Says   *catalog.Record `json:"says,omitempty"`
	Error  *refusal        `json:"error,omitempty"`
}

func (m *made) catalogs(t *testing.T) []catalogCase {
	r := &catalog.Record{
		V: catalog.Version, Node: m.node.ID(), Seq: began * 1000, Issued: began, Expires: began + 86400, Realm: realm,
		Addrs:     []string{"/ip4/192.0.2.7/udp/7447/quic-v1", "/ip6/2001:db8::7/tcp/7447"},
		Assurance: []string{"signed"}, Vouchers: []string{},
		Datasets: []catalog.Dataset{
			{Name: "hr", Bytes: 1024, Logic: []string{"wasip1"}},
			{Name: "sales/2026", Title: "Sales, by region", Schema: "region, month\nrevenue (€)", Bytes: 1 << 27, Logic: []string{"wasip1"}},
		},
	}
	sign := func(change func(r *catalog.Record)) string {
		again := *r
		change(&again)
		text, err := catalog.Sign(m.node.Ed25519(), &again)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	none := func(*catalog.Record) {}
	text := sign(none)
	payload := payloadOf(t, text)
	const header = `{"alg":"EdDSA","typ":"liop-catalog+jwt"}`
	swap := func(old, new string) string {
		t.Helper()
		if !strings.Contains(payload, old) {
			t.Fatalf("%q is not in the record", old)
		}
		return forge(m.node, header, strings.Replace(payload, old, new, 1))
	}
	base := catalogCase{Key: catalog.Key(m.node.ID()), Now: began + 60}
	var out []catalogCase
	good := func(name, text string, says func(r *catalog.Record), now int64) {
		c := base
		c.Name, c.Record, c.Now = name, text, now
		again := *r
		says(&again)
		c.Says = &again
		out = append(out, c)
	}
	good("as published", text, none, began+60)
	good("last moment", text, none, began+86399)
	good("first moment, with skew", text, none, began-600)
	good("members in another order, and one of a later version", forge(m.node, header, `{"later":[1],`+payload[1:]), none, began)
	bare := func(r *catalog.Record) {
		r.Realm, r.Addrs, r.Datasets, r.Assurance = "", []string{}, []catalog.Dataset{}, []string{}
	}
	good("nothing published", sign(bare), bare, began)

	bad := func(name, rule, text string, change func(*catalogCase)) {
		c := base
		c.Name, c.Record, c.Error = name, text, &refusal{fault.Unverified, rule}
		change(&c)
		out = append(out, c)
	}
	same := func(*catalogCase) {}
	bad("empty", "record", "", same)
	bad("larger than 64 KiB", "record", strings.Repeat("a", catalog.MaxRecord+1), same)
	bad("header in another order", "record", forge(m.node, `{"typ":"liop-catalog+jwt","alg":"EdDSA"}`, payload), same)
	bad("typ of a receipt", "record", forge(m.node, `{"alg":"EdDSA","typ":"liop-receipt+jwt"}`, payload), same)
	bad("second spelling of the signature", "record", second(text), same)
	bad("member twice", "record", forge(m.node, header, `{"seq":1,`+payload[1:]), same)
	bad("forged", "signature", forge(m.stranger, header, payload), same)
	bad("under the key of another node", "node", text, func(c *catalogCase) { c.Key = catalog.Key(m.stranger.ID()) })
	bad("under a key of another namespace", "key", text, func(c *catalogCase) { c.Key = "/pk/" + m.node.ID().String() })
	bad("expired", "exp", text, func(c *catalogCase) { c.Now = began + 86400 })
	bad("lasts too long", "exp", swap(fmt.Sprintf(`"exp":%d`, began+86400), fmt.Sprintf(`"exp":%d`, began+172801)), same)
	bad("from the future", "iat", text, func(c *catalogCase) { c.Now = began - 601 })
	bad("version 2", "v", swap(`"v":1`, `"v":2`), same)
	bad("seq 0", "seq", swap(fmt.Sprintf(`"seq":%d`, began*1000), `"seq":0`), same)
	bad("seq beyond 2^53-1", "seq", swap(fmt.Sprintf(`"seq":%d`, began*1000), `"seq":9007199254740992`), same)
	bad("address that is none", "addrs", swap("/ip4/192.0.2.7/udp/7447/quic-v1", "192.0.2.7:7447"), same)
	bad("dataset twice", "datasets", swap(`"sales/2026"`, `"hr"`), same)
	bad("name that is none", "datasets", swap(`"sales/2026"`, `"sales/*"`), same)
	bad("title that moves the cursor", "datasets", swap(`Sales,`, `\u001b[A`), same)
	return out
}

func TestCatalog(t *testing.T) {
	for _, c := range load[catalogCase](t, "catalog.json") {
		now := time.Unix(c.Now, 0)
		err := catalog.Validator{Now: func() time.Time { return now }}.Validate(c.Key, []byte(c.Record))
		check(t, c.Name, err, c.Error)
		if c.Says == nil {
			continue
		}
		got, err := catalog.Parse(c.Record, now)
		if err != nil {
			t.Errorf("%s: %v", c.Name, err)
			continue
		}
		a, _ := json.Marshal(got)
		b, _ := json.Marshal(c.Says)
		if string(a) != string(b) {
			t.Errorf("%s:\ngot  %s\nwant %s", c.Name, a, b)
		}
	}
}

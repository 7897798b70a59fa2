package catalog_test

import (
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/liop-project/liop/core/catalog"
	"github.com/liop-project/liop/core/fault"
	"github.com/liop-project/liop/core/identity"
	"github.com/liop-project/liop/core/jws"
)

var now = time.Unix(1_800_000_000, 0)

func who(t testing.TB, seed byte) *identity.Identity {
	t.Helper()
	id, err := identity.FromKey(ed25519.NewKeyFromSeed([]byte(strings.Repeat(string(rune(seed)), 32))))
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func good(t testing.TB) *catalog.Record {
	return &catalog.Record{
		V: catalog.Version, Node: who(t, 'n').ID(), Seq: 7, Issued: now.Unix(), Expires: now.Add(24 * time.Hour).Unix(),
		Realm: "acme", Addrs: []string{"/ip4/192.0.2.7/udp/7447/quic-v1"}, Assurance: []string{"signed"}, Vouchers: []string{"x.y.z"},
		Datasets: []catalog.Dataset{
			{Name: "acme/birdstrikes", Title: "Bird strikes <1990–2020>", Schema: "date, city\nrain (mm)", Bytes: 1 << 20, Logic: []string{"wasip1"}},
			{Name: "weather", Logic: []string{"wasip1"}},
		},
	}
}

func TestSignAndParse(t *testing.T) {
	r := good(t)
	text, err := catalog.Sign(who(t, 'n').Ed25519(), r)
	if err != nil {
		t.Fatal(err)
	}
	got, err := catalog.Parse(text, now)
	if err != nil {
		t.Fatal(err)
	}
	if fmt.Sprint(*got) != fmt.Sprint(*r) {
		t.Errorf("got  %v\nwant %v", *got, *r)
	}
	if d, ok := got.Dataset("weather"); !ok || d.Name != "weather" {
		t.Error("weather is not there")
	}
	if _, ok := got.Dataset("climate"); ok {
		t.Error("climate is there")
	}
}

func TestSignRefuses(t *testing.T) {
	key := who(t, 'n').Ed25519()
	for want, change := range map[string]func(r *catalog.Record){
		"v:":        func(r *catalog.Record) { r.V = 2 },
		"node:":     func(r *catalog.Record) { r.Node = who(t, 'x').ID() },
		"seq:":      func(r *catalog.Record) { r.Seq = 0 },
		"iat:":      func(r *catalog.Record) { r.Issued = 0 },
		"exp:":      func(r *catalog.Record) { r.Expires = r.Issued + int64(catalog.MaxLifetime/time.Second) + 1 },
		"realm:":    func(r *catalog.Record) { r.Realm = "a\x1b[2J" },
		"addrs:":    func(r *catalog.Record) { r.Addrs = []string{"192.0.2.7:7447"} },
		"vouchers:": func(r *catalog.Record) { r.Vouchers = []string{strings.Repeat("x", catalog.MaxVoucher+1)} },
		"assurance": func(r *catalog.Record) { r.Assurance = []string{"Signed"} },
		"is there":  func(r *catalog.Record) { r.Datasets[1].Name = r.Datasets[0].Name },
		"a name":    func(r *catalog.Record) { r.Datasets[0].Name = "../etc" },
		"title":     func(r *catalog.Record) { r.Datasets[0].Title = "two\nlines" },
		"schema":    func(r *catalog.Record) { r.Datasets[0].Schema = "\u202egnp.exe" },
		"at most 65536": func(r *catalog.Record) {
			for i := range 60 {
				r.Datasets = append(r.Datasets, catalog.Dataset{Name: fmt.Sprintf("d%d", i), Schema: strings.Repeat("x", catalog.MaxSchema)})
			}
		},
		"datasets, want": func(r *catalog.Record) { r.Datasets = make([]catalog.Dataset, catalog.MaxDatasets+1) },
		"addresses":      func(r *catalog.Record) { r.Addrs = make([]string, catalog.MaxAddrs+1) },
		"tokens":         func(r *catalog.Record) { r.Vouchers = make([]string, catalog.MaxVouchers+1) },
	} {
		r := good(t)
		change(r)
		if _, err := catalog.Sign(key, r); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q, got %v", want, err)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	node := who(t, 'n')
	text, err := catalog.Sign(node.Ed25519(), good(t))
	if err != nil {
		t.Fatal(err)
	}
	payload, err := json.Marshal(good(t))
	if err != nil {
		t.Fatal(err)
	}
	forge := func(id *identity.Identity, typ, payload string) string {
		text, err := jws.Sign(id.Ed25519(), typ, []byte(payload))
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	swap := func(old, new string) string {
		if !strings.Contains(string(payload), old) {
			t.Fatalf("%q is not in the record", old)
		}
		return forge(node, "liop-catalog+jwt", strings.Replace(string(payload), old, new, 1))
	}
	if _, err := catalog.Parse(forge(node, "liop-catalog+jwt", `{"later":1,`+string(payload[1:])), now); err != nil {
		t.Errorf("a member of a later version: %v", err)
	}
	for _, c := range []struct {
		name, text, rule string
		at               time.Time
	}{
		{"empty", "", "record", now},
		{"words", "hello", "record", now},
		{"too long", strings.Repeat("x", catalog.MaxRecord+1), "record", now},
		{"receipt", forge(node, "liop-receipt+jwt", string(payload)), "record", now},
		{"list", forge(node, "liop-catalog+jwt", "[]"), "record", now},
		{"null", forge(node, "liop-catalog+jwt", "null"), "v", now},
		{"twice", forge(node, "liop-catalog+jwt", `{"seq":9,`+string(payload[1:])), "record", now},
		{"forged", forge(who(t, 'x'), "liop-catalog+jwt", string(payload)), "signature", now},
		{"no node", swap(`"node":"`, `"nodes":"`), "node", now},
		{"seq too large", swap(`"seq":7`, `"seq":9007199254740992`), "seq", now},
		{"seq negative", swap(`"seq":7`, `"seq":-1`), "record", now},
		{"expired", text, "exp", now.Add(24 * time.Hour)},
		{"from the future", text, "iat", now.Add(-catalog.Skew - time.Second)},
		{"dataset", swap(`"weather"`, `"we ather"`), "datasets", now},
		{"address", swap(`/udp/`, `/upd/`), "addrs", now},
		{"terminal", swap(`Bird`, `\u001b[2J`), "datasets", now},
	} {
		_, err := catalog.Parse(c.text, c.at)
		if !errors.Is(err, &fault.Error{Code: fault.Unverified, Rule: c.rule}) {
			t.Errorf("%s: %v, want rule %s", c.name, err, c.rule)
		}
	}
}

func TestValidator(t *testing.T) {
	node, v := who(t, 'n'), catalog.Validator{Now: func() time.Time { return now }}
	record := func(change func(*catalog.Record)) []byte {
		r := good(t)
		change(r)
		text, err := catalog.Sign(node.Ed25519(), r)
		if err != nil {
			t.Fatal(err)
		}
		return []byte(text)
	}
	old, fresh := record(func(r *catalog.Record) { r.Seq = 6 }), record(func(*catalog.Record) {})
	longer := record(func(r *catalog.Record) { r.Expires++ })
	key := catalog.Key(node.ID())
	if err := v.Validate(key, fresh); err != nil {
		t.Error(err)
	}
	for name, c := range map[string]struct {
		key   string
		value []byte
		rule  string
	}{
		"another node's key": {catalog.Key(who(t, 'x').ID()), fresh, "node"},
		"another namespace":  {"/pk/" + node.ID().String(), fresh, "key"},
		"oversize":           {key, make([]byte, catalog.MaxRecord+1), "record"},
		"garbage":            {key, []byte{0, 1, 2}, "record"},
	} {
		if err := v.Validate(c.key, c.value); !errors.Is(err, &fault.Error{Code: fault.Unverified, Rule: c.rule}) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, c := range map[string]struct {
		values [][]byte
		want   int
	}{
		"stale first":    {[][]byte{old, fresh}, 1},
		"stale last":     {[][]byte{fresh, old}, 0},
		"same sequence":  {[][]byte{fresh, longer}, 1},
		"garbage beside": {[][]byte{{1}, old, {2}}, 1},
		"the same twice": {[][]byte{fresh, fresh}, 0},
	} {
		if got, err := v.Select(key, c.values); err != nil || got != c.want {
			t.Errorf("%s: %d, %v", name, got, err)
		}
	}
	if _, err := v.Select(key, [][]byte{{1}}); err == nil {
		t.Error("chose among nothing")
	}
}

func TestRough(t *testing.T) {
	for in, want := range map[uint64]uint64{0: 0, 1: 1, 3: 4, 4: 4, 1000: 1024, 1 << 60: 1 << 52} {
		if got := catalog.Rough(in); got != want {
			t.Errorf("Rough(%d) = %d, want %d", in, got, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	text, err := catalog.Sign(who(f, 'n').Ed25519(), good(f))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add("")
	f.Fuzz(func(t *testing.T, text string) {
		r, err := catalog.Parse(text, now)
		if err == nil && (len(r.Datasets) > catalog.MaxDatasets || r.Expires <= now.Unix()) {
			t.Errorf("accepted %v", r)
		}
	})
}

// FuzzPayload signs whatever it is given: what Parse accepts, Sign accepts too.
func FuzzPayload(f *testing.F) {
	payload, err := json.Marshal(good(f))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(payload)
	node := who(f, 'n')
	f.Fuzz(func(t *testing.T, payload []byte) {
		text, err := jws.Sign(node.Ed25519(), "liop-catalog+jwt", payload)
		if err != nil {
			t.Skip("not signed")
		}
		r, err := catalog.Parse(text, now)
		if err != nil {
			return
		}
		if _, err := catalog.Sign(node.Ed25519(), r); err != nil {
			t.Errorf("accepted, and refuses to sign: %v", err)
		}
	})
}

package grant

import (
	"crypto/ed25519"
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"pgregory.net/rapid"

	"github.com/liop-project/liop/core/identity"
)

var start = time.Unix(1_800_000_000, 0)

// who makes an identity whose key is the same in every run.
func who(t testing.TB, name string) *identity.Identity {
	t.Helper()
	seed := sha256.Sum256([]byte("liop test key " + name))
	id, err := identity.FromKey(ed25519.NewKeyFromSeed(seed[:]))
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func trust(ids ...peer.ID) func(peer.ID) bool {
	return func(id peer.ID) bool { return slices.Contains(ids, id) }
}

func TestIssueThenVerify(t *testing.T) {
	issuer, agent, node := who(t, "issuer"), who(t, "agent"), who(t, "node")
	limits := Limits{MemoryBytes: 64 << 20, WallMS: 5000, OutputBytes: 4096, InputBytes: 1 << 20, ModuleBytes: 4 << 20, Concurrency: 2, Fuel: 1e9, Runs: 100}
	chain, err := Issue(issuer.Ed25519(), Spec{
		Holder: agent.ID(), Audience: node.ID().String(), Datasets: []string{"sales/*", "hr"}, Limits: limits, Lifetime: 10 * time.Minute,
	}, start.Add(400*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	for _, now := range []time.Time{start.Add(-Skew), start, start.Add(10*time.Minute - time.Nanosecond)} {
		g, err := Verify(chain, VerifyOptions{
			Presenter: agent.ID(), Audiences: []string{"realm", node.ID().String()}, Trusted: trust(issuer.ID()), Now: now,
		})
		if err != nil {
			t.Fatalf("at %v: %v", now, err)
		}
		want := Grant{
			ID: g.ID, Issuer: issuer.ID(), Holder: agent.ID(), Audience: node.ID().String(),
			IssuedAt: start.UTC(), NotBefore: start.UTC(), Expires: start.Add(10 * time.Minute).UTC(),
			Datasets: []string{"sales/*", "hr"}, Limits: limits, Hash: sha256.Sum256([]byte(chain)),
		}
		if fmt.Sprint(*g) != fmt.Sprint(want) {
			t.Fatalf("got  %v\nwant %v", *g, want)
		}
	}
	if len(chain) > 1500 {
		t.Errorf("a common grant has %d bytes", len(chain))
	}
}

func TestIssueDefaults(t *testing.T) {
	issuer, agent := who(t, "issuer"), who(t, "agent")
	s := Spec{Holder: agent.ID(), Audience: "clinic.north", Datasets: []string{"a"}}
	ids := map[string]bool{}
	for range 3 {
		chain, err := Issue(issuer.Ed25519(), s, start)
		if err != nil {
			t.Fatal(err)
		}
		g, err := Inspect(chain)
		if err != nil {
			t.Fatal(err)
		}
		if g.Limits != (Limits{}) || g.Expires.Sub(g.IssuedAt) != DefaultLifetime {
			t.Fatalf("limits %v, lifetime %v", g.Limits, g.Expires.Sub(g.IssuedAt))
		}
		ids[g.ID] = true
	}
	if len(ids) != 3 {
		t.Fatal("grants share an id")
	}
}

func TestSpecValidateNamesTheField(t *testing.T) {
	good := Spec{Holder: who(t, "agent").ID(), Audience: "realm", Datasets: []string{"a"}}
	if err := good.Validate(); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		field string
		spoil func(*Spec)
	}{
		{"holder", func(s *Spec) { s.Holder = "" }},
		{"holder", func(s *Spec) { s.Holder = "nobody" }},
		{"audience", func(s *Spec) { s.Audience = "" }},
		{"audience", func(s *Spec) { s.Audience = "Realm" }},
		{"audience", func(s *Spec) { s.Audience = "urn:liop:mesh" }},
		{"audience", func(s *Spec) { s.Audience = strings.Repeat("a", MaxAudience+1) }},
		{"audience", func(s *Spec) { s.Audience = "12D3KooWnotapeerid" }},
		{"datasets", func(s *Spec) { s.Datasets = nil }},
		{"datasets", func(s *Spec) { s.Datasets = []string{"*"} }},
		{"datasets", func(s *Spec) { s.Datasets = []string{"a/b/*"} }},
		{"datasets", func(s *Spec) { s.Datasets = []string{"a*"} }},
		{"datasets", func(s *Spec) { s.Datasets = []string{"a/*/b"} }},
		{"datasets", func(s *Spec) { s.Datasets = slices.Repeat([]string{"a"}, MaxPatterns+1) }},
		{"limits.wall_ms", func(s *Spec) { s.Limits.WallMS = MaxLimit + 1 }},
		{"lifetime", func(s *Spec) { s.Lifetime = -time.Hour }},
		{"lifetime", func(s *Spec) { s.Lifetime = time.Millisecond }},
		{"lifetime", func(s *Spec) { s.Lifetime = MaxLifetime + 1 }},
	} {
		s := good
		c.spoil(&s)
		if err := s.Validate(); err == nil || !strings.HasPrefix(err.Error(), c.field+":") {
			t.Errorf("%s: error %v", c.field, err)
		}
		if _, err := Issue(who(t, "issuer").Ed25519(), s, start); err == nil {
			t.Errorf("%s: issued", c.field)
		}
	}
	if _, err := Issue(ed25519.PrivateKey{1}, good, start); err == nil {
		t.Error("issued with a key of one byte")
	}
	long := good
	for i := range MaxPatterns {
		long.Datasets = append(long.Datasets[:i:i], fmt.Sprintf("%063d/%063d", i, i))
	}
	if _, err := Issue(who(t, "issuer").Ed25519(), long, start); err == nil {
		t.Error("issued a grant that no node reads")
	}
}

func TestCovers(t *testing.T) {
	g := &Grant{Datasets: []string{"hr", "sales/*"}}
	for name, want := range map[string]bool{
		"hr": true, "sales/2026": true, "sales/a.b": true,
		"sales": false, "sales/": false, "sales/*": false, "salesx/1": false, "hr/1": false, "hr2": false, "": false,
		"*": false, "sales/../hr": false, "sales/a/b": false,
	} {
		if got := g.Covers(name); got != want {
			t.Errorf("Covers(%q) = %v", name, got)
		}
	}
}

func TestMeet(t *testing.T) {
	amount := rapid.OneOf(rapid.Just(uint64(0)), rapid.Uint64())
	limits := rapid.Custom(func(t *rapid.T) Limits {
		n := func(name string) uint64 { return amount.Draw(t, name) }
		return Limits{n("memory"), n("wall"), n("output"), n("input"), n("module"), uint32(n("concurrency")), n("fuel"), n("runs")}
	})
	rapid.Check(t, func(t *rapid.T) {
		a, b, c := limits.Draw(t, "a"), limits.Draw(t, "b"), limits.Draw(t, "c")
		if a.Meet(b) != b.Meet(a) {
			t.Fatal("not commutative")
		}
		if a.Meet(b).Meet(c) != a.Meet(b.Meet(c)) {
			t.Fatal("not associative")
		}
		if a.Meet(a) != a || a.Meet(Limits{}) != a {
			t.Fatal("not idempotent, or zero is not neutral")
		}
		m := a.Meet(b).fields()
		for name, n := range a.fields() {
			if n != 0 && (m[name] == 0 || m[name] > n) {
				t.Fatalf("%s widened from %d to %d", name, n, m[name])
			}
		}
	})
}

func TestWords(t *testing.T) {
	g := &Grant{
		ID: "id-1", Issuer: who(t, "issuer").ID(), Holder: who(t, "agent").ID(), Audience: "clinic.north",
		IssuedAt: start, NotBefore: start, Expires: start.Add(time.Hour),
		Datasets: []string{"hr", "sales/*"}, Limits: Limits{MemoryBytes: 64 << 20, Runs: 1500},
	}
	text := strings.Join(g.Words(), "\n")
	for _, want := range []string{
		g.Holder.String(), g.Issuer.String(), `realm "clinic.north"`, "dataset hr", "begins with sales/",
		"from 2027-01-15 08:00:00 UTC until 2027-01-15 09:00:00 UTC", "memory of a run: 64 MiB",
		"time of a run: the node's default", "runs in total: 1,500", "grant id id-1",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in:\n%s", want, text)
		}
	}
	g.Audience = who(t, "node").ID().String()
	if text := strings.Join(g.Words(), "\n"); !strings.Contains(text, "at node "+g.Audience) {
		t.Errorf("audience is not in:\n%s", text)
	}
}

func TestIntent(t *testing.T) {
	agent, node := who(t, "agent"), who(t, "node")
	hash := sha256.Sum256([]byte("chain"))
	sig := SignIntent(agent.Ed25519(), node.ID(), agent.ID(), hash, []string{"a", "b"})
	if err := VerifyIntent(node.ID(), agent.ID(), hash, []string{"a", "b"}, sig); err != nil {
		t.Fatal(err)
	}
	other := hash
	other[0] ^= 1
	for name, err := range map[string]error{
		"node":     VerifyIntent(agent.ID(), agent.ID(), hash, []string{"a", "b"}, sig),
		"agent":    VerifyIntent(node.ID(), node.ID(), hash, []string{"a", "b"}, sig),
		"hash":     VerifyIntent(node.ID(), agent.ID(), other, []string{"a", "b"}, sig),
		"order":    VerifyIntent(node.ID(), agent.ID(), hash, []string{"b", "a"}, sig),
		"joined":   VerifyIntent(node.ID(), agent.ID(), hash, []string{"ab"}, sig),
		"none":     VerifyIntent(node.ID(), agent.ID(), hash, nil, sig),
		"no sig":   VerifyIntent(node.ID(), agent.ID(), hash, []string{"a", "b"}, nil),
		"long sig": VerifyIntent(node.ID(), agent.ID(), hash, []string{"a", "b"}, append(slices.Clone(sig), 0)),
		"no agent": VerifyIntent(node.ID(), "", hash, []string{"a", "b"}, sig),
	} {
		if err == nil || !strings.Contains(err.Error(), "not signed") {
			t.Errorf("%s: error %v", name, err)
		}
	}
}

func BenchmarkVerify(b *testing.B) {
	issuer, agent := who(b, "issuer"), who(b, "agent")
	chain, err := Issue(issuer.Ed25519(), Spec{Holder: agent.ID(), Audience: "realm", Datasets: []string{"sales/*"}}, start)
	if err != nil {
		b.Fatal(err)
	}
	o := VerifyOptions{Presenter: agent.ID(), Audiences: []string{"realm"}, Trusted: trust(issuer.ID()), Now: start}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Verify(chain, o); err != nil {
			b.Fatal(err)
		}
	}
}

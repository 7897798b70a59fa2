package admission

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"pgregory.net/rapid"

	"github.com/liop-project/liop/core/fault"
	"github.com/liop-project/liop/core/grant"
	"github.com/liop-project/liop/core/identity"
)

var now = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

type world struct {
	node, issuer, agent *identity.Identity
	policy              *Policy
}

func newWorld() *world {
	w := &world{node: identity.Generate(), issuer: identity.Generate(), agent: identity.Generate()}
	w.policy = &Policy{
		Node: w.node.ID(), Realm: "acme", Issuers: map[peer.ID]bool{w.issuer.ID(): true},
		Datasets: map[string]Dataset{
			"open":   {},
			"vip":    {Allow: []peer.ID{identity.Generate().ID()}},
			"mine":   {Allow: []peer.ID{w.agent.ID()}},
			"narrow": {Caps: grant.Limits{WallMS: 100, MemoryBytes: 1 << 20}},
		},
	}
	return w
}

func (w *world) grant(t testing.TB, change func(*grant.Spec)) string {
	t.Helper()
	s := grant.Spec{Holder: w.agent.ID(), Audience: w.node.ID().String(),
		Datasets: []string{"open", "vip", "mine", "narrow", "absent"}}
	if change != nil {
		change(&s)
	}
	chain, err := grant.Issue(w.issuer.Ed25519(), s, now)
	if err != nil {
		t.Fatal(err)
	}
	return chain
}

func TestDecide(t *testing.T) {
	w := newWorld()
	good := w.grant(t, nil)
	for _, tc := range []struct {
		name     string
		agent    peer.ID
		chain    string
		datasets []string
		at       time.Time
		code     fault.Code
		rule     string
		owner    fault.Owner
	}{
		{"yes", w.agent.ID(), good, []string{"open"}, now, "", "", ""},
		{"yes, by realm", w.agent.ID(), w.grant(t, func(s *grant.Spec) { s.Audience = "acme" }), []string{"open"}, now, "", "", ""},
		{"yes, named by the owner", w.agent.ID(), good, []string{"mine"}, now, "", "", ""},
		{"no grant", w.agent.ID(), "", []string{"open"}, now, fault.Denied, "grant", fault.Node},
		{"another's grant", w.issuer.ID(), good, []string{"open"}, now, fault.GrantInvalid, "cnf", fault.Grant},
		{"expired", w.agent.ID(), good, []string{"open"}, now.Add(2 * time.Hour), fault.GrantInvalid, "exp", fault.Grant},
		{"not yet", w.agent.ID(), good, []string{"open"}, now.Add(-time.Hour), fault.GrantInvalid, "iat", fault.Grant},
		{"for another node", w.agent.ID(), w.grant(t, func(s *grant.Spec) { s.Audience = w.agent.ID().String() }), []string{"open"}, now, fault.GrantInvalid, "aud", fault.Grant},
		{"for another realm", w.agent.ID(), w.grant(t, func(s *grant.Spec) { s.Audience = "other" }), []string{"open"}, now, fault.GrantInvalid, "aud", fault.Grant},
		{"no dataset", w.agent.ID(), good, nil, now, fault.InvalidRequest, "datasets", fault.Protocol},
		{"not covered", w.agent.ID(), good, []string{"open", "other"}, now, fault.Denied, "datasets", fault.Grant},
		{"not here", w.agent.ID(), good, []string{"absent"}, now, fault.Denied, "datasets", fault.Node},
		{"not admitted", w.agent.ID(), good, []string{"vip"}, now, fault.Denied, "dataset.allow", fault.Dataset},
	} {
		t.Run(tc.name, func(t *testing.T) {
			d, err := w.policy.Decide(tc.agent, tc.chain, tc.datasets, tc.at)
			if tc.code == "" {
				if err != nil || d.Agent != tc.agent || d.Grant == nil {
					t.Fatalf("got %+v, %v", d, err)
				}
				return
			}
			f, _ := fault.From(err)
			if d != nil || f == nil || f.Code != tc.code || f.Rule != tc.rule || f.Owner != tc.owner {
				t.Fatalf("got %+v, want %s by %s of the %s", f, tc.code, tc.rule, tc.owner)
			}
			if f.Hint == "" {
				t.Error("no hint")
			}
		})
	}
}

func TestUntrustedIssuer(t *testing.T) {
	w := newWorld()
	chain := w.grant(t, nil)
	w.policy.Issuers = map[peer.ID]bool{w.node.ID(): true}
	if _, err := w.policy.Decide(w.agent.ID(), chain, []string{"open"}, now); !errors.Is(err, &fault.Error{Code: fault.GrantInvalid, Rule: "iss"}) {
		t.Errorf("got %v", err)
	}
}

func TestLimits(t *testing.T) {
	w := newWorld()
	w.policy.Caps = grant.Limits{OutputBytes: 1000}
	decide := func(l grant.Limits, datasets ...string) grant.Limits {
		t.Helper()
		d, err := w.policy.Decide(w.agent.ID(), w.grant(t, func(s *grant.Spec) { s.Limits = l }), datasets, now)
		if err != nil {
			t.Fatal(err)
		}
		return d.Limits
	}
	if got := decide(grant.Limits{}, "open"); got.MemoryBytes != Defaults.MemoryBytes || got.WallMS != Defaults.WallMS || got.Runs != Defaults.Runs || got.OutputBytes != 1000 {
		t.Errorf("a silent grant gives %+v", got)
	}
	if got := decide(grant.Limits{MemoryBytes: 1 << 40, WallMS: 1 << 40, OutputBytes: 1 << 40}, "open"); got.MemoryBytes != Caps.MemoryBytes || got.WallMS != Caps.WallMS || got.OutputBytes != 1000 {
		t.Errorf("a greedy grant gives %+v", got)
	}
	if got := decide(grant.Limits{WallMS: 5000, MemoryBytes: 1 << 19}, "open", "narrow"); got.WallMS != 100 || got.MemoryBytes != 1<<19 {
		t.Errorf("a dataset's caps give %+v", got)
	}
}

// Whatever a grant asks for, no limit is missing and none is over a cap.
func TestLimitsNeverWiden(t *testing.T) {
	w := newWorld()
	rapid.Check(t, func(r *rapid.T) {
		n := func(name string) uint64 { return rapid.Uint64Range(0, 1<<50).Draw(r, name) }
		ask := grant.Limits{MemoryBytes: n("memory"), WallMS: n("wall"), OutputBytes: n("output"), InputBytes: n("input"),
			ModuleBytes: n("module"), Concurrency: uint32(n("concurrency") % 1000), Runs: n("runs")}
		chain, err := grant.Issue(w.issuer.Ed25519(), grant.Spec{Holder: w.agent.ID(), Audience: "acme", Datasets: []string{"*"}, Limits: ask}, now)
		if err != nil {
			chain, err = grant.Issue(w.issuer.Ed25519(), grant.Spec{Holder: w.agent.ID(), Audience: "acme", Datasets: []string{"open"}, Limits: ask}, now)
		}
		if err != nil {
			r.Skip(err.Error()) // not a limit that a grant can carry
		}
		d, err := w.policy.Decide(w.agent.ID(), chain, []string{"open"}, now)
		if err != nil {
			r.Fatal(err)
		}
		got := d.Limits
		if got != got.Meet(Caps) {
			r.Fatalf("%+v is over the caps", got)
		}
		if got != fill(got, Defaults) {
			r.Fatalf("a limit of %+v is missing", got)
		}
		if got != got.Meet(ask) {
			r.Fatalf("%+v is over the grant's %+v", got, ask)
		}
	})
}

func TestDecisionNamesEachDatasetOnce(t *testing.T) {
	w := newWorld()
	d, err := w.policy.Decide(w.agent.ID(), w.grant(t, nil), []string{"open", "mine", "open"}, now)
	if err != nil || strings.Join(d.Datasets, " ") != "mine open" {
		t.Errorf("got %v, %v", d, err)
	}
}

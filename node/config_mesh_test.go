package node

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/liop-project/liop/core/fault"
	"github.com/liop-project/liop/core/identity"
	"github.com/liop-project/liop/core/member"
)

func TestMeshAdmits(t *testing.T) {
	friend, other := identity.Generate().ID(), identity.Generate().ID()
	if (Mesh{}).admit() != nil {
		t.Error("without a list there is one")
	}
	if (Mesh{Peers: []PeerID{}}).admit()(friend) {
		t.Error("an empty list admits")
	}
	listed := Mesh{Peers: []PeerID{{friend}}}.admit()
	if !listed(friend) || listed(other) {
		t.Error("a list admits others than those on it")
	}
}

func TestMeshValidate(t *testing.T) {
	for _, c := range []struct {
		name, want string
		m          Mesh
	}{
		{"empty", "", Mesh{}},
		{"closed", "", Mesh{Operators: []string{"op.id"}, Name: "acme"}},
		{"no name", "mesh.name: missing", Mesh{Operators: []string{"op.id"}}},
		{"no operators", "mesh.operators: missing", Mesh{Name: "acme"}},
		{"bad name", "mesh.name", Mesh{Operators: []string{"op.id"}, Name: "Acme Inc."}},
		{"a peer's name", "mesh.name", Mesh{Operators: []string{"op.id"}, Name: identity.Generate().ID().String()}},
		{"too many", "mesh.operators: 65", Mesh{Operators: make([]string, 65), Name: "acme"}},
	} {
		err := Config{Mesh: c.m}.Validate()
		if (c.want == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
}

func TestMeshMembers(t *testing.T) {
	dir := t.TempDir()
	node, op, other := identity.Generate(), identity.Generate(), identity.Generate()
	write := func(name, text string) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	now := time.Now()
	token := func(name string, by *identity.Identity, s member.Spec, at time.Time) string {
		t.Helper()
		text, err := member.Issue(by.Ed25519(), s, at)
		if err != nil {
			t.Fatal(err)
		}
		return write(name, text)
	}
	ops := []string{write("op.id", op.ID().String())}
	good := member.Spec{Member: node.ID(), Mesh: "acme"}
	expired := token("expired", op, good, now.Add(-member.DefaultLifetime))
	own := token("own", op, good, now)
	for _, c := range []struct {
		name, rule, want string // of the error; empty: none
		m                Mesh
	}{
		{"nothing", "", "", Mesh{}},
		{"operators", "", "", Mesh{Operators: ops, Name: "acme"}},
		{"a member", "", "", Mesh{Operators: ops, Name: "acme", Member: own}},
		{"a member of somebody's, open", "", "", Mesh{Member: own}},
		{"no operator's file", "", "mesh.operators[0]", Mesh{Operators: []string{filepath.Join(dir, "absent")}, Name: "acme"}},
		{"no token's file", "", "mesh.member", Mesh{Operators: ops, Name: "acme", Member: filepath.Join(dir, "absent")}},
		{"expired", "exp", "mesh.member", Mesh{Operators: ops, Name: "acme", Member: expired}},
		{"expired, open", "exp", "mesh.member", Mesh{Member: expired}},
		{"of another peer", "sub", "mesh.member", Mesh{Operators: ops, Name: "acme",
			Member: token("other", op, member.Spec{Member: other.ID(), Mesh: "acme"}, now)}},
		{"of another mesh", "aud", "mesh.member", Mesh{Operators: ops, Name: "umbrella", Member: own}},
		{"of another operator", "iss", "mesh.member", Mesh{Operators: ops, Name: "acme", Member: token("foreign", other, good, now)}},
		{"no token", "header", "mesh.member", Mesh{Operators: ops, Name: "acme", Member: write("text", "members only")}},
		{"large", "", "larger than", Mesh{Operators: ops, Name: "acme", Member: write("large", strings.Repeat("x", 4096))}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := c.m.members(node.ID(), now, slog.New(slog.DiscardHandler))
			if c.want == "" {
				if err != nil || (c.m.Member != "") != (got.Token != nil && got.Token() != "") || len(got.Operators) != len(c.m.Operators) {
					t.Errorf("%+v, %v", got, err)
				}
				return
			}
			f, ok := fault.From(err)
			if err == nil || !strings.Contains(err.Error(), c.want) || ok != (c.rule != "") {
				t.Fatalf("got %v, want %q", err, c.want)
			}
			if ok && (f.Rule != c.rule || !strings.Contains(f.Hint, "liop member issue --for "+node.ID().String())) {
				t.Errorf("got %+v, want rule %s", f, c.rule)
			}
		})
	}

	t.Run("replaced", func(t *testing.T) {
		var log bytes.Buffer
		m, err := Mesh{Operators: ops, Name: "acme", Member: own}.members(node.ID(), now, slog.New(slog.NewTextHandler(&log, nil)))
		if err != nil {
			t.Fatal(err)
		}
		before := m.Token()
		token("own", op, good, now)
		if after := m.Token(); after == before || after == "" {
			t.Error("a new token in the file is not shown")
		}
		os.Remove(own)
		if m.Token() != "" || !strings.Contains(log.String(), "membership token") {
			t.Errorf("the file is gone, and the log says %q", &log)
		}
	})
}

func TestNetworkRequiresPQ(t *testing.T) {
	id, log := identity.Generate(), slog.New(slog.DiscardHandler)
	c := Config{Mesh: Mesh{RequirePQ: true}}
	net, err := network(id, c, log)
	if err != nil || !net.RequirePQ || len(net.Listen) == 0 || strings.Contains(strings.Join(net.Listen, " "), "/tcp/") {
		t.Errorf("listens on %v, %v", net.Listen, err)
	}
	c.Listen = []string{"/ip4/127.0.0.1/udp/1/quic-v1", "/ip4/127.0.0.1/tcp/1"}
	if _, err := network(id, c, log); err == nil || !strings.Contains(err.Error(), "mesh.require_pq") || !strings.Contains(err.Error(), c.Listen[1]) {
		t.Errorf("got %v", err)
	}
	c.Mesh.RequirePQ = false
	if net, err := network(id, c, log); err != nil || net.Admit != nil || net.Members.Operators != nil {
		t.Errorf("got %v", err)
	}
}

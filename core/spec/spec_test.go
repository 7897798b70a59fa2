package spec

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/liop-project/liop/core/fault"
	"github.com/liop-project/liop/core/grant"
	"github.com/liop-project/liop/core/guest"
	"github.com/liop-project/liop/core/identity"
	"github.com/liop-project/liop/core/member"
	"github.com/liop-project/liop/core/receipt"
)

var update = flag.Bool("update", false, "write vectors/*.json again")

// TestVectorsAreCurrent makes every file anew and compares: a change of the
// protocol shows up as a change of a committed file.
func TestVectorsAreCurrent(t *testing.T) {
	all := vectors(t)
	for name, v := range all {
		var b bytes.Buffer
		e := json.NewEncoder(&b)
		e.SetEscapeHTML(false)
		e.SetIndent("", "\t")
		if err := e.Encode(v); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join("vectors", name)
		if *update {
			if err := os.WriteFile(path, b.Bytes(), 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if old, err := os.ReadFile(path); err != nil || !bytes.Equal(old, b.Bytes()) {
			t.Errorf("%s is not what the code makes (%v); if that is meant, run: go test ./core/spec -update", path, err)
		}
	}
	entries, err := os.ReadDir("vectors")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if _, ok := all[e.Name()]; !ok {
			t.Errorf("vectors/%s is made by nothing", e.Name())
		}
	}
}

// load reads the committed file, as an implementation elsewhere would.
func load[C any](t *testing.T, name string) []C {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("vectors", name))
	if err != nil {
		t.Fatal(err)
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	var f file[C]
	if err := d.Decode(&f); err != nil {
		t.Fatal(err)
	}
	if len(f.Cases) == 0 || f.About == "" {
		t.Fatalf("%s is empty", name)
	}
	return f.Cases
}

// check compares an error with what a case wants.
func check(t *testing.T, name string, err error, want *refusal) {
	t.Helper()
	switch {
	case want == nil && err != nil:
		t.Errorf("%s: refused: %v", name, err)
	case want != nil && (want.Rule == "" || !errors.Is(err, &fault.Error{Code: want.Code, Rule: want.Rule})):
		f, _ := fault.From(err)
		t.Errorf("%s: got %+v, want %+v", name, f, *want)
	}
}

func id(t *testing.T, s string) peer.ID {
	t.Helper()
	p, err := identity.ParseID(s)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func hash32(t *testing.T, s string) (h [32]byte) {
	t.Helper()
	if n, err := hex.Decode(h[:], []byte(s)); err != nil || n != 32 {
		t.Fatalf("%q: %v", s, err)
	}
	return h
}

func TestKeys(t *testing.T) {
	for _, c := range load[keyCase](t, "keys.json") {
		seed := hash32(t, c.Seed)
		pub := ed25519.NewKeyFromSeed(seed[:]).Public().(ed25519.PublicKey)
		got, err := identity.ID(pub)
		if err != nil || hex.EncodeToString(pub) != c.Public || got.String() != c.PeerID {
			t.Errorf("%s: %x is %v, %v", c.Name, pub, got, err)
		}
	}
}

func TestStdin(t *testing.T) {
	for _, c := range load[stdinCase](t, "stdin.json") {
		m, err := guest.ParseStdin(c.Stdin)
		check(t, c.Name, err, c.Error)
		if c.Error != nil {
			continue
		}
		if !bytes.Equal(guest.Stdin(c.Inputs), c.Stdin) || hash(c.Stdin) != c.SHA256 || !maps.EqualFunc(m, c.Inputs, bytes.Equal) {
			t.Errorf("%s: stdin is %q", c.Name, guest.Stdin(c.Inputs))
		}
	}
}

func TestArgs(t *testing.T) {
	for _, c := range load[argsCase](t, "args.json") {
		check(t, c.Name, guest.ValidArgs(c.Args), c.Error)
		if got := receipt.Digest(guest.ArgsHash(c.Args)).String(); c.Error == nil && got != c.SHA256 {
			t.Errorf("%s: hash is %s", c.Name, got)
		}
	}
}

func TestDatasets(t *testing.T) {
	for _, c := range load[datasetCase](t, "datasets.json") {
		check(t, fmt.Sprint(c.Names), guest.ValidDatasets(c.Names), c.Error)
	}
}

func TestIntent(t *testing.T) {
	for _, c := range load[intentCase](t, "intent.json") {
		node, agent, h := id(t, c.Node), id(t, c.Agent), hash32(t, c.GrantHash)
		if got := grant.IntentBytes(node, agent, h, c.Datasets); !bytes.Equal(got, c.Signed) {
			t.Errorf("%s: signed bytes are %q", c.Name, got)
		}
		check(t, c.Name, grant.VerifyIntent(node, agent, h, c.Datasets, c.Signature), c.Error)
	}
}

func TestGrant(t *testing.T) {
	for _, c := range load[grantCase](t, "grant.json") {
		g, err := grant.Verify(c.Chain, grant.VerifyOptions{
			Presenter: id(t, c.Presenter), Audiences: c.Audiences, Now: time.Unix(c.Now, 0),
			Trusted: func(p peer.ID) bool { return slices.Contains(c.Trusted, p.String()) },
		})
		check(t, c.Name, err, c.Error)
		if err != nil || c.Grant == nil {
			continue
		}
		want := *c.Grant
		got := grantDecoded{
			ID: g.ID, Issuer: g.Issuer.String(), Holder: g.Holder.String(), Audience: g.Audience,
			IssuedAt: g.IssuedAt.Unix(), Expires: g.Expires.Unix(), Datasets: g.Datasets, Limits: g.Limits,
			SHA256: hex.EncodeToString(g.Hash[:]), Covers: want.Covers, Not: want.Not,
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s:\ngot  %v\nwant %v", c.Name, got, want)
		}
		for _, d := range want.Covers {
			if !g.Covers(d) {
				t.Errorf("%s: does not cover %s", c.Name, d)
			}
		}
		for _, d := range want.Not {
			if g.Covers(d) {
				t.Errorf("%s: covers %s", c.Name, d)
			}
		}
	}
}

func TestMember(t *testing.T) {
	for _, c := range load[memberCase](t, "member.json") {
		e := member.Expect{Subject: id(t, c.Presenter), Mesh: c.Mesh, Operators: map[peer.ID]bool{}}
		for _, o := range c.Operators {
			e.Operators[id(t, o)] = true
		}
		m, err := member.Verify(c.Token, time.Unix(c.Now, 0), e)
		check(t, c.Name, err, c.Error)
		if err != nil || c.Member == nil {
			continue
		}
		want := *c.Member
		got := memberDecoded{ID: m.ID, Operator: m.Operator.String(), Member: m.Member.String(), Mesh: m.Mesh,
			IssuedAt: m.IssuedAt.Unix(), Expires: m.Expires.Unix(), Serves: m.Serves, Vouches: want.Vouches, Not: want.Not}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s:\ngot  %v\nwant %v", c.Name, got, want)
		}
		for _, d := range want.Vouches {
			if !m.Vouches(d) {
				t.Errorf("%s: does not vouch for %s", c.Name, d)
			}
		}
		for _, d := range want.Not {
			if m.Vouches(d) {
				t.Errorf("%s: vouches for %s", c.Name, d)
			}
		}
	}
}

func TestReceipt(t *testing.T) {
	for _, c := range load[receiptCase](t, "receipt.json") {
		claim, err := receipt.Parse(c.Receipt)
		if e := c.Expect; err == nil && e != nil {
			err = claim.Check(receipt.Expect{
				Node: id(t, e.Node), Agent: id(t, e.Agent), Module: sha256.Sum256(e.Module), Args: e.Args, Stdin: e.Stdin,
				Answer: e.Answer, Nonce: e.Nonce, Datasets: e.Datasets, Grant: hash32(t, e.GrantHash),
			})
		}
		check(t, c.Name, err, c.Error)
		if c.Claim == nil {
			continue
		}
		var want receipt.Claim
		if err := json.Unmarshal(c.Claim, &want); err != nil || fmt.Sprint(want) != fmt.Sprint(*claim) {
			t.Errorf("%s: %v, claim is %v", c.Name, err, *claim)
		}
	}
}

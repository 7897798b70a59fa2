package member

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gowebpki/jcs"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/liop-project/liop/core/fault"
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

func spec(t testing.TB) Spec {
	return Spec{Member: who(t, "node").ID(), Mesh: "acme", Serves: []string{"hr", "acme/*"}}
}

func expect(t testing.TB) Expect {
	return Expect{Subject: who(t, "node").ID(), Operators: map[peer.ID]bool{who(t, "operator").ID(): true}, Mesh: "acme"}
}

func issue(t testing.TB, s Spec) string {
	t.Helper()
	token, err := Issue(who(t, "operator").Ed25519(), s, start)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func b64(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }

// forge signs whatever bytes it is given.
func forge(id *identity.Identity, header, payload string) string {
	signed := b64(header) + "." + b64(payload)
	return signed + "." + b64(string(ed25519.Sign(id.Ed25519(), []byte(signed))))
}

func payloadOf(t testing.TB, token string) string {
	t.Helper()
	b, err := base64.RawURLEncoding.DecodeString(strings.Split(token, ".")[1])
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func refused(t *testing.T, err error, rule, text string) {
	t.Helper()
	f, ok := fault.From(err)
	if !ok || f.Code != fault.MemberInvalid || f.Rule != rule || !strings.Contains(f.Message+" "+f.Hint, text) {
		t.Fatalf("got %+v (%v), want rule %s with %q", f, err, rule, text)
	}
}

func TestIssueThenVerify(t *testing.T) {
	token := issue(t, spec(t))
	if len(token) > 640 {
		t.Errorf("a common token has %d bytes", len(token))
	}
	for _, now := range []time.Time{start.Add(-Skew), start, start.Add(DefaultLifetime - time.Nanosecond)} {
		m, err := Verify(token, now, expect(t))
		if err != nil {
			t.Fatalf("at %v: %v", now, err)
		}
		want := Membership{ID: m.ID, Operator: who(t, "operator").ID(), Member: who(t, "node").ID(), Mesh: "acme",
			IssuedAt: start.UTC(), NotBefore: start.UTC(), Expires: start.Add(DefaultLifetime).UTC(), Serves: []string{"acme/*", "hr"}}
		if fmt.Sprint(*m) != fmt.Sprint(want) {
			t.Fatalf("got  %v\nwant %v", *m, want)
		}
		for name, want := range map[string]bool{"acme/birds": true, "hr": true, "acme": false, "hr/x": false, "acmex/a": false, "acme/*": false, "": false} {
			if m.Vouches(name) != want {
				t.Errorf("vouches for %q: %v", name, !want)
			}
		}
	}
	if again := issue(t, spec(t)); again == token {
		t.Error("two tokens have the same id")
	}
	agent := spec(t)
	agent.Serves = nil
	m, err := Verify(issue(t, agent), start, expect(t))
	if err != nil || m.Serves != nil || m.Vouches("hr") {
		t.Errorf("without datasets: %+v, %v", m, err)
	}
}

// The bytes that are signed are those of RFC 8785.
func TestClaimsAreCanonical(t *testing.T) {
	payload := payloadOf(t, issue(t, spec(t)))
	want, err := jcs.Transform([]byte(payload))
	if err != nil || string(want) != payload {
		t.Errorf("%v\ngot  %s\nwant %s", err, payload, want)
	}
}

func TestSpecRefuses(t *testing.T) {
	many := make([]string, MaxServes+1)
	long := make([]string, MaxServes)
	for i := range many {
		many[i] = fmt.Sprintf("d%d", i)
		if i < len(long) {
			long[i] = fmt.Sprintf("%s/d%d", strings.Repeat("a", 60), i)
		}
	}
	for _, c := range []struct {
		name, text string
		change     func(*Spec)
	}{
		{"no member", "member", func(s *Spec) { s.Member = "" }},
		{"no mesh", "mesh", func(s *Spec) { s.Mesh = "" }},
		{"mesh a peer", "mesh", func(s *Spec) { s.Mesh = who(t, "node").ID().String() }},
		{"mesh in capitals", "mesh", func(s *Spec) { s.Mesh = "Acme" }},
		{"mesh long", "mesh", func(s *Spec) { s.Mesh = strings.Repeat("a", MaxMesh+1) }},
		{"serves everything", "serves", func(s *Spec) { s.Serves = []string{"*"} }},
		{"serves twice", "twice", func(s *Spec) { s.Serves = []string{"a", "b", "a"} }},
		{"serves too many", "at most 64", func(s *Spec) { s.Serves = many }},
		{"too large", "at most 2048", func(s *Spec) { s.Serves = long }},
		{"negative lifetime", "lifetime", func(s *Spec) { s.Lifetime = -1 }},
		{"half seconds", "lifetime", func(s *Spec) { s.Lifetime = 1500 * time.Millisecond }},
		{"too long", "lifetime", func(s *Spec) { s.Lifetime = MaxLifetime + time.Second }},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := spec(t)
			c.change(&s)
			if _, err := Issue(who(t, "operator").Ed25519(), s, start); err == nil || !strings.Contains(err.Error(), c.text) {
				t.Errorf("got %v", err)
			}
		})
	}
	if _, err := Issue(nil, spec(t), start); err == nil {
		t.Error("a token without a key")
	}
}

func TestVerifyRefuses(t *testing.T) {
	op := who(t, "operator")
	good := issue(t, spec(t))
	m, err := Inspect(good)
	if err != nil {
		t.Fatal(err)
	}
	payload := payloadOf(t, good)
	parts := strings.Split(good, ".")
	swap := func(old, new string) string {
		t.Helper()
		if !strings.Contains(payload, old) {
			t.Fatalf("%q is not in the claims", old)
		}
		return forge(op, header, strings.Replace(payload, old, new, 1))
	}
	iat, exp := fmt.Sprint(start.Unix()), fmt.Sprint(start.Add(DefaultLifetime).Unix())
	for _, c := range []struct{ name, rule, token string }{
		{"empty", "token", ""},
		{"too long", "token", good + strings.Repeat("A", MaxToken)},
		{"not a JWS", "header", "members only"},
		{"two parts", "token", parts[0] + "." + parts[1]},
		{"four parts", "token", good + "."},
		{"padded", "token", good + "=="},
		{"line break", "token", good[:200] + "\n" + good[200:]},
		{"unsigned", "signature", parts[0] + "." + parts[1] + "."},
		{"signed by its member", "signature", forge(who(t, "node"), header, payload)},
		{"claims changed", "signature", parts[0] + "." + b64(strings.Replace(payload, "hr", "it", 1)) + "." + parts[2]},
		{"header in another order", "header", forge(op, `{"typ":"liop-member+jwt","alg":"EdDSA"}`, payload)},
		{"header with a key", "header", forge(op, `{"alg":"EdDSA","jwk":{},"typ":"liop-member+jwt"}`, payload)},
		{"typ of a grant", "header", forge(op, `{"alg":"EdDSA","typ":"at+jwt"}`, payload)},
		{"typ of a receipt", "header", forge(op, `{"alg":"EdDSA","typ":"liop-receipt+jwt"}`, payload)},
		{"alg none", "header", forge(op, `{"alg":"none","typ":"liop-member+jwt"}`, payload)},
		{"claims no object", "claims", forge(op, header, "[]")},
		{"claims null", "iss", forge(op, header, "null")},
		{"claims and more", "claims", forge(op, header, payload+"}")},
		{"unknown claim", "claims", swap(`"aud"`, `"admin":true,"aud"`)},
		{"claim twice", "claims", swap(`{"aud"`, `{"aud":"acme","aud"`)},
		{"claim in another case", "claims", swap(`"exp"`, `"EXP"`)},
		{"claims in another order", "claims", swap(`"aud":"acme",`+`"exp":`+exp, `"exp":`+exp+`,"aud":"acme"`)},
		{"space", "claims", swap(`"aud":`, `"aud": `)},
		{"no nbf", "claims", swap(`"nbf":`+iat+`,`, "")},
		{"serves null", "claims", swap(`"serves":["acme/*","hr"]`, `"serves":null`)},
		{"serves empty", "claims", swap(`"serves":["acme/*","hr"]`, `"serves":[]`)},
		{"serves unsorted", "serves", swap(`["acme/*","hr"]`, `["hr","acme/*"]`)},
		{"serves twice", "serves", swap(`["acme/*","hr"]`, `["hr","hr"]`)},
		{"serves everything", "serves", swap(`"acme/*"`, `"*"`)},
		{"serves a text", "serves", swap(`["acme/*","hr"]`, `"hr"`)},
		{"iss missing", "iss", swap(`"iss":"`+op.ID().String()+`",`, "")},
		{"iss another", "iss", swap(op.ID().String(), who(t, "stranger").ID().String())},
		{"iss as a CID", "iss", swap(op.ID().String(), peer.ToCid(op.ID()).String())},
		{"sub no peer", "sub", swap(who(t, "node").ID().String(), "node")},
		{"sub as a CID", "sub", swap(who(t, "node").ID().String(), peer.ToCid(who(t, "node").ID()).String())},
		{"sub another", "sub", swap(who(t, "node").ID().String(), who(t, "stranger").ID().String())},
		{"aud another", "aud", swap(`"acme"`, `"umbrella"`)},
		{"aud a list", "aud", swap(`"acme"`, `["acme"]`)},
		{"aud a peer", "aud", swap(`"acme"`, `"`+op.ID().String()+`"`)},
		{"jti empty", "jti", swap(m.ID, "")},
		{"jti short", "jti", swap(m.ID, m.ID[1:])},
		{"exp a fraction", "exp", swap(`"exp":`+exp, `"exp":`+exp+`.5`)},
		{"exp a text", "exp", swap(`"exp":`+exp, `"exp":"`+exp+`"`)},
		{"exp at iat", "exp", swap(`"exp":`+exp, `"exp":`+iat)},
		{"exp after a year", "exp", swap(`"exp":`+exp, fmt.Sprintf(`"exp":%d`, start.Add(MaxLifetime+time.Second).Unix()))},
		{"exp huge", "exp", swap(`"exp":`+exp, `"exp":1000000000000`)},
		{"iat negative", "iat", swap(`"iat":`+iat, `"iat":-1`)},
		{"from the future", "iat", swap(`"iat":`+iat, fmt.Sprintf(`"iat":%d`, start.Add(Skew+time.Second).Unix()))},
		{"not valid yet", "nbf", swap(`"nbf":`+iat, fmt.Sprintf(`"nbf":%d`, start.Add(Skew+time.Second).Unix()))},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := Verify(c.token, start, expect(t))
			refused(t, err, c.rule, "")
		})
	}
}

func TestVerifyRefusesTheWrongSituation(t *testing.T) {
	token := issue(t, spec(t))
	for _, c := range []struct {
		name, rule, text string
		now              time.Time
		change           func(*Expect)
	}{
		{"stolen", "sub", "12D3KooW", start, func(e *Expect) { e.Subject = who(t, "stranger").ID() }},
		{"nobody", "sub", "", start, func(e *Expect) { e.Subject = "" }},
		{"another mesh", "aud", `"umbrella"`, start, func(e *Expect) { e.Mesh = "umbrella" }},
		{"another operator", "iss", "", start, func(e *Expect) { e.Operators = map[peer.ID]bool{who(t, "node").ID(): true} }},
		{"no operator", "iss", "", start, func(e *Expect) { e.Operators = nil }},
		{"operator who is none", "iss", "", start, func(e *Expect) { e.Operators[who(t, "operator").ID()] = false }},
		{"expired", "exp", "expired", start.Add(DefaultLifetime), func(*Expect) {}},
		{"early", "iat", "clocks", start.Add(-Skew - time.Second), func(*Expect) {}},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := expect(t)
			c.change(&e)
			_, err := Verify(token, c.now, e)
			refused(t, err, c.rule, c.text)
			if _, err := Inspect(token); err != nil {
				t.Fatalf("inspect: %v", err)
			}
		})
	}
	if _, err := Verify(token, start, Expect{}); err == nil {
		t.Fatal("the zero Expect accepts a token")
	}
}

func TestWords(t *testing.T) {
	m, err := Inspect(issue(t, spec(t)))
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Join(m.Words(), "\n")
	for _, want := range []string{m.Member.String(), m.Operator.String(), `mesh "acme"`, "dataset hr", "begins with acme/", "2027-02-14"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in\n%s", want, text)
		}
	}
}

// checkAccepted is what holds for every token that was accepted, however it was
// made.
func checkAccepted(t *testing.T, token string, m *Membership) {
	t.Helper()
	again, err := json.Marshal(claims{Mesh: m.Mesh, Expires: m.Expires.Unix(), IssuedAt: m.IssuedAt.Unix(), Operator: m.Operator.String(),
		ID: m.ID, NotBefore: m.NotBefore.Unix(), Serves: m.Serves, Member: m.Member.String()})
	if err != nil || payloadOf(t, token) != string(again) {
		t.Fatalf("accepted %s, which means %s", payloadOf(t, token), again)
	}
	if len(token) > MaxToken || m.Expires.Sub(m.IssuedAt) > MaxLifetime || len(m.Serves) > MaxServes || !slices.IsSorted(m.Serves) {
		t.Fatalf("accepted %+v", m)
	}
}

func FuzzVerify(f *testing.F) {
	f.Add(issue(f, spec(f)))
	f.Add("..")
	f.Add(b64(header) + "." + b64("{}") + ".")
	e := expect(f)
	f.Fuzz(func(t *testing.T, token string) { checkFuzzed(t, token, e) })
}

// FuzzClaims lets an operator sign anything: the claims' decoder is behind the
// signature, out of reach of FuzzVerify.
func FuzzClaims(f *testing.F) {
	f.Add(payloadOf(f, issue(f, spec(f))))
	f.Add(strings.Replace(payloadOf(f, issue(f, spec(f))), `"aud"`, `"AUD"`, 1))
	op, e := who(f, "operator"), expect(f)
	f.Fuzz(func(t *testing.T, payload string) { checkFuzzed(t, forge(op, header, payload), e) })
}

func checkFuzzed(t *testing.T, token string, e Expect) {
	m, err := Verify(token, start, e)
	if err == nil {
		checkAccepted(t, token, m)
		if m.Member != e.Subject || m.Mesh != e.Mesh || !e.Operators[m.Operator] || !start.Before(m.Expires) {
			t.Fatalf("accepted %+v", m)
		}
	} else if f, ok := fault.From(err); !ok || f.Code != fault.MemberInvalid || f.Rule == "" || len(f.Message) > 1000 {
		t.Fatalf("error %v", err)
	}
	if m, inspect := Inspect(token); inspect == nil {
		checkAccepted(t, token, m)
	} else if err == nil {
		t.Fatalf("verified, but inspect says %v", inspect)
	}
}

package grant

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/liop-project/liop/core/fault"
)

var b64 = base64.RawURLEncoding.EncodeToString

// forge signs whatever bytes it is given.
func forge(key ed25519.PrivateKey, header, payload string) string {
	signed := b64([]byte(header)) + "." + b64([]byte(payload))
	return signed + "." + b64(ed25519.Sign(key, []byte(signed)))
}

const goodHeader = `{"typ":"at+jwt","alg":"EdDSA"}`

func jwk(t testing.TB, name string) map[string]any {
	pub := who(t, name).Ed25519().Public().(ed25519.PublicKey)
	return map[string]any{"kty": "OKP", "crv": "Ed25519", "x": b64(pub)}
}

// goodClaims are claims as another implementation would write them.
func goodClaims(t testing.TB) map[string]any {
	return map[string]any{
		"iss": who(t, "issuer").ID().String(), "sub": who(t, "agent").ID().String(), "aud": who(t, "node").ID().String(),
		"iat": start.Unix(), "nbf": start.Unix(), "exp": start.Add(time.Hour).Unix(), "jti": "j-1",
		"cnf": map[string]any{"jwk": jwk(t, "agent")},
		"authorization_details": []any{map[string]any{
			"type": "liop.execute", "actions": []any{"run"}, "datasets": []any{"sales/*"}, "limits": map[string]any{"wall_ms": 5000},
		}},
	}
}

func options(t testing.TB) VerifyOptions {
	return VerifyOptions{
		Presenter: who(t, "agent").ID(), Audiences: []string{who(t, "node").ID().String(), "clinic.north"},
		Trusted: trust(who(t, "issuer").ID()), Now: start,
	}
}

func marshal(t testing.TB, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func refused(t *testing.T, err error, rule, text string) {
	t.Helper()
	f, ok := fault.From(err)
	if !ok || f.Code != fault.GrantInvalid || f.Owner != fault.Grant || f.Rule != rule || !strings.Contains(f.Message+f.Hint, text) {
		t.Fatalf("error %+v, want rule %q and text %q", f, rule, text)
	}
	if f.Message == "" || strings.HasSuffix(f.Message, ".") || strings.Contains(f.Message, "go-jose") || strings.Contains(f.Message, "json:") {
		t.Fatalf("message %q", f.Message)
	}
}

func TestVerifyAcceptsWhatOthersWrite(t *testing.T) {
	for name, change := range map[string]func(c map[string]any){
		"as is": func(map[string]any) {},
		"realm": func(c map[string]any) { c["aud"] = "clinic.north" },
		"unknown claims": func(c map[string]any) {
			c["scope"], c["client_id"], c["del"] = "x", []any{1}, map[string]any{"max_depth": 2}
		},
		"no nbf":  func(c map[string]any) { delete(c, "nbf") },
		"longest": func(c map[string]any) { c["exp"] = start.Add(MaxLifetime).Unix() },
		"skewed":  func(c map[string]any) { c["iat"], c["nbf"] = start.Add(Skew).Unix(), start.Add(Skew).Unix() },
		"no limits": func(c map[string]any) {
			delete(c["authorization_details"].([]any)[0].(map[string]any), "limits")
		},
		"key with use": func(c map[string]any) { c["cnf"].(map[string]any)["jwk"].(map[string]any)["use"] = "sig" },
	} {
		t.Run(name, func(t *testing.T) {
			c := goodClaims(t)
			change(c)
			if _, err := Verify(forge(who(t, "issuer").Ed25519(), goodHeader, marshal(t, c)), options(t)); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func TestVerifyRefusesClaims(t *testing.T) {
	set := func(name string, v any) func(map[string]any) { return func(c map[string]any) { c[name] = v } }
	drop := func(name string) func(map[string]any) { return func(c map[string]any) { delete(c, name) } }
	detail := func(name string, v any) func(map[string]any) {
		return func(c map[string]any) { c["authorization_details"].([]any)[0].(map[string]any)[name] = v }
	}
	limit := func(name string, v any) func(map[string]any) { return detail("limits", map[string]any{name: v}) }
	key := func(name string, v any) func(map[string]any) {
		return func(c map[string]any) { c["cnf"].(map[string]any)["jwk"].(map[string]any)[name] = v }
	}
	details := "authorization_details"
	for _, c := range []struct {
		name, rule, text string
		change           func(map[string]any)
	}{
		{"no iss", "iss", "missing", drop("iss")},
		{"iss not a peer", "iss", "not an Ed25519", set("iss", "https://issuer.example")},
		{"iss as a CID", "iss", "base58", set("iss", peer.ToCid(who(t, "issuer").ID()).String())},
		{"iss another", "iss", "not trusted", set("iss", who(t, "stranger").ID().String())},
		{"iss null", "iss", "missing", set("iss", nil)},
		{"no sub", "sub", "missing", drop("sub")},
		{"sub another", "cnf", "not the key of sub", set("sub", who(t, "stranger").ID().String())},
		{"no cnf", "cnf", "missing", drop("cnf")},
		{"cnf null", "cnf", "missing", set("cnf", nil)},
		{"cnf by id", "cnf", `unknown member "kid"`, set("cnf", map[string]any{"kid": "1"})},
		{"cnf two ways", "cnf", `unknown member "jkt"`, set("cnf", map[string]any{"jwk": jwk(t, "agent"), "jkt": "x"})},
		{"cnf empty", "cnf", "no usable key", set("cnf", map[string]any{})},
		{"cnf another", "cnf", "not the key of sub", set("cnf", map[string]any{"jwk": jwk(t, "stranger")})},
		{"cnf RSA", "cnf", "Ed25519", set("cnf", map[string]any{"jwk": map[string]any{"kty": "RSA", "n": "uw", "e": "AQAB"}})},
		{"cnf symmetric", "cnf", "no public Ed25519", set("cnf", map[string]any{"jwk": map[string]any{"kty": "oct", "k": "AAAA"}})},
		{"cnf short key", "cnf", "no usable key", key("x", "AAAA")},
		{"cnf private", "cnf", "Ed25519", key("d", b64(who(t, "agent").Ed25519().Seed()))},
		{"no aud", "aud", "not one string", drop("aud")},
		{"aud list", "aud", "not one string", set("aud", []any{who(t, "node").ID().String()})},
		{"aud null", "aud", "not one string", set("aud", nil)},
		{"aud another node", "aud", "another node", set("aud", who(t, "stranger").ID().String())},
		{"aud another realm", "aud", "clinic.north", set("aud", "clinic.south")},
		{"aud malformed", "aud", "neither", set("aud", "urn:liop:mesh:api")},
		{"no jti", "jti", "missing", drop("jti")},
		{"jti number", "jti", "malformed", set("jti", 7)},
		{"jti with slash", "jti", "malformed", set("jti", "a/b")},
		{"jti long", "jti", "malformed", set("jti", strings.Repeat("a", MaxID+1))},
		{"no iat", "iat", "missing", drop("iat")},
		{"iat text", "iat", "not a date", set("iat", "now")},
		{"iat fraction", "iat", "not a date", set("iat", 1.5)},
		{"iat future", "iat", "clocks", set("iat", start.Add(Skew+time.Second).Unix())},
		{"no exp", "exp", "missing", drop("exp")},
		{"exp null", "exp", "missing", set("exp", nil)},
		{"exp huge", "exp", "not a date", set("exp", int64(1)<<62)},
		{"exp negative", "exp", "not a date", set("exp", -1)},
		{"exp before iat", "exp", "lifetime", set("exp", start.Unix()-1)},
		{"exp at iat", "exp", "lifetime", set("exp", start.Unix())},
		{"exp too late", "exp", "24h", set("exp", start.Add(MaxLifetime+time.Second).Unix())},
		{"nbf future", "nbf", "not valid yet", set("nbf", start.Add(Skew+time.Second).Unix())},
		{"nbf text", "nbf", "not a date", set("nbf", "x")},
		{"no details", details, "list of one", drop(details)},
		{"details object", details, "list of one", set(details, map[string]any{"type": "liop.execute"})},
		{"details empty", details, "list of one", set(details, []any{})},
		{"details null", details, "list of one", set(details, []any{nil})},
		{"details two", details, "list of one", func(c map[string]any) { l := c[details].([]any); c[details] = append(l, l[0]) }},
		{"unknown type", details, "liop.execute", detail("type", "liop.admin")},
		{"unknown member", details, `unknown member "columns"`, detail("columns", map[string]any{"sales": []any{"region"}})},
		{"member in another case", details, `unknown member "Limits"`, detail("Limits", map[string]any{"wall_ms": 1})},
		{"no actions", details, `["run"]`, detail("actions", nil)},
		{"actions more", details, `["run"]`, detail("actions", []any{"run", "watch"})},
		{"datasets missing", details, "list of names", detail("datasets", nil)},
		{"datasets null inside", details, "list of names", detail("datasets", []any{"a", nil})},
		{"datasets numbers", details, "list of names", detail("datasets", []any{1})},
		{"datasets everything", details, "pattern", detail("datasets", []any{"*"})},
		{"datasets climbing", details, "pattern", detail("datasets", []any{"../*"})},
		{"limits list", details, "not an object", detail("limits", []any{})},
		{"limits null", details, "not an object", detail("limits", nil)},
		{"limit unknown", details, `unknown limit "gas"`, limit("gas", 1)},
		{"limit zero", details, "limits.runs", limit("runs", 0)},
		{"limit negative", details, "limits.runs", limit("runs", -1)},
		{"limit text", details, "limits.runs", limit("runs", "10")},
		{"limit null", details, "limits.runs", limit("runs", nil)},
		{"limit fraction", details, "limits.wall_ms", limit("wall_ms", 1.5)},
		{"limit inexact", details, "limits.memory_bytes", limit("memory_bytes", uint64(1)<<53)},
		{"concurrency large", details, "limits.concurrency", limit("concurrency", uint64(1)<<32)},
	} {
		t.Run(c.name, func(t *testing.T) {
			claims := goodClaims(t)
			c.change(claims)
			_, err := Verify(forge(who(t, "issuer").Ed25519(), goodHeader, marshal(t, claims)), options(t))
			refused(t, err, c.rule, c.text)
		})
	}
}

func TestVerifyRefusesText(t *testing.T) {
	issuer := who(t, "issuer").Ed25519()
	payload := marshal(t, goodClaims(t))
	good := forge(issuer, goodHeader, payload)
	parts := strings.Split(good, ".")
	noncanonical := func(s string) string { // another last character for the same bytes
		alphabet := "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
		return s[:len(s)-1] + string(alphabet[strings.IndexByte(alphabet, s[len(s)-1])+1])
	}
	for _, c := range []struct{ name, chain, rule, text string }{
		{"empty", "", "grant", "no grant"},
		{"too long", strings.Repeat("a", MaxChain+1), "grant", "8192"},
		{"delegated", good + "~" + good, "del", "delegated"},
		{"one part", "abc", "grant", "compact"},
		{"four parts", good + ".", "grant", "compact"},
		{"JSON serialisation", `{"payload":"","signatures":[]}`, "grant", "compact"},
		{"space", good + " ", "grant", "base64url"},
		{"line break", good[:10] + "\n" + good[10:], "grant", "base64url"},
		{"padded", good + "==", "grant", "base64url"},
		{"second text of the signature", noncanonical(good), "grant", "base64url"},
		{"no signature", parts[0] + "." + parts[1] + ".", "signature", ""},
		{"signature of another", forge(who(t, "stranger").Ed25519(), goodHeader, payload), "signature", ""},
		{"holder signs for the issuer", forge(who(t, "agent").Ed25519(), goodHeader, payload), "signature", ""},
		{"claims changed", parts[0] + "." + b64([]byte(strings.Replace(payload, "sales/*", "sales/x", 1))) + "." + parts[2], "signature", ""},
		{"header changed", b64([]byte(`{"alg":"EdDSA","typ":"at+jwt"}`)) + "." + parts[1] + "." + parts[2], "signature", ""},
		{"header not JSON", forge(issuer, "typ", payload), "grant", "header"},
		{"header null", forge(issuer, "null", payload), "grant", "header"},
		{"header twice", forge(issuer, `{"alg":"none","alg":"EdDSA","typ":"at+jwt"}`, payload), "grant", "distinct"},
		{"no alg", forge(issuer, `{"typ":"at+jwt"}`, payload), "alg", "EdDSA"},
		{"alg none", forge(issuer, `{"alg":"none","typ":"at+jwt"}`, payload), "alg", "EdDSA"},
		{"alg HS256", forge(issuer, `{"alg":"HS256","typ":"at+jwt"}`, payload), "alg", "EdDSA"},
		{"alg Ed25519", forge(issuer, `{"alg":"Ed25519","typ":"at+jwt"}`, payload), "alg", "EdDSA"},
		{"no typ", forge(issuer, `{"alg":"EdDSA"}`, payload), "typ", "at+jwt"},
		{"typ of a receipt", forge(issuer, `{"alg":"EdDSA","typ":"liop-receipt+jwt"}`, payload), "typ", "at+jwt"},
		{"typ JWT", forge(issuer, `{"alg":"EdDSA","typ":"JWT"}`, payload), "typ", "at+jwt"},
		{"key in the header", forge(issuer, `{"alg":"EdDSA","typ":"at+jwt","jwk":`+marshal(t, jwk(t, "stranger"))+`}`, payload), "header", `"jwk"`},
		{"key by reference", forge(issuer, `{"alg":"EdDSA","typ":"at+jwt","x5u":"https://a"}`, payload), "header", `"x5u"`},
		{"crit", forge(issuer, `{"alg":"EdDSA","typ":"at+jwt","crit":["b64"],"b64":false}`, payload), "header", `"b64"`},
		{"claims not JSON", forge(issuer, goodHeader, "claims"), "grant", "claims"},
		{"claims a list", forge(issuer, goodHeader, "[]"), "grant", "claims"},
		{"claims null", forge(issuer, goodHeader, "null"), "iss", "missing"},
		{"claims and more", forge(issuer, goodHeader, payload+"{}"), "grant", "claims"},
		{"claim twice", forge(issuer, goodHeader, `{"exp":1,`+payload[1:]), "grant", "distinct"},
		{"member twice inside", forge(issuer, goodHeader, strings.Replace(payload, `"wall_ms":5000`, `"wall_ms":1,"wall_ms":5000`, 1)), "authorization_details", "limits"},
		{"dataset list twice", forge(issuer, goodHeader, strings.Replace(payload, `"datasets":`, `"datasets":["a"],"datasets":`, 1)), "authorization_details", "list of one"},
		{"deep", forge(issuer, goodHeader, strings.Repeat("[", 2000)+strings.Repeat("]", 2000)), "grant", "claims"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := Verify(c.chain, options(t))
			refused(t, err, c.rule, c.text)
		})
	}
}

func TestVerifyRefusesTheWrongSituation(t *testing.T) {
	chain := forge(who(t, "issuer").Ed25519(), goodHeader, marshal(t, goodClaims(t)))
	for _, c := range []struct {
		name, rule string
		change     func(*VerifyOptions)
	}{
		{"stolen", "cnf", func(o *VerifyOptions) { o.Presenter = who(t, "stranger").ID() }},
		{"no presenter", "cnf", func(o *VerifyOptions) { o.Presenter = "" }},
		{"at another node", "aud", func(o *VerifyOptions) { o.Audiences = []string{who(t, "stranger").ID().String()} }},
		{"no audience", "aud", func(o *VerifyOptions) { o.Audiences = nil }},
		{"issuer unknown", "iss", func(o *VerifyOptions) { o.Trusted = trust(who(t, "node").ID()) }},
		{"nobody trusted", "iss", func(o *VerifyOptions) { o.Trusted = nil }},
		{"expired", "exp", func(o *VerifyOptions) { o.Now = start.Add(time.Hour) }},
		{"long expired", "exp", func(o *VerifyOptions) { o.Now = start.Add(1000 * time.Hour) }},
		{"early", "iat", func(o *VerifyOptions) { o.Now = start.Add(-Skew - time.Second) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := options(t)
			c.change(&o)
			_, err := Verify(chain, o)
			refused(t, err, c.rule, "")
			if _, err := Inspect(chain); err != nil {
				t.Fatalf("inspect: %v", err)
			}
		})
	}
	if _, err := Verify(chain, VerifyOptions{}); err == nil {
		t.Fatal("the zero options accept a grant")
	}
}

func TestInspectChecksTheSignature(t *testing.T) {
	payload := marshal(t, goodClaims(t))
	_, err := Inspect(forge(who(t, "stranger").Ed25519(), goodHeader, payload))
	refused(t, err, "signature", "")
	g, err := Inspect(forge(who(t, "issuer").Ed25519(), goodHeader, payload))
	if err != nil || g.Limits.WallMS != 5000 || g.Audience != who(t, "node").ID().String() {
		t.Fatalf("%+v, %v", g, err)
	}
}

// checkAccepted is what holds for every grant that was accepted, however it was
// made.
func checkAccepted(t *testing.T, chain string, g *Grant, o VerifyOptions) {
	t.Helper()
	switch {
	case g.Hash != sha256.Sum256([]byte(chain)) || len(chain) > MaxChain || strings.ContainsAny(chain, "~\n "):
		t.Fatalf("accepted text %q", chain)
	case g.Holder != o.Presenter || !o.Trusted(g.Issuer):
		t.Fatalf("accepted %+v", g)
	case !o.Now.Before(g.Expires) || g.Expires.Sub(g.IssuedAt) > MaxLifetime || !validID(g.ID) || len(g.Datasets) == 0:
		t.Fatalf("accepted %+v", g)
	}
	for name, n := range g.Limits.fields() {
		if n > MaxLimit {
			t.Fatalf("accepted limits.%s = %d", name, n)
		}
	}
}

func FuzzVerify(f *testing.F) {
	good := forge(who(f, "issuer").Ed25519(), goodHeader, marshal(f, goodClaims(f)))
	f.Add(good)
	f.Add(good + "~" + good)
	f.Add("..")
	f.Add(b64([]byte(goodHeader)) + "." + b64([]byte("{}")) + ".")
	o := options(f)
	f.Fuzz(func(t *testing.T, chain string) {
		g, err := Verify(chain, o)
		if err == nil {
			checkAccepted(t, chain, g, o)
		} else if e, ok := fault.From(err); !ok || e.Code != fault.GrantInvalid || e.Rule == "" || len(e.Message) > 1000 {
			t.Fatalf("error %v", err)
		}
		if _, inspect := Inspect(chain); err == nil && inspect != nil {
			t.Fatalf("verified, but inspect says %v", inspect)
		}
	})
}

// FuzzClaims lets a trusted issuer sign anything: the claims' decoder is behind
// the signature, out of reach of FuzzVerify.
func FuzzClaims(f *testing.F) {
	f.Add(goodHeader, marshal(f, goodClaims(f)))
	for _, drop := range []string{"cnf", "authorization_details", "exp"} {
		c := maps.Clone(goodClaims(f))
		c[drop] = nil
		f.Add(goodHeader, marshal(f, c))
	}
	key, o := who(f, "issuer").Ed25519(), options(f)
	f.Fuzz(func(t *testing.T, header, payload string) {
		chain := forge(key, header, payload)
		g, err := Verify(chain, o)
		if err == nil {
			checkAccepted(t, chain, g, o)
		} else if e, ok := fault.From(err); !ok || e.Code != fault.GrantInvalid || e.Rule == "" || len(e.Message) > 1000 {
			t.Fatalf("error %v", err)
		}
	})
}

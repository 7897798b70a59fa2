package receipt

import (
	"crypto/ed25519"
	"strings"
	"testing"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/liop-project/liop/core/fault"
)

// forge signs whatever bytes it is given.
const header = `{"alg":"EdDSA","typ":"liop-receipt+jwt"}`

func forge(key ed25519.PrivateKey, header, payload string) string {
	signed := b64([]byte(header)) + "." + b64([]byte(payload))
	return signed + "." + b64(ed25519.Sign(key, []byte(signed)))
}

func TestParseRefuses(t *testing.T) {
	node := who(t, "node").Ed25519()
	bytes, err := goodClaim(t).canonical()
	if err != nil {
		t.Fatal(err)
	}
	payload := string(bytes)
	good := forge(node, header, payload)
	if _, err := Parse(good); err != nil {
		t.Fatal(err)
	}
	parts := strings.Split(good, ".")
	swap := func(old, new string) string {
		t.Helper()
		if !strings.Contains(payload, old) {
			t.Fatalf("%q is not in the claim", old)
		}
		return forge(node, header, strings.Replace(payload, old, new, 1))
	}
	alphabet := "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	last := alphabet[strings.IndexByte(alphabet, good[len(good)-1])+1]
	for _, c := range []struct{ name, jws, rule string }{
		{"empty", "", "header"},
		{"words", "hello", "header"},
		{"too long", good + strings.Repeat("a", MaxReceipt), "receipt"},
		{"header in another order", forge(node, `{"typ":"liop-receipt+jwt","alg":"EdDSA"}`, payload), "header"},
		{"alg none", forge(node, `{"alg":"none","typ":"liop-receipt+jwt"}`, payload), "header"},
		{"typ of a grant", forge(node, `{"alg":"EdDSA","typ":"at+jwt"}`, payload), "header"},
		{"key in the header", forge(node, `{"alg":"EdDSA","jwk":{},"typ":"liop-receipt+jwt"}`, payload), "header"},
		{"four parts", good + ".", "receipt"},
		{"two parts", parts[0] + "." + parts[1], "receipt"},
		{"line break", good[:80] + "\n" + good[80:], "receipt"},
		{"second text of the signature", good[:len(good)-1] + string(last), "receipt"},
		{"no signature", parts[0] + "." + parts[1] + ".", "signature"},
		{"signed by the agent", forge(who(t, "agent").Ed25519(), header, payload), "signature"},
		{"claim changed", parts[0] + "." + b64([]byte(strings.Replace(payload, `"files":3`, `"files":4`, 1))) + "." + parts[2], "signature"},
		{"no claim", forge(node, header, ""), "claim"},
		{"not JSON", forge(node, header, "claim"), "claim"},
		{"null", forge(node, header, "null"), "v"},
		{"list", forge(node, header, "[]"), "claim"},
		{"something after", forge(node, header, payload+"{}"), "claim"},
		{"space after", forge(node, header, payload+" "), "claim"},
		{"space inside", swap(`"v":1`, `"v": 1`), "claim"},
		{"member missing", swap(`"containment":["landlock:7","no-new-privs","rlimits","seccomp"],`, ""), "claim"},
		{"member unknown", swap(`"v":1`, `"v":1,"x":1`), "claim"},
		{"member twice", swap(`"v":1`, `"v":1,"v":1`), "claim"},
		{"member in another case", swap(`"v":1`, `"V":1`), "claim"},
		{"members in another order", swap(`"files":3,"name":"sales"`, `"name":"sales","files":3`), "claim"},
		{"inner member unknown", swap(`"files":3`, `"files":3,"host":"/srv"`), "claim"},
		{"number as float", swap(`"files":3`, `"files":3.0`), "datasets"},
		{"number as text", swap(`"time":1800000000123`, `"time":"1800000000123"`), "time"},
		{"number negative", swap(`"files":3`, `"files":-3`), "datasets"},
		{"number inexact", swap(`"files":3`, `"files":9007199254740993`), "datasets"},
		{"number with exponent", swap(`"wall_ms":5000`, `"wall_ms":5e3`), "limits"},
		{"escape", swap(`"ok"`, `"\u006fk"`), "claim"},
		{"null list", swap(`["landlock:7","no-new-privs","rlimits","seccomp"]`, "null"), "claim"},
		{"unsorted", swap(`"landlock:7","no-new-privs"`, `"no-new-privs","landlock:7"`), "claim"},
		{"hash in upper case", swap(`"args":"sha256:`, `"args":"SHA256:`), "claim"},
		{"hash short", swap("sha256:e3b0", "sha256:e3"), "claim"},
		{"nonce padded", swap("MDEyMzQ1Njc4OWFiY2RlZg", "MDEyMzQ1Njc4OWFiY2RlZg=="), "claim"},
		{"nonce short", swap("MDEyMzQ1Njc4OWFiY2RlZg", "MDEy"), "nonce"},
		{"version", swap(`"v":1`, `"v":2`), "v"},
		{"assurance higher", swap(`"signed"`, `"proved"`), "assurance"},
		{"assurance unknown", swap(`"signed"`, `"sworn"`), "assurance"},
		{"outcome", swap(`"outcome":"ok"`, `"outcome":"failed"`), "outcome"},
		{"node as a CID", swap(who(t, "node").ID().String(), peer.ToCid(who(t, "node").ID()).String()), "claim"},
		{"node of another kind", swap(who(t, "node").ID().String(), "QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N"), "node"},
		{"agent nonsense", swap(who(t, "agent").ID().String(), "somebody"), "claim"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := Parse(c.jws)
			f, ok := fault.From(err)
			if !ok || f.Code != fault.Unverified || f.Rule != c.rule || f.Message == "" {
				t.Fatalf("error %+v, want rule %q", f, c.rule)
			}
			if strings.Contains(f.Message, "go-jose") || strings.Contains(f.Message, "json:") {
				t.Fatalf("message %q", f.Message)
			}
		})
	}
}

// Whatever Parse accepts, the node signed exactly that text, and signing the
// claim again gives it back.
func FuzzParse(f *testing.F) {
	good, err := Sign(who(f, "node").Ed25519(), goodClaim(f))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add(b64([]byte(header)) + ".e30.")
	f.Add("..")
	key := who(f, "node").Ed25519()
	f.Fuzz(func(t *testing.T, jws string) {
		checkParsed(t, key, jws)
	})
}

// FuzzClaim signs anything as a node: the claim's decoder decides before the
// signature, but what it accepts is out of reach of FuzzParse.
func FuzzClaim(f *testing.F) {
	good, err := goodClaim(f).canonical()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(string(good))
	f.Add(strings.Replace(string(good), `"containment"`, `"Containment"`, 1))
	f.Add("{}")
	key := who(f, "node").Ed25519()
	f.Fuzz(func(t *testing.T, payload string) {
		checkParsed(t, key, forge(key, header, payload))
	})
}

func checkParsed(t *testing.T, key ed25519.PrivateKey, jws string) {
	c, err := Parse(jws)
	if err != nil {
		if e, ok := fault.From(err); !ok || e.Code != fault.Unverified || e.Rule == "" || len(e.Message) > 500 {
			t.Fatalf("error %v", err)
		}
		return
	}
	again, err := Sign(key, c)
	if err != nil || again != jws {
		t.Fatalf("accepted\n%s\nsigned again (%v)\n%s", jws, err, again)
	}
	if len(c.Words()) == 0 {
		t.Fatal("no words")
	}
}

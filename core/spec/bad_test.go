package spec

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/liop-project/liop/core/fault"
	"github.com/liop-project/liop/core/grant"
)

func (m *made) grants(t *testing.T) []grantCase {
	payload := payloadOf(t, m.chain)
	const header = `{"alg":"EdDSA","typ":"at+jwt"}`
	swap := func(old, new string) string {
		t.Helper()
		if !strings.Contains(payload, old) {
			t.Fatalf("%q is not in the claims", old)
		}
		return forge(m.issuer, header, strings.Replace(payload, old, new, 1))
	}
	base := grantCase{
		Presenter: m.agent.ID().String(), Audiences: []string{m.node.ID().String(), realm},
		Trusted: []string{m.issuer.ID().String()}, Now: began + 60,
	}
	var out []grantCase
	good := func(name, chain string, aud string, exp int64, change func(*grantCase)) {
		c := base
		c.Name, c.Chain = name, chain
		h := sha256.Sum256([]byte(chain))
		c.Grant = &grantDecoded{
			ID: "MDEyMzQ1Njc4OWFiY2RlZg", Issuer: m.issuer.ID().String(), Holder: m.agent.ID().String(), Audience: aud,
			IssuedAt: began, Expires: exp, Datasets: []string{"hr", "sales/*"},
			Limits: grant.Limits{MemoryBytes: 64 << 20, WallMS: 5000, OutputBytes: 4096, Concurrency: 2, Runs: 100},
			SHA256: hex.EncodeToString(h[:]),
			Covers: []string{"hr", "sales/2026"}, Not: []string{"sales", "hr/2026", "salesx", "sales/a/b", "sales/*"},
		}
		change(&c)
		out = append(out, c)
	}
	none := func(*grantCase) {}
	node := m.node.ID().String()
	good("as issued", m.chain, node, began+3600, none)
	good("members in another order, and claims that are ignored",
		forge(m.issuer, `{"typ":"at+jwt","alg":"EdDSA"}`, `{"scope":"x",`+payload[1:]), node, began+3600, none)
	good("for a realm", swap(`"aud":"`+node+`"`, `"aud":"`+realm+`"`), realm, began+3600, none)
	good("a day long", swap(fmt.Sprintf(`"exp":%d`, began+3600), fmt.Sprintf(`"exp":%d`, began+86400)), node, began+86400, none)
	good("first moment, with skew", m.chain, node, began+3600, func(c *grantCase) { c.Now = began - 60 })
	good("last moment", m.chain, node, began+3600, func(c *grantCase) { c.Now = began + 3599 })

	bad := func(name, rule, chain string, change func(*grantCase)) {
		c := base
		c.Name, c.Chain, c.Error = name, chain, &refusal{fault.GrantInvalid, rule}
		change(&c)
		out = append(out, c)
	}
	parts := strings.Split(m.chain, ".")
	bad("empty", "grant", "", none)
	bad("larger than 8 KiB", "grant", strings.Repeat("a", grant.MaxChain+1), none)
	bad("two links", "del", m.chain+"~"+m.chain, none)
	bad("two parts", "grant", parts[0]+"."+parts[1], none)
	bad("padded", "grant", m.chain+"==", none)
	bad("second spelling of the signature", "grant", second(m.chain), none)
	bad("unsigned", "signature", parts[0]+"."+parts[1]+".", none)
	bad("signed by its holder", "signature", forge(m.agent, header, payload), none)
	bad("alg none", "alg", forge(m.issuer, `{"alg":"none","typ":"at+jwt"}`, payload), none)
	bad("alg Ed25519", "alg", forge(m.issuer, `{"alg":"Ed25519","typ":"at+jwt"}`, payload), none)
	bad("typ of a receipt", "typ", forge(m.issuer, `{"alg":"EdDSA","typ":"liop-receipt+jwt"}`, payload), none)
	bad("no typ", "typ", forge(m.issuer, `{"alg":"EdDSA"}`, payload), none)
	bad("key in the header", "header", forge(m.issuer, `{"alg":"EdDSA","jwk":{},"typ":"at+jwt"}`, payload), none)
	bad("unencoded payload", "header", forge(m.issuer, `{"alg":"EdDSA","b64":false,"crit":["b64"],"typ":"at+jwt"}`, payload), none)
	bad("header member twice", "grant", forge(m.issuer, `{"alg":"none","alg":"EdDSA","typ":"at+jwt"}`, payload), none)
	bad("claim twice", "grant", forge(m.issuer, header, `{"exp":1,`+payload[1:]), none)
	bad("claims not an object", "grant", forge(m.issuer, header, "[]"), none)
	bad("issuer not trusted", "iss", m.chain, func(c *grantCase) { c.Trusted = []string{m.stranger.ID().String()} })
	bad("issuer not a peer", "iss", swap(`"iss":"`+m.issuer.ID().String(), `"iss":"https://issuer.example`), none)
	bad("stolen", "cnf", m.chain, func(c *grantCase) { c.Presenter = m.stranger.ID().String() })
	bad("sub and cnf differ", "cnf", swap(`"sub":"`+m.agent.ID().String(), `"sub":"`+m.stranger.ID().String()), none)
	bad("cnf by another method", "cnf", swap(`"cnf":{`, `"cnf":{"jkt":"x",`), none)
	bad("another node", "aud", m.chain, func(c *grantCase) { c.Audiences = []string{m.stranger.ID().String()} })
	bad("audience a list", "aud", swap(`"aud":"`+node+`"`, `"aud":["`+node+`"]`), none)
	bad("expired", "exp", m.chain, func(c *grantCase) { c.Now = began + 3600 })
	bad("no exp", "exp", swap(fmt.Sprintf(`"exp":%d,`, began+3600), ""), none)
	bad("more than a day", "exp", swap(fmt.Sprintf(`"exp":%d`, began+3600), fmt.Sprintf(`"exp":%d`, began+86401)), none)
	bad("exp a fraction", "exp", swap(fmt.Sprintf(`"exp":%d`, began+3600), fmt.Sprintf(`"exp":%d.5`, began+3600)), none)
	bad("exp in another case", "exp", swap(`"exp"`, `"EXP"`), none)
	bad("from the future", "iat", m.chain, func(c *grantCase) { c.Now = began - 61 })
	bad("not valid yet", "nbf", swap(fmt.Sprintf(`"nbf":%d`, began), fmt.Sprintf(`"nbf":%d`, began+1000)), none)
	bad("jti malformed", "jti", swap(`"jti":"`, `"jti":"/`), none)
	const details = "authorization_details"
	bad("unknown type", details, swap("liop.execute", "liop.admin"), none)
	bad("unknown member", details, swap(`"actions"`, `"columns":["region"],"actions"`), none)
	bad("further action", details, swap(`["run"]`, `["run","watch"]`), none)
	bad("two elements", details, swap(`"authorization_details":[`, `"authorization_details":[{},`), none)
	bad("every dataset", details, swap(`"sales/*"`, `"*"`), none)
	bad("unknown limit", details, swap(`"runs":100`, `"gas":100`), none)
	bad("limit of zero", details, swap(`"runs":100`, `"runs":0`), none)
	bad("limit twice", details, swap(`"runs":100`, `"runs":100,"runs":200`), none)
	bad("limit inexact", details, swap(`"runs":100`, `"runs":9007199254740992`), none)
	return out
}

func (m *made) receipts(t *testing.T) []receiptCase {
	payload := payloadOf(t, m.receipt)
	const header = `{"alg":"EdDSA","typ":"liop-receipt+jwt"}`
	swap := func(old, new string) string {
		t.Helper()
		if !strings.Contains(payload, old) {
			t.Fatalf("%q is not in the claim", old)
		}
		return forge(m.node, header, strings.Replace(payload, old, new, 1))
	}
	expect := expectation{
		Node: m.node.ID().String(), Agent: m.agent.ID().String(), Module: []byte("\x00asm\x01\x00\x00\x00"),
		Args: []string{"--by", "region"}, Stdin: []byte("1:k,5:value,"), Answer: []byte("answer"), Nonce: m.claim.Nonce,
		Datasets: []string{"sales/2026", "hr"}, GrantHash: hex.EncodeToString(m.claim.Grant[:]),
	}
	out := []receiptCase{{Name: "good", Receipt: m.receipt, Claim: json.RawMessage(payload), Expect: &expect}}
	bad := func(name, rule, jws string) {
		out = append(out, receiptCase{Name: name, Receipt: jws, Error: &refusal{fault.Unverified, rule}})
	}
	parts := strings.Split(m.receipt, ".")
	bad("empty", "header", "")
	bad("header in another order", "header", forge(m.node, `{"typ":"liop-receipt+jwt","alg":"EdDSA"}`, payload))
	bad("typ of a grant", "header", forge(m.node, `{"alg":"EdDSA","typ":"at+jwt"}`, payload))
	bad("alg none", "header", forge(m.node, `{"alg":"none","typ":"liop-receipt+jwt"}`, payload))
	bad("second spelling of the signature", "receipt", second(m.receipt))
	bad("larger than 8 KiB", "receipt", m.receipt+strings.Repeat("A", 8<<10))
	bad("signed by the agent", "signature", forge(m.agent, header, payload))
	bad("claim changed", "signature", parts[0]+"."+b64(strings.Replace(payload, `"files":3`, `"files":4`, 1))+"."+parts[2])
	bad("member twice", "claim", swap(`"v":1`, `"v":1,"v":1`))
	bad("member unknown", "claim", swap(`"v":1`, `"v":1,"x":1`))
	bad("member missing", "claim", swap(`"containment":["landlock:7","no-new-privs","rlimits","seccomp"],`, ""))
	bad("space", "claim", swap(`"v":1`, `"v": 1`))
	bad("members in another order", "claim", swap(`"files":3,"name":"sales/2026"`, `"name":"sales/2026","files":3`))
	bad("unsorted", "claim", swap(`"landlock:7","no-new-privs"`, `"no-new-privs","landlock:7"`))
	bad("number inexact", "datasets", swap(`"files":3`, `"files":9007199254740992`))
	bad("dataset name", "datasets", swap(`"sales/2026"`, `"../etc"`))
	bad("limit of zero", "limits", swap(`"wall_ms":5000`, `"wall_ms":0`))
	bad("another version", "v", swap(`"v":1`, `"v":2`))
	bad("another assurance", "assurance", swap(`"signed"`, `"proved"`))
	bad("another outcome", "outcome", swap(`"outcome":"ok"`, `"outcome":"failed"`))
	differs := func(rule string, change func(e *expectation)) {
		e := expect
		change(&e)
		out = append(out, receiptCase{Name: "good, but expected another " + rule, Receipt: m.receipt, Expect: &e, Error: &refusal{fault.Unverified, rule}})
	}
	differs("node", func(e *expectation) { e.Node = m.stranger.ID().String() })
	differs("agent", func(e *expectation) { e.Agent = m.stranger.ID().String() })
	differs("nonce", func(e *expectation) { e.Nonce = []byte("fedcba9876543210") })
	differs("module", func(e *expectation) { e.Module = append(e.Module[:8:8], 0) })
	differs("args", func(e *expectation) { e.Args = []string{"--byregion"} })
	differs("stdin", func(e *expectation) { e.Stdin = []byte{} })
	differs("datasets", func(e *expectation) { e.Datasets = []string{"hr"} })
	differs("grant", func(e *expectation) { e.GrantHash = strings.Repeat("0", 64) })
	differs("answer", func(e *expectation) { e.Answer = []byte("answer\n") })
	return out
}

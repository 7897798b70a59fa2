package spec

import (
	"fmt"
	"strings"
	"testing"

	"github.com/liop-project/liop/core/fault"
	"github.com/liop-project/liop/core/member"
)

func (m *made) members(t *testing.T) []memberCase {
	payload := payloadOf(t, m.member)
	const header = `{"alg":"EdDSA","typ":"liop-member+jwt"}`
	const exp = began + 30*86400
	swap := func(old, new string) string {
		t.Helper()
		if !strings.Contains(payload, old) {
			t.Fatalf("%q is not in the claims", old)
		}
		return forge(m.operator, header, strings.Replace(payload, old, new, 1))
	}
	base := memberCase{Presenter: m.node.ID().String(), Mesh: mesh, Operators: []string{m.operator.ID().String()}, Now: began + 60}
	var out []memberCase
	good := func(name, token string, change func(*memberCase)) {
		c := base
		c.Name, c.Token = name, token
		c.Member = &memberDecoded{ID: "MDEyMzQ1Njc4OWFiY2RlZg", Operator: m.operator.ID().String(), Member: m.node.ID().String(),
			Mesh: mesh, IssuedAt: began, Expires: exp, Serves: []string{"acme/*", "hr"},
			Vouches: []string{"acme/birdstrikes", "hr"}, Not: []string{"acme", "acmex/a", "hr/a", "acme/*"}}
		change(&c)
		out = append(out, c)
	}
	none := func(*memberCase) {}
	good("as issued", m.member, none)
	good("first moment, with skew", m.member, func(c *memberCase) { c.Now = began - 60 })
	good("last moment", m.member, func(c *memberCase) { c.Now = exp - 1 })
	good("one operator of several", m.member, func(c *memberCase) { c.Operators = append(c.Operators, m.stranger.ID().String()) })
	good("an agent, who serves nothing", swap(`"serves":["acme/*","hr"],`, ""), func(c *memberCase) {
		c.Member.Serves, c.Member.Vouches, c.Member.Not = nil, nil, []string{"acme/birdstrikes", "hr"}
	})

	bad := func(name, rule, token string, change func(*memberCase)) {
		c := base
		c.Name, c.Token, c.Error = name, token, &refusal{fault.MemberInvalid, rule}
		change(&c)
		out = append(out, c)
	}
	parts := strings.Split(m.member, ".")
	bad("empty", "token", "", none)
	bad("larger than 2 KiB", "token", m.member+strings.Repeat("A", member.MaxToken), none)
	bad("two parts", "token", parts[0]+"."+parts[1], none)
	bad("padded", "token", m.member+"==", none)
	bad("second spelling of the signature", "token", second(m.member), none)
	bad("unsigned", "signature", parts[0]+"."+parts[1]+".", none)
	bad("signed by its member", "signature", forge(m.node, header, payload), none)
	bad("header in another order", "header", forge(m.operator, `{"typ":"liop-member+jwt","alg":"EdDSA"}`, payload), none)
	bad("typ of a grant", "header", forge(m.operator, `{"alg":"EdDSA","typ":"at+jwt"}`, payload), none)
	bad("alg none", "header", forge(m.operator, `{"alg":"none","typ":"liop-member+jwt"}`, payload), none)
	bad("operator not known", "iss", m.member, func(c *memberCase) { c.Operators = []string{m.stranger.ID().String()} })
	bad("operator not a peer", "iss", swap(`"iss":"`+m.operator.ID().String(), `"iss":"https://operator.example`), none)
	bad("stolen", "sub", m.member, func(c *memberCase) { c.Presenter = m.stranger.ID().String() })
	bad("another mesh", "aud", m.member, func(c *memberCase) { c.Mesh = "umbrella" })
	bad("mesh a list", "aud", swap(`"acme"`, `["acme"]`), none)
	bad("expired", "exp", m.member, func(c *memberCase) { c.Now = exp })
	bad("more than a year", "exp", swap(fmt.Sprintf(`"exp":%d`, exp), fmt.Sprintf(`"exp":%d`, began+366*86400+1)), none)
	bad("exp a fraction", "exp", swap(fmt.Sprintf(`"exp":%d`, exp), fmt.Sprintf(`"exp":%d.5`, exp)), none)
	bad("from the future", "iat", m.member, func(c *memberCase) { c.Now = began - 61 })
	bad("not valid yet", "nbf", swap(fmt.Sprintf(`"nbf":%d`, began), fmt.Sprintf(`"nbf":%d`, began+1000)), none)
	bad("jti malformed", "jti", swap("MDEyMzQ1Njc4OWFiY2RlZg", "MDEyMzQ1Njc4OWFiY2RlZh"), none)
	bad("unknown claim", "claims", swap(`"aud"`, `"admin":true,"aud"`), none)
	bad("claim twice", "claims", swap(`{"aud"`, `{"aud":"acme","aud"`), none)
	bad("claim missing", "claims", swap(fmt.Sprintf(`"nbf":%d,`, began), ""), none)
	bad("claim in another case", "claims", swap(`"exp"`, `"EXP"`), none)
	bad("space", "claims", swap(`"aud":`, `"aud": `), none)
	bad("no datasets, spelled out", "claims", swap(`["acme/*","hr"]`, `[]`), none)
	bad("every dataset", "serves", swap(`"acme/*"`, `"*"`), none)
	bad("datasets unsorted", "serves", swap(`["acme/*","hr"]`, `["hr","acme/*"]`), none)
	return out
}

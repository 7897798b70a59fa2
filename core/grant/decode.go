package grant

import (
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/json" // case-sensitive, and refuses duplicate members
	"github.com/go-jose/go-jose/v4/jwt"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/liop-project/liop/core/guest"
	"github.com/liop-project/liop/core/identity"
)

const (
	maxDate = 253402300799 // 9999-12-31T23:59:59Z, in seconds since 1970

	hintCompact = "a grant is one compact JWS: three parts of unpadded base64url, joined by dots"
)

// link is one JWS of a chain whose header was checked.
type link struct {
	token *jwt.JSONWebToken
}

// parseLink takes text apart and checks its header. Only the members alg and
// typ may be there: a header can neither bring its own key (jwk, jku, x5u) nor
// change what is signed (b64, crit).
func parseLink(text, typ string) (*link, error) {
	parts := strings.Split(text, ".")
	if len(parts) != 3 {
		return nil, invalid("grant", "the grant is not a compact JWS", hintCompact)
	}
	var header []byte
	for i, p := range parts {
		b, err := base64.RawURLEncoding.DecodeString(p)
		// Decoders ignore line breaks and stray low bits; a second text for the
		// same signature would be a second hash for the same grant.
		if err != nil || base64.RawURLEncoding.EncodeToString(b) != p {
			return nil, invalid("grant", "the grant is not canonical base64url", hintCompact)
		}
		if i == 0 {
			header = b
		}
	}
	var h object
	if err := json.Unmarshal(header, &h); err != nil || h == nil {
		return nil, invalid("grant", "the grant's header is not a JSON object with distinct members", hintCompact)
	}
	if name, ok := h.unknown("alg", "typ"); ok {
		return nil, invalid("header", fmt.Sprintf("unknown header member %.64q", name), "only alg and typ")
	}
	if got, ok := h.text("alg"); !ok || got != string(jose.EdDSA) {
		return nil, invalid("alg", "the grant is not signed with EdDSA", "alg EdDSA with an Ed25519 key")
	}
	if got, ok := h.text("typ"); !ok || got != typ {
		return nil, invalid("typ", "the token is not a grant", "typ "+typ)
	}
	token, err := jwt.ParseSigned(text, []jose.SignatureAlgorithm{jose.EdDSA})
	if err != nil {
		return nil, invalid("grant", "the grant is not a compact JWS", hintCompact)
	}
	return &link{token: token}, nil
}

// issuer is the peer that the link says signed it.
func (l *link) issuer() (peer.ID, error) {
	c := object{}
	if err := l.token.UnsafeClaimsWithoutVerification(&c); err != nil {
		return "", badClaims()
	}
	return claimSet(c).peer("iss")
}

// claims are what key signed.
func (l *link) claims(key ed25519.PublicKey) (claimSet, error) {
	c := object{}
	err := l.token.Claims(key, &c)
	if errors.Is(err, jose.ErrCryptoFailure) {
		return nil, invalid("signature", "the grant's signature does not match its issuer", "present the grant exactly as it was issued")
	}
	if err != nil {
		return nil, badClaims()
	}
	return claimSet(c), nil
}

func badClaims() error {
	return invalid("grant", "the grant's claims are not a JSON object with distinct members", "")
}

// claimSet is the payload of a link. Claims that it does not know are ignored
// (RFC 7519 §4); inside cnf and authorization_details, which carry what is
// granted to whom, unknown members are refused.
type claimSet object

// fill copies the claims to g. Each refusal names the claim.
func (c claimSet) fill(g *Grant) (err error) {
	if g.Holder, err = c.peer("sub"); err != nil {
		return err
	}
	if err := c.confirms(g.Holder); err != nil {
		return err
	}
	var ok bool
	if g.Audience, ok = object(c).text("aud"); !ok {
		return invalid("aud", "aud is not one string", hintAudience)
	}
	if err := validAudience(g.Audience); err != nil {
		return invalid("aud", err.Error(), hintAudience)
	}
	if g.ID, ok = object(c).text("jti"); !ok || !validID(g.ID) {
		return invalid("jti", "jti is missing or malformed", fmt.Sprintf("1 to %d of A-Z a-z 0-9 . _ ~ -", MaxID))
	}
	if err := c.times(g); err != nil {
		return err
	}
	return c.details(g)
}

func (c claimSet) times(g *Grant) (err error) {
	if g.IssuedAt, err = c.date("iat"); err != nil {
		return err
	}
	if g.Expires, err = c.date("exp"); err != nil {
		return err
	}
	if life := g.Expires.Sub(g.IssuedAt); life <= 0 || life > MaxLifetime {
		return invalid("exp", "the grant's lifetime is not accepted", fmt.Sprintf("exp up to %s after iat", MaxLifetime))
	}
	g.NotBefore = g.IssuedAt
	if _, ok := c["nbf"]; ok {
		g.NotBefore, err = c.date("nbf")
	}
	return err
}

// confirms checks that cnf holds the key of holder (RFC 7800 §3.2).
func (c claimSet) confirms(holder peer.ID) error {
	bad := func(message string) error {
		return invalid("cnf", message, "cnf with one member jwk: the holder's key as OKP, Ed25519 (RFC 8037)")
	}
	var cnf object
	if json.Unmarshal(c["cnf"], &cnf) != nil || cnf == nil {
		return bad("cnf is missing or not an object")
	}
	if name, ok := cnf.unknown("jwk"); ok {
		return bad(fmt.Sprintf("unknown member %.64q of cnf", name))
	}
	var jwk jose.JSONWebKey
	if json.Unmarshal(cnf["jwk"], &jwk) != nil {
		return bad("cnf holds no usable key")
	}
	key, ok := jwk.Key.(ed25519.PublicKey)
	if !ok {
		return bad("cnf holds no public Ed25519 key")
	}
	if id, err := identity.ID(key); err != nil || id != holder {
		return bad("cnf is not the key of sub")
	}
	return nil
}

// details reads authorization_details (RFC 9396 §2): one element whose every
// member is known, since an unknown one might have been meant as a restriction.
func (c claimSet) details(g *Grant) error {
	bad := func(message, hint string) error { return invalid("authorization_details", message, hint) }
	var list []object
	if json.Unmarshal(c["authorization_details"], &list) != nil || len(list) != 1 || list[0] == nil {
		return bad("authorization_details is not a list of one object", "one object of type "+detailType)
	}
	d := list[0]
	if typ, ok := d.text("type"); !ok || typ != detailType {
		return bad("unknown type of authorization_details", "type "+detailType)
	}
	if name, ok := d.unknown("type", "actions", "datasets", "limits"); ok {
		return bad(fmt.Sprintf("unknown member %.64q", name), "type, actions, datasets, limits")
	}
	if actions, ok := d.texts("actions"); !ok || !slices.Equal(actions, []string{actionRun}) {
		return bad("actions are not accepted", `actions ["run"]`)
	}
	patterns, ok := d.texts("datasets")
	if !ok || len(patterns) == 0 || len(patterns) > MaxPatterns {
		return bad("datasets is not a list of names", fmt.Sprintf("1 to %d names or patterns", MaxPatterns))
	}
	for _, p := range patterns {
		if err := guest.ValidPattern(p); err != nil {
			return bad(err.Error(), guest.HintPattern)
		}
	}
	g.Datasets = patterns
	raw, ok := d["limits"]
	if !ok {
		return nil
	}
	var limits object
	if json.Unmarshal(raw, &limits) != nil || limits == nil {
		return bad("limits is not an object", "")
	}
	if name, ok := limits.unknown("memory_bytes", "wall_ms", "output_bytes", "input_bytes", "module_bytes", "concurrency", "fuel", "runs"); ok {
		return bad(fmt.Sprintf("unknown limit %.64q", name),
			"memory_bytes, wall_ms, output_bytes, input_bytes, module_bytes, concurrency, fuel, runs")
	}
	for name, raw := range limits {
		// A given zero is refused: whoever wrote it did not mean "the default".
		if n, ok := integer(raw); !ok || n < 1 || n > MaxLimit || name == "concurrency" && n > math.MaxUint32 {
			return bad(fmt.Sprintf("limits.%s is out of range", name), "an integer from 1 to 2^53-1, concurrency to 2^32-1; leave it out for the node's default")
		}
	}
	if json.Unmarshal(raw, &g.Limits) != nil {
		return bad("limits is not an object of integers", "")
	}
	return nil
}

// peer is a claim that is the canonical text of an Ed25519 peer id.
func (c claimSet) peer(name string) (peer.ID, error) {
	s, _ := object(c).text(name)
	id, err := identity.ParseID(s)
	if err != nil || id.String() != s {
		return "", invalid(name, name+" is missing or not an Ed25519 peer id", "an Ed25519 peer id in base58: 12D3KooW…")
	}
	return id, nil
}

// date is a claim that is a NumericDate (RFC 7519 §2) in whole seconds.
func (c claimSet) date(name string) (time.Time, error) {
	n, ok := integer(c[name])
	if !ok || n < 0 || n > maxDate {
		return time.Time{}, invalid(name, name+" is missing or not a date", "whole seconds since 1970-01-01T00:00:00Z")
	}
	return time.Unix(n, 0).UTC(), nil
}

// object is a JSON object whose members are decoded one at a time, so that an
// error can name the one.
type object map[string]json.RawMessage

// unknown is the first member, in order, that is not among known.
func (o object) unknown(known ...string) (string, bool) {
	first, found := "", false
	for name := range o {
		if !slices.Contains(known, name) && (!found || name < first) {
			first, found = name, true
		}
	}
	return first, found
}

func (o object) text(name string) (string, bool) {
	var s *string
	if json.Unmarshal(o[name], &s) != nil || s == nil {
		return "", false
	}
	return *s, true
}

func (o object) texts(name string) ([]string, bool) {
	var list []*string
	if json.Unmarshal(o[name], &list) != nil {
		return nil, false
	}
	out := make([]string, 0, len(list))
	for _, s := range list {
		if s == nil { // null
			return nil, false
		}
		out = append(out, *s)
	}
	return out, true
}

func integer(raw json.RawMessage) (int64, bool) {
	var n *int64
	if json.Unmarshal(raw, &n) != nil || n == nil {
		return 0, false
	}
	return *n, true
}

func validID(s string) bool {
	if s == "" || len(s) > MaxID {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("._~-", c) >= 0) {
			return false
		}
	}
	return true
}

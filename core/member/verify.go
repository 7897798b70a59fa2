package member

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/liop-project/liop/core/identity"
	"github.com/liop-project/liop/core/jws"
)

const (
	maxDate = 253402300799 // 9999-12-31T23:59:59Z, in seconds since 1970

	hintCompact = "a membership token is one compact JWS: three parts of unpadded base64url, joined by dots"
)

// Expect is what a token is held against. The zero value accepts none.
type Expect struct {
	// Subject is the peer that the handshake of the connection proved.
	Subject peer.ID
	// Operators are those whose tokens count.
	Operators map[peer.ID]bool
	// Mesh is the name that the token must have.
	Mesh string
}

// Verify decodes the token that a peer presents, and accepts it or says why
// not. What is cheap to check comes first; the signature is checked before any
// claim but the operator's name is believed.
func Verify(token string, now time.Time, e Expect) (*Membership, error) {
	m, err := decode(token, func(p peer.ID) bool { return e.Operators[p] })
	if err != nil {
		return nil, err
	}
	if m.Member != e.Subject {
		return nil, invalid("sub", "the membership token is for another peer", fmt.Sprintf("ask the mesh's operator for a token for %s", e.Subject))
	}
	if m.Mesh != e.Mesh {
		return nil, invalid("aud", "the membership token is for another mesh", fmt.Sprintf("this one is called %q", e.Mesh))
	}
	if err := m.ValidAt(now); err != nil {
		return nil, err
	}
	return m, nil
}

// ValidAt reports why the token does not count at now, or nil.
func (m *Membership) ValidAt(now time.Time) error {
	latest := now.Add(Skew)
	switch {
	case m.IssuedAt.After(latest):
		return invalid("iat", "the membership token was issued in the future", "compare the clocks of the operator and of this machine")
	case m.NotBefore.After(latest):
		return invalid("nbf", "the membership token is not valid yet", "it is valid from "+stamp(m.NotBefore))
	case !now.Before(m.Expires):
		return invalid("exp", "the membership token expired at "+stamp(m.Expires), "ask the mesh's operator for a new one")
	}
	return nil
}

// Of decodes a token and checks that it is peer's and counts at now. Whether its
// operator and mesh are those that the caller wants is for the caller to see.
func Of(peer peer.ID, token string, now time.Time) (*Membership, error) {
	m, err := Inspect(token)
	if err != nil {
		return nil, err
	}
	if m.Member != peer {
		return nil, invalid("sub", "the membership token is for another peer, "+m.Member.String(), "")
	}
	if err := m.ValidAt(now); err != nil {
		return nil, err
	}
	return m, nil
}

// Inspect decodes a token and checks that the operator which it names did sign
// it. It trusts nobody: whether that operator, the mesh, the member or the time
// are right is not looked at.
func Inspect(token string) (*Membership, error) {
	return decode(token, func(peer.ID) bool { return true })
}

// decode checks everything about a token that does not depend on who presents
// it, where or when.
func decode(token string, trusted func(peer.ID) bool) (*Membership, error) {
	if token == "" {
		return nil, invalid("token", "no membership token was presented", "ask the mesh's operator for one")
	}
	statement, err := jws.Parse(token, typMember, MaxToken)
	switch {
	case errors.Is(err, jws.ErrSize):
		return nil, invalid("token", fmt.Sprintf("the membership token has %d bytes", len(token)), fmt.Sprintf("at most %d", MaxToken))
	case errors.Is(err, jws.ErrHeader):
		return nil, invalid("header", "the text is not a membership token", "a compact JWS with the header "+header)
	case err != nil:
		return nil, invalid("token", "the membership token is not a compact JWS in canonical form", hintCompact)
	}
	payload := statement.Payload()
	c, err := parse(payload)
	if err != nil {
		return nil, err
	}
	operator, err := id(c.Operator)
	if err != nil {
		return nil, invalid("iss", "iss is not an Ed25519 peer id", hintPeer)
	}
	if !trusted(operator) {
		return nil, invalid("iss", "the membership token is not from an operator of this mesh", "ask who operates the mesh")
	}
	key, err := identity.PublicKey(operator)
	if err != nil {
		return nil, invalid("iss", "iss is not an Ed25519 peer id", hintPeer)
	}
	if err := statement.Verify(key); err != nil {
		return nil, invalid("signature", "the membership token's signature does not match its operator", "present the token exactly as it was issued")
	}
	m, err := c.membership(operator)
	if err != nil {
		return nil, err
	}
	// Comparing the bytes refuses in one step what encoding/json tolerates:
	// members in another case, order or twice, missing ones, null, and every
	// second spelling of a value.
	if again, err := json.Marshal(c); err != nil || !bytes.Equal(again, payload) {
		return nil, invalid("claims", "the claims are not in canonical form, or one is missing", "canonical JSON as of RFC 8785, without what is empty")
	}
	return m, nil
}

// parse reads the claims without judging their values.
func parse(payload []byte) (*claims, error) {
	c := new(claims)
	d := json.NewDecoder(bytes.NewReader(payload))
	d.DisallowUnknownFields()
	if err := d.Decode(c); err != nil {
		var typ *json.UnmarshalTypeError
		if errors.As(err, &typ) && typ.Field != "" {
			return nil, invalid(typ.Field, fmt.Sprintf("%s has the wrong type", typ.Field), "")
		}
		return nil, invalid("claims", "the claims are malformed, or there is an unknown one", "aud, exp, iat, iss, jti, nbf, serves and sub, and no others")
	}
	return c, nil // what follows them is found when the bytes are compared
}

// membership judges the values of the claims. Each refusal names the claim.
func (c *claims) membership(operator peer.ID) (*Membership, error) {
	member, err := id(c.Member)
	if err != nil {
		return nil, invalid("sub", "sub is not an Ed25519 peer id", hintPeer)
	}
	if err := ValidMesh(c.Mesh); err != nil {
		return nil, invalid("aud", "aud is not the name of a mesh", hintMesh)
	}
	if b, err := base64.RawURLEncoding.DecodeString(c.ID); err != nil || len(b) != idBytes || base64.RawURLEncoding.EncodeToString(b) != c.ID {
		return nil, invalid("jti", "jti is missing or malformed", fmt.Sprintf("%d bytes in base64url", idBytes))
	}
	for _, d := range []struct {
		name    string
		seconds int64
	}{{"iat", c.IssuedAt}, {"nbf", c.NotBefore}, {"exp", c.Expires}} {
		if d.seconds < 0 || d.seconds > maxDate {
			return nil, invalid(d.name, d.name+" is not a date", "whole seconds since 1970-01-01T00:00:00Z")
		}
	}
	at := func(n int64) time.Time { return time.Unix(n, 0).UTC() }
	m := &Membership{ID: c.ID, Operator: operator, Member: member, Mesh: c.Mesh, IssuedAt: at(c.IssuedAt),
		NotBefore: at(c.NotBefore), Expires: at(c.Expires), Serves: c.Serves}
	if life := m.Expires.Sub(m.IssuedAt); life <= 0 || life > MaxLifetime {
		return nil, invalid("exp", "the membership token's lifetime is not accepted", fmt.Sprintf("exp up to %s after iat", MaxLifetime))
	}
	if err := validServes(c.Serves); err != nil {
		return nil, invalid("serves", "serves: "+err.Error(), "")
	}
	if !slices.IsSorted(c.Serves) {
		return nil, invalid("serves", "serves is not in ascending order", "")
	}
	return m, nil
}

// id reads the one text of a peer id that tokens may have.
func id(s string) (peer.ID, error) {
	p, err := identity.ParseID(s)
	if err == nil && p.String() != s {
		err = errors.New("not in base58")
	}
	return p, err
}

const hintPeer = "an Ed25519 peer id in base58: 12D3KooW…"

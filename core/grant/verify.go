package grant

import (
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/liop-project/liop/core/identity"
)

// VerifyOptions are what a node knows when an agent presents a grant. The zero
// value accepts no grant.
type VerifyOptions struct {
	// Presenter is the peer that the handshake of the connection proved.
	Presenter peer.ID
	// Audiences are the names that the node answers to: its peer id, its realm.
	Audiences []string
	// Trusted reports whether grants of issuer count. Nil trusts nobody.
	Trusted func(issuer peer.ID) bool
	Now     time.Time
}

// Verify decodes the grant that a peer presents, and accepts it or says why
// not. What is cheap to check comes first; the signature is checked before any
// claim but the issuer's name is believed.
//
// Verify says what the grant allows. Whether the owner allows it, too, and how
// many of its runs are left, is the caller's to decide.
func Verify(chain string, o VerifyOptions) (*Grant, error) {
	trusted := o.Trusted
	if trusted == nil {
		trusted = func(peer.ID) bool { return false }
	}
	g, err := decode(chain, trusted)
	if err != nil {
		return nil, err
	}
	if g.Holder != o.Presenter {
		return nil, invalid("cnf", "the grant is for another peer", fmt.Sprintf("ask its issuer for a grant for %s", o.Presenter))
	}
	if !slices.Contains(o.Audiences, g.Audience) {
		return nil, invalid("aud", "the grant is for another node or realm",
			"a grant for this node names "+strings.Join(o.Audiences, " or "))
	}
	latest := o.Now.Add(Skew)
	switch {
	case g.IssuedAt.After(latest):
		return nil, invalid("iat", "the grant was issued in the future", "compare the clocks of the issuer and the node")
	case g.NotBefore.After(latest):
		return nil, invalid("nbf", "the grant is not valid yet", "it is valid from "+stamp(g.NotBefore))
	case !o.Now.Before(g.Expires):
		return nil, invalid("exp", "the grant expired at "+stamp(g.Expires), "ask its issuer for a new one")
	}
	return g, nil
}

// Inspect decodes a grant and checks that the issuer which it names did sign
// it. It trusts nobody: whether that issuer, the audience, the holder or the
// time are right is not looked at. It is for people who want to read a grant,
// and for agents who want to know where theirs is good for what.
func Inspect(chain string) (*Grant, error) {
	return decode(chain, func(peer.ID) bool { return true })
}

// decode checks everything about a grant that does not depend on who presents
// it, where or when.
func decode(chain string, trusted func(peer.ID) bool) (*Grant, error) {
	if chain == "" {
		return nil, invalid("grant", "no grant was presented", "ask an issuer that the node trusts for one")
	}
	if len(chain) > MaxChain {
		return nil, invalid("grant", fmt.Sprintf("the grant has %d bytes", len(chain)), fmt.Sprintf("at most %d", MaxChain))
	}
	if strings.Contains(chain, "~") {
		return nil, invalid("del", "this node does not accept delegated grants", "present a grant that its issuer made for you")
	}
	link, err := parseLink(chain, typGrant)
	if err != nil {
		return nil, err
	}
	issuer, err := link.issuer()
	if err != nil {
		return nil, err
	}
	if !trusted(issuer) {
		return nil, invalid("iss", "the grant's issuer is not trusted here", "ask the owner which issuers the node trusts")
	}
	key, err := identity.PublicKey(issuer)
	if err != nil {
		return nil, invalid("iss", err.Error(), "")
	}
	c, err := link.claims(key)
	if err != nil {
		return nil, err
	}
	g := &Grant{Issuer: issuer, Hash: sha256.Sum256([]byte(chain))}
	if err := c.fill(g); err != nil {
		return nil, err
	}
	return g, nil
}

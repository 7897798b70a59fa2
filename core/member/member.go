// Package member is how an operator says who belongs to a closed mesh: a signed
// statement that one peer is a member of one mesh until some day, and which
// datasets it may serve in the operator's name.
//
// A membership token is a compact JWS (RFC 7515) signed with EdDSA by the
// operator's peer key over JWT claims (RFC 7519) in canonical JSON (RFC 8785),
// at most [MaxToken] bytes.
//
// The package promises that one statement has one text and that no other is
// accepted; that an accepted token was signed by one of the operators asked
// for, for exactly the mesh and the peer asked for, and is within its time; and
// that nothing in it was ignored. A stolen token is worth nothing: it names the
// only peer that can use it, which the handshake of a connection must prove.
//
// What Verify and Inspect refuse is a [*fault.Error] with code
// [fault.MemberInvalid], whose Rule is the header or claim that decided (SPEC
// §8). All functions are pure, apart from reading the random source of [Spec],
// and safe for concurrent use.
package member

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/liop-project/liop/core/fault"
	"github.com/liop-project/liop/core/grant"
	"github.com/liop-project/liop/core/guest"
)

const (
	// MaxToken bounds a token in text, in bytes. It is read from peers that
	// nobody knows yet, so it is small: a member needs about 500 bytes, and some
	// 40 more for each pattern of Serves.
	MaxToken = 2 << 10
	// MaxServes is the number of patterns in one token.
	MaxServes = 64
	// MaxMesh is the longest name of a mesh, in bytes.
	MaxMesh = grant.MaxAudience
	// MaxLifetime is from iat to exp. There is no revocation but to change the
	// operator's key, so nothing lasts longer than a year.
	MaxLifetime = 366 * 24 * time.Hour
	// DefaultLifetime is what [Issue] uses if the Spec names none.
	DefaultLifetime = 30 * 24 * time.Hour
	// Skew is how far in the future iat and nbf may lie, for clocks that differ.
	// exp has no such tolerance.
	Skew = 60 * time.Second
)

// Membership is a decoded token. Treat it as read-only.
type Membership struct {
	ID        string  // jti: unique among the tokens of its operator
	Operator  peer.ID // who signed it
	Member    peer.ID // the only peer that can use it
	Mesh      string  // the name of the mesh
	IssuedAt  time.Time
	NotBefore time.Time
	Expires   time.Time // from this moment on it is worth nothing
	// Serves are the datasets that the member may serve in the operator's name:
	// names, or patterns "segment/*", in ascending order. None for an agent.
	Serves []string
}

// Vouches reports whether the operator lets the member serve the dataset of
// that name.
func (m *Membership) Vouches(dataset string) bool { return guest.Covers(m.Serves, dataset) }

// Words says in plain language what the token says, a line for each thing.
func (m *Membership) Words() []string {
	lines := []string{
		fmt.Sprintf("peer %s, and nobody else", m.Member),
		fmt.Sprintf("is a member of mesh %q", m.Mesh),
	}
	for _, p := range m.Serves {
		if prefix, wild := strings.CutSuffix(p, "*"); wild {
			lines = append(lines, fmt.Sprintf("may serve every dataset whose name begins with %s", prefix))
		} else {
			lines = append(lines, fmt.Sprintf("may serve dataset %s", p))
		}
	}
	if len(m.Serves) == 0 {
		lines = append(lines, "serves no dataset in the operator's name")
	}
	return append(lines,
		fmt.Sprintf("from %s until %s", stamp(m.NotBefore), stamp(m.Expires)),
		fmt.Sprintf("issued by %s", m.Operator),
		fmt.Sprintf("token id %s", m.ID))
}

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") }

// ValidMesh checks the name of a mesh: as a realm, 1 to [MaxMesh] of a-z 0-9 .
// _ - that start with a letter or digit, and not the id of a peer.
func ValidMesh(name string) error {
	if _, err := peer.Decode(name); err == nil || !grant.ValidRealm(name) {
		return fmt.Errorf("%.80q is not the name of a mesh; want %s", name, hintMesh)
	}
	return nil
}

func validServes(patterns []string) error {
	if len(patterns) > MaxServes {
		return fmt.Errorf("%d patterns, at most %d", len(patterns), MaxServes)
	}
	for i, p := range patterns {
		if err := guest.ValidPattern(p); err != nil {
			return fmt.Errorf("%w; want %s", err, guest.HintPattern)
		}
		if slices.Contains(patterns[:i], p) {
			return fmt.Errorf("%q is named twice", p)
		}
	}
	return nil
}

const hintMesh = "1 to 128 of a-z 0-9 . _ - that start with a letter or digit, and not a peer id"

func invalid(rule, message, hint string) *fault.Error {
	return &fault.Error{Code: fault.MemberInvalid, Rule: rule, Owner: fault.Protocol, Message: message, Hint: hint}
}

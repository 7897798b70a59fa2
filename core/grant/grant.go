// Package grant is how an issuer lets an agent run logic on a node's data: a
// signed statement of who may run, where, on which datasets and within which
// limits.
//
// A grant is one link today: a JWT (RFC 7519) signed with EdDSA by the issuer's
// peer key, shaped as an access token (RFC 9068) with a confirmation key (RFC
// 7800) and authorization details (RFC 9396). It travels as text, at most
// [MaxChain] bytes, in which '~' is reserved for links that delegate; a node
// that meets one refuses it.
//
// The package promises that an accepted grant was signed by a trusted issuer,
// for this audience, for exactly the peer that presents it, and is within its
// time; that nothing in it was ignored that could have narrowed it; and that a
// limit which it does not mention is absent from [Limits], never unlimited.
// A stolen grant is worth nothing: it is no bearer token.
//
// What Verify and Inspect refuse is a [*fault.Error] with code
// [fault.GrantInvalid], whose Rule is the claim or header that decided (SPEC
// §4.2). All functions are pure, apart from reading the random source of
// [Spec], and safe for concurrent use.
package grant

import (
	"fmt"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/liop-project/liop/core/fault"
	"github.com/liop-project/liop/core/guest"
	"github.com/liop-project/liop/core/identity"
)

const (
	MaxChain    = 8 << 10        // a grant in text, in bytes
	MaxPatterns = 64             // dataset patterns of one grant
	MaxAudience = 128            // the audience, in bytes
	MaxID       = 64             // the jti, in bytes
	MaxLifetime = 24 * time.Hour // from iat to exp

	// DefaultLifetime is what [Issue] uses if the Spec names none.
	DefaultLifetime = time.Hour

	// Skew is how far in the future iat and nbf may lie, for clocks that differ.
	// exp has no such tolerance.
	Skew = 60 * time.Second

	// MaxLimit is the largest value of a limit: the largest integer that every
	// JSON reader keeps exact (RFC 8259 §6).
	MaxLimit = 1<<53 - 1
)

// Grant is a decoded grant. Treat it as read-only.
type Grant struct {
	ID        string  // jti: unique among the grants of its issuer
	Issuer    peer.ID // who signed it
	Holder    peer.ID // the only peer that can use it
	Audience  string  // a node's peer id, or the realm of several nodes
	IssuedAt  time.Time
	NotBefore time.Time // IssuedAt, unless the grant says otherwise
	Expires   time.Time // from this moment on it is worth nothing
	Datasets  []string  // exact names, or patterns "segment/*"
	Limits    Limits
	Hash      [32]byte // SHA-256 of the text; names the grant in intents and receipts
}

// Covers reports whether the grant is for the dataset of that name. The pattern
// "a/*" covers "a/b", but neither "a" nor "ab/c".
func (g *Grant) Covers(dataset string) bool {
	return guest.Covers(g.Datasets, dataset)
}

// Words says in plain language what the grant allows, a line for each thing.
func (g *Grant) Words() []string {
	where := fmt.Sprintf("at every node of realm %q", g.Audience)
	if _, err := identity.ParseID(g.Audience); err == nil {
		where = "at node " + g.Audience
	}
	lines := []string{
		fmt.Sprintf("peer %s, and nobody else", g.Holder),
		"may run logic of its choice " + where,
	}
	for _, p := range g.Datasets {
		if prefix, wild := strings.CutSuffix(p, "*"); wild {
			lines = append(lines, fmt.Sprintf("on every dataset whose name begins with %s", prefix))
		} else {
			lines = append(lines, fmt.Sprintf("on dataset %s", p))
		}
	}
	lines = append(lines, fmt.Sprintf("from %s until %s", stamp(g.NotBefore), stamp(g.Expires)))
	lines = append(lines, g.Limits.Words()...)
	return append(lines,
		"the owner of the node may allow less, never more",
		fmt.Sprintf("issued by %s", g.Issuer),
		fmt.Sprintf("grant id %s", g.ID))
}

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") }

// Limits bound what a grant's holder can use. Zero means not given: the node's
// default applies.
type Limits struct {
	MemoryBytes uint64 `json:"memory_bytes,omitempty"` // linear memory of one run
	WallMS      uint64 `json:"wall_ms,omitempty"`      // time of one run, in milliseconds
	OutputBytes uint64 `json:"output_bytes,omitempty"` // answer of one run
	InputBytes  uint64 `json:"input_bytes,omitempty"`  // inputs of one run
	ModuleBytes uint64 `json:"module_bytes,omitempty"` // size of a module
	Concurrency uint32 `json:"concurrency,omitempty"`  // runs at the same time
	Fuel        uint64 `json:"fuel,omitempty"`         // of one run, in WebAssembly instructions; without, time alone bounds it
	Runs        uint64 `json:"runs,omitempty"`         // runs over the grant's whole life
}

// Meet is the strictest combination of a and b: for each limit the smaller of
// those given.
func (a Limits) Meet(b Limits) Limits {
	return Limits{
		MemoryBytes: meet(a.MemoryBytes, b.MemoryBytes),
		WallMS:      meet(a.WallMS, b.WallMS),
		OutputBytes: meet(a.OutputBytes, b.OutputBytes),
		InputBytes:  meet(a.InputBytes, b.InputBytes),
		ModuleBytes: meet(a.ModuleBytes, b.ModuleBytes),
		Concurrency: meet(a.Concurrency, b.Concurrency),
		Fuel:        meet(a.Fuel, b.Fuel),
		Runs:        meet(a.Runs, b.Runs),
	}
}

// Words says in plain language what the limits are, a line for each.
func (a Limits) Words() []string {
	var lines []string
	say := func(n uint64, format string, text string) {
		if n == 0 {
			text = "the node's default"
		}
		lines = append(lines, fmt.Sprintf(format, text))
	}
	say(a.MemoryBytes, "memory of a run: %s", humanize.IBytes(a.MemoryBytes))
	say(a.WallMS, "time of a run: %s", humanize.Comma(int64(a.WallMS))+" ms")
	say(a.OutputBytes, "answer of a run: %s", humanize.IBytes(a.OutputBytes))
	say(a.InputBytes, "inputs of a run: %s", humanize.IBytes(a.InputBytes))
	say(a.ModuleBytes, "size of a module: %s", humanize.IBytes(a.ModuleBytes))
	say(uint64(a.Concurrency), "runs at the same time: %s", humanize.Comma(int64(a.Concurrency)))
	if a.Fuel != 0 {
		lines = append(lines, fmt.Sprintf("fuel of a run: %s instructions", humanize.Comma(int64(a.Fuel))))
	}
	say(a.Runs, "runs in total: %s", humanize.Comma(int64(a.Runs)))
	return lines
}

func meet[N uint32 | uint64](a, b N) N {
	if a == 0 || b == 0 {
		return a | b
	}
	return min(a, b)
}

// validAudience accepts what names a node or some nodes. A realm is lower case,
// so that it cannot be taken for a peer id.
func validAudience(aud string) error {
	if id, err := identity.ParseID(aud); err == nil && id.String() == aud {
		return nil
	}
	if aud == "" || len(aud) > MaxAudience {
		return fmt.Errorf("audience has %d bytes, want 1 to %d", len(aud), MaxAudience)
	}
	if !ValidRealm(aud) {
		return fmt.Errorf("%.80q is neither a peer id nor a realm", aud)
	}
	return nil
}

// ValidRealm reports whether s can name some nodes: 1 to [MaxAudience] of a-z
// 0-9 . _ - that start with a letter or digit.
func ValidRealm(s string) bool {
	for i := range len(s) {
		c := s[i]
		alnum := 'a' <= c && c <= 'z' || '0' <= c && c <= '9'
		if !alnum && (i == 0 || c != '.' && c != '_' && c != '-') {
			return false
		}
	}
	return s != "" && len(s) <= MaxAudience
}

const hintAudience = "the peer id of a node, or a realm of a-z 0-9 . _ - that starts with a letter or digit"

func invalid(rule, message, hint string) *fault.Error {
	return &fault.Error{Code: fault.GrantInvalid, Rule: rule, Owner: fault.Grant, Message: message, Hint: hint}
}

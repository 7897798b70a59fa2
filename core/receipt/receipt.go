// Package receipt is a node's signed statement about one execution: which
// module it ran, on which datasets, for whom, under which limits, and the hash
// of the answer.
//
// A receipt is a compact JWS (RFC 7515) signed with EdDSA by the node's peer
// key over a [Claim] in canonical JSON (RFC 8785). The node's peer id contains
// the key, so anyone can verify it offline, with no registry and nobody to ask.
//
// The package promises that one claim has one text, that [Parse] accepts no
// other, and that nothing in an accepted receipt was ignored. Statements of
// another assurance than [Signed] are refused, not shown as if they were that.
// What "signed" is worth is said by [Claim.Words]: it is the node's word.
//
// Refusals of a receipt are [*fault.Error] with code [fault.Unverified], whose
// Rule is the member of the claim that decided (SPEC §6). All functions are
// pure and safe for concurrent use.
package receipt

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/liop-project/liop/core/guest"
	"github.com/liop-project/liop/core/identity"
)

const (
	// Version is the only value of [Claim.V].
	Version = 1
	// MaxReceipt bounds a receipt in text, in bytes. A claim with everything at
	// its bound fits.
	MaxReceipt = 8 << 10

	MinNonce       = 16 // bytes
	MaxNonce       = 64 // bytes
	MaxContainment = 10 // entries of containment, and of gaps
	MaxContained   = 32 // one entry, in bytes

	// MaxInt bounds every number: the largest that every JSON reader keeps
	// exact (RFC 8259 §6), and the largest that RFC 8785 can write.
	MaxInt = 1<<53 - 1
)

// Assurance says what stands behind a claim. Any other value than Signed is
// refused: it would mean evidence that this version cannot check.
type Assurance string

// Signed is the node's word: no more, no less.
const Signed Assurance = "signed"

// Outcome says how the execution ended. There are receipts only for answers.
type Outcome string

// OK is exit code zero, within all limits.
const OK Outcome = "ok"

// Basis says what a dataset's commitment covers.
type Basis string

const (
	Content  Basis = "content"  // names and contents of the files
	Metadata Basis = "metadata" // names, sizes and modification times
)

// Claim is what a receipt says. All members are required.
type Claim struct {
	Agent       peer.ID   `json:"agent"`  // for whom
	Answer      Answer    `json:"answer"` // what left the node
	Args        Digest    `json:"args"`   // [guest.ArgsHash]
	Assurance   Assurance `json:"assurance"`
	Containment []string  `json:"containment"` // what held the module, e.g. "landlock:7"; sorted
	Datasets    []Dataset `json:"datasets"`    // 1 to guest.MaxDatasets, sorted by name
	Fuel        uint64    `json:"fuel"`        // instructions used, 0 if limits do not count them
	Gaps        []string  `json:"gaps"`        // what of the usual containment the node's machine lacks; sorted
	Grant       Digest    `json:"grant"`       // SHA-256 of the grant's text
	Limits      Limits    `json:"limits"`      // that applied, after every meet
	Module      Digest    `json:"module"`      // SHA-256 of the module's bytes
	Node        peer.ID   `json:"node"`        // whose key signs
	Nonce       Base64    `json:"nonce"`       // MinNonce to MaxNonce bytes, from the agent
	Outcome     Outcome   `json:"outcome"`
	Stdin       Digest    `json:"stdin"` // SHA-256 of [guest.Stdin], of no bytes if there were no inputs
	Time        int64     `json:"time"`  // the node's clock when it began, in milliseconds since 1970
	V           int       `json:"v"`     // Version
}

// Answer is the answer by its hash and size.
type Answer struct {
	Bytes  uint64 `json:"bytes"`
	SHA256 Hex    `json:"sha256"`
}

// AnswerOf is an answer's hash and size.
func AnswerOf(answer []byte) Answer {
	return Answer{Bytes: uint64(len(answer)), SHA256: sha256.Sum256(answer)}
}

// Dataset is what was there to be read.
type Dataset struct {
	Basis Basis  `json:"basis"`
	Bytes uint64 `json:"bytes"` // size of all files
	// Commitment is keyed with a secret of the node: equal values mean equal
	// data, and nobody can find the data by guessing.
	Commitment Commitment `json:"commitment"`
	Files      uint64     `json:"files"`
	Name       string     `json:"name"`
}

// Limits are those that the module ran under. None is zero, but Fuel perhaps:
// then instructions were not counted.
type Limits struct {
	Concurrency uint32 `json:"concurrency"`
	Fuel        uint64 `json:"fuel"`
	InputBytes  uint64 `json:"input_bytes"`
	MemoryBytes uint64 `json:"memory_bytes"`
	ModuleBytes uint64 `json:"module_bytes"`
	OutputBytes uint64 `json:"output_bytes"`
	WallMS      uint64 `json:"wall_ms"`
}

// At is the node's time when the execution began.
func (c *Claim) At() time.Time { return time.UnixMilli(c.Time) }

// validate checks every member. Its errors begin with the member's name.
func (c *Claim) validate() error {
	if c.V != Version {
		return member("v", "version %d, want %d", c.V, Version)
	}
	if c.Assurance != Signed {
		return member("assurance", "unknown assurance %.32q, want %q", string(c.Assurance), Signed)
	}
	if c.Outcome != OK {
		return member("outcome", "unknown outcome %.32q, want %q", string(c.Outcome), OK)
	}
	if _, err := identity.PublicKey(c.Node); err != nil {
		return member("node", "%v", err)
	}
	if _, err := identity.PublicKey(c.Agent); err != nil {
		return member("agent", "%v", err)
	}
	if c.Time <= 0 || c.Time > MaxInt {
		return member("time", "%d is not a time in milliseconds", c.Time)
	}
	if len(c.Nonce) < MinNonce || len(c.Nonce) > MaxNonce {
		return member("nonce", "%d bytes, want %d to %d", len(c.Nonce), MinNonce, MaxNonce)
	}
	if c.Answer.Bytes > MaxInt {
		return member("answer", "bytes is out of range")
	}
	l := c.Limits
	for _, n := range []uint64{l.MemoryBytes, l.WallMS, l.OutputBytes, l.InputBytes, l.ModuleBytes, uint64(l.Concurrency)} {
		if n == 0 || n > MaxInt {
			return member("limits", "a limit is missing or out of range")
		}
	}
	if c.Answer.Bytes > l.OutputBytes {
		return member("answer", "bytes is more than limits.output_bytes")
	}
	if l.Fuel > MaxInt {
		return member("limits", "fuel is out of range")
	}
	if c.Fuel > l.Fuel {
		return member("fuel", "%d is more than limits.fuel", c.Fuel)
	}
	if err := c.validateDatasets(); err != nil {
		return err
	}
	if err := validateWords("containment", c.Containment); err != nil {
		return err
	}
	return validateWords("gaps", c.Gaps)
}

func (c *Claim) validateDatasets() error {
	names := make([]string, len(c.Datasets))
	for i, d := range c.Datasets {
		names[i] = d.Name
		if d.Basis != Content && d.Basis != Metadata {
			return member("datasets", "unknown basis %.32q, want %q or %q", string(d.Basis), Content, Metadata)
		}
		if d.Files > MaxInt || d.Bytes > MaxInt {
			return member("datasets", "a size is out of range")
		}
	}
	if err := guest.ValidDatasets(names); err != nil {
		return member("datasets", "%v", err)
	}
	return nil
}

// validateWords checks a list of features.
func validateWords(name string, list []string) error {
	if len(list) > MaxContainment {
		return member(name, "%d entries, want at most %d", len(list), MaxContainment)
	}
	for i, s := range list {
		ok := s != "" && len(s) <= MaxContained
		for j := range len(s) {
			ok = ok && ('a' <= s[j] && s[j] <= 'z' || '0' <= s[j] && s[j] <= '9' || strings.IndexByte(":._-", s[j]) >= 0)
		}
		if !ok {
			return member(name, "%.40q, want 1 to %d of a-z 0-9 : . _ -", s, MaxContained)
		}
		if slices.Contains(list[:i], s) {
			return member(name, "%q twice", s)
		}
	}
	return nil
}

// memberError says which member of a claim is wrong.
type memberError struct {
	name, text string
}

func (e *memberError) Error() string { return e.name + ": " + e.text }

func member(name, format string, args ...any) error {
	return &memberError{name: name, text: fmt.Sprintf(format, args...)}
}

// Digest is a SHA-256 hash; in JSON "sha256:" and 64 lower-case hex digits.
type Digest [32]byte

// String is the form in JSON.
func (d Digest) String() string { return "sha256:" + hex.EncodeToString(d[:]) }

// MarshalText implements [encoding.TextMarshaler].
func (d Digest) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText implements [encoding.TextUnmarshaler].
func (d *Digest) UnmarshalText(b []byte) error {
	digits, ok := strings.CutPrefix(string(b), "sha256:")
	if !ok {
		return errors.New(`want "sha256:" and 64 hex digits`)
	}
	return (*Hex)(d).UnmarshalText([]byte(digits))
}

// Hex is 32 bytes; in JSON 64 lower-case hex digits.
type Hex [32]byte

// MarshalText implements [encoding.TextMarshaler].
func (h Hex) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, h[:]), nil }

// UnmarshalText implements [encoding.TextUnmarshaler].
func (h *Hex) UnmarshalText(b []byte) error {
	if len(b) != hex.EncodedLen(len(h)) {
		return errors.New("want 64 hex digits")
	}
	_, err := hex.Decode(h[:], b)
	return err
}

// Commitment is 32 bytes; in JSON base64url without padding.
type Commitment [32]byte

// MarshalText implements [encoding.TextMarshaler].
func (c Commitment) MarshalText() ([]byte, error) { return Base64(c[:]).MarshalText() }

// UnmarshalText implements [encoding.TextUnmarshaler].
func (c *Commitment) UnmarshalText(b []byte) error {
	var v Base64
	if err := v.UnmarshalText(b); err != nil {
		return err
	}
	if len(v) != len(c) {
		return errors.New("want 32 bytes in base64url")
	}
	copy(c[:], v)
	return nil
}

// Base64 is bytes; in JSON base64url without padding (RFC 4648 §5).
type Base64 []byte

// MarshalText implements [encoding.TextMarshaler].
func (v Base64) MarshalText() ([]byte, error) { return base64.RawURLEncoding.AppendEncode(nil, v), nil }

// UnmarshalText implements [encoding.TextUnmarshaler].
func (v *Base64) UnmarshalText(b []byte) error {
	out, err := base64.RawURLEncoding.AppendDecode(nil, b)
	if err != nil {
		return errors.New("want base64url without padding")
	}
	*v = out
	return nil
}

// keyOf is the key of a node's id; validate checked that there is one.
func keyOf(node peer.ID) (ed25519.PublicKey, error) {
	key, err := identity.PublicKey(node)
	if err != nil {
		return nil, member("node", "%v", err)
	}
	return key, nil
}

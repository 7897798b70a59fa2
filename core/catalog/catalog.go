// Package catalog is what a node tells the mesh of itself: its datasets, where
// it can be reached, and who vouches for it.
//
// A catalog record is a statement of package jws, signed by the node's peer key
// over a [Record] in JSON. It is kept in the DHT under the node's own key
// ([Key]), and [Validator] is what peers apply before they keep or believe one:
// nobody can publish for another node, replace a record by an older one, or
// make a peer hold more than [MaxRecord] bytes.
//
// What a record says is the node's word. That a dataset is somebody's is proved
// by what is in [Record.Vouchers] and by nothing else (SPEC §10.4).
//
// Members that this version does not know are ignored, so that nodes can say
// more later; everything that is known is checked. Refusals are [*fault.Error]
// with code [fault.Unverified], whose rule is the member. All functions are pure
// and safe for concurrent use.
package catalog

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/go-jose/go-jose/v4/json" // case-sensitive, and refuses duplicate members
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/liop-project/liop/core/fault"
	"github.com/liop-project/liop/core/guest"
	"github.com/liop-project/liop/core/identity"
	"github.com/liop-project/liop/core/jws"
)

const (
	// Version is the only value of [Record.V].
	Version = 1
	// MaxRecord bounds a record in text, in bytes: what every peer near its key
	// keeps for a stranger. Some three hundred datasets with titles fit.
	MaxRecord = 64 << 10
	// MaxLifetime is the longest time from issued to expires. A node that has
	// gone is forgotten after it, so nodes publish anew long before.
	MaxLifetime = 48 * time.Hour
	// Skew is how far in the future the time of issue may lie, for clocks that
	// differ.
	Skew = 10 * time.Minute

	MaxDatasets  = 256     // of one record
	MaxAddrs     = 16      // of one record
	MaxAddr      = 256     // one address, in bytes
	MaxVouchers  = 8       // of one record
	MaxVoucher   = 2 << 10 // one voucher, in bytes
	MaxTitle     = 200     // a dataset's title, in bytes
	MaxSchema    = 2 << 10 // a dataset's schema summary, in bytes
	MaxWords     = 8       // of logic, and of assurance
	MaxWord      = 32      // one of them, in bytes
	MaxRealm     = 128     // the realm, in bytes
	MaxInt       = 1<<53 - 1
	typCatalog   = "liop-catalog+jwt"
	keyNamespace = "/liop/"
)

// Record is what a node says of itself. Node, Seq, Issued and Expires are
// required.
type Record struct {
	V       int     `json:"v"`    // Version
	Node    peer.ID `json:"node"` // whose key signs
	Seq     uint64  `json:"seq"`  // a record with a larger one replaces this
	Issued  int64   `json:"iat"`  // seconds since 1970
	Expires int64   `json:"exp"`  // seconds since 1970; at most MaxLifetime after Issued

	Realm     string    `json:"realm,omitempty"` // the audience that grants may name besides the node's id
	Addrs     []string  `json:"addrs"`           // multiaddrs without /p2p/ID of the node
	Assurance []string  `json:"assurance"`       // of receipts: "signed", …
	Vouchers  []string  `json:"vouchers"`        // membership tokens of the node (SPEC §8)
	Datasets  []Dataset `json:"datasets"`
}

// Dataset is what the owner publishes of one dataset.
type Dataset struct {
	Name   string   `json:"name"`
	Title  string   `json:"title,omitempty"`
	Schema string   `json:"schema,omitempty"` // in the owner's words
	Bytes  uint64   `json:"bytes"`            // rough size, see [Rough]
	Logic  []string `json:"logic"`            // kinds that may run on it: "wasip1", …
}

// Rough rounds a size up to a power of two: enough to choose by, too little to
// watch a dataset grow by. Zero stays zero.
func Rough(bytes uint64) uint64 {
	r := uint64(1)
	for r < bytes && r < 1<<52 {
		r <<= 1
	}
	if bytes == 0 {
		return 0
	}
	return r
}

// Key is where the record of a node is in the DHT (SPEC §10.3).
func Key(node peer.ID) string { return keyNamespace + node.String() }

// Dataset is what r says of the dataset of that name.
func (r *Record) Dataset(name string) (Dataset, bool) {
	for _, d := range r.Datasets {
		if d.Name == name {
			return d, true
		}
	}
	return Dataset{}, false
}

// Sign makes the text of a record with the key of the node that it names. A
// record with a wrong member, of another node or too large is an error that
// names the member.
func Sign(key ed25519.PrivateKey, r *Record) (string, error) {
	if err := r.validate(); err != nil {
		return "", fmt.Errorf("sign catalog record: %w", err)
	}
	node, err := identity.PublicKey(r.Node)
	if err != nil {
		return "", fmt.Errorf("sign catalog record: node: %w", err)
	}
	if len(key) != ed25519.PrivateKeySize || !node.Equal(key.Public()) {
		return "", errors.New("sign catalog record: node: the record is of a node that has another key")
	}
	payload, err := json.Marshal(r)
	if err != nil {
		return "", fmt.Errorf("sign catalog record: %w", err)
	}
	text, err := jws.Sign(key, typCatalog, payload)
	if err != nil {
		return "", fmt.Errorf("sign catalog record: %w", err)
	}
	if len(text) > MaxRecord {
		return "", fmt.Errorf("sign catalog record: %d bytes, at most %d; announce fewer datasets, or shorter titles and schemas", len(text), MaxRecord)
	}
	return text, nil
}

// Parse reads a record and verifies that the node which it names signed it, and
// that it has not expired at now.
func Parse(text string, now time.Time) (*Record, error) {
	s, err := jws.Parse(text, typCatalog, MaxRecord)
	if err != nil {
		return nil, refuse("record", "the catalog record is "+err.Error())
	}
	r := new(Record)
	if err := json.Unmarshal(s.Payload(), r); err != nil {
		return nil, refuse("record", "the catalog record is not an object of the members of SPEC §10.3, each once")
	}
	if err := r.validate(); err != nil {
		var m *memberError
		if errors.As(err, &m) {
			return nil, refuse(m.name, fmt.Sprintf("the catalog record's %s is not accepted: %s", m.name, m.text))
		}
		return nil, refuse("record", "the catalog record is not accepted")
	}
	key, err := identity.PublicKey(r.Node)
	if err != nil {
		return nil, refuse("node", "the catalog record's node has no Ed25519 key")
	}
	if err := s.Verify(key); err != nil {
		return nil, refuse("signature", "the catalog record is not signed by the node that it names")
	}
	switch {
	case r.Issued > now.Add(Skew).Unix():
		return nil, refuse("iat", "the catalog record is from the future")
	case r.Expires <= now.Unix():
		return nil, refuse("exp", "the catalog record has expired")
	}
	return r, nil
}

func (r *Record) validate() error {
	if r.V != Version {
		return member("v", "version %d, want %d", r.V, Version)
	}
	if _, err := identity.PublicKey(r.Node); err != nil {
		return member("node", "%v", err)
	}
	if r.Seq == 0 || r.Seq > MaxInt {
		return member("seq", "%d is out of range", r.Seq)
	}
	if r.Issued <= 0 || r.Issued > MaxInt {
		return member("iat", "%d is not a time", r.Issued)
	}
	if r.Expires <= r.Issued || r.Expires-r.Issued > int64(MaxLifetime/time.Second) {
		return member("exp", "must be at most %s after iat", MaxLifetime)
	}
	if len(r.Realm) > MaxRealm || !plain(r.Realm) {
		return member("realm", "more than %d bytes, or no text", MaxRealm)
	}
	if len(r.Addrs) > MaxAddrs {
		return member("addrs", "%d addresses, want at most %d", len(r.Addrs), MaxAddrs)
	}
	for _, a := range r.Addrs {
		if len(a) > MaxAddr {
			return member("addrs", "an address has more than %d bytes", MaxAddr)
		}
		if _, err := ma.NewMultiaddr(a); err != nil {
			return member("addrs", "%.80q is not a multiaddr", a)
		}
	}
	if len(r.Vouchers) > MaxVouchers {
		return member("vouchers", "%d tokens, want at most %d", len(r.Vouchers), MaxVouchers)
	}
	for _, v := range r.Vouchers {
		if len(v) > MaxVoucher {
			return member("vouchers", "a token has more than %d bytes", MaxVoucher)
		}
	}
	if err := words("assurance", r.Assurance); err != nil {
		return err
	}
	return r.validateDatasets()
}

func (r *Record) validateDatasets() error {
	if len(r.Datasets) > MaxDatasets {
		return member("datasets", "%d datasets, want at most %d", len(r.Datasets), MaxDatasets)
	}
	seen := make(map[string]bool, len(r.Datasets))
	for _, d := range r.Datasets {
		if err := guest.ValidDataset(d.Name); err != nil {
			return member("datasets", "%.80q is not a name", d.Name)
		}
		if seen[d.Name] {
			return member("datasets", "%q is there twice", d.Name)
		}
		seen[d.Name] = true
		if len(d.Title) > MaxTitle || !plain(d.Title) {
			return member("datasets", "title of %q: more than %d bytes, or more than one line of text", d.Name, MaxTitle)
		}
		if len(d.Schema) > MaxSchema || !plain(strings.ReplaceAll(d.Schema, "\n", " ")) {
			return member("datasets", "schema of %q: more than %d bytes, or no text", d.Name, MaxSchema)
		}
		if d.Bytes > MaxInt {
			return member("datasets", "bytes of %q is out of range", d.Name)
		}
		if err := words("datasets", d.Logic); err != nil {
			return err
		}
	}
	return nil
}

// plain reports whether s can be shown on a terminal as it is: no control
// characters, and none that change the direction or place of others.
func plain(s string) bool {
	if !utf8.ValidString(s) {
		return false
	}
	return !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) })
}

func words(name string, list []string) error {
	if len(list) > MaxWords {
		return member(name, "%d words, want at most %d", len(list), MaxWords)
	}
	for _, w := range list {
		ok := w != "" && len(w) <= MaxWord
		for i := range len(w) {
			ok = ok && ('a' <= w[i] && w[i] <= 'z' || '0' <= w[i] && w[i] <= '9' || strings.IndexByte(":._-", w[i]) >= 0)
		}
		if !ok {
			return member(name, "%.40q, want 1 to %d of a-z 0-9 : . _ -", w, MaxWord)
		}
	}
	return nil
}

// memberError says which member is wrong.
type memberError struct{ name, text string }

func (e *memberError) Error() string { return e.name + ": " + e.text }

func member(name, format string, args ...any) error {
	return &memberError{name, fmt.Sprintf(format, args...)}
}

func refuse(rule, message string) *fault.Error {
	return &fault.Error{Code: fault.Unverified, Rule: rule, Owner: fault.Protocol, Message: message,
		Hint: "do not use what this record says; ask the node's owner for its address"}
}

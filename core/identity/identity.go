// Package identity is who a peer is: one Ed25519 key, whose public half is the
// peer id itself.
//
// A node and an agent each keep one identity in a home directory, as PKCS #8 in
// PEM (RFC 8410, RFC 7468), so that openssl can read it. The package promises
// that an existing key is never overwritten, that a key file is complete or
// absent even if the machine stops while it is written, that a key which others
// can read is not used, and that no way of printing an [Identity] shows its key.
//
// Other kinds of libp2p key are refused everywhere: their ids are hashes, from
// which nobody could verify a grant or a receipt (SPEC §2).
package identity

import (
	"crypto/ed25519"
	"fmt"
	"io"
	"log/slog"
	"slices"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
)

// Identity is a private key and the peer id that belongs to it. It is
// immutable and safe for concurrent use.
type Identity struct {
	id peer.ID
	// A function on purpose: inside another struct's unexported field package
	// fmt prints fields without asking for methods, and follows pointers for
	// some verbs, but it cannot look into a closure.
	key func() ed25519.PrivateKey
}

// Generate makes a new identity in memory from the system's random source.
func Generate() *Identity {
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		panic(err) // crypto/rand ends the program before it returns an error
	}
	id, err := FromKey(key)
	if err != nil {
		panic(err) // the key has the right length
	}
	return id
}

// FromKey is the identity of an existing key, which is copied.
func FromKey(key ed25519.PrivateKey) (*Identity, error) {
	if len(key) != ed25519.PrivateKeySize {
		return nil, fmt.Errorf("identity from key: %d bytes, want %d", len(key), ed25519.PrivateKeySize)
	}
	id, err := ID(key.Public().(ed25519.PublicKey))
	if err != nil {
		return nil, err
	}
	own := slices.Clone(key)
	return &Identity{id: id, key: func() ed25519.PrivateKey { return own }}, nil
}

// ID is the peer id: it contains the public key.
func (i *Identity) ID() peer.ID { return i.id }

// Key is the private key in the form that libp2p takes.
func (i *Identity) Key() crypto.PrivKey {
	own := i.Ed25519()
	key, _, err := crypto.KeyPairFromStdKey(&own)
	if err != nil {
		panic(err) // an *ed25519.PrivateKey is always taken
	}
	return key
}

// Ed25519 is the private key, a copy that the caller owns.
func (i *Identity) Ed25519() ed25519.PrivateKey { return slices.Clone(i.key()) }

// String is the peer id. The value receivers here and below cover both Identity
// and *Identity.
func (i Identity) String() string { return i.id.String() }

// GoString is what %#v prints: the peer id, never the key.
func (i Identity) GoString() string { return "identity(" + i.id.String() + ")" }

// Format prints the peer id for every verb, since %d and %x would otherwise
// print the fields.
func (i Identity) Format(f fmt.State, verb rune) {
	if verb == 'v' && f.Flag('#') {
		_, _ = io.WriteString(f, i.GoString())
		return
	}
	_, _ = io.WriteString(f, i.String())
}

// LogValue is what package slog logs: the peer id, never the key.
func (i Identity) LogValue() slog.Value { return slog.StringValue(i.id.String()) }

package member

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/liop-project/liop/core/identity"
	"github.com/liop-project/liop/core/jws"
)

const (
	typMember = "liop-member+jwt"
	// header is the only one accepted, in canonical JSON as the claims are.
	header = `{"alg":"EdDSA","typ":"` + typMember + `"}`
	// idBytes is the size of a jti: 128 random bits.
	idBytes = 16
)

// Spec is what an operator says.
type Spec struct {
	Member   peer.ID       // required: the Ed25519 peer id of a node or agent
	Mesh     string        // required: see ValidMesh
	Serves   []string      // datasets the member may serve: names, or "segment/*"; at most MaxServes
	Lifetime time.Duration // 0 = DefaultLifetime; whole seconds, at most MaxLifetime
	Rand     io.Reader     // source of the token's id; nil = crypto/rand
}

// Validate checks a Spec. Its errors begin with the name of the field.
func (s Spec) Validate() error {
	if _, err := identity.PublicKey(s.Member); err != nil {
		return fmt.Errorf("member: %w", err)
	}
	if err := ValidMesh(s.Mesh); err != nil {
		return fmt.Errorf("mesh: %w", err)
	}
	if err := validServes(s.Serves); err != nil {
		return fmt.Errorf("serves: %w", err)
	}
	if s.Lifetime != 0 && (s.Lifetime < time.Second || s.Lifetime > MaxLifetime || s.Lifetime%time.Second != 0) {
		return fmt.Errorf("lifetime: %s, want whole seconds from 1s to %s", s.Lifetime, MaxLifetime)
	}
	return nil
}

// Issue signs a token that begins at now, with the operator's identity key. It
// returns an error if s is not valid, or if the token would exceed [MaxToken].
func Issue(key ed25519.PrivateKey, s Spec, now time.Time) (string, error) {
	if err := s.Validate(); err != nil {
		return "", fmt.Errorf("issue membership: %w", err)
	}
	if len(key) != ed25519.PrivateKeySize {
		return "", fmt.Errorf("issue membership: key has %d bytes, want %d", len(key), ed25519.PrivateKeySize)
	}
	operator, err := identity.ID(key.Public().(ed25519.PublicKey))
	if err != nil {
		return "", fmt.Errorf("issue membership: %w", err)
	}
	random := s.Rand
	if random == nil {
		random = rand.Reader
	}
	var jti [idBytes]byte
	if _, err := io.ReadFull(random, jti[:]); err != nil {
		return "", fmt.Errorf("issue membership: random id: %w", err)
	}
	lifetime := s.Lifetime
	if lifetime == 0 {
		lifetime = DefaultLifetime
	}
	iat := now.Unix()
	payload, err := json.Marshal(claims{
		Mesh: s.Mesh, Expires: iat + int64(lifetime/time.Second), IssuedAt: iat, Operator: operator.String(),
		ID: base64.RawURLEncoding.EncodeToString(jti[:]), NotBefore: iat,
		Serves: slices.Sorted(slices.Values(s.Serves)), Member: s.Member.String(),
	})
	if err != nil {
		return "", fmt.Errorf("issue membership: %w", err)
	}
	token, err := jws.Sign(key, typMember, payload)
	if err != nil {
		return "", fmt.Errorf("issue membership: %w", err)
	}
	if len(token) > MaxToken {
		return "", fmt.Errorf("issue membership: %d bytes, at most %d; name fewer datasets to serve, or patterns", len(token), MaxToken)
	}
	return token, nil
}

// claims are the payload. Its members are in the order of RFC 8785, and need no
// escapes, so that encoding/json writes them canonically; a test compares it
// with package jcs.
type claims struct {
	Mesh      string   `json:"aud"`
	Expires   int64    `json:"exp"`
	IssuedAt  int64    `json:"iat"`
	Operator  string   `json:"iss"`
	ID        string   `json:"jti"`
	NotBefore int64    `json:"nbf"`
	Serves    []string `json:"serves,omitempty"`
	Member    string   `json:"sub"`
}

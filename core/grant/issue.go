package grant

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"io"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/liop-project/liop/core/guest"
	"github.com/liop-project/liop/core/identity"
)

// typGrant is the type of a grant's first link (RFC 9068 §2.1).
const typGrant = "at+jwt"

const (
	detailType = "liop.execute" // authorization_details[].type (RFC 9396 §2)
	actionRun  = "run"
)

// Spec is what an issuer grants.
type Spec struct {
	Holder   peer.ID       // required: the agent's Ed25519 peer id
	Audience string        // required: a node's peer id, or a realm
	Datasets []string      // required: names, or "segment/*"; at most MaxPatterns
	Limits   Limits        // zero fields are left to the node
	Lifetime time.Duration // 0 = DefaultLifetime; whole seconds, at most MaxLifetime
	Rand     io.Reader     // source of the grant's id; nil = crypto/rand
}

// Validate checks a Spec. Its errors begin with the name of the field.
func (s Spec) Validate() error {
	if _, err := identity.PublicKey(s.Holder); err != nil {
		return fmt.Errorf("holder: %w", err)
	}
	if err := validAudience(s.Audience); err != nil {
		return fmt.Errorf("audience: %w; want %s", err, hintAudience)
	}
	if len(s.Datasets) == 0 || len(s.Datasets) > MaxPatterns {
		return fmt.Errorf("datasets: %d patterns, want 1 to %d", len(s.Datasets), MaxPatterns)
	}
	for _, p := range s.Datasets {
		if err := guest.ValidPattern(p); err != nil {
			return fmt.Errorf("datasets: %w; want %s", err, guest.HintPattern)
		}
	}
	for name, n := range s.Limits.fields() {
		if n > MaxLimit {
			return fmt.Errorf("limits.%s: %d is more than %d", name, n, uint64(MaxLimit))
		}
	}
	if s.Lifetime != 0 && (s.Lifetime < time.Second || s.Lifetime > MaxLifetime) {
		return fmt.Errorf("lifetime: %s, want 1s to %s", s.Lifetime, MaxLifetime)
	}
	return nil
}

// Issue signs a grant that begins at now, with the issuer's identity key. It
// returns an error if s is not valid, or if the grant would exceed [MaxChain].
func Issue(key ed25519.PrivateKey, s Spec, now time.Time) (string, error) {
	if err := s.Validate(); err != nil {
		return "", fmt.Errorf("issue grant: %w", err)
	}
	if len(key) != ed25519.PrivateKeySize {
		return "", fmt.Errorf("issue grant: key has %d bytes, want %d", len(key), ed25519.PrivateKeySize)
	}
	issuer, err := identity.ID(key.Public().(ed25519.PublicKey))
	if err != nil {
		return "", fmt.Errorf("issue grant: %w", err)
	}
	holder, err := identity.PublicKey(s.Holder)
	if err != nil {
		return "", fmt.Errorf("issue grant: %w", err)
	}
	random := s.Rand
	if random == nil {
		random = rand.Reader
	}
	var jti [16]byte
	if _, err := io.ReadFull(random, jti[:]); err != nil {
		return "", fmt.Errorf("issue grant: random id: %w", err)
	}
	lifetime := s.Lifetime
	if lifetime == 0 {
		lifetime = DefaultLifetime
	}
	iat := now.Unix()
	chain, err := sign(key, typGrant, claims{
		Issuer: issuer.String(), Subject: s.Holder.String(), Client: s.Holder.String(), Audience: s.Audience,
		Expires: iat + int64(lifetime/time.Second), NotBefore: iat, IssuedAt: iat,
		ID:      base64.RawURLEncoding.EncodeToString(jti[:]),
		Confirm: confirm{JWK: jose.JSONWebKey{Key: holder}},
		Details: []detail{{Type: detailType, Actions: []string{actionRun}, Datasets: s.Datasets, Limits: s.Limits}},
	})
	if err != nil {
		return "", fmt.Errorf("issue grant: %w", err)
	}
	if len(chain) > MaxChain {
		return "", fmt.Errorf("issue grant: %d bytes, at most %d; name fewer datasets, or patterns", len(chain), MaxChain)
	}
	return chain, nil
}

// claims is what Issue writes. Reading is in decode.go, stricter than a struct
// could be.
type claims struct {
	Issuer    string   `json:"iss"`
	Subject   string   `json:"sub"`
	Audience  string   `json:"aud"`
	Expires   int64    `json:"exp"`
	NotBefore int64    `json:"nbf"`
	IssuedAt  int64    `json:"iat"`
	ID        string   `json:"jti"`
	Client    string   `json:"client_id"` // RFC 9068 §2.2 requires it
	Confirm   confirm  `json:"cnf"`
	Details   []detail `json:"authorization_details"`
}

type confirm struct {
	JWK jose.JSONWebKey `json:"jwk"`
}

type detail struct {
	Type     string   `json:"type"`
	Actions  []string `json:"actions"`
	Datasets []string `json:"datasets"`
	Limits   Limits   `json:"limits"`
}

func sign(key ed25519.PrivateKey, typ jose.ContentType, payload any) (string, error) {
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.EdDSA, Key: key}, (&jose.SignerOptions{}).WithType(typ))
	if err != nil {
		return "", err
	}
	return jwt.Signed(signer).Claims(payload).Serialize()
}

// fields are the limits by the names that they have in JSON.
func (a Limits) fields() map[string]uint64 {
	return map[string]uint64{
		"memory_bytes": a.MemoryBytes, "wall_ms": a.WallMS, "output_bytes": a.OutputBytes, "input_bytes": a.InputBytes,
		"module_bytes": a.ModuleBytes, "concurrency": uint64(a.Concurrency), "fuel": a.Fuel, "runs": a.Runs,
	}
}

// Package jws is the one form in which peers sign statements: a compact JWS
// (RFC 7515) with EdDSA, whose header is exactly {"alg":"EdDSA","typ":…}.
//
// It promises that a statement has one spelling. A header can neither bring its
// own key (jwk, x5c) nor change what is signed (b64, crit), and base64url with
// padding, line breaks or stray low bits is refused. All functions are pure and
// safe for concurrent use.
package jws

import (
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"github.com/go-jose/go-jose/v4"
)

// What Parse refuses.
var (
	ErrSize   = errors.New("too long")
	ErrHeader = errors.New("another kind of statement")
	ErrForm   = errors.New("not a compact JWS in canonical base64url")
)

// ErrSignature is what Verify refuses.
var ErrSignature = errors.New("not signed by that key")

// header of a statement of type typ, in canonical JSON (RFC 8785).
func header(typ string) string { return `{"alg":"EdDSA","typ":"` + typ + `"}` }

// Sign makes the text of a statement.
func Sign(key ed25519.PrivateKey, typ string, payload []byte) (string, error) {
	if len(key) != ed25519.PrivateKeySize {
		return "", fmt.Errorf("sign: the key has %d bytes, want %d", len(key), ed25519.PrivateKeySize)
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.EdDSA, Key: key},
		(&jose.SignerOptions{}).WithType(jose.ContentType(typ)))
	if err != nil {
		return "", fmt.Errorf("sign: %w", err)
	}
	signed, err := signer.Sign(payload)
	if err != nil {
		return "", fmt.Errorf("sign: %w", err)
	}
	return signed.CompactSerialize()
}

// Statement is one whose form is right. Its signature counts only after Verify.
type Statement struct{ token *jose.JSONWebSignature }

// Parse reads a statement of type typ and at most max bytes of text. Its errors
// are ErrSize, ErrHeader and ErrForm.
func Parse(text, typ string, max int) (*Statement, error) {
	if len(text) > max {
		return nil, ErrSize
	}
	if got, _, _ := strings.Cut(text, "."); got != base64.RawURLEncoding.EncodeToString([]byte(header(typ))) {
		return nil, ErrHeader
	}
	token, err := jose.ParseSignedCompact(text, []jose.SignatureAlgorithm{jose.EdDSA})
	if err != nil {
		return nil, ErrForm
	}
	// Decoders of base64url ignore line breaks and stray low bits.
	if again, err := token.CompactSerialize(); err != nil || again != text {
		return nil, ErrForm
	}
	return &Statement{token}, nil
}

// Payload is what was signed, if Verify says so.
func (s *Statement) Payload() []byte { return s.token.UnsafePayloadWithoutVerification() }

// Verify reports ErrSignature unless the owner of key signed the statement.
func (s *Statement) Verify(key ed25519.PublicKey) error {
	if _, err := s.token.Verify(key); err != nil {
		return ErrSignature
	}
	return nil
}

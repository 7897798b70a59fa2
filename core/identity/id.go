package identity

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
)

const (
	// MaxIDFile bounds a file that names a peer, in bytes.
	MaxIDFile = 4 << 10

	// maxIDText bounds a peer id in text, in bytes. An Ed25519 id has 52
	// characters in base58 and 65 as a CID; decoding base58 is quadratic.
	maxIDText = 80

	wantID = "want an Ed25519 peer id such as 12D3KooW…"
)

// ID is the peer id of a public key.
func ID(key ed25519.PublicKey) (peer.ID, error) {
	pub, err := crypto.UnmarshalEd25519PublicKey(key)
	if err != nil {
		return "", fmt.Errorf("peer id of key: %w", err)
	}
	return peer.IDFromPublicKey(pub)
}

// PublicKey is the key inside an Ed25519 peer id. It refuses ids of other kinds
// of key, and encodings of an id other than the one that [ID] gives: with two
// ids for one key, a list of admitted or revoked peers could be evaded.
func PublicKey(id peer.ID) (ed25519.PublicKey, error) {
	pub, err := id.ExtractPublicKey()
	if err != nil {
		return nil, errors.New("peer id does not contain a public key; " + wantID)
	}
	if pub.Type() != crypto.Ed25519 || !id.MatchesPublicKey(pub) {
		return nil, errors.New("peer id is not of an Ed25519 key; " + wantID)
	}
	raw, err := pub.Raw()
	if err != nil {
		return nil, fmt.Errorf("key of peer id: %w", err)
	}
	return ed25519.PublicKey(bytes.Clone(raw)), nil
}

// ParseID reads a peer id as people write it: base58 or a CID (libp2p peer id
// specification), without surrounding space. Ed25519 only.
func ParseID(s string) (peer.ID, error) {
	if s == "" {
		return "", errors.New("empty peer id; " + wantID)
	}
	if len(s) > maxIDText {
		return "", fmt.Errorf("%q… is too long for a peer id; %s", s[:16], wantID)
	}
	id, err := peer.Decode(s)
	if err != nil {
		return "", fmt.Errorf("%q is not a peer id; %s", s, wantID)
	}
	if _, err := PublicKey(id); err != nil {
		return "", fmt.Errorf("%q: %w", s, err)
	}
	return id, nil
}

// ReadIDFile reads the one peer id in the text file at path. Blank lines and
// lines that start with '#' are ignored. Files over [MaxIDFile] are refused.
func ReadIDFile(path string) (peer.ID, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("read peer id: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, MaxIDFile+1))
	if err != nil {
		return "", fmt.Errorf("read peer id: %w", err)
	}
	if len(b) > MaxIDFile {
		return "", fmt.Errorf("read peer id: %s is larger than %d bytes", path, MaxIDFile)
	}
	var found peer.ID
	n := 0
	for line := range strings.Lines(string(b)) {
		n++
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		if found != "" {
			return "", fmt.Errorf("read peer id: %s:%d: a second line with content; want one peer id", path, n)
		}
		if found, err = ParseID(line); err != nil {
			return "", fmt.Errorf("read peer id: %s:%d: %w", path, n, err)
		}
	}
	if found == "" {
		return "", fmt.Errorf("read peer id: %s contains no peer id", path)
	}
	return found, nil
}

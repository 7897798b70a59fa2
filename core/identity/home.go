package identity

import (
	"bytes"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
)

const (
	// FileName is the key's file in a home directory.
	FileName = "identity.pem"

	maxKeyFile = 4 << 10 // bytes; a PKCS #8 Ed25519 key in PEM has 119
	pemType    = "PRIVATE KEY"
)

// Create makes a new identity and keeps it in home, which is created with mode
// 0700 if it is missing. The file has mode 0600.
//
// If home has an identity already, Create leaves it alone and returns an error
// that matches [fs.ErrExist]. Of two concurrent calls one succeeds.
func Create(home string) (*Identity, error) {
	id := Generate()
	if err := os.MkdirAll(home, 0o700); err != nil {
		return nil, fmt.Errorf("create identity: %w", err)
	}
	path := filepath.Join(home, FileName)
	if err := writeNew(path, id.key()); err != nil {
		if errors.Is(err, fs.ErrExist) {
			return nil, fmt.Errorf("create identity: %s exists and is never overwritten: %w", path, fs.ErrExist)
		}
		return nil, fmt.Errorf("create identity: %w", err)
	}
	return id, nil
}

// Load reads the identity that [Create] kept in home.
//
// A missing file is an error that matches [fs.ErrNotExist]. The file must be a
// regular one, not a link, and readable by its owner only; on Windows, whose
// files have no such mode, that permission is not checked.
func Load(home string) (*Identity, error) {
	path := filepath.Join(home, FileName)
	b, err := readPrivate(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("no identity at %s; make one with: liop id new: %w", path, fs.ErrNotExist)
	}
	if err != nil {
		return nil, fmt.Errorf("load identity: %w", err)
	}
	key, err := parsePEM(b)
	if err != nil {
		return nil, fmt.Errorf("load identity: %s: %w", path, err)
	}
	return FromKey(key)
}

// writeNew writes key to a file beside path and links it to path only when it
// is on disk: a link, unlike a rename, fails if path exists.
func writeNew(path string, key ed25519.PrivateKey) (err error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, ".identity-*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	err = pem.Encode(f, &pem.Block{Type: pemType, Bytes: der})
	err = errors.Join(err, f.Sync(), f.Close())
	if err != nil {
		return err
	}
	if err := os.Link(f.Name(), path); err != nil {
		return err
	}
	return syncDir(dir)
}

func syncDir(dir string) error {
	if runtime.GOOS == "windows" {
		return nil // directories cannot be flushed there
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func readPrivate(path string) ([]byte, error) {
	named, err := os.Lstat(path) // before opening, since opening a FIFO blocks
	if err != nil {
		return nil, err
	}
	if !named.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file", path)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !os.SameFile(named, info) {
		return nil, fmt.Errorf("%s was replaced while it was opened", path)
	}
	if mode := info.Mode().Perm(); runtime.GOOS != "windows" && mode&0o077 != 0 {
		return nil, fmt.Errorf("%s is open to other users (mode %04o); run: chmod 600 %s", path, mode, path)
	}
	b, err := io.ReadAll(io.LimitReader(f, maxKeyFile+1))
	if err != nil {
		return nil, err
	}
	if len(b) > maxKeyFile {
		return nil, fmt.Errorf("%s is larger than %d bytes", path, maxKeyFile)
	}
	return b, nil
}

// parsePEM never repeats what it read: it might be a key.
func parsePEM(b []byte) (ed25519.PrivateKey, error) {
	block, rest := pem.Decode(b)
	if block == nil || block.Type != pemType || len(bytes.TrimSpace(rest)) > 0 {
		return nil, fmt.Errorf("want one PEM block of type %q", pemType)
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, errors.New("not a PKCS #8 private key")
	}
	ed, ok := key.(ed25519.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("want an Ed25519 key, not %T", key)
	}
	return ed, nil
}

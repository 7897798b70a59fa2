package dataset

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"

	"github.com/liop-project/liop/core/guest"
)

// saltFileBytes is the size of a salt's file: 64 hexadecimal digits and a line
// feed.
const saltFileBytes = 2*32 + 1

// Salts keeps the salts of a node's datasets. Its methods are safe for
// concurrent use, also by several processes.
//
// Whoever knows a salt can check guesses of the data against commitments in
// receipts, so the files are readable by their owner only. Losing one means no
// more than that the commitments to its dataset change.
type Salts struct {
	dir string

	mu    sync.Mutex
	known map[string][32]byte // by name of the dataset
}

// LoadSalts uses the folder "salts" in the node's state directory dir and makes
// it, with mode 0700, if it does not exist. It refuses a folder that users
// other than its owner can enter; on Windows that is not checked.
func LoadSalts(dir string) (*Salts, error) {
	folder := filepath.Join(dir, "salts")
	if err := os.Mkdir(folder, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("make folder for the salts of datasets: %w", err)
	}
	info, err := os.Lstat(folder)
	if err != nil {
		return nil, fmt.Errorf("folder for the salts of datasets: %w", err)
	}
	if !info.IsDir() {
		return nil, fmt.Errorf("%q is not a directory, remove it", folder)
	}
	if err := private(folder, info, "chmod 700"); err != nil {
		return nil, err
	}
	return &Salts{dir: folder, known: make(map[string][32]byte)}, nil
}

// For is the salt of the dataset called name. The first call ever for a name
// makes a random one, which is on disk before it is returned. Callers MUST pass
// only names of datasets that the node serves: each one keeps a file.
//
// It fails with a [*fault.Error] if name is not a dataset's name, and with a
// text for the operator if the salt's file is damaged or readable by others.
func (s *Salts) For(name string) ([32]byte, error) {
	if err := guest.ValidDataset(name); err != nil {
		return [32]byte{}, fmt.Errorf("salt of dataset: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if salt, ok := s.known[name]; ok {
		return salt, nil
	}
	// '%' is in no name, so different names have different files.
	path := filepath.Join(s.dir, strings.ReplaceAll(name, "/", "%2f")+".salt")
	salt, err := readSalt(path)
	if errors.Is(err, fs.ErrNotExist) {
		salt, err = makeSalt(path)
	}
	if err != nil {
		return [32]byte{}, fmt.Errorf("salt of dataset %s: %w", name, err)
	}
	s.known[name] = salt
	return salt, nil
}

func readSalt(path string) (salt [32]byte, err error) {
	info, err := os.Lstat(path) // before the open, which would wait at a FIFO
	if err != nil {
		return salt, err
	}
	if !info.Mode().IsRegular() {
		return salt, fmt.Errorf("%q is not a regular file, remove it to get a new salt", path)
	}
	f, err := os.Open(path)
	if err != nil {
		return salt, err
	}
	defer f.Close()
	if info, err = f.Stat(); err != nil {
		return salt, err
	}
	if err := private(path, info, "chmod 600"); err != nil {
		return salt, err
	}
	b, err := io.ReadAll(io.LimitReader(f, saltFileBytes+1))
	if err != nil {
		return salt, err
	}
	salt, ok := parseSalt(b)
	if !ok {
		return salt, fmt.Errorf("%q is damaged, remove it to get a new salt: the commitments to the dataset will change", path)
	}
	return salt, nil
}

// makeSalt makes the file at path. If another process was first, its salt is
// returned.
func makeSalt(path string) (salt [32]byte, err error) {
	rand.Read(salt[:])                                    // never fails
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*") // mode 0600
	if err != nil {
		return salt, err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(formatSalt(salt))
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return salt, err
	}
	// Unlike a rename, a link does not replace what another process has made.
	if err := os.Link(f.Name(), path); errors.Is(err, fs.ErrExist) {
		return readSalt(path)
	} else if err != nil {
		return salt, err
	}
	return salt, syncDir(filepath.Dir(path))
}

func formatSalt(salt [32]byte) []byte {
	return append(hex.AppendEncode(nil, salt[:]), '\n')
}

// parseSalt is the inverse of formatSalt.
func parseSalt(b []byte) (salt [32]byte, ok bool) {
	if len(b) != saltFileBytes || b[saltFileBytes-1] != '\n' {
		return salt, false
	}
	n, err := hex.Decode(salt[:], b[:saltFileBytes-1])
	return salt, err == nil && n == len(salt)
}

// private refuses what users other than the owner can open.
func private(path string, info fs.FileInfo, cure string) error {
	if runtime.GOOS != "windows" && info.Mode().Perm()&0o077 != 0 {
		return fmt.Errorf("%q is open to other users (mode %04o), run: %s %s", path, info.Mode().Perm(), cure, path)
	}
	return nil
}

// syncDir makes a new name in dir survive a crash of the machine.
func syncDir(dir string) error {
	if runtime.GOOS == "windows" { // has no such call, and needs none
		return nil
	}
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}

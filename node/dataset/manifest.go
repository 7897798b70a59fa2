package dataset

import (
	"crypto/hmac"
	"crypto/sha256"
	"strconv"

	"github.com/liop-project/liop/core/guest"
)

// The bases of a [Version].
const (
	// Content: the commitment covers the bytes of every file.
	Content = "content"

	// Metadata: the commitment covers the path, size and modification time of
	// every file, because its bytes were not read yet or were being written.
	Metadata = "metadata"
)

// domain keeps a commitment from being mistaken for any other HMAC, and changes
// with the format of the manifest.
const domain = "liop-dataset-v1"

// flushBytes is how much of a manifest is held before it is hashed.
const flushBytes = 32 << 10

// commit is HMAC-SHA256(salt, manifest); the package documentation has the
// format. files MUST be in bytewise order of their paths and, if basis is
// Content, have their hashes.
func commit(salt [32]byte, name, basis string, files []file) (commitment [32]byte) {
	mac := hmac.New(sha256.New, salt[:])
	b := make([]byte, 0, flushBytes+1024)
	b = guest.AppendNetstring(b, domain)
	b = guest.AppendNetstring(b, name)
	var number [20]byte
	for i := range files {
		f := &files[i]
		b = guest.AppendNetstring(b, f.path)
		switch {
		case f.isLink:
			b = guest.AppendNetstring(b, "link")
			b = guest.AppendNetstring(b, f.target)
		case basis == Content:
			b = guest.AppendNetstring(b, strconv.AppendInt(number[:0], f.id.size, 10))
			b = guest.AppendNetstring(b, f.sum[:])
		default:
			b = guest.AppendNetstring(b, strconv.AppendInt(number[:0], f.id.size, 10))
			b = guest.AppendNetstring(b, strconv.AppendInt(number[:0], f.id.mtime, 10))
		}
		if len(b) >= flushBytes {
			mac.Write(b)
			b = b[:0]
		}
	}
	mac.Write(b)
	mac.Sum(commitment[:0])
	return commitment
}

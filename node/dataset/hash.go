package dataset

import (
	"context"
	"crypto/sha256"
	"errors"
	"hash"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"
)

const (
	// readChunk is how much of a file is read at a time, between two looks at
	// whether to stop.
	readChunk = 256 << 10

	// paceSlice is for how long the background works before it rests as long.
	paceSlice = 5 * time.Millisecond
)

var (
	errGone    = errors.New("file is gone")
	errWritten = errors.New("file is being written")
	errLarge   = errors.New("file is larger than may be read now")
)

// hasher reads files from beginning to end.
type hasher struct {
	ctx  context.Context
	root *os.Root
	hash hash.Hash
	buf  []byte
	rest func(worked time.Duration) error // called after each chunk; may be nil
}

func newHasher(ctx context.Context, root *os.Root) *hasher {
	return &hasher{ctx: ctx, root: root, hash: sha256.New(), buf: make([]byte, readChunk)}
}

// file returns the SHA-256 of the content of the file at path, and by what the
// file that has it is recognised. It returns errGone if there is no regular
// file, errLarge if it has more than most bytes, errWritten if it was written
// to meanwhile or is not the one that want describes (nil: any).
func (h *hasher) file(path string, most int64, want *ident) (id ident, sum [32]byte, err error) {
	// Should a FIFO have taken the file's place, O_NONBLOCK keeps its open from
	// waiting for a writer.
	f, err := h.root.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		if info, lerr := h.root.Lstat(path); vanished(lerr) || lerr == nil && !info.Mode().IsRegular() {
			return id, sum, errGone
		}
		return id, sum, unreadable("file", path, err)
	}
	defer f.Close()
	if id, err = regular(f); err != nil {
		return id, sum, err
	}
	switch {
	case want != nil && id != *want:
		return id, sum, errWritten
	case id.size > most:
		return id, sum, errLarge
	}

	h.hash.Reset()
	var total int64
	for {
		if err := h.ctx.Err(); err != nil {
			return id, sum, err
		}
		began := time.Now()
		n, err := f.Read(h.buf)
		h.hash.Write(h.buf[:n])
		if total += int64(n); total > id.size {
			return id, sum, errWritten
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return id, sum, unreadable("file", path, err)
		}
		if h.rest != nil {
			if err := h.rest(time.Since(began)); err != nil {
				return id, sum, err
			}
		}
	}
	after, err := regular(f)
	if err != nil {
		return id, sum, err
	}
	if total != id.size || after != id {
		return id, sum, errWritten
	}
	h.hash.Sum(sum[:0])
	return id, sum, nil
}

func regular(f *os.File) (ident, error) {
	info, err := f.Stat()
	if err != nil {
		return ident{}, err
	}
	if !info.Mode().IsRegular() {
		return ident{}, errGone
	}
	return identOf(info), nil
}

// badFile is a file that the background could not read.
type badFile struct {
	path string
	id   ident
	err  error
}

// stillBad returns why the background could not read a file, if the latest walk
// found the file unchanged. A refusal stays, because whoever lifts it changes
// the file's ctime; any other error is reported once, and then the file is
// tried again. The caller holds mu.
func (d *Dataset) stillBad() error {
	bad := d.bad
	if bad == nil {
		return nil
	}
	i, ok := d.find(bad.path)
	if !ok || d.files[i].isLink || d.files[i].id != bad.id {
		d.bad = nil
		return nil
	}
	if !errors.Is(bad.err, fs.ErrPermission) {
		d.bad = nil
	}
	return bad.err
}

// find is slices.BinarySearch in d.files by path. The caller holds mu.
func (d *Dataset) find(path string) (int, bool) {
	return slices.BinarySearchFunc(d.files, path, func(f file, p string) int { return strings.Compare(f.path, p) })
}

// hashLater starts the background, unless it runs or the dataset is closed.
func (d *Dataset) hashLater() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.hashing || d.closed {
		return
	}
	d.hashing = true
	d.wg.Go(d.background)
}

// background reads the files whose content is not known. Files that have not
// settled get one chance to do so: the content of a large one that is written
// to all the time would be out of date before it is read.
func (d *Dataset) background() {
	defer func() {
		d.mu.Lock()
		d.hashing = false
		d.rounds++
		d.fresh = false // the next snapshot can do better
		d.mu.Unlock()
	}()
	for range 2 {
		again, err := d.pass()
		if err != nil || !again {
			return // the next walk meets the same error and reports it
		}
		if sleep(d.life, Settle) != nil {
			return
		}
	}
}

// pass reads what is not known and has settled, and reports whether something
// had not settled.
func (d *Dataset) pass() (again bool, err error) {
	root, err := d.open()
	if err != nil {
		return false, err
	}
	defer root.Close()
	h := newHasher(d.life, root)
	var worked time.Duration
	h.rest = func(t time.Duration) error {
		if worked += t; worked < paceSlice {
			return nil
		}
		t, worked = worked, 0
		return sleep(d.life, t)
	}
	for f, ok := d.nextUnread(""); ok; f, ok = d.nextUnread(f.path) {
		if !f.id.settledAt(d.now()) {
			again = true
			continue
		}
		_, sum, err := h.file(f.path, f.id.size, &f.id)
		if d.life.Err() != nil {
			return false, d.life.Err()
		}
		d.mu.Lock()
		switch i, ok := d.find(f.path); {
		case errors.Is(err, errGone), errors.Is(err, errWritten), errors.Is(err, errLarge):
			// The next walk sees what became of it.
		case err != nil:
			d.bad = &badFile{f.path, f.id, err}
		case ok && d.files[i].unread() && d.files[i].id == f.id:
			d.files[i].sum, d.files[i].known, d.files[i].settled = sum, true, true
		}
		d.mu.Unlock()
	}
	return again, nil
}

// nextUnread is the first file after path whose content is not known.
func (d *Dataset) nextUnread(path string) (file, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	i, ok := d.find(path)
	if ok {
		i++
	}
	for ; i < len(d.files); i++ {
		if d.files[i].unread() {
			return d.files[i], true
		}
	}
	return file{}, false
}

// sleep returns after t, or with the error of ctx when that ends first.
func sleep(ctx context.Context, t time.Duration) error {
	timer := time.NewTimer(t)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

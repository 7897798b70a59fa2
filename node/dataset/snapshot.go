package dataset

import (
	"context"
	"errors"
	"os"
	"slices"
	"time"
)

// Version is what a dataset was at one time.
type Version struct {
	// Commitment is HMAC-SHA256(salt, manifest), see the package documentation.
	Commitment [32]byte

	// Basis is [Content] or [Metadata].
	Basis string

	// Files and Bytes are the number of regular files and their total size.
	Files int
	Bytes int64

	// Refused is how many links and special files are left out because no
	// module can reach what is behind them.
	Refused int

	// At is when the walk began: every change that was complete by then is
	// reflected.
	At time.Time
}

// flight is one walk and whoever waits for it. v and err are set before done is
// closed.
type flight struct {
	done chan struct{}
	v    Version
	err  error
}

// Snapshot is the dataset's present version, at most [SnapshotTTL] old, or as
// old as a walk that was already under way when it was called. Concurrent
// callers share one walk. When ctx ends, Snapshot returns its error, and the
// walk goes on, so that the next caller finds it done.
//
// An unchanged file is read once. A version with the basis [Metadata] becomes
// one with the basis [Content] when all files have been read.
//
// It fails, with a text for the operator that names paths, if something in the
// dataset cannot be read, if there is more of it than [MaxFiles] or [MaxDepth]
// allow, and with [ErrClosed].
func (d *Dataset) Snapshot(ctx context.Context) (Version, error) {
	if err := ctx.Err(); err != nil {
		return Version{}, err
	}
	d.mu.Lock()
	if d.closed {
		d.mu.Unlock()
		return Version{}, ErrClosed
	}
	if d.fresh {
		// A negative age means that the clock was set back.
		if age := d.now().Sub(d.last.At); age >= 0 && age < SnapshotTTL {
			v := d.last
			d.mu.Unlock()
			return v, nil
		}
	}
	f := d.flight
	if f == nil {
		f = &flight{done: make(chan struct{})}
		d.flight = f
		d.wg.Go(func() { d.fly(f) })
	}
	d.mu.Unlock()

	select {
	case <-f.done:
		return f.v, f.err
	case <-ctx.Done():
		return Version{}, ctx.Err()
	}
}

func (d *Dataset) fly(f *flight) {
	d.mu.Lock()
	rounds := d.rounds
	d.mu.Unlock()
	v, err := d.take()
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case d.closed:
		v, err = Version{}, ErrClosed
	case err != nil:
		v, err = Version{}, d.failed(err)
	default:
		d.last, d.fresh = v, rounds == d.rounds
	}
	f.v, f.err = v, err
	d.flight = nil
	close(f.done)
}

// take walks the dataset, reads what may be read inline, and commits to it.
// Only one take runs at a time.
func (d *Dataset) take() (Version, error) {
	v := Version{Basis: Content, At: d.now()}
	root, err := d.open()
	if err != nil {
		return v, err
	}
	defer root.Close()
	found, err := walk(d.life, root, d.limits)
	if err != nil {
		return v, err
	}
	files := found.files
	v.Refused = found.refused

	d.mu.Lock()
	recall(files, d.files)
	d.files = files
	background := d.hashing
	count, size := 0, int64(0)
	for i := range files {
		if files[i].unread() {
			count++
			size += files[i].id.size
		}
	}
	err = d.stillBad()
	d.mu.Unlock()
	if err != nil {
		return v, err
	}

	switch {
	case count == 0:
	case background: // it reads these files, or the next one will
		v.Basis = Metadata
	case size > d.limits.inline:
		v.Basis = Metadata
		d.hashLater()
	default:
		if files, v.Basis, err = d.hashNow(root, files); err != nil {
			return v, err
		}
	}

	for i := range files {
		if !files[i].isLink {
			v.Files++
			v.Bytes += files[i].id.size
		}
	}
	v.Commitment = commit(d.salt, d.name, v.Basis, files)
	return v, nil
}

// hashNow reads the files that are not known yet, drops those that vanished,
// and says on what basis a commitment to the rest can be.
func (d *Dataset) hashNow(root *os.Root, files []file) ([]file, string, error) {
	h := newHasher(d.life, root)
	budget, basis := d.limits.inline, Content
	var vanished, large bool
	var failed error
	for i := 0; i < len(files) && failed == nil; i++ {
		f := &files[i]
		if !f.unread() {
			continue
		}
		began := d.now()
		id, sum, err := h.file(f.path, budget, nil)
		if errors.Is(err, errWritten) { // once more: most files are written in one go
			budget -= id.size
			began = d.now()
			id, sum, err = h.file(f.path, budget, nil)
		}
		switch {
		case errors.Is(err, errGone):
			f.path, vanished = "", true
		case errors.Is(err, errLarge):
			basis, large = Metadata, true
		case errors.Is(err, errWritten):
			basis = Metadata
			budget -= id.size
		case err != nil:
			failed = err
		default:
			f.id, f.sum, f.known, f.settled = id, sum, true, id.settledAt(began)
			budget -= id.size
		}
	}
	if vanished {
		files = slices.DeleteFunc(files, func(f file) bool { return f.path == "" })
		d.mu.Lock()
		d.files = files
		d.mu.Unlock()
	}
	if large && failed == nil { // not before this loop is done with the files
		d.hashLater()
	}
	return files, basis, failed
}

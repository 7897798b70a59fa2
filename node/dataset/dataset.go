// Package dataset is what a node lets modules read: named directories, and
// commitments to what was in them.
//
// A [Dataset] is one directory under one name. It promises that
//
//   - the directory is what its path led to when it was opened: all symbolic
//     links in the path are resolved once, and a later snapshot fails if the
//     directory has been replaced by a link or has come to overlap a
//     forbidden path (the node's home with its key);
//   - a snapshot never reads outside the directory, whatever links are in it;
//   - a snapshot taken at time t reflects every change that was complete at t,
//     or says, by its basis, that it rests on sizes and times alone.
//
// It does not lock the directory. What a module reads moments later may be
// newer than the commitment, and a file that is written to while it is read
// has no content to commit to: its snapshot has the basis [Metadata].
//
// # Commitments
//
// The commitment to a dataset is HMAC-SHA256(salt, manifest). The salt keeps
// whoever holds the commitment from guessing small data; [Salts] keeps one for
// each name. The manifest is a sequence of netstrings:
//
//	"liop-dataset-v1", the dataset's name, then for each entry, in bytewise
//	order of the paths, three more:
//	regular file   path, size in bytes (decimal), SHA-256 of the content (32 bytes)
//	symbolic link  path, "link", the link's target as it is written
//
// Paths are relative to the directory, with '/' between segments, and are any
// bytes that the file system allows. With the basis [Metadata] the third
// netstring of a regular file is its modification time in nanoseconds since
// the Unix epoch (decimal). Directories have no entry of their own, so an
// empty one leaves no trace.
//
// Only links that lead to a file or directory inside are entries. Links that
// are absolute, leave the directory, dangle or loop, and everything that is
// neither file, directory nor link, is left out and counted in
// [Version.Refused]; the sandbox refuses to follow them too.
package dataset

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/liop-project/liop/core/guest"
	"github.com/liop-project/liop/node/bounds"
)

// Limits of one dataset, and the figures by which it shares the machine.
const (
	// MaxFiles is the most entries of any kind (files, directories, links) that
	// a dataset may have. A snapshot of a larger one fails.
	MaxFiles = bounds.DirEntries

	// MaxDepth is the deepest nesting of directories. A snapshot of a deeper
	// one fails.
	MaxDepth = 64

	// SnapshotTTL is how long a snapshot is returned again without a look at
	// the directory.
	SnapshotTTL = time.Second

	// InlineBytes is how much a snapshot reads before it answers. If more has
	// changed, it answers with the basis [Metadata], and one goroutine of the
	// dataset reads the files meanwhile.
	InlineBytes = 64 << 20

	// Settle is how long a file must have been left alone before a hash of it
	// is relied on. It covers the coarsest clock of a file system in use (FAT,
	// 2 s), within whose tick a file can change and keep its times. Until then
	// a small file is read again by each snapshot, and a large one not at all.
	Settle = 2 * time.Second
)

// ErrClosed is returned by a [Dataset] after [Dataset.Close].
var ErrClosed = errors.New("dataset is closed")

// Options of a dataset. The zero value is useful.
type Options struct {
	// Forbid lists files and directories that must never be served, such as the
	// node's home. A dataset is refused if it lies within one of them, or one of
	// them lies within it. They are compared by identity, so that a link or a
	// bind mount is no way around, and need not exist.
	Forbid []string

	// Now is the clock; nil is time.Now. It decides the age of snapshots and,
	// compared with the times of files, whether they have settled.
	Now func() time.Time
}

// Dataset is one directory under one name. Its methods are safe for concurrent
// use.
type Dataset struct {
	name   string
	dir    string
	salt   [32]byte
	forbid []string // absolute; links are evaluated at each look, they may change
	now    func() time.Time
	limits limits

	life context.Context // ends with Close
	stop context.CancelFunc
	wg   sync.WaitGroup // the walk and the hashing that are under way

	mu     sync.Mutex
	closed bool
	last   Version
	fresh  bool    // last may be returned while it is younger than SnapshotTTL
	flight *flight // the walk that is under way, or nil

	// files is what the latest walk found, in order of the paths, and with its
	// hashes the memory of what need not be read again. While hashing is false
	// the walk alone uses it, without mu; while it is true the walk leaves
	// hashes to the background, which sets them under mu.
	files   []file
	hashing bool
	rounds  int      // how often the background has come to its end
	bad     *badFile // what the background could not read
}

type limits struct {
	entries int
	depth   int
	inline  int64
}

// Open makes the directory dir readable under name. It resolves dir to an
// absolute path without symbolic links.
//
// It fails if name is not a dataset's name (a [*fault.Error]), if dir is not a
// directory that can be listed, and if it is the root of the file system or
// overlaps one of o.Forbid. The text of these errors is for the operator and
// names paths of the host.
func Open(name, dir string, salt [32]byte, o Options) (*Dataset, error) {
	if err := guest.ValidDataset(name); err != nil {
		return nil, fmt.Errorf("open dataset: %w", err)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	d := &Dataset{
		name: name, salt: salt, now: o.Now,
		limits: limits{entries: MaxFiles, depth: MaxDepth, inline: InlineBytes},
	}
	var err error
	if d.dir, err = resolve(dir); err != nil {
		return nil, d.failed(err)
	}
	for _, p := range o.Forbid {
		abs, err := filepath.Abs(p)
		if err == nil && p == "" {
			err = errors.New("empty path")
		}
		if err != nil {
			return nil, d.failed(fmt.Errorf("forbidden path %q: %w", p, err))
		}
		d.forbid = append(d.forbid, abs)
	}
	root, err := d.open()
	if err != nil {
		return nil, d.failed(err)
	}
	defer root.Close()
	if err := listable(root); err != nil {
		return nil, d.failed(d.unlistable(err))
	}
	d.life, d.stop = context.WithCancel(context.Background())
	return d, nil
}

// Name is the name under which modules ask for the dataset.
func (d *Dataset) Name() string { return d.name }

// Dir is the absolute path on the host, without symbolic links. It MUST NOT be
// shown to peers.
func (d *Dataset) Dir() string { return d.dir }

// GuestPath is where a module finds the dataset.
func (d *Dataset) GuestPath() string { return "/data/" + d.name }

// Close stops what is under way and waits for it. Later and waiting calls of
// [Dataset.Snapshot] return [ErrClosed]. Close is idempotent and returns nil.
func (d *Dataset) Close() error {
	d.mu.Lock()
	d.closed = true
	d.mu.Unlock()
	d.stop()
	d.wg.Wait()
	return nil
}

// failed says which dataset an error is about.
func (d *Dataset) failed(err error) error {
	return fmt.Errorf("dataset %s: %w", d.name, err)
}

func listable(root *os.Root) error {
	f, err := root.Open(".")
	if err != nil {
		return err
	}
	defer f.Close()
	names, err := f.Readdirnames(1)
	if errors.Is(err, io.EOF) { // empty
		return nil
	}
	if err != nil {
		return err
	}
	if _, err := root.Lstat(names[0]); !vanished(err) { // needs the search permission
		return err
	}
	return nil
}

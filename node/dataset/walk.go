package dataset

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"
)

// listBatch is how many names are read from a directory at a time.
const listBatch = 1024

// file is one entry of the manifest.
type file struct {
	path   string // relative to the dataset, '/' between segments
	id     ident
	isLink bool
	target string // of a link, as it is written

	sum     [32]byte // SHA-256 of the content
	known   bool     // sum is set
	settled bool     // sum may be relied on as long as id stays the same
}

// unread reports whether the file's content has to be read for a commitment to
// content.
func (f *file) unread() bool { return !f.isLink && !f.known }

// ident is by what a file is recognised as unchanged. Times are in nanoseconds
// since the Unix epoch. ctime is the one that no program can set at will.
type ident struct {
	dev, inode         uint64
	size, mtime, ctime int64
}

// settledAt reports whether the last change was long enough before now. A
// change in the future means that the clock was set back; the next change will
// have another time, so it counts as settled.
func (id ident) settledAt(now time.Time) bool {
	age := now.Sub(time.Unix(0, id.ctime))
	return age >= Settle || age <= -Settle
}

// listing is what a walk found.
type listing struct {
	files   []file // in bytewise order of the paths
	refused int
}

// walk lists everything under root. Entries that vanish meanwhile are passed
// over.
func walk(ctx context.Context, root *os.Root, lim limits) (listing, error) {
	w := walker{ctx: ctx, top: root, lim: lim}
	if err := w.dir(root, "", 0); err != nil {
		return listing{}, err
	}
	byPath := func(a, b file) int { return strings.Compare(a.path, b.path) }
	slices.SortFunc(w.files, byPath)
	// A directory that changes while it is listed may yield a name twice.
	w.files = slices.CompactFunc(w.files, func(a, b file) bool { return a.path == b.path })
	return w.listing, nil
}

type walker struct {
	ctx     context.Context
	top     *os.Root
	lim     limits
	entries int
	listing
}

// dir lists the directory r, whose path is at.
func (w *walker) dir(r *os.Root, at string, depth int) error {
	f, err := r.Open(".")
	if vanished(err) {
		return nil
	}
	if err != nil {
		return unreadable("directory", at, err)
	}
	defer f.Close()

	type subdir struct {
		name string
		info fs.FileInfo
	}
	var subdirs []subdir
	for {
		if err := w.ctx.Err(); err != nil {
			return err
		}
		names, err := f.Readdirnames(listBatch)
		for _, name := range names {
			if w.entries++; w.entries > w.lim.entries {
				return fmt.Errorf("more than %d files, directories and links, split the dataset or pack small files together", w.lim.entries)
			}
			info, err := r.Lstat(name)
			if vanished(err) {
				continue
			}
			if err != nil {
				return unreadable("entry", join(at, name), err)
			}
			switch info.Mode().Type() {
			case 0:
				w.files = append(w.files, file{path: join(at, name), id: identOf(info)})
			case fs.ModeDir:
				subdirs = append(subdirs, subdir{name, info})
			case fs.ModeSymlink:
				w.link(r, at, name)
			default:
				w.refused++
			}
		}
		if errors.Is(err, io.EOF) || vanished(err) {
			break
		}
		if err != nil {
			return unreadable("directory", at, err)
		}
	}
	f.Close() // before the descent, so that only one handle per level stays open

	for _, s := range subdirs {
		path := join(at, s.name)
		if depth == w.lim.depth {
			return fmt.Errorf("%q is more than %d directories deep, flatten the dataset", path, w.lim.depth)
		}
		if err := w.descend(r, s.name, path, s.info, depth+1); err != nil {
			return err
		}
	}
	return nil
}

// descend lists the subdirectory of r that was seen as info, unless something
// else has taken its place.
func (w *walker) descend(r *os.Root, name, path string, info fs.FileInfo, depth int) error {
	sub, err := r.OpenRoot(name)
	if err != nil {
		// An error without a number is os.Root's own: the name is not that of a
		// directory, or leads out. The inode alone does not tell, it may have
		// been freed and used again.
		var errno syscall.Errno
		if now, lerr := r.Lstat(name); lerr != nil || !os.SameFile(now, info) || !errors.As(err, &errno) || vanished(err) {
			return nil
		}
		return unreadable("directory", path, err)
	}
	defer sub.Close()
	opened, err := sub.Stat(".")
	if err != nil {
		return unreadable("directory", path, err)
	}
	if !os.SameFile(opened, info) {
		return nil
	}
	return w.dir(sub, path, depth)
}

// link adds the link called name if it leads to a file or directory inside.
func (w *walker) link(r *os.Root, at, name string) {
	path := join(at, name)
	target, err := r.Readlink(name)
	if err != nil { // vanished, or something else by now
		return
	}
	// From the top, because a link in a subdirectory may lead to a sibling of it.
	to, err := w.top.Stat(path)
	if err != nil || !to.IsDir() && !to.Mode().IsRegular() {
		w.refused++
		return
	}
	w.files = append(w.files, file{path: path, isLink: true, target: target})
}

// recall copies the hashes of files that have not changed from the listing
// before. Both are in order of the paths.
func recall(files, before []file) {
	for i := range files {
		f := &files[i]
		for len(before) > 0 && before[0].path < f.path {
			before = before[1:]
		}
		if len(before) == 0 {
			return
		}
		b := &before[0]
		if b.path == f.path && b.id == f.id && b.known && b.settled && !b.isLink && !f.isLink {
			f.sum, f.known, f.settled = b.sum, true, true
		}
	}
}

func join(dir, name string) string {
	if dir == "" {
		return name
	}
	return dir + "/" + name
}

// vanished reports whether err says that what was seen a moment ago is no
// longer there.
func vanished(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR)
}

// unreadable explains err, which a file or directory of the dataset gave.
func unreadable(what, path string, err error) error {
	if path == "" {
		path = "."
	}
	if errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("%s %q cannot be read, let the user of the node read it or move it out of the dataset: %w", what, path, err)
	}
	return fmt.Errorf("read %s %q: %w", what, path, err)
}

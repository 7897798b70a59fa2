package dataset

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// resolve is the absolute path of dir with all symbolic links evaluated.
func resolve(dir string) (string, error) {
	if dir == "" {
		return "", errors.New("no directory is given")
	}
	abs, err := filepath.Abs(dir)
	if err != nil {
		return "", fmt.Errorf("directory %q: %w", dir, err)
	}
	real, err := filepath.EvalSymlinks(abs)
	if errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("directory %q does not exist, create it or correct the path: %w", abs, err)
	}
	if err != nil {
		return "", fmt.Errorf("directory %q: %w", abs, err)
	}
	return real, nil
}

// resolveExisting evaluates symbolic links in as much of the absolute path abs
// as exists: a home that is not made yet must be kept out of a dataset as well.
func resolveExisting(abs string) (string, error) {
	for p := abs; ; p = filepath.Dir(p) {
		real, err := filepath.EvalSymlinks(p)
		if err == nil {
			return filepath.Join(real, abs[len(p):]), nil
		}
		if !errors.Is(err, fs.ErrNotExist) || p == filepath.Dir(p) {
			return "", err
		}
	}
}

// open opens the directory after it was checked again: between two snapshots
// an operator may have moved things.
func (d *Dataset) open() (*os.Root, error) {
	if d.dir == filepath.Dir(d.dir) {
		return nil, fmt.Errorf("directory %q is the root of the file system, choose one that holds nothing but data", d.dir)
	}
	before, err := os.Lstat(d.dir)
	if err != nil {
		return nil, fmt.Errorf("directory %q: %w", d.dir, err)
	}
	if !before.IsDir() {
		return nil, fmt.Errorf("%q is not a directory, put the file into one of its own", d.dir)
	}
	root, err := os.OpenRoot(d.dir)
	if err != nil {
		return nil, d.unlistable(err)
	}
	if err := d.check(root, before); err != nil {
		root.Close()
		return nil, err
	}
	return root, nil
}

// check makes sure that root is the directory seen before and may be served.
func (d *Dataset) check(root *os.Root, before fs.FileInfo) error {
	opened, err := root.Stat(".")
	if err != nil {
		return d.unlistable(err)
	}
	if !os.SameFile(before, opened) {
		return fmt.Errorf("directory %q was replaced while it was opened, try again", d.dir)
	}
	for _, p := range d.forbid {
		real, err := resolveExisting(p)
		if err != nil {
			return fmt.Errorf("forbidden path %q: %w", p, err)
		}
		over, err := overlaps(d.dir, opened, real)
		if err != nil {
			return fmt.Errorf("compare directory %q with forbidden path %q: %w", d.dir, p, err)
		}
		if over {
			return fmt.Errorf("directory %q overlaps %q, which must not be served, move the data elsewhere", d.dir, p)
		}
	}
	return nil
}

// overlaps reports whether one of dir and path lies within the other, or they
// are one. info is dir's.
func overlaps(dir string, info fs.FileInfo, path string) (bool, error) {
	if within, err := isWithin(path, info); within || err != nil {
		return within, err
	}
	other, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return isWithin(dir, other)
}

// isWithin reports whether path or a directory above it is the file of info.
// Parts of path that do not exist are passed over.
func isWithin(path string, info fs.FileInfo) (bool, error) {
	for {
		at, err := os.Stat(path)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return false, err
		}
		if err == nil && os.SameFile(at, info) {
			return true, nil
		}
		above := filepath.Dir(path)
		if above == path {
			return false, nil
		}
		path = above
	}
}

// unlistable explains err, which the directory itself gave.
func (d *Dataset) unlistable(err error) error {
	if errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("directory %q cannot be listed, give the user of the node read and search permission: %w", d.dir, err)
	}
	return fmt.Errorf("directory %q: %w", d.dir, err)
}

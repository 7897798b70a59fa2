// Package guest is what a Go guest of a liop node needs beyond the standard
// library. Build with GOOS=wasip1 GOARCH=wasm.
//
// A guest is an ordinary wasip1 command. The node gives it its arguments, the
// agent's inputs on stdin (see [Inputs]) and one read-only directory for each
// granted dataset (see [Datasets]), and nothing else: no environment, no
// network, no other files. What it writes to stdout is the answer; stderr is
// for the owner of the data. An exit code other than zero means that there is
// no answer (see [Fatal]).
//
// The package builds on other systems too, where Datasets lists the
// directories in /data, so that the logic of a guest can be tested without a
// node. It keeps no state; its functions may be called concurrently, except
// that stdin can be read once.
package guest

import (
	"cmp"
	"fmt"
	"os"
	"path"
	"slices"
	"strings"
)

const (
	// MaxFiles bounds what Files lists.
	MaxFiles = 100_000
	// MaxDepth bounds how many directories Files finds inside each other.
	MaxDepth = 32
)

// A Dataset is one that the agent was granted.
type Dataset struct {
	Name string // may have a slash in it
	Dir  string // a read-only directory, "/data/" + Name
}

// Datasets returns the granted datasets, sorted by name.
func Datasets() ([]Dataset, error) {
	dirs, err := granted()
	if err != nil {
		return nil, fmt.Errorf("list the granted datasets: %w", err)
	}
	var sets []Dataset
	for _, dir := range dirs {
		name, ok := strings.CutPrefix(dir, root)
		if !ok || name == "" {
			continue // not a dataset
		}
		sets = append(sets, Dataset{Name: name, Dir: dir})
	}
	slices.SortFunc(sets, func(a, b Dataset) int { return strings.Compare(a.Name, b.Name) })
	return sets, nil
}

// root is where the node mounts datasets.
const root = "/data/"

// A File is a regular file of a dataset.
type File struct {
	Name string // dataset/path/in/it
	Path string // to open
}

// Files returns the regular files of the datasets that match pattern, sorted
// bytewise by name. The pattern is that of [path.Match]. It is compared with
// the last element of the name, or if it has a slash with the whole name. An
// empty pattern matches all. Symbolic links are not followed. It is an error
// if a directory cannot be read, if no file matches, or if there are more than
// MaxFiles or MaxDepth.
func Files(sets []Dataset, pattern string) ([]File, error) {
	if _, err := path.Match(pattern, ""); err != nil {
		return nil, fmt.Errorf("pattern %q: %w", pattern, err)
	}
	var files []File
	for _, set := range sets {
		if err := walk(&files, set.Dir, set.Name, pattern, 0); err != nil {
			return nil, err
		}
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("no file matches %q in the granted datasets", cmp.Or(pattern, "*"))
	}
	slices.SortFunc(files, func(a, b File) int { return strings.Compare(a.Name, b.Name) })
	return files, nil
}

func walk(files *[]File, dir, name, pattern string, depth int) error {
	if depth > MaxDepth {
		return fmt.Errorf("%s: more than %d directories inside each other", name, MaxDepth)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("list %s: %w", name, err)
	}
	for _, e := range entries {
		child := File{Name: name + "/" + e.Name(), Path: dir + "/" + e.Name()}
		switch {
		case e.IsDir():
			if err := walk(files, child.Path, child.Name, pattern, depth+1); err != nil {
				return err
			}
		case e.Type().IsRegular() && matches(pattern, child.Name):
			if len(*files) == MaxFiles {
				return fmt.Errorf("more than %d files", MaxFiles)
			}
			*files = append(*files, child)
		}
	}
	return nil
}

// matches takes a pattern that path.Match understands.
func matches(pattern, name string) bool {
	if pattern == "" {
		return true
	}
	if !strings.Contains(pattern, "/") {
		name = path.Base(name)
	}
	ok, _ := path.Match(pattern, name)
	return ok
}

// Fatal writes err and a line end to stderr and exits with code 1: there is no
// answer. The text should name files and rules, never data.
func Fatal(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

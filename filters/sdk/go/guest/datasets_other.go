//go:build !wasip1

package guest

import (
	"errors"
	"io/fs"
	"os"
)

// granted returns the directories in /data.
func granted() ([]string, error) {
	entries, err := os.ReadDir(root)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var dirs []string
	for _, e := range entries {
		if e.IsDir() {
			dirs = append(dirs, root+e.Name())
		}
	}
	return dirs, nil
}

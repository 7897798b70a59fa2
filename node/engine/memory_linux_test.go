package engine

import (
	"os"
	"path/filepath"
	"testing"
)

func TestCgroupMemory(t *testing.T) {
	root := t.TempDir()
	for file, content := range map[string]string{
		"a/memory.max":                        "4096\n",
		"a/b/memory.max":                      "8192\n",
		"c/memory.max":                        "max\n",
		"memory/memory.limit_in_bytes":        "9223372036854771712\n",
		"memory/box/memory.limit_in_bytes":    "1048576\n",
		"memory/broken/memory.limit_in_bytes": "lots\n",
	} {
		path := filepath.Join(root, file)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	const none = ^uint64(0)
	for name, tc := range map[string]struct {
		roots cgroupRoots
		want  uint64
	}{
		"none":                {nil, none},
		"v2":                  {cgroupRoots{"": "a"}, 4096},
		"v2, limit above":     {cgroupRoots{"": "a/b"}, 4096},
		"v2, below its limit": {cgroupRoots{"": "a/b/of/the/host"}, 4096},
		"v2, max":             {cgroupRoots{"": "c"}, none},
		"v2, not there":       {cgroupRoots{"": "elsewhere"}, none},
		"v1":                  {cgroupRoots{"cpu": "a", "memory": "memory/box"}, 1048576},
		"v1, root":            {cgroupRoots{"memory": "memory/elsewhere"}, 9223372036854771712},
		"v1, no number":       {cgroupRoots{"memory": "memory/broken"}, 9223372036854771712},
		"both":                {cgroupRoots{"memory": "memory/box", "": "a"}, 4096},
	} {
		for c, dir := range tc.roots {
			tc.roots[c] = filepath.Join(root, dir)
		}
		if got := cgroupMemory(tc.roots); got != tc.want {
			t.Errorf("%s: %d, want %d", name, got, tc.want)
		}
	}
	if n := physicalMemory(); n < 64<<20 || n == none {
		t.Errorf("this machine has %d bytes", n)
	}
}

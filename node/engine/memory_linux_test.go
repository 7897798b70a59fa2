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
		groups string
		want   uint64
	}{
		"none":                {"", none},
		"v2":                  {"0::/a\n", 4096},
		"v2, limit above":     {"0::/a/b\n", 4096},
		"v2, below its limit": {"0::/a/b/of/the/host\n", 4096},
		"v2, max":             {"0::/c\n", none},
		"v2, not there":       {"0::/elsewhere\n", none},
		"v2, dots":            {"0::/../../a\n", 4096},
		"v1":                  {"9:cpu:/a\n4:hugetlb,memory:/box\n0::/\n", 1048576},
		"v1, root":            {"4:memory:/elsewhere\n", 9223372036854771712},
		"v1, no number":       {"4:memory:/broken\n", 9223372036854771712},
		"both":                {"4:memory:/box\n0::/a\n", 4096},
		"malformed":           {"memory\n:\n\n", none},
	} {
		if got := cgroupMemory(root, []byte(tc.groups)); got != tc.want {
			t.Errorf("%s: %d, want %d", name, got, tc.want)
		}
	}
	if n := physicalMemory(); n < 64<<20 || n == none {
		t.Errorf("this machine has %d bytes", n)
	}
}

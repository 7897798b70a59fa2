package engine

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/liop-project/liop/node/bounds"
)

// physicalMemory is how much memory this process can have, in bytes: the
// machine's, or less if a memory cgroup that it is in allows less.
func physicalMemory() uint64 {
	machine := uint64(bounds.AssumedMemory)
	var info unix.Sysinfo_t
	if unix.Sysinfo(&info) == nil {
		machine = uint64(info.Totalram) * uint64(info.Unit)
	}
	return min(machine, cgroupMemory(findCgroups("/proc/self")))
}

// cgroupMemory is the least memory limit of the cgroups in roots and of those
// above them. What cannot be read is no limit.
func cgroupMemory(roots cgroupRoots) uint64 {
	least := ^uint64(0)
	for controller, file := range map[string]string{"": "memory.max", "memory": "memory.limit_in_bytes"} {
		dir, ok := roots[controller]
		for ; ok && len(dir) > 1; dir = filepath.Dir(dir) {
			b, err := os.ReadFile(filepath.Join(dir, file))
			if err != nil {
				continue
			}
			if n, err := strconv.ParseUint(string(bytes.TrimSpace(b)), 10, 64); err == nil && n > 0 { // or "max"
				least = min(least, n)
			}
		}
	}
	return least
}

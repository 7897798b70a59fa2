package engine

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"strings"

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
	groups, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		groups = nil // no cgroups here
	}
	return min(machine, cgroupMemory("/sys/fs/cgroup", groups))
}

// cgroupMemory is the least memory limit of the cgroups that are listed as in
// /proc/self/cgroup, and of those above them. What cannot be read is no limit:
// inside a container the listed path may be the host's, and only the root is
// there.
func cgroupMemory(root string, groups []byte) uint64 {
	const unlimited = ^uint64(0)
	least := unlimited
	for line := range strings.Lines(string(groups)) {
		fields := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(fields) != 3 {
			continue
		}
		dir, file := root, "memory.max"
		if fields[1] != "" { // version 1
			if !strings.Contains(","+fields[1]+",", ",memory,") {
				continue
			}
			dir, file = filepath.Join(root, "memory"), "memory.limit_in_bytes"
		}
		for at := filepath.Join("/", fields[2]); ; at = filepath.Dir(at) {
			b, err := os.ReadFile(filepath.Join(dir, at, file))
			if err == nil {
				if n, err := strconv.ParseUint(string(bytes.TrimSpace(b)), 10, 64); err == nil && n > 0 { // or "max"
					least = min(least, n)
				}
			}
			if at == "/" {
				break
			}
		}
	}
	return least
}

package engine

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestFindCgroups(t *testing.T) {
	for name, tc := range map[string]struct {
		mountinfo, cgroup string
		want              cgroupRoots
	}{
		"version 2": {
			"30 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n",
			"0::/system.slice/liop.service\n",
			cgroupRoots{"": "/sys/fs/cgroup/system.slice/liop.service"},
		},
		"version 1 beside 2": {
			"31 25 0:27 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n" +
				"32 25 0:28 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n" +
				"33 25 0:29 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n",
			"4:memory:/a/b\n3:cpu,cpuacct:/\n0::/\n",
			cgroupRoots{"memory": "/sys/fs/cgroup/memory/a/b", "cpu": "/sys/fs/cgroup/cpu,cpuacct",
				"cpuacct": "/sys/fs/cgroup/cpu,cpuacct", "": "/sys/fs/cgroup/unified"},
		},
		"container that sees its own part": {
			"31 25 0:27 /docker/1234 /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n",
			"4:memory:/docker/1234\n",
			cgroupRoots{"memory": "/sys/fs/cgroup/memory"},
		},
		"mounted elsewhere": {
			"31 25 0:27 /docker/1234 /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n",
			"4:memory:/other\n",
			cgroupRoots{},
		},
		"nothing": {"", "", cgroupRoots{}},
		"junk":    {"x - y\n\n - - -\n", "4\n::\n:::::\n", cgroupRoots{}},
	} {
		t.Run(name, func(t *testing.T) {
			proc := t.TempDir()
			os.WriteFile(filepath.Join(proc, "mountinfo"), []byte(tc.mountinfo), 0o600)
			os.WriteFile(filepath.Join(proc, "cgroup"), []byte(tc.cgroup), 0o600)
			if got := findCgroups(proc); !maps.Equal(got, tc.want) {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}

// Version 2 in a directory that behaves as the kernel's for what is written.
func TestCgroup2(t *testing.T) {
	root := t.TempDir()
	if _, gap := newCgroup(cgroupRoots{"": root}, 1, 1); gap == nil {
		t.Fatal("a directory without controllers was accepted")
	}
	os.WriteFile(filepath.Join(root, "cgroup.controllers"), []byte("cpu pids\n"), 0o600)
	if _, gap := newCgroup(cgroupRoots{"": root}, 1, 1); gap == nil || !strings.Contains(gap.Reason, "memory") {
		t.Fatalf("without the memory controller: %v", gap)
	}
	os.WriteFile(filepath.Join(root, "cgroup.controllers"), []byte("cpu memory pids\n"), 0o600)
	os.WriteFile(filepath.Join(root, "cgroup.subtree_control"), nil, 0o600)
	os.Mkdir(filepath.Join(root, "liop-4194999-1"), 0o700) // of a node that is no more
	g, gap := newCgroup(cgroupRoots{"": root}, 1<<30, 640)
	if gap != nil {
		t.Fatal(gap)
	}
	for file, want := range map[string]string{"memory.max": "1073741824", "memory.swap.max": "0", "pids.max": "640"} {
		got, err := os.ReadFile(filepath.Join(g.dirs[0], file))
		if err != nil || string(got) != want {
			t.Errorf("%s is %q, %v", file, got, err)
		}
	}
	if b, _ := os.ReadFile(filepath.Join(root, "cgroup.subtree_control")); string(b) != "+memory +pids" {
		t.Errorf("subtree_control is %q", b)
	}
	if _, err := os.Stat(filepath.Join(root, "liop-4194999-1")); err == nil {
		t.Error("the cgroup of a dead node is still there")
	}
	if g.active() != "cgroup:2" {
		t.Error(g.active())
	}
}

// All workers together get no more memory than their cgroup has, and whoever
// is killed for it, the node and later runs are right.
func TestCgroupBoundsMemory(t *testing.T) {
	e := newTest(t, Config{Runners: 4})
	if e.spawner.group == nil {
		t.Skip("no cgroup can be made here: ", e.spawner.iso.gaps)
	}
	canary(t, e)
	e.pool.mu.Lock()
	pid := e.pool.idle[0].cmd.Process.Pid
	e.pool.mu.Unlock()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil || strings.Count(string(text), "/liop-") < 1 {
		t.Fatalf("a worker is in %q, %v", text, err)
	}
	file := map[int]string{1: "memory.limit_in_bytes", 2: "memory.max"}[e.spawner.group.version]
	if err := writeFileIn(e.spawner.group.dirs[0], file, fmt.Sprint(256<<20)); err != nil {
		t.Fatal(err)
	}
	errs := make(chan error)
	for i := range 4 {
		go func() {
			j := jobOf(guestModule(t, "memory-bomb"))
			j.Tenant = fmt.Sprint(i)
			j.Limits.Memory, j.Limits.Wall = 256<<20, 20*time.Second
			_, err := e.Run(context.Background(), j)
			errs <- err
		}()
	}
	for range 4 {
		if err := <-errs; err == nil {
			t.Error("a memory bomb ended well")
		}
	}
	canary(t, e)
	if got := peak(t, e.spawner.group); got > 256<<20 {
		t.Errorf("the workers used %d bytes", got)
	}
}

func peak(t *testing.T, g *cgroup) (n uint64) {
	t.Helper()
	file := map[int]string{1: "memory.max_usage_in_bytes", 2: "memory.peak"}[g.version]
	b, err := os.ReadFile(filepath.Join(g.dirs[0], file))
	if err != nil {
		t.Skip("the kernel does not count: ", err)
	}
	fmt.Sscan(string(b), &n)
	return n
}

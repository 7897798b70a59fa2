package engine

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/liop-project/liop/node/sandbox/wire"
)

// cgroup holds all workers of an engine, so that together they cannot take more
// memory or make more threads than it has for them, whatever each does. Both
// versions of the kernel's interface are known; version 1 has a directory for
// each controller, and the spawner's thread is a member, so that what it starts
// is born there; with version 2 the kernel is told at each start.
type cgroup struct {
	version int
	dirs    []string
	parents []string // where the spawner's thread came from; version 1
	v2      *os.File
}

// cgroupRoots are where this process is, by controller; "" is version 2.
type cgroupRoots map[string]string

// newCgroup makes one below that of this process, or says why it cannot.
func newCgroup(roots cgroupRoots, memory uint64, threads int) (*cgroup, *wire.Gap) {
	var why error
	if dir := roots[""]; dir != "" {
		g, err := newCgroup2(dir, memory, threads)
		if err == nil {
			return g, nil
		}
		why = err
	}
	if roots["memory"] != "" {
		g, err := newCgroup1(roots, memory, threads)
		if err == nil {
			return g, nil
		}
		why = err
	}
	if why == nil {
		why = errors.New("no memory controller is mounted")
	}
	return nil, &wire.Gap{Feature: "cgroup", Reason: why.Error(),
		Mend: "run the node as a systemd service with Delegate=yes, or as root, or in a container with a writable cgroup"}
}

func newCgroup1(roots cgroupRoots, memory uint64, threads int) (g *cgroup, err error) {
	g = &cgroup{version: 1}
	defer func() {
		if err != nil {
			g.close()
		}
	}()
	for _, c := range []struct{ controller, file, limit string }{
		{"memory", "memory.limit_in_bytes", strconv.FormatUint(memory, 10)},
		{"pids", "pids.max", strconv.Itoa(threads)},
	} {
		parent := roots[c.controller]
		if parent == "" {
			return nil, fmt.Errorf("no %s controller is mounted", c.controller)
		}
		dir, err := ownDir(parent)
		if err != nil {
			return nil, err
		}
		g.dirs, g.parents = append(g.dirs, dir), append(g.parents, parent)
		if err := writeFileIn(dir, c.file, c.limit); err != nil {
			return nil, err
		}
	}
	return g, nil
}

func newCgroup2(parent string, memory uint64, threads int) (g *cgroup, err error) {
	have, err := os.ReadFile(filepath.Join(parent, "cgroup.controllers"))
	if err != nil {
		return nil, err
	}
	for _, c := range []string{"memory", "pids"} {
		if !strings.Contains(" "+strings.TrimSpace(string(have))+" ", " "+c+" ") {
			return nil, fmt.Errorf("the %s controller is not delegated to the node's cgroup", c)
		}
	}
	dir, err := ownDir(parent)
	if err != nil {
		return nil, err
	}
	g = &cgroup{version: 2, dirs: []string{dir}}
	defer func() {
		if err != nil {
			g.close()
		}
	}()
	const controllers = "+memory +pids"
	if err = writeFileIn(parent, "cgroup.subtree_control", controllers); errors.Is(err, unix.EBUSY) {
		// A cgroup has members or children with limits, not both: the node
		// becomes a child of its own.
		node := filepath.Join(parent, "liop-node")
		if err = os.Mkdir(node, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
			return nil, err
		}
		if err = writeFileIn(node, "cgroup.procs", "0"); err == nil {
			err = writeFileIn(parent, "cgroup.subtree_control", controllers)
		}
	}
	if err != nil {
		return nil, err
	}
	if err = writeFileIn(dir, "memory.max", strconv.FormatUint(memory, 10)); err != nil {
		return nil, err
	}
	writeFileIn(dir, "memory.swap.max", "0") // absent where there is no swap
	if err = writeFileIn(dir, "pids.max", strconv.Itoa(threads)); err != nil {
		return nil, err
	}
	g.v2, err = os.Open(dir)
	return g, err
}

// ownDir makes a directory for this process below parent, and removes those of
// nodes that are no more.
func ownDir(parent string) (string, error) {
	old, _ := filepath.Glob(filepath.Join(parent, "liop-*-*"))
	for _, dir := range old {
		pid := strings.Split(filepath.Base(dir), "-")[1]
		if _, err := os.Stat("/proc/" + pid); errors.Is(err, os.ErrNotExist) {
			os.Remove(dir) // fails if there is a process in it
		}
	}
	dir, err := os.MkdirTemp(parent, fmt.Sprintf("liop-%d-", os.Getpid()))
	if err != nil {
		return "", err
	}
	return dir, os.Chmod(dir, 0o755)
}

func writeFileIn(dir, file, text string) error {
	return os.WriteFile(filepath.Join(dir, file), []byte(text), 0o644)
}

// enter makes the calling thread, which starts all workers, a member.
func (g *cgroup) enter() error {
	if g == nil || g.version != 1 {
		return nil
	}
	return moveThread(g.dirs)
}

// leave undoes enter.
func (g *cgroup) leave() {
	if g != nil && g.version == 1 {
		moveThread(g.parents)
	}
}

func moveThread(dirs []string) error {
	for _, dir := range dirs {
		if err := writeFileIn(dir, "tasks", strconv.Itoa(unix.Gettid())); err != nil {
			return err
		}
	}
	return nil
}

// attr adds to a what has the kernel start a process in g.
func (g *cgroup) attr(a *syscall.SysProcAttr) {
	if g != nil && g.v2 != nil {
		a.UseCgroupFD, a.CgroupFD = true, int(g.v2.Fd())
	}
}

// active is g as a word for receipts, "" for none.
func (g *cgroup) active() string {
	if g == nil {
		return ""
	}
	return fmt.Sprintf("cgroup:%d", g.version)
}

// close removes g; every member must have ended.
func (g *cgroup) close() {
	if g == nil {
		return
	}
	if g.v2 != nil {
		g.v2.Close()
	}
	for _, dir := range g.dirs {
		os.Remove(dir)
	}
}

// findCgroups reads where this process is from proc(5), "/proc/self" but for tests.
func findCgroups(proc string) cgroupRoots {
	mounts := map[string][2]string{} // by controller: mount point, root of what is mounted
	if f, err := os.Open(filepath.Join(proc, "mountinfo")); err == nil {
		defer f.Close()
		for s := bufio.NewScanner(f); s.Scan(); {
			// id parent major:minor root point options … - type source superoptions
			before, after, ok := strings.Cut(s.Text(), " - ")
			b, a := strings.Fields(before), strings.Fields(after)
			if !ok || len(b) < 6 || len(a) < 3 {
				continue
			}
			switch a[0] {
			case "cgroup2":
				mounts[""] = [2]string{b[4], b[3]}
			case "cgroup":
				for _, c := range strings.Split(a[2], ",") {
					mounts[c] = [2]string{b[4], b[3]}
				}
			}
		}
	}
	roots := cgroupRoots{}
	text, _ := os.ReadFile(filepath.Join(proc, "cgroup"))
	for line := range strings.Lines(string(text)) {
		// id:controllers:path
		f := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(f) != 3 {
			continue
		}
		for _, c := range strings.Split(f[1], ",") {
			m, ok := mounts[c]
			rel, below := strings.CutPrefix(f[2], strings.TrimSuffix(m[1], "/"))
			if ok && below {
				roots[c] = filepath.Join(m[0], rel)
			}
		}
	}
	return roots
}

package sandbox

import (
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/liop-project/liop/node/sandbox/wire"
)

// enter makes this process at home in its namespaces. It comes before anything
// else that a worker does.
func enter(iso isolation) error {
	if !iso.has(wire.MountNamespace) {
		return nil
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	if iso.has(wire.PIDNamespace) {
		// The host's /proc shows other processes, under other numbers than ours.
		if err := unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
			return fmt.Errorf("mount proc: %w", err)
		}
	}
	if iso.has(wire.UTSNamespace) {
		if err := unix.Sethostname([]byte("liop")); err != nil {
			return fmt.Errorf("set host name: %w", err)
		}
	}
	return nil
}

// leaveFiles replaces the root of the file system by an empty one, in which
// only what c grants is mounted, under the names it had, read-only. /proc
// stays, of our own PID namespace if there is one: landlock, which closes it,
// needs it once more.
func leaveFiles(c containment) error {
	type tree struct {
		fd   int
		path string
		dir  bool
	}
	var trees []tree
	clone := func(path string, dir bool, attrs uint64) error {
		flags := uint(unix.OPEN_TREE_CLONE | unix.OPEN_TREE_CLOEXEC)
		if dir {
			flags |= unix.AT_RECURSIVE // what is mounted below belongs to it
		}
		fd, err := unix.OpenTree(unix.AT_FDCWD, path, flags)
		if err != nil {
			return fmt.Errorf("clone mount: %w", err)
		}
		trees = append(trees, tree{fd, path, dir})
		attr := unix.MountAttr{Attr_set: attrs}
		if err := unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH|flags&unix.AT_RECURSIVE, &attr); err != nil {
			return fmt.Errorf("make mount read-only: %w", err)
		}
		return nil
	}
	defer func() {
		for _, t := range trees {
			unix.Close(t.fd)
		}
	}()
	const readOnly = unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV
	if err := clone("/proc", true, 0); err != nil {
		return err
	}
	for _, d := range c.dirs {
		if err := clone(d, true, readOnly|unix.MOUNT_ATTR_NOEXEC); err != nil {
			return err
		}
	}
	for _, f := range c.files { // native code: it must be executable
		if err := clone(f, false, readOnly); err != nil {
			return err
		}
	}

	// /proc is the one directory that is sure to be there to mount on; what it
	// showed is in trees.
	if err := unix.Mount("liop", "/proc", "tmpfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "size=64k,nr_inodes=4096,mode=0755"); err != nil {
		return fmt.Errorf("mount an empty root: %w", err)
	}
	if err := os.Chdir("/proc"); err != nil {
		return err
	}
	for _, t := range trees {
		if err := mountPoint(t.path[1:], t.dir); err != nil {
			return err
		}
		if err := unix.MoveMount(t.fd, "", unix.AT_FDCWD, t.path[1:], unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
			return fmt.Errorf("mount: %w", err)
		}
	}
	if err := unix.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("pivot root: %w", err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("unmount the host's root: %w", err)
	}
	if err := os.Chdir("/"); err != nil {
		return err
	}
	root := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}
	if err := unix.MountSetattr(unix.AT_FDCWD, "/", 0, &root); err != nil {
		return fmt.Errorf("make root read-only: %w", err)
	}
	return nil
}

// mountPoint makes a directory, or an empty file, to mount on. A directory may
// be there already, in one that was mounted before.
func mountPoint(path string, dir bool) error {
	if dir {
		if info, err := os.Stat(path); err == nil && info.IsDir() {
			return nil
		}
		return os.MkdirAll(path, 0o755)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	return f.Close()
}

//go:build linux

package engine

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/liop-project/liop/node/bounds"
)

// A runner has no environment, no descriptor of ours but its end of the socket,
// and cannot gain rights. Its own view of the file system is tested by the
// modules "outside" and "write".
func TestRunnerHasNothing(t *testing.T) {
	t.Setenv("LIOP_SECRET", "hunter2")
	leak, err := os.Create(filepath.Join(t.TempDir(), "open-in-the-node"))
	if err != nil {
		t.Fatal(err)
	}
	defer leak.Close()
	// As if whoever started this process had let it inherit the file.
	if _, err := unix.FcntlInt(leak.Fd(), unix.F_SETFD, 0); err != nil {
		t.Fatal(err)
	}
	e := newTest(t, Config{})
	j := jobOf(guestModule(t, "hello"))
	j.Limits.Wall = 10 * time.Second
	if _, err := e.Run(context.Background(), j); err != nil {
		t.Fatal(err)
	}
	e.pool.mu.Lock()
	proc := fmt.Sprintf("/proc/%d/", e.pool.idle[0].cmd.Process.Pid)
	e.pool.mu.Unlock()

	status, err := os.ReadFile(proc + "status")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"NoNewPrivs:\t1", "Seccomp:\t2"} {
		if !strings.Contains(string(status), want) {
			t.Errorf("status lacks %q", want)
		}
	}
	env, err := os.ReadFile(proc + "environ")
	if os.IsPermission(err) {
		t.Skip("only root may look into a process that is not dumpable")
	}
	if err != nil || len(env) != 0 {
		t.Errorf("environment %q, %v", env, err)
	}
	fds, err := os.ReadDir(proc + "fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range fds {
		target, err := os.Readlink(proc + "fd/" + fd.Name())
		if err != nil {
			continue // closed meanwhile
		}
		ok := false
		switch fd.Name() {
		case "0", "1":
			ok = target == "/dev/null"
		case "2":
			ok = strings.HasPrefix(target, "pipe:") // what it says before it dies
		case "3":
			ok = strings.HasPrefix(target, "socket:")
		default: // the Go runtime's own, and the artifact
			ok = strings.HasPrefix(target, "anon_inode:") || strings.HasPrefix(target, "/sys/fs/cgroup/") || strings.HasPrefix(target, "/cpu.") ||
				strings.HasPrefix(target, e.cache.dir)
		}
		if !ok {
			t.Errorf("descriptor %s is %s", fd.Name(), target)
		}
	}
}

// Every thread of a runner has less weight than the node's.
func TestRunnerYieldsToTheNode(t *testing.T) {
	e := newTest(t, Config{})
	canary(t, e)
	e.pool.mu.Lock()
	pid := e.pool.idle[0].cmd.Process.Pid
	e.pool.mu.Unlock()
	threads, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	if err != nil || len(threads) == 0 {
		t.Fatal(threads, err)
	}
	for _, th := range threads {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%s/stat", pid, th.Name()))
		if err != nil {
			t.Fatal(err)
		}
		_, after, _ := strings.Cut(string(stat), ") ")
		if nice := strings.Fields(after)[16]; nice != fmt.Sprint(bounds.Nice) { // field 19 of stat, proc(5)
			t.Errorf("thread %s has nice %s", th.Name(), nice)
		}
	}
}

//go:build linux

package engine

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/liop-project/liop/core/fault"
	"github.com/liop-project/liop/core/liopv1"
	"github.com/liop-project/liop/node/bounds"
	"github.com/liop-project/liop/node/sandbox/wire"
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
	uid := uint64(math.MaxUint64)
	for line := range strings.Lines(string(status)) {
		if f := strings.Fields(line); f[0] == "Uid:" {
			uid, _ = strconv.ParseUint(f[1], 10, 32)
		}
	}
	has, err := e.Probe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if slices.Contains(has.Active, "uid") && (uid < firstUser || uid > firstUser+users) {
		t.Errorf("a runner of a root node is user %d", uid)
	}
	// What proc(5) has of a process that is not dumpable belongs to root.
	var info unix.Stat_t
	if err := unix.Stat(proc+"environ", &info); err != nil || uid != 0 && uint64(info.Uid) == uid {
		t.Errorf("processes of user %d may read the runner's memory, %v", uid, err)
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
	niceOfAll(t, pid, bounds.Nice)
}

// An agent's CPU does not grow with the number of its runs, and the next run has
// the best of the idle runners.
func TestSecondRunnerOfAnAgentWeighsLess(t *testing.T) {
	e := newTest(t, Config{Runners: 4})
	j := jobOf(guestModule(t, "hello"))
	j.Limits.Wall = 20 * time.Second
	if _, err := e.Run(context.Background(), j); err != nil {
		t.Fatal(err)
	}
	artifact, _ := e.cache.get(j.Module)
	acquire := func(tenant string) *runner {
		t.Helper()
		j := *j
		j.Tenant = tenant
		r, err := e.pool.acquire(t.Context(), &j, artifact, func() { t.Error("a runner is waited for") })
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	first, second, other := acquire("a"), acquire("a"), acquire("b")
	niceOfAll(t, first.cmd.Process.Pid, bounds.Nice)
	niceOfAll(t, second.cmd.Process.Pid, bounds.Nice+bounds.NiceStep)
	niceOfAll(t, other.cmd.Process.Pid, bounds.Nice)
	e.pool.release(first, true)
	e.pool.release(second, true)
	again := acquire("a")
	if again != first {
		t.Error("the next run has the runner with less weight")
	}
	e.pool.release(again, true)
	e.pool.release(other, true)
}

// A run that goes on and on has less weight than those that begin meanwhile, and
// its runner has it no longer when the run is over, or is gone.
func TestLongRunYields(t *testing.T) {
	e := newTest(t, Config{})
	j := jobOf(guestModule(t, "loop"))
	j.Limits.Wall = time.Hour
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	running, ended := make(chan struct{}), make(chan error, 1)
	j.Progress = func(p liopv1.Phase) {
		if p == liopv1.Phase_PHASE_RUNNING {
			close(running)
		}
	}
	go func() { _, err := e.Run(ctx, j); ended <- err }()
	await(t, running, "the run to begin")
	var pid int
	for _, kid := range children(t) {
		if cmd, _ := os.ReadFile("/proc/" + kid + "/cmdline"); !strings.HasPrefix(string(cmd), wire.RunnerName) {
			continue
		}
		// Blank runners have the node's priority.
		if n, _ := strconv.Atoi(kid); niceOf(t, n, n) != ownNice() {
			pid = n
		}
	}
	for late := time.Now().Add(20 * time.Second); niceOf(t, pid, pid) != niceness(bounds.LongRunNice); time.Sleep(time.Millisecond) {
		if time.Now().After(late) {
			t.Fatalf("the runner %d has nice %d", pid, niceOf(t, pid, pid))
		}
	}
	niceOfAll(t, pid, bounds.LongRunNice)
	cancel()
	await(t, ended, "the run to end")

	j.Tenant, j.Limits.Wall, j.Progress = "b", bounds.LongRun*4, nil
	if _, err := e.Run(context.Background(), j); !errors.Is(err, &fault.Error{Code: fault.LimitTime}) {
		t.Fatal(err)
	}
	e.pool.mu.Lock()
	defer e.pool.mu.Unlock()
	for _, r := range e.pool.idle {
		niceOfAll(t, r.cmd.Process.Pid, bounds.Nice)
	}
}

func niceOfAll(t *testing.T, pid, nicer int) {
	t.Helper()
	want := niceness(nicer)
	threads, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	if err != nil || len(threads) == 0 {
		t.Fatal(threads, err)
	}
	for _, th := range threads {
		if n, _ := strconv.Atoi(th.Name()); niceOf(t, pid, n) != want {
			t.Errorf("thread %d has nice %d, want %d", n, niceOf(t, pid, n), want)
		}
	}
}

func niceOf(t *testing.T, pid, thread int) int {
	t.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/stat", pid, thread))
	if err != nil {
		t.Fatal(err)
	}
	_, after, _ := strings.Cut(string(stat), ") ")
	nice, err := strconv.Atoi(strings.Fields(after)[16]) // field 19 of stat, proc(5)
	if err != nil {
		t.Fatal(err)
	}
	return nice
}

package sandbox

import (
	"fmt"
	"strings"

	"github.com/elastic/go-seccomp-bpf"
	"github.com/landlock-lsm/go-landlock/landlock"
	landlocksys "github.com/landlock-lsm/go-landlock/landlock/syscall"
	"golang.org/x/sys/unix"

	"github.com/liop-project/liop/node/bounds"
	"github.com/liop-project/liop/node/sandbox/wire"
)

// contain locks this process down and says what it could apply. What the
// kernel lacks is reported, what it has and refuses is an error.
func contain(c containment) (*wire.Containment, error) {
	out := &wire.Containment{Active: []string{"process"}}

	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return nil, fmt.Errorf("set no-new-privs: %w", err)
	}
	out.Active = append(out.Active, "no-new-privs")

	if err := landlockTo(c, out); err != nil {
		return nil, err
	}

	// Not readable or traceable by other processes of the same user. After
	// landlock, which walks /proc/self/task: that is closed by this, too.
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return nil, fmt.Errorf("clear dumpable: %w", err)
	}

	if c.cpu == 0 {
		c.cpu = unix.RLIM_INFINITY
	}
	for _, l := range []struct {
		name string
		res  int
		max  uint64
	}{
		{"cpu", unix.RLIMIT_CPU, c.cpu},
		{"core", unix.RLIMIT_CORE, 0},
		{"fsize", unix.RLIMIT_FSIZE, 0},
		{"nofile", unix.RLIMIT_NOFILE, bounds.OpenFiles},
		{"data", unix.RLIMIT_DATA, c.memory},
		{"memlock", unix.RLIMIT_MEMLOCK, 0},
		{"msgqueue", unix.RLIMIT_MSGQUEUE, 0},
	} {
		if err := unix.Setrlimit(l.res, &unix.Rlimit{Cur: l.max, Max: l.max}); err != nil {
			return nil, fmt.Errorf("set rlimit %s: %w", l.name, err)
		}
	}
	out.Active = append(out.Active, "rlimits")

	if !seccomp.Supported() {
		out.Missing = append(out.Missing, "seccomp: the kernel was built without CONFIG_SECCOMP_FILTER")
		return out, nil
	}
	if err := seccomp.LoadFilter(filter()); err != nil {
		return nil, fmt.Errorf("load seccomp filter: %w", err)
	}
	out.Active = append(out.Active, "seccomp")
	return out, nil
}

// landlockTo restricts the file system to c, and forbids TCP and, where the
// kernel knows how, abstract sockets and signals to other processes.
func landlockTo(c containment, out *wire.Containment) error {
	abi, err := landlocksys.LandlockGetABIVersion()
	if err != nil || abi < 1 {
		out.Missing = append(out.Missing, "landlock: not enabled in this kernel (boot with lsm=landlock,…)")
		return nil
	}
	var rules []landlock.Rule
	if len(c.dirs) > 0 {
		rules = append(rules, landlock.RODirs(c.dirs...))
	}
	if len(c.files) > 0 {
		rules = append(rules, landlock.ROFiles(c.files...))
	}
	if err := landlock.V9.BestEffort().Restrict(rules...); err != nil {
		return fmt.Errorf("restrict with landlock: %w", err)
	}
	out.Active = append(out.Active, fmt.Sprintf("landlock:%d", abi))
	return nil
}

// filter is the allow-list of system calls of a worker that is locked down.
// Anything else fails with EPERM.
func filter() seccomp.Filter {
	groups := []string{
		// The socket, the artifact, the guest's files: descriptors only, plus
		// opening, which landlock bounds.
		"read write readv writev pread64 close lseek fcntl fadvise64 dup",
		"openat openat2 getdents64 readlinkat fstat newfstatat statx",
		// Memory: linear memories, native code (mprotect), stacks, the Go heap.
		"mmap munmap mprotect madvise mremap brk membarrier",
		// Threads of this process. clone also makes threads only: without the
		// right to signal, trace or exec, a forked copy would be as contained.
		"clone clone3 set_robust_list rseq futex sched_yield sched_getaffinity gettid getpid tgkill exit exit_group",
		// Signals to itself: traps of the engine, preemption by the Go runtime.
		"rt_sigaction rt_sigprocmask rt_sigreturn sigaltstack restart_syscall",
		// Time and waiting.
		"nanosleep clock_nanosleep clock_gettime timer_create timer_settime timer_delete setitimer",
		"epoll_create1 epoll_ctl epoll_pwait epoll_wait eventfd2 pipe2 poll ppoll",
		"getrandom prlimit64 uname sysinfo",
	}
	return seccomp.Filter{
		NoNewPrivs: true,
		Flag:       seccomp.FilterFlagTSync, // also for the threads that exist already
		Policy: seccomp.Policy{
			DefaultAction: seccomp.ActionErrno,
			Syscalls: []seccomp.SyscallGroup{{
				Action: seccomp.ActionAllow,
				Names:  strings.Fields(strings.Join(groups, " ")),
			}},
		},
	}
}

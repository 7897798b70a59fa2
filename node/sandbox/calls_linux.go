package sandbox

import (
	"fmt"
	"os"
	"slices"

	"github.com/elastic/go-seccomp-bpf"
	"golang.org/x/sys/unix"

	"github.com/liop-project/liop/node/sandbox/wire"
)

// The system calls that a worker which is locked down may make, and why. What
// is in no list fails with EPERM; what is in never kills the process.
var (
	// Both kinds of worker. Beside these, the conditions of allow.
	commonCalls = []string{
		"read write close",                    // the socket to the node, and the pipe of last words
		"munmap mremap brk madvise mprotect",  // heaps, stacks, native code; mmap has a condition
		"futex sched_yield nanosleep",         // locks of both runtimes
		"clock_gettime clock_nanosleep",       // where the C library cannot do it without a call
		"set_robust_list rseq rt_sigprocmask", // a thread's beginning
		"sigaltstack gettid sched_getaffinity",
		"rt_sigaction rt_sigreturn getpid",             // traps of the engine, preemption by the Go runtime
		"epoll_create1 epoll_ctl epoll_pwait eventfd2", // the Go runtime's watch over files, when it is idle
		"restart_syscall",                              // made by the kernel after a signal
		"exit exit_group",                              // a thread's end, and the process's
		"getrandom",                                    // hash seeds; random_get
	}
	compilerCalls = []string{} // it computes, and nothing else
	// A runner also keeps deadlines, and serves files within what landlock and
	// its mounts leave.
	runnerCalls = []string{
		"setitimer", // the alarm at a run's deadline
		"openat openat2 newfstatat fstat statx readlinkat getdents64", // path_* and fd_readdir
		"fcntl lseek readv pread64 preadv fadvise64",                  // fd_*
		"epoll_wait", // the engine's threads for files
	}
	// What no worker of ours ever does, so that doing it means that its code is
	// no longer ours: programs, other processes, the network, kernel interfaces
	// that had many defects.
	never = []string{
		"execve execveat fork vfork ptrace process_vm_readv process_vm_writev kill tkill pidfd_open pidfd_getfd pidfd_send_signal",
		"socket socketpair connect bind listen accept accept4 sendto sendmsg sendmmsg recvfrom recvmsg recvmmsg",
		"mount umount2 pivot_root chroot setns unshare open_tree move_mount fsopen fsmount fsconfig mount_setattr",
		"bpf perf_event_open userfaultfd io_uring_setup io_uring_enter keyctl add_key request_key",
		"init_module finit_module delete_module kexec_load kexec_file_load reboot swapon swapoff",
		"open_by_handle_at name_to_handle_at memfd_create memfd_secret shmget shmat",
	}
)

// allow is the filter of a worker that makes these calls.
func allow(calls []string) seccomp.Filter {
	return filter(
		seccomp.SyscallGroup{Action: seccomp.ActionAllow, Names: calls},
		seccomp.SyscallGroup{Action: seccomp.ActionAllow, NamesWithCondtions: []seccomp.NameWithConditions{
			// Shared mappings are not counted by RLIMIT_DATA.
			{Name: "mmap", Conditions: []seccomp.Condition{{Argument: 3, Operation: seccomp.BitsNotSet, Value: unix.MAP_SHARED}}},
			// Threads, but no processes: those would outlive the kill of this one.
			{Name: "clone", Conditions: []seccomp.Condition{{Argument: 0, Operation: seccomp.BitsSet, Value: unix.CLONE_THREAD}}},
			// A second filter, in a runner, that allows less.
			{Name: "seccomp", Conditions: []seccomp.Condition{
				{Argument: 0, Operation: seccomp.Equal, Value: 1 /* SECCOMP_SET_MODE_FILTER */},
				{Argument: 1, Operation: seccomp.Equal, Value: uint64(seccomp.FilterFlagTSync)}}},
			// Signals to our own threads only: preemption by the Go runtime.
			{Name: "tgkill", Conditions: []seccomp.Condition{{Argument: 0, Operation: seccomp.Equal, Value: uint64(os.Getpid())}}},
		}},
		// Its flags are in memory, where a filter cannot look. With this error
		// the C library uses clone instead.
		seccomp.SyscallGroup{Action: seccomp.ActionErrno | seccomp.Action(unix.ENOSYS), Names: []string{"clone3"}},
		seccomp.SyscallGroup{Action: seccomp.ActionKillProcess, Names: words(never)},
	)
}

// noNewCode is the filter of a runner that has loaded its module: from here on
// nothing becomes executable.
func noNewCode() seccomp.Filter {
	exec := func(name string) seccomp.NameWithConditions {
		return seccomp.NameWithConditions{Name: name,
			Conditions: []seccomp.Condition{{Argument: 2, Operation: seccomp.BitsSet, Value: unix.PROT_EXEC}}}
	}
	f := filter(seccomp.SyscallGroup{Action: seccomp.ActionErrno,
		NamesWithCondtions: []seccomp.NameWithConditions{exec("mmap"), exec("mprotect")}})
	f.Policy.DefaultAction = seccomp.ActionAllow // the first filter decides the rest
	f.NoNewPrivs = false                         // set long ago; prctl is closed
	return f
}

// forbidNewCode applies noNewCode where contain could apply the first filter.
func forbidNewCode(c *wire.Containment) error {
	if !slices.Contains(c.Active, "seccomp") {
		return nil
	}
	if err := seccomp.LoadFilter(noNewCode()); err != nil {
		return fmt.Errorf("forbid new code: %w", err)
	}
	return nil
}

// filter fails what no group decides with EPERM.
func filter(groups ...seccomp.SyscallGroup) seccomp.Filter {
	return seccomp.Filter{
		NoNewPrivs: true,
		Flag:       seccomp.FilterFlagTSync, // also for the threads that exist already
		Policy:     seccomp.Policy{DefaultAction: seccomp.ActionErrno, Syscalls: groups},
	}
}

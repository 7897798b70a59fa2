package sandbox

import (
	"fmt"
	"unsafe"

	"github.com/elastic/go-seccomp-bpf"
	"github.com/landlock-lsm/go-landlock/landlock"
	landlocksys "github.com/landlock-lsm/go-landlock/landlock/syscall"
	"golang.org/x/sys/unix"
	"kernel.org/pub/linux/libs/security/libcap/psx"

	"github.com/liop-project/liop/node/bounds"
	"github.com/liop-project/liop/node/sandbox/wire"
)

// contain locks this process down and says what it could apply. What the
// kernel lacks is reported, what it has and refuses is an error.
//
// The order matters: each step needs what a later one takes away.
func contain(iso isolation, c containment) (*wire.Containment, error) {
	out := &wire.Containment{Active: []string{"process"}}

	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return nil, fmt.Errorf("set no-new-privs: %w", err)
	}
	out.Active = append(out.Active, "no-new-privs")

	if iso.has(wire.MountNamespace) {
		if err := leaveFiles(c); err != nil {
			return nil, fmt.Errorf("leave the host's file system: %w", err)
		}
	}
	if ns := iso.namespaces(); ns != "" {
		out.Active = append(out.Active, "namespaces:"+ns)
	}
	if iso.has(wire.User) {
		out.Active = append(out.Active, "uid")
	}
	if err := dropCapabilities(iso); err != nil {
		return nil, err
	}
	if err := landlockTo(c, out); err != nil {
		return nil, err
	}

	// Not readable or traceable by other processes of the same user. After
	// landlock, which walks /proc: that is closed by this, too.
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return nil, fmt.Errorf("clear dumpable: %w", err)
	}

	if c.cpu == 0 {
		c.cpu = unix.RLIM_INFINITY
	}
	threads := uint64(unix.RLIM_INFINITY)
	if iso.has(wire.MountNamespace) || iso.has(wire.User) {
		threads = bounds.Threads // with a user, or a namespace of users, of our own, this counts no others
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
		// Not RLIMIT_AS: the engine reserves 4 GiB of addresses for a linear
		// memory, so that it need not check each access. What can be written to
		// is private or, by the filter below, cannot be mapped at all.
		{"data", unix.RLIMIT_DATA, c.memory},
		{"nproc", unix.RLIMIT_NPROC, threads},
		{"memlock", unix.RLIMIT_MEMLOCK, 0},
		{"msgqueue", unix.RLIMIT_MSGQUEUE, 0},
	} {
		if l.max == unix.RLIM_INFINITY {
			continue // the node's
		}
		if err := unix.Setrlimit(l.res, &unix.Rlimit{Cur: l.max, Max: l.max}); err != nil {
			return nil, fmt.Errorf("set rlimit %s: %w", l.name, err)
		}
	}
	out.Active = append(out.Active, "rlimits")

	if !seccomp.Supported() {
		out.Gaps = append(out.Gaps, &wire.Gap{Feature: "seccomp", Reason: "the kernel was built without it",
			Mend: "use a kernel with CONFIG_SECCOMP_FILTER, as all distributions have"})
		return out, nil
	}
	if err := seccomp.LoadFilter(allow(c.calls)); err != nil {
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
		out.Gaps = append(out.Gaps, &wire.Gap{Feature: "landlock", Reason: "not enabled in this kernel",
			Mend: "use Linux 5.13 or newer and add landlock to lsm= on the kernel's command line"})
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

// dropCapabilities leaves every thread without rights, but for one: a worker of
// a root node still reads files that only root may, where landlock lets it.
func dropCapabilities(iso isolation) error {
	if len(iso) == 0 {
		return nil // it has the node's rights, and no way to have fewer was found
	}
	var keep uint32
	if iso.has(wire.User) {
		keep = 1 << unix.CAP_DAC_READ_SEARCH
	}
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	data := [2]unix.CapUserData{{Effective: keep, Permitted: keep}}
	_, _, errno := psx.Syscall3(unix.SYS_CAPSET, uintptr(unsafe.Pointer(&hdr)), uintptr(unsafe.Pointer(&data[0])), 0)
	if errno != 0 {
		return fmt.Errorf("drop capabilities: %w", errno)
	}
	return nil
}

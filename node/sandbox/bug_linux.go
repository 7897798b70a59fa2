//go:build liop_bug

package sandbox

/*
#include <pthread.h>
#include <time.h>

static void *idle(void *unused) {
	struct timespec hour = {3600, 0};
	for (;;) nanosleep(&hour, 0);
	return unused;
}

// threads makes up to n threads that do nothing, and says how many it got.
static int threads(int n) {
	pthread_attr_t a;
	pthread_t t;
	pthread_attr_init(&a);
	pthread_attr_setstacksize(&a, 1 << 16);
	for (int i = 0; i < n; i++)
		if (pthread_create(&t, &a, idle, 0) != 0) return i;
	return n;
}

static void segfault(void) { *(volatile int *)8 = 1; }

static void wild_write(void) {
	volatile char *p = (volatile char *)&p;
	for (;;) *p++ = 0x5a;
}
*/
import "C"

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/liop-project/liop/node/sandbox/wire"
)

// bug makes this worker do what code would that has broken out of the engine:
// whatever its author wants. With the build tag liop_bug only, for the test that
// shows what the rest of the containment is worth. what is the agent's first
// argument, or the module for a compiler.
//
// An attempt that is survived is answered: "got through: …" if it succeeded,
// "refused: …" if not.
func bug(c *wire.Conn, what string, answer func(text string) error) {
	_, name, ok := strings.Cut(what, "liop-bug:")
	if !ok {
		return
	}
	name, _, _ = strings.Cut(name, ";")
	name, arg, _ := strings.Cut(name, "=")
	f := bugs[name]
	if f == nil {
		panic("no such bug: " + name)
	}
	says := "refused"
	err := f(c, arg)
	if err == nil {
		says = "got through"
	}
	answer(fmt.Sprintf("%s: %s: %v", says, name, err))
	os.Exit(0)
}

// try makes one system call.
func try(nr uintptr, args ...uintptr) error {
	var a [6]uintptr
	copy(a[:], args)
	if _, _, errno := unix.RawSyscall6(nr, a[0], a[1], a[2], a[3], a[4], a[5]); errno != 0 {
		return errno
	}
	return nil
}

var bugs = map[string]func(c *wire.Conn, arg string) error{
	// The process goes wrong.
	"segfault":   func(*wire.Conn, string) error { C.segfault(); return nil },
	"wild-write": func(*wire.Conn, string) error { C.wild_write(); return nil },
	"abort": func(*wire.Conn, string) error {
		return try(unix.SYS_TGKILL, uintptr(os.Getpid()), uintptr(unix.Gettid()), uintptr(unix.SIGABRT))
	},
	"exit": func(*wire.Conn, string) error { os.Exit(0); return nil },
	"spin": func(*wire.Conn, string) error {
		for i := 0; ; i++ {
			_ = i
		}
	},
	"sleep": func(*wire.Conn, string) error { time.Sleep(time.Hour); return nil },
	"chatter": func(*wire.Conn, string) error {
		for range 1000 {
			os.Stderr.Write(bytes.Repeat([]byte("chatter "), 1<<10))
		}
		os.Exit(1)
		return nil
	},

	// It wants more.
	"threads": func(*wire.Conn, string) error {
		const most = 100_000
		n := C.threads(most)
		if n == most {
			return nil
		}
		return fmt.Errorf("after %d threads", n)
	},
	"map-memory": func(*wire.Conn, string) error {
		const part = 64 << 20
		for n := range 1 << 10 {
			b, err := unix.Mmap(-1, 0, part, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
			if err != nil {
				return fmt.Errorf("after %d MiB: %w", n<<6, err)
			}
			b[0] = 1
		}
		return nil
	},
	"map-shared": func(*wire.Conn, string) error {
		_, err := unix.Mmap(-1, 0, 1<<20, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_ANON)
		return err
	},
	"new-code": func(*wire.Conn, string) error {
		b, err := unix.Mmap(-1, 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
		if err != nil {
			return err
		}
		if err := unix.Mprotect(b, unix.PROT_READ|unix.PROT_EXEC); err != nil {
			_, err = unix.Mmap(-1, 0, 4096, unix.PROT_READ|unix.PROT_EXEC, unix.MAP_PRIVATE|unix.MAP_ANON)
			return err
		}
		return nil
	},
	"raise-limit": func(*wire.Conn, string) error {
		return unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 1024, Max: 1024})
	},
	"raise-priority": func(*wire.Conn, string) error { return unix.Setpriority(unix.PRIO_PROCESS, 0, -5) },
	"drop-filter":    func(*wire.Conn, string) error { return unix.Prctl(unix.PR_SET_SECCOMP, 0, 0, 0, 0) },
	"become-root":    func(*wire.Conn, string) error { return try(unix.SYS_SETUID, 0) },
	"gain-capability": func(*wire.Conn, string) error {
		hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		data := [2]unix.CapUserData{{Effective: 1 << unix.CAP_SYS_ADMIN, Permitted: 1 << unix.CAP_SYS_ADMIN}}
		return unix.Capset(&hdr, &data[0])
	},

	// It wants files: arg is one that it was not given.
	"read-file": func(_ *wire.Conn, arg string) error { _, err := os.ReadFile(arg); return err },
	"write-file": func(_ *wire.Conn, arg string) error {
		f, err := os.OpenFile(arg, os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		defer f.Close()
		_, err = f.Write([]byte("changed"))
		return err
	},
	"make-file":   func(_ *wire.Conn, arg string) error { return os.WriteFile(arg, nil, 0o600) },
	"remove-file": func(_ *wire.Conn, arg string) error { return os.Remove(arg) },
	"list-dir":    func(_ *wire.Conn, arg string) error { _, err := os.ReadDir(arg); return err },
	"memfd":       func(*wire.Conn, string) error { _, err := unix.MemfdCreate("x", 0); return err },

	// It wants others: arg is the pid of the node.
	"fork":  func(*wire.Conn, string) error { return try(unix.SYS_FORK) },
	"vfork": func(*wire.Conn, string) error { return try(unix.SYS_CLONE, uintptr(unix.SIGCHLD)) },
	"clone3": func(*wire.Conn, string) error {
		args := [11]uint64{4: uint64(unix.SIGCHLD)}
		return try(unix.SYS_CLONE3, uintptr(unsafe.Pointer(&args)), 88)
	},
	"exec":        func(*wire.Conn, string) error { return unix.Exec("/proc/self/exe", []string{"liop"}, nil) },
	"ptrace":      func(_ *wire.Conn, arg string) error { return try(unix.SYS_PTRACE, unix.PTRACE_ATTACH, number(arg)) },
	"read-memory": func(_ *wire.Conn, arg string) error { _, err := os.Open("/proc/" + arg + "/mem"); return err },
	"vm-read": func(_ *wire.Conn, arg string) error {
		return try(unix.SYS_PROCESS_VM_READV, number(arg))
	},
	"kill":   func(_ *wire.Conn, arg string) error { return try(unix.SYS_KILL, number(arg), 0) },
	"tgkill": func(_ *wire.Conn, arg string) error { return try(unix.SYS_TGKILL, number(arg), number(arg), 0) },
	"limit-parent": func(_ *wire.Conn, arg string) error {
		return unix.Prlimit(int(number(arg)), unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 3, Max: 3}, nil)
	},

	// It wants the network, or the kernel.
	"socket":   func(*wire.Conn, string) error { _, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0); return err },
	"unix":     func(*wire.Conn, string) error { _, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0); return err },
	"io-uring": func(*wire.Conn, string) error { return try(unix.SYS_IO_URING_SETUP, 1, 0) },
	"bpf":      func(*wire.Conn, string) error { return try(unix.SYS_BPF, 0, 0, 0) },
	"mount":    func(*wire.Conn, string) error { return unix.Mount("x", "/", "tmpfs", 0, "") },
	"unshare":  func(*wire.Conn, string) error { return unix.Unshare(unix.CLONE_NEWUSER) },
	"x32":      func(*wire.Conn, string) error { return try(0x40000000 | 39) },

	// It lies to the node.
	"huge-frame": func(*wire.Conn, string) error { return raw([]byte{0xff, 0xff, 0xff, 0x7f}, true) },
	"garbage":    func(*wire.Conn, string) error { return raw([]byte{4, 0, 0, 0, 0xff, 0xff, 0xff, 0xff}, true) },
	"half-frame": func(*wire.Conn, string) error { return raw([]byte{200, 0, 0, 0, 1}, true) },
	"noise":      func(*wire.Conn, string) error { return raw(bytes.Repeat([]byte{0x5a}, 1<<20), true) },
	"hang-up":    func(*wire.Conn, string) error { unix.Close(3); time.Sleep(time.Hour); return nil },
	"too-long": func(c *wire.Conn, _ string) error {
		c.Send(&wire.Ran{Outcome: wire.Outcome_EXITED}, make([]byte, 16<<20))
		time.Sleep(time.Hour)
		return nil
	},
	"bad-artifact": func(c *wire.Conn, _ string) error {
		c.Send(&wire.Compiled{Ok: true}, bytes.Repeat([]byte("\x7fELF"), 4096))
		time.Sleep(time.Hour)
		return nil
	},
	"no-artifact": func(c *wire.Conn, _ string) error {
		c.Send(&wire.Compiled{Ok: true}, []byte{})
		time.Sleep(time.Hour)
		return nil
	},
}

// raw writes to the node's end of the socket.
func raw(b []byte, wait bool) error {
	if _, err := unix.Write(3, b); err != nil {
		return err
	}
	if wait {
		time.Sleep(time.Hour)
	}
	return nil
}

func number(s string) uintptr {
	var n uintptr
	fmt.Sscan(s, &n)
	return n
}

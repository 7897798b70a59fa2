package netlab

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// Lab is a network. Its methods are not safe for concurrent use, except Close.
// Where they fail, a lab made with For fails the test, and another one panics: a
// test whose network is not what it says must not go on.
type Lab struct {
	fail   func(error)
	spaces []*Namespace
	wires  []*Wire
	once   sync.Once
}

// Open makes an empty lab. The caller must Close it. Its error wraps
// ErrUnavailable where this machine or user cannot have one.
func Open() (*Lab, error) {
	if os.Geteuid() != 0 {
		return nil, fmt.Errorf("%w: it takes root", ErrUnavailable)
	}
	if _, err := exec.LookPath("ip"); err != nil {
		return nil, fmt.Errorf("%w: the program ip (iproute2) is missing", ErrUnavailable)
	}
	if f, err := os.OpenFile(tunDevice, os.O_RDWR, 0); err != nil {
		return nil, fmt.Errorf("%w: %v", ErrUnavailable, err)
	} else {
		f.Close()
	}
	n, err := newNamespace()
	if err != nil {
		return nil, fmt.Errorf("%w: make a network namespace: %v", ErrUnavailable, err)
	}
	n.close()
	return &Lab{fail: func(err error) { panic(err) }}, nil
}

// Close ends the processes, wires and namespaces.
func (l *Lab) Close() {
	l.once.Do(func() {
		for _, n := range l.spaces {
			n.end()
		}
		for _, w := range l.wires {
			w.close()
		}
		for _, n := range l.spaces {
			n.close()
		}
	})
}

// Namespace makes a namespace in which only loopback is up.
func (l *Lab) Namespace() *Namespace {
	n, err := newNamespace()
	if err != nil {
		l.fail(err)
	}
	n.lab = l
	l.spaces = append(l.spaces, n)
	n.ip("link", "set", "lo", "up")
	return n
}

// Namespace is a network stack of its own: a thread that has left that of the
// process, on which all that concerns it is done.
type Namespace struct {
	lab  *Lab
	work chan func()
	done chan struct{}

	mu    sync.Mutex
	procs []*exec.Cmd
}

func newNamespace() (*Namespace, error) {
	n := &Namespace{work: make(chan func()), done: make(chan struct{})}
	made := make(chan error, 1)
	go func() {
		defer close(n.done)
		runtime.LockOSThread() // and never unlocked, so that the thread ends with us
		err := unix.Unshare(unix.CLONE_NEWNET)
		made <- err
		if err != nil {
			return
		}
		for f := range n.work {
			f()
		}
	}()
	return n, <-made
}

// Do runs f on a thread in the namespace: sockets that f itself makes, and
// processes that it starts, are in it. Goroutines that f starts are not.
func (n *Namespace) Do(f func() error) error {
	out := make(chan error, 1)
	n.work <- func() { out <- f() }
	return <-out
}

// Start starts a process in the namespace, which is killed when the lab ends. The
// caller may Wait for it before that.
func (n *Namespace) Start(c *exec.Cmd) error {
	if c.SysProcAttr == nil {
		c.SysProcAttr = &syscall.SysProcAttr{}
	}
	// The thread lives as long as the lab, and dies with the process.
	c.SysProcAttr.Pdeathsig = syscall.SIGKILL
	if err := n.Do(c.Start); err != nil {
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.procs = append(n.procs, c)
	return nil
}

func (n *Namespace) end() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, c := range n.procs {
		c.Process.Kill()
	}
	for _, c := range n.procs {
		c.Wait() // an error if the caller has waited, too
	}
}

func (n *Namespace) close() {
	close(n.work)
	<-n.done
}

// ip runs the program of that name in the namespace.
func (n *Namespace) ip(args ...string) {
	c := exec.Command("ip", args...)
	var out bytes.Buffer
	c.Stdout, c.Stderr = &out, &out
	if err := n.Do(c.Run); err != nil {
		n.lab.fail(fmt.Errorf("netlab: ip %v: %w: %s", args, err, out.Bytes()))
	}
}

// Route sends packets for dest, "default" or a prefix such as 10.0.0.0/8, to the
// other end of one of the namespace's wires.
func (n *Namespace) Route(dest, via string) { n.ip("route", "add", dest, "via", via) }

// Forward makes the namespace a router.
func (n *Namespace) Forward() {
	err := n.Do(func() error { return os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0) })
	if err != nil {
		n.lab.fail(fmt.Errorf("netlab: forward: %w", err))
	}
}

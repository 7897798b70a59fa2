//go:build linux

package main

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"

	"github.com/liop-project/liop/filters"
	_ "github.com/liop-project/liop/node/sandbox" // a node under test starts this binary as its worker
	"github.com/liop-project/liop/node/sandbox/testdata/hostile"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"liop": func() { os.Exit(run()) },
	})
}

// The scripts run real nodes and agents, each a process of its own, on loopback.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(e *testscript.Env) error {
			e.Setenv("LIOP_HOME", filepath.Join(e.WorkDir, "nohome"))
			e.Setenv("HOME", e.WorkDir)
			return unpack(e.WorkDir)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"startnode": startNode,
			"stopnode":  stopNode,
			"peerid":    peerID,
			"exitcode":  exitCodeIs,
			"flip":      flip,
			"waitlog":   waitLog,
			"killnode":  killNode,
		},
	})
}

// unpack puts the modules that scripts push into wasm/.
func unpack(dir string) error {
	dir = filepath.Join(dir, "wasm")
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	for _, set := range []struct {
		names []string
		get   func(string) ([]byte, bool)
	}{
		{filters.ReadyNames(), filters.Ready},
		{hostile.Modules(), hostile.Module},
		{[]string{"echo", "hello"}, filters.TestGuest},
	} {
		for _, name := range set.names {
			wasm, _ := set.get(name)
			if err := os.WriteFile(filepath.Join(dir, name+".wasm"), wasm, 0o600); err != nil {
				return err
			}
		}
	}
	return nil
}

// running are the nodes that a script has started.
type running struct {
	mu    sync.Mutex
	nodes map[string]*nodeProcess
}

type nodeProcess struct {
	cmd    *exec.Cmd
	stderr *syncBuffer
	rest   chan string // what it printed on stdout after its addresses
	ended  bool
}

// syncBuffer is a log that can be waited for.
type syncBuffer struct {
	mu   sync.Mutex
	b    bytes.Buffer
	more chan struct{} // has room for one signal
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case s.more <- struct{}{}:
	default:
	}
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

var nodes sync.Map // *testscript.TestScript → *running; scripts run in parallel

func nodesOf(ts *testscript.TestScript) *running {
	r, _ := nodes.LoadOrStore(ts, &running{nodes: map[string]*nodeProcess{}})
	return r.(*running)
}

// startnode NAME HOME ARGS... starts `liop node --home HOME` on kernel-chosen
// loopback ports, waits until it accepts calls, and sets NAME to its QUIC
// address, NAME_AT to that without its peer id, and NAME_TCP to its TCP address.
func startNode(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: startnode NAME HOME ARGS...")
	}
	name := args[0]
	exe, err := exec.LookPath("liop") // testscript put it in PATH of the test process
	ts.Check(err)
	cmd := exec.Command(exe, append([]string{"node", "--home", ts.MkAbs(args[1]),
		"--listen", "/ip4/127.0.0.1/udp/0/quic-v1", "--listen", "/ip4/127.0.0.1/tcp/0"}, args[2:]...)...)
	cmd.Dir = ts.MkAbs(".")
	cmd.Env = append(os.Environ(), "HOME="+ts.Getenv("HOME"))
	p := &nodeProcess{cmd: cmd, stderr: &syncBuffer{more: make(chan struct{}, 1)}, rest: make(chan string, 1)}
	cmd.Stderr = p.stderr
	out, err := cmd.StdoutPipe()
	ts.Check(err)
	ts.Check(cmd.Start())
	r := nodesOf(ts)
	r.mu.Lock()
	r.nodes[name] = p
	r.mu.Unlock()
	ts.Defer(func() {
		if !p.ended {
			cmd.Process.Kill()
			cmd.Wait()
		}
	})

	lines := bufio.NewScanner(out)
	for found := 0; found < 2; found++ {
		if !lines.Scan() {
			cmd.Wait()
			p.ended = true
			ts.Fatalf("the node ended: %s", p.stderr)
		}
		addr := lines.Text()
		switch {
		case strings.Contains(addr, "/quic-v1/p2p/"):
			ts.Setenv(name, addr)
			at, _, _ := strings.Cut(addr, "/p2p/")
			ts.Setenv(name+"_AT", at)
		case strings.Contains(addr, "/tcp/"):
			ts.Setenv(name+"_TCP", addr)
		default:
			ts.Fatalf("the node printed %q, which is no address", addr)
		}
	}
	go func() {
		var more []string
		for lines.Scan() {
			more = append(more, lines.Text())
		}
		p.rest <- strings.Join(more, "\n")
	}()
}

// stopnode NAME sends SIGTERM and checks that the node ends well and printed
// nothing but its addresses.
func stopNode(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: stopnode NAME")
	}
	p := nodesOf(ts).get(args[0])
	if p == nil {
		ts.Fatalf("there is no node %s", args[0])
	}
	ts.Check(p.cmd.Process.Signal(syscall.SIGTERM))
	rest := <-p.rest
	err := p.cmd.Wait()
	p.ended = true
	if err != nil {
		ts.Fatalf("the node ended with %v: %s", err, p.stderr)
	}
	if rest != "" {
		ts.Fatalf("the node printed %q on stdout", rest)
	}
}

// killnode NAME sends two SIGTERMs and checks that the node ends at once, in
// failure; or, as killnode -9 NAME, kills it. Either way its workers must end.
func killNode(ts *testscript.TestScript, neg bool, args []string) {
	hard := len(args) == 2 && args[0] == "-9"
	if neg || len(args) != 1 && !hard {
		ts.Fatalf("usage: killnode [-9] NAME")
	}
	p := nodesOf(ts).get(args[len(args)-1])
	if p == nil {
		ts.Fatalf("there is no such node")
	}
	workers := pidfds(ts, p.cmd.Process.Pid)
	if hard {
		ts.Check(p.cmd.Process.Kill())
	} else {
		ts.Check(p.cmd.Process.Signal(syscall.SIGTERM))
		for !strings.Contains(p.stderr.String(), "draining") {
			<-p.stderr.more
		}
		ts.Check(p.cmd.Process.Signal(syscall.SIGTERM))
	}
	<-p.rest
	err := p.cmd.Wait()
	p.ended = true
	if err == nil {
		ts.Fatalf("the node ended as if nothing had happened")
	}
	if len(workers) == 0 {
		ts.Fatalf("the node had no workers")
	}
	for _, fd := range workers {
		ended := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, err := unix.Poll(ended, 10_000)
		for err == unix.EINTR { // a signal of the Go runtime's
			n, err = unix.Poll(ended, 10_000)
		}
		if err != nil || n != 1 {
			ts.Fatalf("a worker outlives its node: %d, %v", n, err)
		}
		unix.Close(fd)
	}
}

// pidfds opens a descriptor for each child of a process, which becomes readable
// when the child ends.
func pidfds(ts *testscript.TestScript, pid int) (fds []int) {
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	ts.Check(err)
	for _, task := range tasks {
		b, _ := os.ReadFile(task)
		for _, child := range strings.Fields(string(b)) {
			n, err := strconv.Atoi(child)
			ts.Check(err)
			if fd, err := unix.PidfdOpen(n, 0); err == nil {
				fds = append(fds, fd)
			}
		}
	}
	return fds
}

func (r *running) get(name string) *nodeProcess {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.nodes[name]
}

// waitlog NAME REGEXP waits until a line of the node's log matches; ! checks
// that none does.
func waitLog(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: waitlog NAME REGEXP")
	}
	p := nodesOf(ts).get(args[0])
	if p == nil {
		ts.Fatalf("there is no node %s", args[0])
	}
	re, err := regexp.Compile(args[1])
	ts.Check(err)
	if neg {
		if re.MatchString(p.stderr.String()) {
			ts.Fatalf("the node's log has %q: %s", args[1], p.stderr)
		}
		return
	}
	late := time.After(30 * time.Second)
	for !re.MatchString(p.stderr.String()) {
		select {
		case <-p.stderr.more:
		case <-late:
			ts.Fatalf("the node's log never had %q: %s", args[1], p.stderr)
		}
	}
}

// peerid VAR HOME sets VAR to the peer id of HOME.
func peerID(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: peerid VAR HOME")
	}
	ts.Check(ts.Exec("liop", "id", "show", "--home", args[1]))
	ts.Setenv(args[0], strings.TrimSpace(ts.ReadFile("stdout")))
}

// exitcode N[,M...] COMMAND... runs a command and checks its exit code.
func exitCodeIs(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exitcode N COMMAND...")
	}
	err := ts.Exec(args[1], args[2:]...)
	got := "0"
	if err != nil {
		got = "?"
		if _, after, ok := strings.Cut(err.Error(), "exit status "); ok {
			got = after
		}
	}
	if !slices.Contains(strings.Split(args[0], ","), got) {
		ts.Fatalf("exit code %s, want %s: %s", got, args[0], ts.ReadFile("stderr"))
	}
}

// flip FILE changes one character in the middle of a file.
func flip(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: flip FILE")
	}
	path := ts.MkAbs(args[0])
	b, err := os.ReadFile(path)
	ts.Check(err)
	if c := &b[len(b)/2]; *c == 'A' {
		*c = 'B'
	} else {
		*c = 'A'
	}
	ts.Check(os.WriteFile(path, b, 0o600))
}

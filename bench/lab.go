//go:build linux && cgo

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/liop-project/liop/client"
	"github.com/liop-project/liop/core/grant"
	"github.com/liop-project/liop/core/identity"
	"github.com/liop-project/liop/node"
)

const (
	// nodeName is how this binary is started to be a node that writes a CPU
	// profile.
	nodeName = "liop-bench-node"

	startTime  = 60 * time.Second // for a child to say where it listens
	answerTime = 5 * time.Minute  // for it to measure something
	stopTime   = 20 * time.Second // for it to end by itself

	smallSet = "small" // a dataset with one file of a few bytes
)

// transports that nodes listen on, as Conn.Transport names them.
var transports = [...]string{"quic", "tcp"}

// lab is what all groups share: a folder that goes away at the end, the built
// node, and how much is measured.
type lab struct {
	options
	dir  string
	log  io.Writer
	liop func() (path string, err error) // builds cmd/liop once
	made int                             // nodes so far
}

func newLab(o options, log io.Writer) (*lab, error) {
	dir, err := os.MkdirTemp("", "liop-bench-")
	if err != nil {
		return nil, err
	}
	l := &lab{options: o, dir: dir, log: log}
	l.liop = sync.OnceValues(func() (string, error) {
		l.say("building cmd/liop")
		path := filepath.Join(dir, "liop")
		out, err := exec.Command("go", "build", "-o", path, "github.com/liop-project/liop/cmd/liop").CombinedOutput()
		if err != nil {
			return "", fmt.Errorf("build cmd/liop: %w: %s", err, strings.TrimSpace(string(out)))
		}
		return path, nil
	})
	return l, nil
}

func (l *lab) close() error { return os.RemoveAll(l.dir) }

func (l *lab) say(format string, args ...any) { fmt.Fprintf(l.log, "bench: "+format+"\n", args...) }

// n is how often something is measured.
func (l *lab) n(full, quick int) int {
	if l.quick {
		return quick
	}
	return full
}

// small is the folder of the dataset smallSet.
func (l *lab) small() (string, error) {
	dir := filepath.Join(l.dir, smallSet)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	return dir, os.WriteFile(filepath.Join(dir, "d.csv"), []byte("k,v\na,1\nb,2\na,3\n"), 0o644)
}

// dataNode is a data node in a process of its own. Its owner signs all grants.
type dataNode struct {
	child *child
	owner *identity.Identity
	addr  map[string]string // by transport
}

// startNode starts a node that serves smallSet and one more dataset, unless
// that has no name, and joins the mesh of the peers in boot. The caller must stop
// it.
func (l *lab) startNode(ctx context.Context, name, dir string, boot ...string) (_ *dataNode, err error) {
	small, err := l.small()
	if err != nil {
		return nil, err
	}
	l.made++
	home := filepath.Join(l.dir, fmt.Sprintf("node%d", l.made))
	n := &dataNode{addr: map[string]string{}}
	if n.owner, err = identity.Create(home); err != nil {
		return nil, err
	}
	args := []string{"node", "--home", home, "--data", smallSet + "=" + small,
		"--listen", "/ip4/127.0.0.1/udp/0/quic-v1", "--listen", "/ip4/127.0.0.1/tcp/0"}
	if name != "" {
		args = append(args, "--data", name+"="+dir)
	}
	for _, b := range boot {
		args = append(args, "--bootstrap", b)
	}
	var cmd *exec.Cmd
	if l.profile == "" {
		liop, err := l.liop()
		if err != nil {
			return nil, err
		}
		cmd = exec.Command(liop, args...)
	} else {
		cmd = exec.Command("/proc/self/exe")
		cmd.Args = []string{nodeName, filepath.Join(l.profile, fmt.Sprintf("node%d.pprof", l.made)), home, strings.Join(boot, ","), smallSet, small}
		if name != "" {
			cmd.Args = append(cmd.Args, name, dir)
		}
	}
	if n.child, err = startChild(cmd, home+".log"); err != nil {
		return nil, err
	}
	for len(n.addr) < len(transports) {
		a, err := n.child.line(ctx)
		if err != nil {
			n.stop()
			return nil, err
		}
		for _, t := range transports {
			if strings.Contains(a, "/"+t) {
				n.addr[t] = a
			}
		}
	}
	return n, nil
}

func (n *dataNode) stop()    { n.child.stop() }
func (n *dataNode) pid() int { return n.child.cmd.Process.Pid }

// agent is someone whom the owner of a node has given a grant.
type agent struct {
	id    *identity.Identity
	chain string
}

// newAgent issues a grant for a new identity. Zero limits are the node's
// defaults, except those that would end the measuring.
func (n *dataNode) newAgent(dataset string, limits grant.Limits) (agent, error) {
	a := agent{id: identity.Generate()}
	var err error
	a.chain, err = n.grantTo(a.id, dataset, limits)
	return a, err
}

// grantTo is newAgent for an identity that there is.
func (n *dataNode) grantTo(id *identity.Identity, dataset string, limits grant.Limits) (string, error) {
	limits.Runs = 1_000_000
	limits.Concurrency = 64
	return grant.Issue(n.owner.Ed25519(), grant.Spec{Holder: id.ID(), Audience: peer.ID(n.owner.ID()).String(),
		Datasets: []string{dataset}, Limits: limits}, time.Now())
}

// dial opens a session for a new agent.
func (n *dataNode) dial(ctx context.Context, transport, dataset string, limits grant.Limits) (*client.Client, error) {
	a, err := n.newAgent(dataset, limits)
	if err != nil {
		return nil, err
	}
	return client.Dial(ctx, n.addr[transport], client.Options{Identity: a.id, Grant: a.chain})
}

// child is a process that prints lines once it is ready.
type child struct {
	cmd     *exec.Cmd
	lines   chan string // closed at the end of its output
	logFile string
	stdin   io.Closer // closing it asks a peer to end; may be nil
}

// startChild starts cmd with its stderr in a file.
func startChild(cmd *exec.Cmd, logFile string) (*child, error) {
	log, err := os.Create(logFile)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	cmd.Stderr = log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C is for this process: it stops the others in order
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", filepath.Base(cmd.Path), err)
	}
	c := &child{cmd: cmd, lines: make(chan string, 16), logFile: logFile}
	go func() {
		defer close(c.lines)
		for s := bufio.NewScanner(out); s.Scan(); {
			c.lines <- s.Text()
		}
	}()
	return c, nil
}

// line is the next line that the child prints at its start.
func (c *child) line(ctx context.Context) (string, error) { return c.lineWithin(ctx, startTime) }

// answer reads what the child has measured, as JSON, from the next line.
func (c *child) answer(ctx context.Context, to any) error {
	s, err := c.lineWithin(ctx, answerTime)
	if err != nil {
		return err
	}
	return json.Unmarshal([]byte(s), to)
}

func (c *child) lineWithin(ctx context.Context, d time.Duration) (string, error) {
	late := time.NewTimer(d)
	defer late.Stop()
	select {
	case s, ok := <-c.lines:
		if !ok {
			words, _ := os.ReadFile(c.logFile)
			return "", fmt.Errorf("%s ended too early: %.500s", filepath.Base(c.cmd.Args[0]), words)
		}
		return s, nil
	case <-late.C:
		return "", fmt.Errorf("%s said nothing for %s", filepath.Base(c.cmd.Args[0]), d)
	case <-ctx.Done():
		return "", ctx.Err()
	}
}

// stop ends the child and waits for it.
func (c *child) stop() {
	if c.stdin != nil {
		c.stdin.Close()
	} else {
		c.cmd.Process.Signal(syscall.SIGTERM)
	}
	late := time.AfterFunc(stopTime, func() { c.cmd.Process.Kill() })
	defer late.Stop()
	for range c.lines { // Wait must come after the last read
	}
	c.cmd.Wait()
}

// serveNode is the process nodeName: `liop node` with a CPU profile. args are
// the profile's file, the home, the bootstrap peers with commas between them, and
// pairs of dataset name and folder.
func serveNode(args []string) (err error) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if len(args) < 3 || len(args)%2 != 1 {
		return errors.New("want PROFILE HOME BOOTSTRAP [NAME DIR]")
	}
	id, err := identity.Load(args[1])
	if err != nil {
		return err
	}
	c := node.Config{Listen: []string{"/ip4/127.0.0.1/udp/0/quic-v1", "/ip4/127.0.0.1/tcp/0"}}
	c.Mesh.Bootstrap = strings.FieldsFunc(args[2], func(r rune) bool { return r == ',' })
	for i := 3; i < len(args); i += 2 {
		c.Datasets = append(c.Datasets, node.Dataset{Name: args[i], Dir: args[i+1]})
	}
	n, err := node.Start(ctx, args[1], id, c, slog.New(slog.NewJSONHandler(os.Stderr, nil)))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, n.Close()) }()
	stopProfile, err := profileTo(args[0])
	if err != nil {
		return err
	}
	for _, a := range n.Addrs() {
		fmt.Println(a)
	}
	<-ctx.Done()
	return stopProfile()
}

package netlab_test

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/liop-project/liop/core/fault"
	"github.com/liop-project/liop/mesh"
	"github.com/liop-project/liop/mesh/netlab"
)

// peerName is how this binary is started to be a peer in a namespace.
const peerName = "netlab-peer"

// patience bounds what must happen soon; no test waits for it to pass.
const patience = 60 * time.Second

func TestMain(m *testing.M) {
	if os.Args[0] == peerName {
		if err := peer(os.Args[1], os.Args[2]); err != nil {
			fmt.Println("error", err)
			os.Exit(1)
		}
		return
	}
	goleak.VerifyTestMain(m)
}

// process is a peer, seen from the test.
type process struct {
	name  string
	in    io.Writer
	lines chan string
}

// start starts a peer: a node with config, or, if dial is not empty, an agent
// that dials that address.
func start(t *testing.T, n *netlab.Namespace, name string, config mesh.Config, dial string) *process {
	t.Helper()
	b, err := json.Marshal(peerConfig{config.Listen, config.Reach})
	if err != nil {
		t.Fatal(err)
	}
	c := exec.Command("/proc/self/exe")
	c.Args = []string{peerName, string(b), dial}
	c.Stderr = os.Stderr
	in, err := c.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := n.Start(c); err != nil {
		t.Fatal(err)
	}
	p := &process{name, in, make(chan string, 64)}
	go func() {
		defer close(p.lines)
		for s := bufio.NewScanner(out); s.Scan(); {
			p.lines <- s.Text()
		}
	}()
	return p
}

// says waits for the next line that begins with word, and returns the rest of it.
func (p *process) says(t *testing.T, word string) string {
	t.Helper()
	late := time.After(patience)
	for {
		select {
		case line, ok := <-p.lines:
			first, rest, _ := strings.Cut(line, " ")
			switch {
			case !ok:
				t.Fatalf("%s ended and never said %q", p.name, word)
			case first == word:
				return rest
			case first == "error":
				t.Fatalf("%s: %s", p.name, rest)
			}
		case <-late:
			t.Fatalf("%s never said %q", p.name, word)
		}
	}
}

// ask has an agent do something and returns what it says of it.
func (p *process) ask(t *testing.T, what string) string {
	t.Helper()
	fmt.Fprintln(p.in, what)
	return p.says(t, what)
}

type peerConfig struct {
	Listen []string
	Reach  mesh.Reach
}

// peer is the process peerName. It ends with its stdin.
func peer(config, dial string) error {
	var c peerConfig
	if err := json.Unmarshal([]byte(config), &c); err != nil {
		return err
	}
	key, _, err := crypto.GenerateEd25519Key(rand.Reader)
	if err != nil {
		return err
	}
	h, err := mesh.New(mesh.Config{Key: key, Listen: c.Listen, Reach: c.Reach})
	if err != nil {
		return err
	}
	defer h.Close()
	if dial != "" {
		return agent(h, dial)
	}
	for lane, o := range map[mesh.Lane]mesh.ServeOptions{mesh.Control: {}, mesh.Bulk: {MaxRecv: 1 << 20}} {
		err := h.Serve(lane, o, func(r grpc.ServiceRegistrar) { healthpb.RegisterHealthServer(r, health.NewServer()) })
		if err != nil {
			return err
		}
	}
	said := map[string]bool{}
	say := func() {
		for _, a := range h.Addrs() {
			if !said[a] && !strings.Contains(a, "127.0.0.1") {
				said[a] = true
				word := "direct"
				if strings.Contains(a, "/p2p-circuit/") {
					word = "relayed"
				}
				fmt.Println(word, a)
			}
		}
	}
	say()
	if err := h.OnAddrsChanged(say); err != nil {
		return err
	}
	io.Copy(io.Discard, os.Stdin)
	return nil
}

// agent does what it reads from stdin, and says how that went.
func agent(h *mesh.Host, addr string) error {
	began := time.Now()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	c, err := h.Dial(ctx, addr)
	if err != nil {
		return fmt.Errorf("dial: %s", explain(err))
	}
	defer c.Close()
	check := func(l mesh.Lane) string {
		if _, err := healthpb.NewHealthClient(c.Lane(l)).Check(ctx, &healthpb.HealthCheckRequest{}); err != nil {
			return explain(err)
		}
		return "ok"
	}
	for s := bufio.NewScanner(os.Stdin); s.Scan(); {
		var how string
		switch s.Text() {
		case "control":
			how = check(mesh.Control)
		case "bulk":
			how = check(mesh.Bulk)
		case "rtt":
			d, err := c.Ping(ctx)
			how = d.String()
			if err != nil {
				how = explain(err)
			}
		case "upgrade": // wait for a direct connection, with calls going on
			how = "none"
			for late := time.Now().Add(patience / 2); time.Now().Before(late); time.Sleep(10 * time.Millisecond) {
				if got := check(mesh.Control); got != "ok" {
					how = got
					break
				}
				if c.Transport() != "relay" {
					how = "ok"
					break
				}
			}
		}
		fmt.Println(s.Text(), how, c.Transport(), time.Since(began).Round(time.Millisecond))
	}
	return nil
}

func explain(err error) string {
	if f, ok := fault.From(err); ok {
		return fmt.Sprintf("%s/%s", f.Code, f.Rule)
	}
	return err.Error()
}

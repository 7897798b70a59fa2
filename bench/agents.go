//go:build linux && cgo

package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"

	"github.com/liop-project/liop/mesh"
)

const (
	// agentsName is how this binary is started to be many agents.
	agentsName = "liop-bench-agents"

	// agentsAtOnce is how many of them connect at the same time.
	agentsAtOnce = 16
	// agentsQuick and agentsFull are how many there are; a node takes 1024
	// connections unless told otherwise.
	agentsQuick, agentsFull = 100, 1000
)

// agentsOrder is what they are told.
type agentsOrder struct {
	Addr string
	N    int
}

// agents is what a node spends on agents that are connected, each with a lane
// open, and ask nothing.
func agents(ctx context.Context, l *lab) ([]row, error) {
	var rows []row
	for _, t := range transports {
		r, err := l.idleAgents(ctx, t, l.n(agentsFull, agentsQuick))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", t, err)
		}
		rows = append(rows, r...)
	}
	return rows, nil
}

func (l *lab) idleAgents(ctx context.Context, transport string, n int) ([]row, error) {
	node, err := l.startNode(ctx, "", "")
	if err != nil {
		return nil, err
	}
	defer node.stop()
	if _, err := settled(ctx, node.pid()); err != nil { // blank runners are not agents' cost
		return nil, err
	}
	before, err := look(node.pid())
	if err != nil {
		return nil, err
	}
	order, err := json.Marshal(agentsOrder{node.addr[transport], n})
	if err != nil {
		return nil, err
	}
	cmd := exec.Command("/proc/self/exe")
	cmd.Args = []string{agentsName, string(order)}
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	c, err := startChild(cmd, filepath.Join(l.dir, "agents.log"))
	if err != nil {
		return nil, err
	}
	c.stdin = in
	defer c.stop()
	var each time.Duration
	if err := c.answer(ctx, &each); err != nil {
		return nil, fmt.Errorf("agents: %w", err)
	}
	after, err := look(node.pid())
	if err != nil {
		return nil, err
	}
	cpu, _, err := treeCPU(node.pid())
	if err != nil {
		return nil, err
	}
	start, wait := time.Now(), time.Duration(l.n(60, 5))*time.Second // at 60 s each keepalive has come
	select {
	case <-time.After(wait):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	cpuAfter, _, err := treeCPU(node.pid())
	if err != nil {
		return nil, err
	}
	load := (cpuAfter - cpu).Seconds() / time.Since(start).Seconds()
	what := fmt.Sprintf("%d idle agents, %s", n, transport)
	return []row{
		{what: what + ", node RSS for each", ours: figure{(after.rss - before.rss) / float64(n), octets}},
		{what: what + ", node CPU in a second", ours: figure{load, seconds}},
		{what: "  descriptors for each", ours: figure{(after.files - before.files) / float64(n), pieces}},
		{what: "  time until all were connected, for each", ours: took(each)},
	}, nil
}

// serveAgents is the process agentsName: it says how long a connection took, and
// ends when its stdin does.
func serveAgents(args []string, stdin io.Reader, stdout io.Writer) error {
	var o agentsOrder
	if len(args) != 1 {
		return fmt.Errorf("want an order, got %q", args)
	}
	if err := json.Unmarshal([]byte(args[0]), &o); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), startTime)
	defer cancel()
	var mu sync.Mutex
	var hosts []*mesh.Host
	defer func() {
		for _, h := range hosts {
			h.Close()
		}
	}()
	start := time.Now()
	err := times(ctx, o.N, agentsAtOnce, func(ctx context.Context) error {
		key, _, err := crypto.GenerateEd25519Key(rand.Reader)
		if err != nil {
			return err
		}
		h, err := mesh.New(mesh.Config{Key: key})
		if err != nil {
			return err
		}
		mu.Lock()
		hosts = append(hosts, h)
		mu.Unlock()
		c, err := h.Dial(ctx, o.Addr)
		if err != nil {
			return err
		}
		return emptyCallOn(c.Lane(mesh.Control))(ctx)
	})
	if err != nil {
		return err
	}
	if err := json.NewEncoder(stdout).Encode(time.Since(start) / time.Duration(o.N)); err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, stdin)
	return err
}

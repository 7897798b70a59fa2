//go:build linux && cgo

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/liop-project/liop/client"
	"github.com/liop-project/liop/core/grant"
	"github.com/liop-project/liop/core/identity"
)

// findSet is a dataset that one node of a mesh has.
const findSet = "wanted"

// findSizes are how many nodes the meshes have.
var findSizes = [...]int{1, 10}

// find is what it costs an agent that knows only the name of a dataset, and one
// peer of the mesh, beside one that knows the node: each has nothing at first,
// and has an answer at the end.
func find(ctx context.Context, l *lab) ([]row, error) {
	peer, err := l.startPeer(ctx)
	if err != nil {
		return nil, err
	}
	defer peer.stop()
	var rows []row
	for _, n := range findSizes {
		r, err := l.findIn(ctx, n, peer)
		if err != nil {
			return nil, fmt.Errorf("mesh of %d: %w", n, err)
		}
		rows = append(rows, r...)
	}
	return rows, nil
}

func (l *lab) findIn(ctx context.Context, size int, peer *mtls) ([]row, error) {
	small, err := l.small()
	if err != nil {
		return nil, err
	}
	// Of several nodes, the first is the bootstrap peer and the last has the dataset.
	var boot []string
	var node *dataNode
	for i := range size {
		name := ""
		if i == size-1 {
			name = findSet
		}
		if node, err = l.startNode(ctx, name, small, boot...); err != nil {
			return nil, err
		}
		defer node.stop()
		if i == 0 {
			boot = []string{node.addr["quic"]}
		}
	}
	if size == 1 {
		boot = []string{node.addr["quic"]}
	}
	home := filepath.Join(l.dir, fmt.Sprintf("finder%d", size))
	id, err := identity.Create(home)
	if err != nil {
		return nil, err
	}
	chain, err := node.grantTo(id, findSet, grant.Limits{})
	if err != nil {
		return nil, err
	}
	liop, err := l.liop()
	if err != nil {
		return nil, err
	}
	o := client.Options{Identity: id, Grant: chain}
	join := client.JoinOptions{Identity: id, Bootstrap: boot}
	if err := announced(ctx, join, size); err != nil {
		return nil, err
	}

	var left leftOpen
	cs := []contender{
		{name: "mtls", after: left.close, op: func(ctx context.Context) error {
			cc, err := peer.dial()
			if err != nil {
				return err
			}
			left.add(cc)
			return emptyCallOn(cc)(ctx)
		}},
		{name: "known", after: left.close, op: func(ctx context.Context) error {
			c, err := client.Dial(ctx, node.addr["quic"], o)
			if err != nil {
				return err
			}
			left.add(c)
			return hello(c)(ctx)
		}},
		{name: "found", after: left.close, op: func(ctx context.Context) error {
			m, err := client.Join(ctx, join)
			if err != nil {
				return err
			}
			left.add(m)
			o := o
			o.Mesh = m
			c, err := client.Dial(ctx, "@"+findSet, o)
			if err != nil {
				return err
			}
			left.add(c)
			return hello(c)(ctx)
		}},
		{name: "join", after: left.close, op: func(ctx context.Context) error {
			m, err := client.Join(ctx, join)
			if err != nil {
				return err
			}
			left.add(m)
			return nil
		}},
		{name: "command", after: left.close, op: func(ctx context.Context) error {
			return firstLine(ctx, &left, exec.CommandContext(ctx, liop, "find", findSet, "--home", home, "--bootstrap", boot[0]))
		}},
		{name: "idle command", after: left.close, op: func(ctx context.Context) error {
			return firstLine(ctx, &left, exec.CommandContext(ctx, liop, "version"))
		}},
	}
	s, err := sideBySide(ctx, l.n(100, 10), 1, cs...)
	if err != nil {
		return nil, err
	}
	mtlsTook, known, found, joined, command, idle := s[0], s[1], s[2], s[3], s[4], s[5]
	in := fmt.Sprintf("mesh of %d", size)
	if size == 1 {
		in = "mesh of one node"
	}
	const mtlsIs, knownIs = "mTLS dial + empty call", "address known"
	return []row{
		{what: in + ": first answer, address known, p50", ours: took(known.p50()), peer: took(mtlsTook.p50()), peerIs: mtlsIs},
		{what: in + ": first answer, by dataset name, p50", ours: took(found.p50()), peer: took(mtlsTook.p50()), peerIs: mtlsIs},
		{what: in + ": first answer, by dataset name, p50", ours: took(found.p50()), peer: took(known.p50()), peerIs: knownIs},
		{what: in + ": first answer, by dataset name, p99", ours: took(found.p99()), peer: took(known.p99()), peerIs: knownIs},
		{what: "  of which joining, p50", ours: took(joined.p50())},
		{what: in + ": first line of liop find, p50", ours: took(command.p50()), peer: took(idle.p50()), peerIs: "of liop version"},
	}, nil
}

// announced waits until the agent's search finds the dataset, and the node's own
// record with it, and the mesh has all its nodes.
func announced(ctx context.Context, join client.JoinOptions, size int) error {
	ctx, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	m, err := client.Join(ctx, join)
	if err != nil {
		return err
	}
	defer m.Close()
	again := time.NewTicker(50 * time.Millisecond)
	defer again.Stop()
	for {
		all, wanted := 0, false
		for p, err := range m.Find(ctx, smallSet) {
			if err != nil {
				return err
			}
			if p.Record != nil && p.RTT > 0 {
				all++
			}
		}
		for p, err := range m.Find(ctx, findSet) {
			if err != nil {
				return err
			}
			wanted = wanted || p.Record != nil && p.RTT > 0
		}
		if all == size && wanted {
			return nil
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			return fmt.Errorf("%d of %d nodes are found, the wanted one: %t: %w", all, size, wanted, ctx.Err())
		}
	}
}

// firstLine starts a command, and returns when it has printed a line.
func firstLine(ctx context.Context, left *leftOpen, c *exec.Cmd) error {
	out, err := c.StdoutPipe()
	if err != nil {
		return err
	}
	if err := c.Start(); err != nil {
		return err
	}
	left.add(closer(func() error {
		io.Copy(io.Discard, out)
		return c.Wait()
	}))
	_, err = bufio.NewReader(out).ReadString('\n')
	return err
}

// leftOpen is what is still open after an operation.
type leftOpen []io.Closer

func (l *leftOpen) add(c io.Closer) { *l = append(*l, c) }

// close closes the last first.
func (l *leftOpen) close() (err error) {
	for i := len(*l) - 1; i >= 0; i-- {
		err = errors.Join(err, (*l)[i].Close())
	}
	*l = nil
	return err
}

type closer func() error

func (c closer) Close() error { return c() }

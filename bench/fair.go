//go:build linux && cgo

package main

import (
	"context"
	"crypto/ed25519"
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/liop-project/liop/client"
	"github.com/liop-project/liop/core/fault"
	"github.com/liop-project/liop/core/grant"
	"github.com/liop-project/liop/core/identity"
	"github.com/liop-project/liop/filters"
	"github.com/liop-project/liop/node/sandbox/testdata/hostile"
)

const (
	// floodName is how this binary is started to be an agent that floods a node.
	floodName = "liop-bench-flood"
	// floodWidth is how many runs a flood has in flight.
	floodWidth = 64
	// floodWall is the time limit of each, which matters to those that never end.
	floodWall = time.Second
	// floodNice keeps the flood's own work, which would be another machine's,
	// from competing with the victim's and the node's for CPU.
	floodNice = 19
)

// fair is what an agent that asks one question after the other notices of
// another one that asks 64 at a time: its runs beside the flood, and without it,
// in turns on the same node.
func fair(ctx context.Context, l *lab) ([]row, error) {
	var rows []row
	for _, k := range []struct{ module, what string }{
		{"hello", "64 runs of hello in flight"},
		{"loop", "64 endless loops in flight"},
	} {
		quiet, loud, rate, err := l.besideFlood(ctx, k.module)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", k.what, err)
		}
		what, is := "run of hello beside another agent's "+k.what, "the same without"
		rows = append(rows,
			row{what: what + ", p50", ours: took(loud.p50()), peer: took(quiet.p50()), peerIs: is},
			row{what: what + ", p99", ours: took(loud.p99()), peer: took(quiet.p99()), peerIs: is, target: ratioAtMost(2)},
			row{what: "  runs of the flood meanwhile", ours: rate})
	}
	return rows, nil
}

// besideFlood times runs of one agent without and with another's flood.
func (l *lab) besideFlood(ctx context.Context, module string) (quiet, loud samples, rate figure, err error) {
	n, err := l.startNode(ctx, "", "")
	if err != nil {
		return nil, nil, figure{}, err
	}
	defer n.stop()
	victim, err := n.dial(ctx, "quic", smallSet, grant.Limits{})
	if err != nil {
		return nil, nil, figure{}, err
	}
	defer victim.Close()
	flooder, err := n.newAgent(smallSet, grant.Limits{WallMS: uint64(floodWall.Milliseconds())})
	if err != nil {
		return nil, nil, figure{}, err
	}
	one := contender{name: "victim", op: hello(victim)}
	ended, elapsed := 0, time.Duration(0)
	for range l.n(5, 2) {
		s, err := sideBySide(ctx, l.n(1000, 400), 200, one)
		if err != nil {
			return nil, nil, figure{}, err
		}
		quiet = append(quiet, s[0]...)

		f, err := l.startFlood(ctx, floodOrder{flooder.id.Ed25519(), flooder.chain, n.addr["quic"], module})
		if err != nil {
			return nil, nil, figure{}, err
		}
		start := time.Now()
		s, err = sideBySide(ctx, l.n(1000, 400), 200, one)
		elapsed += time.Since(start)
		runs, stopErr := f.stop(ctx)
		if err = errors.Join(err, stopErr); err != nil {
			return nil, nil, figure{}, err
		}
		loud = append(loud, s[0]...)
		ended += runs
	}
	return quiet, loud, figure{float64(ended) / elapsed.Seconds(), perSecond}, nil
}

// floodOrder is what a flood is told on its stdin.
type floodOrder struct {
	Key    ed25519.PrivateKey
	Grant  string
	Node   string
	Module string
}

// flooding is a flood that is under way.
type flooding struct{ child *child }

// startFlood returns when the first run of the flood has ended. The caller must
// stop it.
func (l *lab) startFlood(ctx context.Context, o floodOrder) (*flooding, error) {
	cmd := exec.Command("/proc/self/exe")
	cmd.Args = []string{floodName}
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	c, err := startChild(cmd, filepath.Join(l.dir, "flood.log"))
	if err != nil {
		return nil, err
	}
	c.stdin = in
	if err = gob.NewEncoder(in).Encode(o); err == nil {
		_, err = c.line(ctx)
	}
	if err != nil {
		c.stop()
		return nil, fmt.Errorf("flood: %w", err)
	}
	return &flooding{c}, nil
}

// stop ends the flood, and tells how many runs it had since it was started.
func (f *flooding) stop(ctx context.Context) (runs int, err error) {
	f.child.stdin.Close()
	s, err := f.child.line(ctx)
	f.child.stop()
	if err != nil {
		return 0, fmt.Errorf("flood: %w", err)
	}
	return strconv.Atoi(s)
}

// serveFlood is the process floodName: it prints a line when its first run has
// ended, floods until its stdin ends, and prints how many more runs there were.
func serveFlood(stdin io.Reader, stdout io.Writer) error {
	if err := unix.Setpriority(unix.PRIO_PGRP, 0, floodNice); err != nil {
		return fmt.Errorf("lower the priority: %w", err)
	}
	var o floodOrder
	if err := gob.NewDecoder(stdin).Decode(&o); err != nil {
		return fmt.Errorf("read order: %w", err)
	}
	id, err := identity.FromKey(o.Key)
	if err != nil {
		return err
	}
	wasm, ok := filters.TestGuest(o.Module)
	if !ok {
		if wasm, ok = hostile.Module(o.Module); !ok {
			return fmt.Errorf("there is no module %q", o.Module)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	c, err := client.Dial(ctx, o.Node, client.Options{Identity: id, Grant: o.Grant})
	if err != nil {
		return err
	}
	defer c.Close()
	run := func() error {
		_, err := c.Run(ctx, client.Request{Module: wasm})
		if errors.Is(err, &fault.Error{Code: fault.LimitTime}) || errors.Is(err, &fault.Error{Code: fault.Busy}) {
			return nil // what a flood must expect
		}
		return err
	}
	if err := run(); err != nil {
		return err
	}
	var ended atomic.Int64
	errs := make([]error, floodWidth)
	var wg sync.WaitGroup
	for i := range errs {
		wg.Go(func() {
			for errs[i] == nil {
				if errs[i] = run(); errs[i] == nil {
					ended.Add(1)
				}
			}
		})
	}
	fmt.Fprintln(stdout, "ready")
	io.Copy(io.Discard, stdin)
	fmt.Fprintln(stdout, ended.Load())
	cancel()
	wg.Wait()
	for _, err := range errs {
		if !errors.Is(err, context.Canceled) {
			return err
		}
	}
	return nil
}

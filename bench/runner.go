//go:build linux && cgo

package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/liop-project/liop/filters"
	"github.com/liop-project/liop/node/engine"
)

// blankPause is the time between two runs on blank runners, in which the engine
// starts the next one: else the rows would show how fast it can.
const blankPause = 30 * time.Millisecond

// runnerStart is the engine alone, in this process, without network and
// receipts: what a worker process costs.
func runnerStart(ctx context.Context, l *lab) ([]row, error) {
	small, err := l.small()
	if err != nil {
		return nil, err
	}
	wasm, _ := filters.TestGuest("hello")
	module, err := newBare().compiled(wasm, filepath.Join(l.dir, "hello.cwasm"))
	if err != nil {
		return nil, err
	}
	defer module.close()

	job := &engine.Job{Module: sha256.Sum256(wasm), Wasm: wasm, Tenant: "bench",
		Mounts: []engine.Mount{{Name: smallSet, Dir: small}},
		Limits: engine.Limits{Memory: 64 << 20, Output: 64 << 10, Wall: 5 * time.Second}}
	on := func(name string, c engine.Config) (contender, func() error, error) {
		c.Dir = filepath.Join(l.dir, "engine-"+name)
		e, err := engine.New(c)
		if err != nil {
			return contender{}, nil, err
		}
		return contender{name: name, op: func(ctx context.Context) error {
			r, err := e.Run(ctx, job)
			if err == nil && string(r.Answer) != "hello\n" {
				err = errors.New("hello answered something else")
			}
			return err
		}}, e.Close, nil
	}
	cs := []contender{{name: "bare", op: func(context.Context) error {
		return module.run(nil, smallSet, small, "/dev/null")
	}}}
	for _, k := range []struct {
		name   string
		config engine.Config
	}{
		{"fresh", engine.Config{Blank: -1, Reuse: 1}},
		{"blank", engine.Config{Reuse: 1}},
		{"reused", engine.Config{Reuse: 1 << 30}},
	} {
		c, stop, err := on(k.name, k.config)
		if err != nil {
			return nil, fmt.Errorf("engine with %s runners: %w", k.name, err)
		}
		defer stop()
		if k.name == "blank" {
			c.before = func(ctx context.Context) error {
				select {
				case <-time.After(blankPause):
					return nil
				case <-ctx.Done():
					return ctx.Err()
				}
			}
		}
		cs = append(cs, c)
	}
	smallest, err := exec.LookPath("true")
	if err != nil {
		return nil, err
	}
	started, err := sideBySide(ctx, l.n(200, 20), 10, cs[1], cs[2], contender{name: "true",
		op: func(ctx context.Context) error { return exec.CommandContext(ctx, smallest).Run() }})
	if err != nil {
		return nil, err
	}
	warm, err := sideBySide(ctx, l.n(20_000, 2000), 500, cs[3], cs[0])
	if err != nil {
		return nil, err
	}
	const is = "bare instantiate + call"
	inProcess := took(warm[1].p50())
	return []row{
		{what: "hello in a new process, p50", ours: took(started[0].p50()), peer: took(started[2].p50()), peerIs: "process /bin/true", target: atMost(took(5 * time.Millisecond))},
		{what: "hello in a blank runner, p50", ours: took(started[1].p50()), peer: inProcess, peerIs: is},
		{what: "hello in a reused runner, p50", ours: took(warm[0].p50()), peer: inProcess, peerIs: is, target: atMost(took(60 * time.Microsecond))},
		{what: "hello in a reused runner, p99", ours: took(warm[0].p99()), peer: took(warm[1].p99()), peerIs: is},
	}, nil
}

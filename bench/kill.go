//go:build linux && cgo

package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/liop-project/liop/client"
	"github.com/liop-project/liop/core/fault"
	"github.com/liop-project/liop/core/grant"
	"github.com/liop-project/liop/node/sandbox/testdata/hostile"
)

const (
	killAfter = 200 * time.Millisecond // wall time in the grant
	killSlack = 10 * time.Millisecond  // what the target allows on top
)

// kill is how long after its deadline a module that would never end is gone,
// as the agent sees it: the time of the call, less the deadline, less what a
// warm run takes.
func kill(ctx context.Context, l *lab) ([]row, error) {
	n, err := l.startNode(ctx, "", "")
	if err != nil {
		return nil, err
	}
	defer n.stop()
	c, err := n.dial(ctx, "quic", smallSet, grant.Limits{WallMS: uint64(killAfter.Milliseconds())})
	if err != nil {
		return nil, err
	}
	defer c.Close()
	warm, err := sideBySide(ctx, l.n(2000, 200), 200, contender{name: "hello", op: hello(c)})
	if err != nil {
		return nil, err
	}
	var rows []row
	for _, m := range []struct{ name, what string }{
		{"loop", "endless loop"},
		{"fill", "256 MiB memory.fill after the other"},
		{"sleeper", "sleep for an hour"},
	} {
		wasm, ok := hostile.Module(m.name)
		if !ok {
			return nil, fmt.Errorf("no module %q", m.name)
		}
		s, err := sideBySide(ctx, l.n(50, 10), 1, contender{name: m.name, op: func(ctx context.Context) error {
			if _, err := c.Run(ctx, client.Request{Module: wasm}); !errors.Is(err, &fault.Error{Code: fault.LimitTime}) {
				return fmt.Errorf("it was not stopped at its deadline: %w", err)
			}
			return nil
		}})
		if err != nil {
			return nil, err
		}
		late := func(d time.Duration) figure { return took(d - killAfter - warm[0].p50()) }
		what := fmt.Sprintf("%s, gone after its deadline, ", m.what)
		rows = append(rows,
			row{what: what + "p50", ours: late(s[0].p50())},
			row{what: what + "p99", ours: late(s[0].p99()), target: atMost(took(killSlack))})
	}
	return rows, nil
}

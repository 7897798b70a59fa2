package main

import (
	"context"
	"crypto/sha256"
	"fmt"
	"path/filepath"
	"time"

	"github.com/liop-project/liop/client"
	"github.com/liop-project/liop/core/fault"
	"github.com/liop-project/liop/core/guest"
	"github.com/liop-project/liop/node/engine"
)

// What a --reduce filter may use on the agent's own machine: generous, since it
// is the agent's, and finite, since the filter may be somebody else's.
const (
	reduceMemory = 512 << 20
	reduceTime   = time.Minute
	reduceOutput = client.MaxAnswer
)

// reducer runs a filter on this machine, in the sandbox that nodes use: without
// data, network or files.
type reducer struct {
	engine *engine.Engine
	wasm   []byte
	args   []string
}

func newReducer(home, filter string, args []string) (*reducer, error) {
	wasm, err := readFilter(filter)
	if err != nil {
		return nil, fmt.Errorf("--reduce: %w", err)
	}
	if err := guest.ValidArgs(args); err != nil {
		return nil, fmt.Errorf("--reduce-arg: %w", err)
	}
	e, err := engine.New(engine.Config{Dir: filepath.Join(home, "state", "reduce"), Blank: -1, Runners: 1})
	if err != nil {
		return nil, hint(fmt.Errorf("--reduce: this machine has no sandbox: %w", err),
			"reduce on Linux, or leave --reduce out and take each node's answer")
	}
	return &reducer{engine: e, wasm: wasm, args: args}, nil
}

func (r *reducer) close() { r.engine.Close() }

// run makes one answer of those of the nodes, which are its inputs by node id.
func (r *reducer) run(ctx context.Context, answers map[string][]byte) ([]byte, error) {
	if err := guest.ValidInputs(answers); err != nil {
		return nil, err
	}
	res, err := r.engine.Run(ctx, &engine.Job{Module: sha256.Sum256(r.wasm), Wasm: r.wasm, Args: r.args, Stdin: guest.Stdin(answers),
		Tenant: "reduce", Limits: engine.Limits{Memory: reduceMemory, Output: reduceOutput, Wall: reduceTime}})
	if f, ok := fault.From(err); ok {
		again := *f
		again.Message = "--reduce: " + f.Message
		return nil, &again
	}
	if err != nil {
		return nil, err
	}
	return res.Answer, nil
}

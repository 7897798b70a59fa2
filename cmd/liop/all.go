package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"github.com/liop-project/liop/client"
	"github.com/liop-project/liop/core/fault"
)

// runAll asks every node that serves a dataset.
func runAll(ctx context.Context, c *cobra.Command, f runFlags, me *agent, dataset string, r client.Request, o client.Options, p *progress) error {
	var reducer *reducer
	if f.reduce != "" { // what cannot be reduced is not asked for
		var err error
		if reducer, err = newReducer(me.home, f.reduce, f.reduceArgs); err != nil {
			return err
		}
		defer reducer.close()
	}
	if f.receipt != "" {
		if err := os.MkdirAll(f.receipt, 0o755); err != nil {
			return err
		}
	}
	out := c.OutOrStdout()
	var failed error // of this machine, not of a node
	all := client.AllOptions{Options: o, Parallel: f.atOnce, MinNodes: f.minNodes, Result: func(res client.NodeResult) {
		if err := tellOne(out, f, res); err != nil && failed == nil {
			failed = err
		}
	}}
	results, err := client.RunAll(ctx, dataset, r, all)
	p.stop()
	report := allJSON{Dataset: dataset, Nodes: []nodeJSON{}}
	inputs := map[string][]byte{}
	for _, res := range results {
		report.Nodes = append(report.Nodes, newNodeJSON(res))
		if res.Err == nil {
			inputs[res.Node.String()] = res.Answer.Bytes
		}
	}
	fmt.Fprintf(os.Stderr, "liop: %d of %d nodes answered\n", len(inputs), len(results))
	if err == nil {
		err = failed
	}
	if err == nil && reducer != nil {
		var one []byte
		if one, err = reducer.run(ctx, inputs); err == nil && !f.json {
			_, err = out.Write(one)
		} else if err == nil {
			text := newTextJSON(one)
			report.Reduced = &text
		}
	}
	if f.json {
		enc := json.NewEncoder(out)
		enc.SetEscapeHTML(false)
		err = errors.Join(err, enc.Encode(report))
	}
	if err != nil {
		return timedOut(ctx, f, err)
	}
	return nil
}

// tellOne says what came of one node, as soon as it is known.
func tellOne(out io.Writer, f runFlags, res client.NodeResult) error {
	if res.Err != nil {
		report := func(format string, args ...any) {
			fmt.Fprintf(os.Stderr, "liop: %s: "+format+"\n", append([]any{res.Node}, args...)...)
		}
		report("error: %v", res.Err)
		if e, ok := fault.From(res.Err); ok && e.Hint != "" {
			report("hint: %s", e.Hint)
		}
		return nil
	}
	fmt.Fprintf(os.Stderr, "liop: %s: %s answer, receipt verified (%s)\n",
		res.Node, humanize.IBytes(uint64(len(res.Answer.Bytes))), res.Answer.Claim.Assurance)
	if f.receipt != "" {
		if err := os.WriteFile(filepath.Join(f.receipt, res.Node.String()+".jws"), []byte(res.Answer.Receipt+"\n"), 0o644); err != nil {
			return err
		}
	}
	if f.json || f.reduce != "" {
		return nil
	}
	_, err := fmt.Fprintf(out, "==> %s <==\n%s", res.Node, res.Answer.Bytes)
	return err
}

// allJSON is what run --all --json prints.
type allJSON struct {
	Dataset string     `json:"dataset"`
	Nodes   []nodeJSON `json:"nodes"`
	Reduced *textJSON  `json:"reduced,omitempty"`
}

type nodeJSON struct {
	Node  string  `json:"node"`
	MS    float64 `json:"ms"`
	Error any     `json:"error,omitempty"`
	*answerJSON
}

func newNodeJSON(res client.NodeResult) nodeJSON {
	n := nodeJSON{Node: res.Node.String(), MS: millis(res.Time)}
	if res.Err != nil {
		n.Error = newErrorJSON(res.Err)
	} else {
		n.answerJSON = newAnswerJSON(res.Answer)
	}
	return n
}

// newErrorJSON is an error as an object.
func newErrorJSON(err error) any {
	f, ok := fault.From(err)
	if !ok {
		f = &fault.Error{Code: fault.Internal, Message: err.Error()}
	}
	return struct {
		Code    fault.Code  `json:"code"`
		Rule    string      `json:"rule,omitempty"`
		Owner   fault.Owner `json:"owner,omitempty"`
		Message string      `json:"message"`
		Hint    string      `json:"hint,omitempty"`
	}{f.Code, f.Rule, f.Owner, f.Message, f.Hint}
}

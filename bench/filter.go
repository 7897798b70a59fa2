//go:build linux && cgo

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"time"

	"github.com/liop-project/liop/client"
	"github.com/liop-project/liop/core/grant"
	"github.com/liop-project/liop/core/receipt"
	"github.com/liop-project/liop/filters"
)

const (
	csvSet    = "strikes"
	csvBy     = "Phase of flight"
	csvColumn = "Cost Total $"
	grepFor   = "vulture"

	// hashTime bounds the wait for the node to have read the dataset once: until
	// then it reads beside the runs.
	hashTime = 2 * time.Minute
)

// filter is real work on a large file: through the node, in bare Wasmtime, and
// in native Go. All give the same answer, or it is an error.
func filter(ctx context.Context, l *lab) ([]row, error) {
	dir := filepath.Join(l.dir, csvSet)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	file := filepath.Join(dir, "strikes.csv")
	if err := writeCSV(file, int64(l.csvMB)*1_000_000); err != nil {
		return nil, err
	}
	n, err := l.startNode(ctx, csvSet, dir)
	if err != nil {
		return nil, err
	}
	defer n.stop()
	c, err := n.dial(ctx, "quic", csvSet, grant.Limits{WallMS: 60_000})
	if err != nil {
		return nil, err
	}
	defer c.Close()
	if err := waitForHashes(ctx, c); err != nil {
		return nil, err
	}

	stats, err := l.newWork(n, c, "stats", dir, "--by", csvBy, "--column", csvColumn)
	if err != nil {
		return nil, err
	}
	defer stats.bare.close()
	fast := native("native Go", func() (err error) { stats.groups[0], err = statsFast(file, csvBy, csvColumn); return })
	slow := native("native Go, encoding/csv", func() (err error) { stats.groups[1], err = statsCSV(file, csvBy, csvColumn); return })
	s, err := compare(ctx, l.n(9, 3), stats.onNode(), stats.inBare(), fast, slow)
	if err != nil {
		return nil, err
	}
	if err := stats.check(); err != nil {
		return nil, err
	}
	grep, err := l.newWork(n, c, "grep", dir, "--count", grepFor)
	if err != nil {
		return nil, err
	}
	defer grep.bare.close()
	var matches int
	g, err := compare(ctx, l.n(5, 2), grep.onNode(), grep.inBare(),
		native("native Go", func() (err error) { matches, err = grepNative(file, grepFor); return }))
	if err != nil {
		return nil, err
	}
	if want := fmt.Sprintf(`"matches":%d`, matches); !bytes.Contains(grep.answer, []byte(want)) {
		return nil, fmt.Errorf("grep answered %.100s, native Go found %d", grep.answer, matches)
	}

	var rows []row
	add := func(what string, ours, peer cost, target target) {
		rows = append(rows,
			row{what: what + ", wall p50", ours: took(ours.wall.p50()), peer: took(peer.wall.p50()), peerIs: peer.name, target: target},
			row{what: what + ", CPU mean", ours: took(ours.cpu), peer: took(peer.cpu), peerIs: peer.name, target: target})
	}
	what := fmt.Sprintf("stats (C) over %d MB", l.csvMB)
	add(what, s[0], s[1], ratioAtMost(1.1))
	add(what, s[0], s[2], ratioAtMost(3))
	add(what, s[0], s[3], target{})
	what = fmt.Sprintf("grep --count (Go) over %d MB", l.csvMB)
	add(what, g[0], g[1], target{})
	add(what, g[0], g[2], target{})
	return rows, nil
}

// waitForHashes runs a module until the node knows the dataset's content.
func waitForHashes(ctx context.Context, c *client.Client) error {
	ctx, cancel := context.WithTimeout(ctx, hashTime)
	defer cancel()
	t := time.NewTicker(500 * time.Millisecond)
	defer t.Stop()
	wasm, _ := filters.TestGuest("hello")
	for {
		a, err := c.Run(ctx, client.Request{Module: wasm})
		if err != nil {
			return err
		}
		if a.Claim.Datasets[0].Basis == receipt.Content {
			return nil
		}
		select {
		case <-t.C:
		case <-ctx.Done():
			return fmt.Errorf("the node did not read the dataset in %s", hashTime)
		}
	}
}

// work is one filter with its arguments, on a node and in bare Wasmtime.
type work struct {
	node   *dataNode
	client *client.Client
	wasm   []byte
	bare   *bareModule
	args   []string
	dir    string
	out    string // file for the answer of bare

	answer []byte
	groups [2]map[string]*tally // of the native programs
}

func (l *lab) newWork(n *dataNode, c *client.Client, name, dir string, args ...string) (*work, error) {
	w := &work{node: n, client: c, args: args, dir: dir, out: filepath.Join(l.dir, name+".out")}
	var ok bool
	if w.wasm, ok = filters.Ready(name); !ok {
		return nil, fmt.Errorf("no filter %q", name)
	}
	var err error
	w.bare, err = newBare().compiled(w.wasm, filepath.Join(l.dir, name+".cwasm"))
	return w, err
}

func (w *work) onNode() candidate {
	return candidate{name: "node",
		cpu: func() (time.Duration, error) {
			own, below, err := treeCPU(w.node.pid())
			return own + below, err
		},
		do: func(ctx context.Context) error {
			a, err := w.client.Run(ctx, client.Request{Module: w.wasm, Args: w.args})
			if err == nil {
				w.answer = a.Bytes
			}
			return err
		}}
}

func (w *work) inBare() candidate {
	return candidate{name: "bare Wasmtime", cpu: ownCPU, do: func(context.Context) error {
		if err := w.bare.run(w.args, csvSet, w.dir, w.out); err != nil {
			return err
		}
		b, err := os.ReadFile(w.out)
		if err == nil && !bytes.Equal(b, w.answer) {
			err = errors.New("it answers something else than the node")
		}
		return err
	}}
}

// check compares the answer of stats with what the native programs counted.
func (w *work) check() error {
	var a struct {
		Groups []struct {
			Key string `json:"key"`
			tally
		} `json:"groups"`
	}
	if err := json.Unmarshal(w.answer, &a); err != nil {
		return fmt.Errorf("read the answer of stats: %w", err)
	}
	got := map[string]*tally{}
	for i := range a.Groups {
		got[a.Groups[i].Key] = &a.Groups[i].tally
	}
	for _, want := range w.groups {
		if !reflect.DeepEqual(got, want) {
			return errors.New("stats and native Go do not agree")
		}
	}
	return nil
}

// candidate is one way to do the same work.
type candidate struct {
	name string
	do   func(context.Context) error
	cpu  func() (time.Duration, error) // of whoever does it, so far
}

func native(name string, do func() error) candidate {
	return candidate{name: name, cpu: ownCPU, do: func(context.Context) error { return do() }}
}

// cost is what a candidate took: each wall time, and the mean of CPU time,
// whose clock is too coarse for a single run of a small file.
type cost struct {
	name string
	wall samples
	cpu  time.Duration
}

// compare does the work n times in each way, in turns, after once that does not
// count.
func compare(ctx context.Context, n int, cs ...candidate) ([]cost, error) {
	out := make([]cost, len(cs))
	for i := -1; i < n; i++ {
		for j, c := range cs {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			before, err := c.cpu()
			if err != nil {
				return nil, err
			}
			start := time.Now()
			if err := c.do(ctx); err != nil {
				return nil, fmt.Errorf("%s: %w", c.name, err)
			}
			wall := time.Since(start)
			after, err := c.cpu()
			if err != nil {
				return nil, err
			}
			if i >= 0 {
				out[j].wall = append(out[j].wall, wall)
				out[j].cpu += after - before
			}
		}
	}
	for j, c := range cs {
		out[j].name = c.name
		out[j].cpu /= time.Duration(n)
	}
	return out, nil
}

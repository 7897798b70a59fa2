package client

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/liop-project/liop/core/fault"
)

// DefaultParallel is how many nodes RunAll asks at the same time, unless
// AllOptions say otherwise.
const DefaultParallel = 16

// AllOptions of RunAll.
type AllOptions struct {
	// Options are those of Dial. Mesh is required; Pick does not matter; Progress
	// is called by several goroutines at once.
	Options
	// Parallel is how many nodes are asked at the same time. Default
	// DefaultParallel.
	Parallel int
	// MinNodes is how many nodes must answer. Default: every one that is found.
	MinNodes int
	// Result, if not nil, hears of each node's result as it comes, one at a time.
	Result func(NodeResult)
}

// NodeResult is what came of one node: an answer, or why there is none.
type NodeResult struct {
	Node     peer.ID
	Provider *Provider
	Answer   *Answer // nil if Err is not
	Err      error
	Time     time.Duration // from finding the node to its answer
}

// RunAll asks every node that serves a dataset: it runs the same module with the
// same arguments and inputs on each, and verifies each answer as Run does. It
// returns one result for every node that was found, in the order in which they
// came; none is left out. If fewer than MinNodes answered, there is an error on
// top, with rule "min_nodes". Cancelling ctx cancels the runs that are under way.
func RunAll(ctx context.Context, dataset string, r Request, o AllOptions) ([]NodeResult, error) {
	if err := o.complete(); err != nil {
		return nil, err
	}
	switch {
	case o.Mesh == nil:
		return nil, errors.New("client: AllOptions.Mesh is missing")
	case o.Parallel < 0:
		return nil, fmt.Errorf("client: AllOptions.Parallel is %d", o.Parallel)
	case o.MinNodes < 0:
		return nil, fmt.Errorf("client: AllOptions.MinNodes is %d", o.MinNodes)
	case o.Parallel == 0:
		o.Parallel = DefaultParallel
	}
	grants, err := readGrants(o.Grant)
	if err != nil {
		return nil, err
	}
	if err := o.forDataset(dataset); err != nil {
		return nil, err
	}
	var (
		mu      sync.Mutex
		results []NodeResult
		running sync.WaitGroup
	)
	room := make(chan struct{}, o.Parallel)
	for p, err := range o.Mesh.find(ctx, dataset, search{known: named(dataset, grants)}) {
		if err != nil {
			running.Wait()
			return results, err
		}
		running.Go(func() {
			began := time.Now()
			res := NodeResult{Node: p.Node, Provider: p}
			select {
			case room <- struct{}{}:
				res.Answer, res.Err = runOn(ctx, p, r, o.Options, grants)
				<-room
			case <-ctx.Done():
				res.Err = ctx.Err()
			}
			res.Time = time.Since(began)
			mu.Lock()
			defer mu.Unlock()
			results = append(results, res)
			if o.Result != nil {
				o.Result(res)
			}
		})
	}
	running.Wait()
	return results, enough(dataset, results, o.MinNodes)
}

// runOn runs r on the node of one provider.
func runOn(ctx context.Context, p *Provider, r Request, o Options, grants []*held) (*Answer, error) {
	g, err := o.Mesh.grantFor(p, grants)
	if err != nil {
		return nil, err
	}
	c, err := connect(ctx, p.Info(), o, g, foundDialTime)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	return c.Run(ctx, r)
}

// enough reports that fewer nodes answered than are needed.
func enough(dataset string, results []NodeResult, least int) error {
	answered := 0
	var why refusals
	for _, r := range results {
		if r.Err != nil {
			why = append(why, refusal{r.Node, r.Err})
			continue
		}
		answered++
	}
	if len(results) == 0 {
		return why.explain(dataset)
	}
	if least == 0 {
		least = len(results)
	}
	if answered >= least {
		return nil
	}
	return &fault.Error{Code: why.code(), Rule: "min_nodes", Owner: fault.Agent,
		Message: fmt.Sprintf("%d of %d nodes answered, and %d are needed", answered, len(results), least),
		Hint:    "see what each of the others said; a smaller number of nodes may be enough"}
}

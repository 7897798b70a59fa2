package client

import (
	"cmp"
	"context"
	"fmt"
	"iter"
	"slices"
	"strings"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/liop-project/liop/core/fault"
	"github.com/liop-project/liop/core/grant"
	"github.com/liop-project/liop/core/guest"
)

// maxGrants is how many grants an agent can hold at once.
const maxGrants = 256

// Pick says which of the nodes that serve a dataset is asked.
type Pick string

const (
	// First takes the first that is found and accepts.
	First Pick = "first"
	// Nearest waits until all are found, and asks them by their round trips.
	Nearest Pick = "nearest"
)

// held is a grant with its text.
type held struct {
	*grant.Grant
	text string
}

func readGrants(text string) ([]*held, error) {
	var out []*held
	for t := range strings.FieldsSeq(text) {
		g, err := grant.Inspect(t)
		if err != nil {
			return nil, err
		}
		if out = append(out, &held{g, t}); len(out) > maxGrants {
			return nil, &fault.Error{Code: fault.GrantInvalid, Rule: "grant", Owner: fault.Grant,
				Message: "too many grants", Hint: fmt.Sprintf("at most %d", maxGrants)}
		}
	}
	if len(out) == 0 {
		_, err := grant.Inspect(text)
		return nil, err
	}
	return out, nil
}

// named reports for which nodes condition 1 of SPEC §10.4 is enough to ask them
// for the dataset of that name: it has no scope, and a grant is for that node.
func named(name string, grants []*held) func(peer.ID) bool {
	return func(node peer.ID) bool {
		return !strings.Contains(name, "/") && slices.ContainsFunc(grants, func(g *held) bool {
			return g.Audience == node.String() && g.Covers(name)
		})
	}
}

// sortedGrants has those for the node itself before those for others.
func sortedGrants(grants []*held, node peer.ID) []*held {
	rank := func(g *held) int {
		if g.Audience == node.String() {
			return 0
		}
		if _, err := peer.Decode(g.Audience); err == nil {
			return 2 // another node's
		}
		return 1
	}
	return slices.SortedStableFunc(slices.Values(grants), func(a, b *held) int { return cmp.Compare(rank(a), rank(b)) })
}

// dialDataset opens a session with a node that serves the dataset of that name.
func (m *Mesh) dialDataset(ctx context.Context, name string, o Options, grants []*held) (*Client, error) {
	if err := o.forDataset(name); err != nil {
		return nil, err
	}
	o.Progress(Dialing, 0)
	quiet := o // several dial at once, and only one of them counts
	quiet.Progress = func(Phase, int) {}
	ask := func(ctx context.Context, p *Provider) (*Client, error) {
		g, err := m.grantFor(p, grants)
		if err != nil {
			return nil, err
		}
		return connect(ctx, p.Info(), quiet, g, foundDialTime)
	}
	providers := m.find(ctx, name, search{ping: o.Pick == Nearest, known: named(name, grants)})
	if o.Pick == Nearest {
		var err error
		if providers, err = sorted(providers); err != nil {
			return nil, err
		}
	}
	c, why, err := race(ctx, providers, ask)
	switch {
	case err != nil:
		return nil, err
	case c == nil:
		return nil, why.explain(name)
	}
	c.o.Progress = o.Progress
	return c, nil
}

// sorted finds all providers before it yields the nearest.
func sorted(providers iter.Seq2[*Provider, error]) (iter.Seq2[*Provider, error], error) {
	var all []*Provider
	for p, err := range providers {
		if err != nil {
			return nil, err
		}
		all = append(all, p)
	}
	slices.SortStableFunc(all, nearer)
	return func(yield func(*Provider, error) bool) {
		for _, p := range all {
			if !yield(p, nil) {
				return
			}
		}
	}, nil
}

const (
	// headStart is how long a node that is being asked is waited for before the
	// next one is asked as well: a node that is there answers sooner.
	headStart = 300 * time.Millisecond
	// foundDialTime bounds a dial of one node of several: the mesh remembers
	// nodes for hours after they have gone.
	foundDialTime = 8 * time.Second
)

// race asks providers as they come, each headStart after the one before or at
// once when that one refused, and takes the first that accepts. If none does, it
// says why; an error is of the search, or of ctx.
func race(ctx context.Context, providers iter.Seq2[*Provider, error], ask func(context.Context, *Provider) (*Client, error)) (*Client, refusals, error) {
	type attempt struct {
		client *Client
		refusal
	}
	ctx, cancel := context.WithCancel(ctx)
	found, results := make(chan *Provider), make(chan attempt)
	var search error // set before found is closed
	open := 0
	defer func() {
		cancel()
		for range found { // the search ends
		}
		for range open {
			if a := <-results; a.client != nil {
				a.client.Close()
			}
		}
	}()
	go func() {
		defer close(found)
		for p, err := range providers {
			if err != nil {
				search = err
				return
			}
			select {
			case found <- p:
			case <-ctx.Done():
				return
			}
		}
	}()
	var why refusals
	var pause <-chan time.Time
	for next := found; next != nil || open > 0; {
		from := next
		if pause != nil {
			from = nil
		}
		select {
		case p, ok := <-from:
			if !ok {
				next = nil
				break
			}
			open++
			pause = time.After(headStart)
			go func() {
				c, err := ask(ctx, p)
				results <- attempt{c, refusal{p.Node, err}}
			}()
		case <-pause:
			pause = nil
		case a := <-results:
			open--
			pause = nil
			if a.err == nil {
				return a.client, nil, nil
			}
			why = append(why, a.refusal)
		case <-ctx.Done():
			return nil, nil, ctx.Err()
		}
	}
	return nil, why, search
}

// forDataset makes o one for a dataset that is dialed by its name.
func (o *Options) forDataset(name string) error {
	if err := guest.ValidDataset(name); err != nil {
		return err
	}
	if len(o.Datasets) == 0 {
		o.Datasets = []string{name}
	}
	if !slices.Contains(o.Datasets, name) {
		return &fault.Error{Code: fault.InvalidRequest, Rule: "datasets", Owner: fault.Agent,
			Message: fmt.Sprintf("the node is to serve %q, which is not among the datasets to open", name),
			Hint:    "open it as well, or name no datasets"}
	}
	return nil
}

// nearer orders by round trip; who did not answer comes last.
func nearer(a, b *Provider) int {
	if (a.RTT == 0) != (b.RTT == 0) {
		return cmp.Compare(b.RTT, a.RTT)
	}
	return cmp.Compare(a.RTT, b.RTT)
}

// refusal is why a node was not asked, or did not accept.
type refusal struct {
	node peer.ID
	err  error
}

type refusals []refusal

// code is Unreachable if any node could not be reached: another try may help.
// Else it is that of the first reason.
func (r refusals) code() fault.Code {
	code := fault.Code("")
	for _, one := range r {
		f, ok := fault.From(one.err)
		if !ok || f.Code == fault.Unreachable {
			return fault.Unreachable
		}
		code = cmp.Or(code, f.Code)
	}
	return cmp.Or(code, fault.Unreachable)
}

// maxExplained is how many of many reasons an error repeats.
const maxExplained = 8

// explain makes one error of why no node serves a dataset.
func (r refusals) explain(name string) error {
	switch len(r) {
	case 0:
		return &fault.Error{Code: fault.Unreachable, Rule: "dataset", Owner: fault.Agent,
			Message: fmt.Sprintf("nobody in the mesh announces dataset %q", name),
			Hint:    "see who announces what with: liop find '*'"}
	case 1:
		return r[0].err
	}
	lines := []string{}
	for _, one := range r[:min(len(r), maxExplained)] {
		line := fmt.Sprintf("%s: %v", one.node, one.err)
		if f, ok := fault.From(one.err); ok && f.Hint != "" {
			line += " (" + f.Hint + ")"
		}
		lines = append(lines, line)
	}
	if n := len(r) - len(lines); n > 0 {
		lines = append(lines, fmt.Sprintf("and %d more", n))
	}
	return &fault.Error{Code: r.code(), Rule: "providers", Owner: fault.Agent,
		Message: fmt.Sprintf("none of the %d nodes that announce dataset %q can be asked", len(r), name),
		Hint:    strings.Join(lines, "; ")}
}

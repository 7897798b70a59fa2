// Package admission decides who may do what: it takes the meet of what the
// owner of the node allows and what the agent's grant allows, and explains
// each no.
//
// Who may connect at all is not decided here: package mesh does that, before
// each call. Nothing is allowed by default. A limit that the grant does not mention is the
// node's default, never unlimited; and no grant, whoever signed it, gets more
// than the owner's caps.
package admission

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/liop-project/liop/core/fault"
	"github.com/liop-project/liop/core/grant"
)

// Defaults apply where the grant is silent.
var Defaults = grant.Limits{
	MemoryBytes: 256 << 20,
	WallMS:      10_000,
	OutputBytes: 1 << 20,
	InputBytes:  1 << 20,
	ModuleBytes: 8 << 20,
	Concurrency: 16,
	Runs:        100_000,
}

// Caps are what a node allows at most, unless its owner says otherwise.
var Caps = grant.Limits{
	MemoryBytes: 1 << 30,
	WallMS:      60_000,
	OutputBytes: 16 << 20,
	InputBytes:  8 << 20,
	ModuleBytes: 16 << 20,
	Concurrency: 256,
	Runs:        1_000_000,
}

// Policy is the owner's side of a decision. It is read-only once in use.
type Policy struct {
	Node     peer.ID
	Realm    string             // a second audience that grants may name; may be empty
	Issuers  map[peer.ID]bool   // whose grants count
	Defaults grant.Limits       // zero fields mean Defaults
	Caps     grant.Limits       // zero fields mean Caps
	Datasets map[string]Dataset // by name
}

// Dataset is the owner's policy for one dataset.
type Dataset struct {
	Allow []peer.ID    // which agents, whatever their grant says; empty for any with a grant
	Caps  grant.Limits // zero fields mean the node's
}

// Decision is a yes, with everything that follows from it.
type Decision struct {
	Agent    peer.ID
	Grant    *grant.Grant
	Datasets []string     // sorted, without repetition
	Limits   grant.Limits // every field set, but Fuel perhaps
}

// Decide answers an agent that shows a grant and asks for datasets. Every error
// is a *fault.Error for that agent.
func (p *Policy) Decide(agent peer.ID, chain string, datasets []string, now time.Time) (*Decision, error) {
	if chain == "" {
		return nil, &fault.Error{Code: fault.Denied, Rule: "grant", Owner: fault.Node,
			Message: "without a grant there is nothing for you here",
			Hint:    fmt.Sprintf("ask an issuer that this node trusts for a grant for %s", agent)}
	}
	audiences := []string{p.Node.String()}
	if p.Realm != "" {
		audiences = append(audiences, p.Realm)
	}
	g, err := grant.Verify(chain, grant.VerifyOptions{
		Presenter: agent,
		Audiences: audiences,
		Trusted:   func(id peer.ID) bool { return p.Issuers[id] },
		Now:       now,
	})
	if err != nil {
		return nil, err
	}
	if len(datasets) == 0 {
		return nil, &fault.Error{Code: fault.InvalidRequest, Rule: "datasets", Owner: fault.Protocol,
			Message: "no dataset was asked for", Hint: "name at least one that the grant covers: " + strings.Join(g.Datasets, ", ")}
	}
	d := &Decision{Agent: agent, Grant: g, Limits: fill(g.Limits, fill(p.Defaults, Defaults)).Meet(p.caps())}
	d.Datasets = slices.Compact(slices.Sorted(slices.Values(datasets)))
	for _, name := range d.Datasets {
		if !g.Covers(name) {
			return nil, &fault.Error{Code: fault.Denied, Rule: "datasets", Owner: fault.Grant,
				Message: fmt.Sprintf("the grant does not cover dataset %q", name), Hint: "it covers " + strings.Join(g.Datasets, ", ")}
		}
		ds, ok := p.Datasets[name]
		if !ok {
			return nil, &fault.Error{Code: fault.Denied, Rule: "datasets", Owner: fault.Node,
				Message: fmt.Sprintf("this node has no dataset %q", name), Hint: "check the name, or ask the node that has it"}
		}
		if len(ds.Allow) > 0 && !slices.Contains(ds.Allow, agent) {
			return nil, &fault.Error{Code: fault.Denied, Rule: "dataset.allow", Owner: fault.Dataset,
				Message: fmt.Sprintf("the owner of dataset %q does not admit you", name),
				Hint:    fmt.Sprintf("ask the owner to add %s", agent)}
		}
		d.Limits = d.Limits.Meet(ds.Caps)
	}
	return d, nil
}

// fill is l with its missing fields taken from def.
func fill(l, def grant.Limits) grant.Limits {
	or := func(a, b uint64) uint64 {
		if a == 0 {
			return b
		}
		return a
	}
	return grant.Limits{
		MemoryBytes: or(l.MemoryBytes, def.MemoryBytes),
		WallMS:      or(l.WallMS, def.WallMS),
		OutputBytes: or(l.OutputBytes, def.OutputBytes),
		InputBytes:  or(l.InputBytes, def.InputBytes),
		ModuleBytes: or(l.ModuleBytes, def.ModuleBytes),
		Concurrency: uint32(or(uint64(l.Concurrency), uint64(def.Concurrency))),
		Fuel:        or(l.Fuel, def.Fuel),
		Runs:        or(l.Runs, def.Runs),
	}
}

// caps are p.Caps with the package's where it is silent.
func (p *Policy) caps() grant.Limits { return fill(p.Caps, Caps) }

// Longest is the most that any run may last, in milliseconds.
func (p *Policy) Longest() uint64 { return p.caps().WallMS }

// LargestRequest is the most that module and inputs of one run may have
// together, in bytes.
func (p *Policy) LargestRequest() uint64 { return p.caps().ModuleBytes + p.caps().InputBytes }

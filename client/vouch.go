package client

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/liop-project/liop/core/catalog"
	"github.com/liop-project/liop/core/fault"
	"github.com/liop-project/liop/core/grant"
	"github.com/liop-project/liop/core/identity"
	"github.com/liop-project/liop/core/member"
)

// This file decides whom an agent asks (SPEC §10.4): a node found by a name is a
// stranger until the grant, or someone whom the agent trusts, says otherwise.

// vouchers are the membership tokens of a record that count for its node now.
func vouchers(r *catalog.Record, node peer.ID, now time.Time) []*member.Membership {
	if r == nil {
		return nil
	}
	var out []*member.Membership
	for _, text := range r.Vouchers {
		if m, err := member.Of(node, text, now); err == nil {
			out = append(out, m)
		}
	}
	return out
}

// vouching are those who say that node may serve dataset.
func vouching(r *catalog.Record, node peer.ID, dataset string, now time.Time) []peer.ID {
	var out []peer.ID
	for _, m := range vouchers(r, node, now) {
		if m.Vouches(dataset) && !slices.Contains(out, m.Operator) {
			out = append(out, m.Operator)
		}
	}
	return out
}

// grantFor chooses the grant with which provider p may be asked, or says why
// there is none.
func (m *Mesh) grantFor(p *Provider, grants []*held) (*held, error) {
	if err := m.isOwners(p); err != nil {
		return nil, err
	}
	why := error(&fault.Error{Code: fault.Denied, Rule: "grant", Owner: fault.Agent,
		Message: fmt.Sprintf("no grant is for dataset %q at that node", p.Dataset.Name),
		Hint:    "ask the owner of the data for one, for node " + p.Node.String()})
	for _, g := range sortedGrants(grants, p.Node) {
		if !g.Covers(p.Dataset.Name) {
			continue
		}
		if g.Audience == p.Node.String() {
			return g, nil
		}
		if _, err := identity.ParseID(g.Audience); err == nil || p.Record == nil || p.Record.Realm != g.Audience {
			continue
		}
		if m.isOfRealm(p, g.Grant) {
			return g, nil
		}
		why = &fault.Error{Code: fault.Denied, Rule: "vouchers", Owner: fault.Agent,
			Message: fmt.Sprintf("nobody whom you trust vouches that the node is of realm %q", g.Audience),
			Hint: "have its issuer " + g.Issuer.String() + " give the node a membership token, trust who did, " +
				"or ask for a grant for node " + p.Node.String()}
	}
	return nil, why
}

// isOfRealm is condition 2.
func (m *Mesh) isOfRealm(p *Provider, g *grant.Grant) bool {
	return slices.ContainsFunc(vouchers(p.Record, p.Node, m.now()), func(v *member.Membership) bool {
		return v.Mesh == g.Audience && (v.Operator == g.Issuer || m.trust[v.Operator])
	})
}

// isOwners is condition 3.
func (m *Mesh) isOwners(p *Provider) error {
	scope, _, scoped := strings.Cut(p.Dataset.Name, "/")
	if !scoped {
		return nil
	}
	owner, known := m.owners[scope]
	switch {
	case !known && len(p.Owners) == 0:
		return &fault.Error{Code: fault.Denied, Rule: "owner", Owner: fault.Agent,
			Message: fmt.Sprintf("you have not said who %q is, and nobody vouches for that node", scope),
			Hint:    "ask the owner of the data for the peer id that " + scope + " stands for"}
	case !known:
		return &fault.Error{Code: fault.Denied, Rule: "owner", Owner: fault.Agent,
			Message: fmt.Sprintf("you have not said who %q is", scope),
			Hint:    fmt.Sprintf("if it is %s, who vouches for that node, say so: --owner %s=%s", p.Owners[0], scope, p.Owners[0])}
	case !slices.Contains(p.Owners, owner):
		return &fault.Error{Code: fault.Denied, Rule: "owner", Owner: fault.Agent,
			Message: fmt.Sprintf("the node cannot show that it serves %q for %s", p.Dataset.Name, owner),
			Hint:    "it may be of another owner who uses the same name"}
	}
	return nil
}

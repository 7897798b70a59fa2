package node

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/liop-project/liop/core/catalog"
	"github.com/liop-project/liop/core/fault"
	"github.com/liop-project/liop/core/identity"
	"github.com/liop-project/liop/core/member"
	"github.com/liop-project/liop/mesh"
	"github.com/liop-project/liop/mesh/kad"
)

// Mesh is the [mesh] table of node.toml: who may connect, and how the node takes
// part in the mesh.
//
// With neither peers nor operators anyone may connect. With either, the mesh is
// closed: who is not in peers needs a membership token of an operator.
type Mesh struct {
	// Peers may connect. Absent: anyone, if there are no operators either;
	// present and empty: nobody, but for members.
	Peers []PeerID `toml:"peers"`
	// Operators are files with a peer id, relative to node.toml: who holds a
	// membership token of one of them may connect, too.
	Operators []string `toml:"operators"`
	// Name of the mesh, which tokens must have. Required with operators.
	Name string `toml:"name"`
	// Member is the file with the node's own token, relative to node.toml, which
	// it shows to other members. It is read for each connection, so that a new
	// token needs no restart. Absent: the node shows none.
	Member string `toml:"member"`
	// RequirePQ refuses connections that are not post-quantum, and with them TCP.
	// Default false: an agent whose system is older could not connect.
	RequirePQ bool `toml:"require_pq"`
	// Bootstrap are multiaddrs of peers by which the node joins the mesh, each
	// ending in /p2p/ID. None: the node is found by those who bootstrap from it.
	Bootstrap []string `toml:"bootstrap"`
	// MDNS also finds nodes on the local network, and shows this one there.
	// Default false.
	MDNS bool `toml:"mdns"`
	// Announce tells the mesh which datasets there are: to those who may connect,
	// and to no others. Default true; a dataset's own announce goes before.
	Announce *bool `toml:"announce"`
	// Vouchers are files with membership tokens, relative to node.toml, of those
	// in whose name the node serves datasets; Member is one, too. They are read
	// anew for each catalog record.
	Vouchers []string `toml:"vouchers"`
	// Policy is for programs that embed a node; it is not in node.toml. Nil takes
	// everyone into the routing.
	Policy kad.Policy `toml:"-"`
	Kad    Kad        `toml:"kad"`
	// Reach is what the node does about NATs.
	Reach Reach `toml:"reach"`
}

// maxOperators bounds the operators of one mesh: each of them is trusted with
// all of it.
const maxOperators = 64

// validate reports the first key that does not go with the others.
func (m Mesh) validate() error {
	for i, a := range m.Bootstrap {
		if _, err := mesh.ParseAddr(a); err != nil {
			return fmt.Errorf("bootstrap[%d]: %w", i, err)
		}
	}
	switch {
	case len(m.Bootstrap) > kad.MaxBootstrap:
		return fmt.Errorf("bootstrap: %d, at most %d", len(m.Bootstrap), kad.MaxBootstrap)
	case len(m.vouchers()) > catalog.MaxVouchers:
		return fmt.Errorf("vouchers: %d with member, at most %d", len(m.vouchers()), catalog.MaxVouchers)
	case len(m.Operators) > maxOperators:
		return fmt.Errorf("operators: %d, at most %d", len(m.Operators), maxOperators)
	case len(m.Operators) > 0 && m.Name == "":
		return errors.New("name: missing; the operators' membership tokens are for a mesh of that name")
	case len(m.Operators) == 0 && m.Name != "":
		return errors.New("operators: missing; a name alone lets nobody in and keeps nobody out")
	case m.Name != "":
		if err := member.ValidMesh(m.Name); err != nil {
			return fmt.Errorf("name: %w", err)
		}
	}
	return nil
}

// vouchers are the files with tokens that the mesh is shown.
func (m Mesh) vouchers() []string {
	if m.Member == "" || slices.Contains(m.Vouchers, m.Member) {
		return m.Vouchers
	}
	return append([]string{m.Member}, m.Vouchers...)
}

// announced reports whether the mesh is told of d.
func (d Dataset) announced(m Mesh) bool {
	switch {
	case d.Announce != nil:
		return *d.Announce
	case m.Announce != nil:
		return *m.Announce
	}
	return true
}

// admit is the allow-list, nil if there is none.
func (m Mesh) admit() func(peer.ID) bool {
	if m.Peers == nil {
		return nil
	}
	set := make(map[peer.ID]bool, len(m.Peers))
	for _, p := range m.Peers {
		set[p.ID] = true
	}
	return func(p peer.ID) bool { return set[p] }
}

// members reads the files that the table names. The node's own token must be
// good now: one that others would refuse is noticed at start, not by them.
func (m Mesh) members(own peer.ID, now time.Time, log *slog.Logger) (mesh.Members, error) {
	out := mesh.Members{Mesh: m.Name}
	for i, f := range m.Operators {
		id, err := identity.ReadIDFile(f)
		if err != nil {
			return out, fmt.Errorf("mesh.operators[%d]: %w", i, err)
		}
		if out.Operators == nil {
			out.Operators = map[peer.ID]bool{}
		}
		out.Operators[id] = true
	}
	if m.Member == "" {
		return out, nil
	}
	token, err := member.ReadFile(m.Member)
	if err != nil {
		return out, fmt.Errorf("mesh.member: %w", err)
	}
	if err := m.good(token, own, now, out.Operators); err != nil {
		return out, err
	}
	out.Token = func() string {
		token, err := member.ReadFile(m.Member)
		if err != nil {
			log.Error("membership token cannot be read", "file", m.Member, "err", err)
		}
		return token
	}
	return out, nil
}

// good checks the node's own token as another node of the mesh will. An open
// node does not know whose it should be.
func (m Mesh) good(token string, own peer.ID, now time.Time, operators map[peer.ID]bool) error {
	t, err := member.Inspect(token)
	if err == nil {
		e := member.Expect{Subject: own, Operators: operators, Mesh: m.Name}
		if len(operators) == 0 {
			e.Operators, e.Mesh = map[peer.ID]bool{t.Operator: true}, t.Mesh
		}
		_, err = member.Verify(token, now, e)
	}
	f, ok := fault.From(err)
	if !ok {
		return err
	}
	name := m.Name
	if name == "" {
		name = "NAME"
	}
	f.Message = fmt.Sprintf("mesh.member: %s: %s", m.Member, f.Message)
	f.Hint = fmt.Sprintf("%s; ask the mesh's operator for a token: liop member issue --for %s --mesh %s", f.Hint, own, name)
	return f
}

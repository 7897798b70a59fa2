package netlab

import (
	"encoding/binary"
	"fmt"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
)

// Masquerade makes the namespace a NAT router whose outside is wire w: what it
// forwards there gets its own address, and what comes from there and answers
// nothing is dropped without a word, as home routers do. (A port unreachable, or a
// connection that Linux remembers, would spoil the port that a hole punch counts
// on.)
//
// Linux keeps the source port of a flow if it is free, for every destination: so the
// mapping does not depend on the endpoint (RFC 4787, section 4.1), unless two
// hosts inside use the same port, and the filter does (section 5).
func (n *Namespace) Masquerade(w *Wire, nat NAT) {
	n.Forward()
	if err := n.Do(func() error { return masquerade(w.name, nat) }); err != nil {
		n.lab.fail(fmt.Errorf("netlab: masquerade: %w", err))
	}
}

// masquerade talks to the namespace of the thread it runs on.
func masquerade(outside string, nat NAT) error {
	c, err := nftables.New()
	if err != nil {
		return err
	}
	t := c.AddTable(&nftables.Table{Family: nftables.TableFamilyIPv4, Name: "netlab"})
	name := make([]byte, 16) // IFNAMSIZ
	copy(name, outside)
	is := func(key expr.MetaKey) []expr.Any {
		return []expr.Any{&expr.Meta{Key: key, Register: 1}, &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: name}}
	}

	out := c.AddChain(&nftables.Chain{Name: "out", Table: t, Type: nftables.ChainTypeNAT,
		Hooknum: nftables.ChainHookPostrouting, Priority: nftables.ChainPriorityNATSource})
	c.AddRule(&nftables.Rule{Table: t, Chain: out,
		Exprs: append(is(expr.MetaKeyOIFNAME), &expr.Masq{FullyRandom: nat.RandomPorts})})

	for chain, hook := range map[string]*nftables.ChainHook{"input": nftables.ChainHookInput, "forward": nftables.ChainHookForward} {
		in := c.AddChain(&nftables.Chain{Name: chain, Table: t, Type: nftables.ChainTypeFilter, Hooknum: hook, Priority: nftables.ChainPriorityFilter})
		c.AddRule(&nftables.Rule{Table: t, Chain: in, Exprs: append(is(expr.MetaKeyIIFNAME),
			&expr.Ct{Key: expr.CtKeySTATE, Register: 1},
			&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4,
				Mask: binaryutil.NativeEndian.PutUint32(expr.CtStateBitNEW | expr.CtStateBitINVALID), Xor: make([]byte, 4)},
			&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: binary.NativeEndian.AppendUint32(nil, 0)},
			&expr.Verdict{Kind: expr.VerdictDrop})})
	}
	return c.Flush()
}

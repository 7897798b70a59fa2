package receipt

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"

	"github.com/dustin/go-humanize"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/liop-project/liop/core/guest"
)

// Expect is what an agent knows of its own request and of the answer that it
// got. Everything is compared unless Skip says otherwise: what is left zero by
// mistake makes a receipt fail, never pass.
type Expect struct {
	Node     peer.ID
	Agent    peer.ID
	Module   [32]byte // SHA-256 of the module
	Args     []string
	Stdin    []byte // as of guest.Stdin
	Answer   []byte
	Nonce    []byte
	Datasets []string // in any order
	Grant    [32]byte // SHA-256 of the grant's text

	Skip Fields // what is not known and not compared
}

// Fields is a set of members of a claim.
type Fields uint16

const (
	FieldNode Fields = 1 << iota
	FieldAgent
	FieldModule
	FieldArgs
	FieldStdin
	FieldAnswer
	FieldNonce
	FieldDatasets
	FieldGrant

	AllFields Fields = 1<<iota - 1
)

// Check compares a claim with what is expected. The first member that differs
// becomes a [*fault.Error] with code [fault.Unverified] and that member's name
// as its rule.
func (c *Claim) Check(e Expect) error {
	args, stdin := Digest(guest.ArgsHash(e.Args)), Digest(sha256.Sum256(e.Stdin))
	names := make([]string, len(c.Datasets))
	for i, d := range c.Datasets {
		names[i] = d.Name
	}
	for _, m := range []struct {
		field   Fields
		rule    string
		same    bool
		message string
	}{
		{FieldNode, "node", c.Node == e.Node, "the receipt is of another node"},
		{FieldAgent, "agent", c.Agent == e.Agent, "the receipt is for another agent"},
		{FieldNonce, "nonce", bytes.Equal(c.Nonce, e.Nonce), "the receipt is of another request"},
		{FieldModule, "module", c.Module == e.Module, "the receipt is about another module"},
		{FieldArgs, "args", c.Args == args, "the receipt is about other arguments"},
		{FieldStdin, "stdin", c.Stdin == stdin, "the receipt is about other inputs"},
		{FieldDatasets, "datasets", slices.Equal(sorted(names), sorted(e.Datasets)), "the receipt is about other datasets"},
		{FieldGrant, "grant", c.Grant == e.Grant, "the receipt is under another grant"},
		{FieldAnswer, "answer", c.Answer == AnswerOf(e.Answer), "the answer is not the one that the node signed"},
	} {
		if e.Skip&m.field == 0 && !m.same {
			return unverified(m.rule, m.message, "do not use the answer")
		}
	}
	return nil
}

// Words says in plain language what the receipt states and what that is worth,
// a line for each thing.
func (c *Claim) Words() []string {
	lines := []string{
		fmt.Sprintf("node %s", c.Node),
		fmt.Sprintf("ran module %s", c.Module),
		fmt.Sprintf("for agent %s", c.Agent),
		fmt.Sprintf("on %s", c.At().UTC().Format("2006-01-02 15:04:05.000 UTC")),
	}
	if c.Args == guest.ArgsHash(nil) {
		lines = append(lines, "without arguments")
	} else {
		lines = append(lines, fmt.Sprintf("with arguments of hash %s", c.Args))
	}
	if c.Stdin == sha256.Sum256(nil) {
		lines = append(lines, "without inputs")
	} else {
		lines = append(lines, fmt.Sprintf("with inputs of hash %s", c.Stdin))
	}
	for _, d := range c.Datasets {
		covers := "contents"
		if d.Basis == Metadata {
			covers = "file names, sizes and times only"
		}
		commitment, _ := d.Commitment.MarshalText() // never fails
		lines = append(lines, fmt.Sprintf("on dataset %s: %s files, %s; commitment %s to its %s",
			d.Name, humanize.Comma(int64(d.Files)), humanize.IBytes(d.Bytes), commitment, covers))
	}
	l := c.Limits
	lines = append(lines,
		fmt.Sprintf("the answer has %s bytes and hash sha256:%x", humanize.Comma(int64(c.Answer.Bytes)), c.Answer.SHA256[:]),
		fmt.Sprintf("limits: memory %s, time %s ms, answer %s, inputs %s, module %s, %s at the same time",
			humanize.IBytes(l.MemoryBytes), humanize.Comma(int64(l.WallMS)), humanize.IBytes(l.OutputBytes),
			humanize.IBytes(l.InputBytes), humanize.IBytes(l.ModuleBytes), humanize.Comma(int64(l.Concurrency))))
	if l.Fuel > 0 {
		lines = append(lines, fmt.Sprintf("instructions: %s of at most %s", humanize.Comma(int64(c.Fuel)), humanize.Comma(int64(l.Fuel))))
	}
	if len(c.Containment) == 0 {
		lines = append(lines, "containment: the WebAssembly engine only")
	} else {
		lines = append(lines, "containment: the WebAssembly engine and "+strings.Join(sorted(c.Containment), ", "))
	}
	if len(c.Gaps) > 0 {
		lines = append(lines, "the node's machine lacks: "+strings.Join(sorted(c.Gaps), ", "))
	}
	return append(lines,
		fmt.Sprintf("allowed by grant %s", c.Grant),
		"assurance: signed. this is the node's word, not a proof of execution",
		"it proves that the holder of the node's key stated all this, and that nobody changed it since",
		"it does not prove that the module ran, that it ran on these data, or that the data are true")
}

func sorted(list []string) []string {
	if len(list) == 0 {
		return []string{} // in JSON not null
	}
	return slices.Sorted(slices.Values(list))
}

// Command merge-stats is a filter that makes one answer of the answers that the
// filter stats gave on several nodes: what stats would have said if all the rows
// were on one.
//
//	merge-stats [--sort key|count|sum] [--top N]
//
// Each input is such an answer; its name does not matter. The answer has the
// form of one of them, with "nodes", how many there were, on top. Sums are exact
// unless a node's was not; a mean is that of the merged sum.
//
// The nodes must have been asked the same question, without --top: groups that
// a node left out would be missing here, which is an error.
package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"math/big"
	"os"
	"slices"
	"strings"

	"github.com/liop-project/liop/filters/sdk/go/guest"
)

const (
	// MaxGroups bounds the groups of the merged answer.
	MaxGroups = 1_000_000
	// MaxDigits bounds a number, so that 1e999999999 is not written out.
	MaxDigits = 400

	usage = "usage: merge-stats [--sort key|count|sum] [--top N]"
)

// answer is what stats prints.
type answer struct {
	Nodes   int      `json:"nodes,omitempty"`
	Column  *string  `json:"column"`
	By      *string  `json:"by"`
	Rows    uint64   `json:"rows"`
	Skipped *uint64  `json:"skipped,omitempty"` // with a column
	Groups  []*group `json:"groups"`
}

type group struct {
	Key     *string `json:"key"`
	Count   uint64  `json:"count"`
	Skipped *uint64 `json:"skipped,omitempty"`
	// With a column these are json.Number, or null if no cell was a number.
	Sum  any `json:"sum,omitempty"`
	Mean any `json:"mean,omitempty"`
	Min  any `json:"min,omitempty"`
	Max  any `json:"max,omitempty"`
}

// null is written, where nil would be left out.
var null = json.RawMessage("null")

func main() {
	inputs, err := guest.Inputs()
	if err == nil {
		err = run(os.Args[1:], inputs, os.Stdout)
	}
	if err != nil {
		guest.Fatal(err)
	}
}

func run(args []string, inputs map[string][]byte, stdout io.Writer) error {
	fs := flag.NewFlagSet("merge-stats", flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	order := fs.String("sort", "key", "")
	top := fs.Int("top", 0, "")
	if err := fs.Parse(args); err != nil {
		return fmt.Errorf("%w\n%s", err, usage)
	}
	if fs.NArg() > 0 || *top < 0 || *order != "key" && *order != "count" && *order != "sum" {
		return errors.New(usage)
	}
	if len(inputs) == 0 {
		return errors.New("there are no inputs; each is to be an answer of stats")
	}
	m := merger{groups: map[string]*sums{}}
	for _, node := range slices.Sorted(maps.Keys(inputs)) { // equal inputs, equal answers and errors
		if err := m.add(inputs[node]); err != nil {
			return fmt.Errorf("input %s: %w", node, err)
		}
	}
	out, err := m.answer(*order, *top)
	if err != nil {
		return err
	}
	enc := json.NewEncoder(stdout)
	enc.SetEscapeHTML(false)
	return enc.Encode(out)
}

// merger adds answers up.
type merger struct {
	first   *answer
	nodes   int
	rows    uint64
	skipped uint64
	groups  map[string]*sums
}

// sums are those of one group.
type sums struct {
	key            *string
	count, skipped uint64
	sum            *big.Rat
	places         int      // decimal places of sum
	min, max       *big.Rat // nil if there was no number
	least, most    json.Number
}

func (m *merger) add(text []byte) error {
	var a answer
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	if err := d.Decode(&a); err != nil {
		return fmt.Errorf("it is no answer of stats: %w", err)
	}
	if m.first == nil {
		m.first = &a
	}
	if !same(a.Column, m.first.Column) || !same(a.By, m.first.By) {
		return errors.New("it answers another question than the others; run stats with the same --by and --column everywhere")
	}
	if (a.Column != nil) != (a.Skipped != nil) {
		return errors.New("it is no answer of stats: column and skipped do not go together")
	}
	nodes := max(a.Nodes, 1)
	rows := uint64(0)
	for _, g := range a.Groups {
		if g == nil {
			return errors.New("it is no answer of stats: a group is null")
		}
		if err := m.group(g, a.Column != nil); err != nil {
			return err
		}
		rows += g.Count
	}
	if rows != a.Rows {
		return fmt.Errorf("its groups have %d of its %d rows; run stats without --top, and give --top to merge-stats", rows, a.Rows)
	}
	m.nodes += nodes
	m.rows += a.Rows
	if a.Skipped != nil {
		m.skipped += *a.Skipped
	}
	return nil
}

func (m *merger) group(g *group, column bool) error {
	id := "null"
	if g.Key != nil {
		id = "=" + *g.Key
	}
	s := m.groups[id]
	if s == nil {
		if len(m.groups) == MaxGroups {
			return fmt.Errorf("more than %d groups in all", MaxGroups)
		}
		s = &sums{key: g.Key, sum: new(big.Rat)}
		m.groups[id] = s
	}
	s.count += g.Count
	if !column {
		return nil
	}
	total, ok := g.Sum.(json.Number)
	if g.Skipped == nil || !ok {
		return errors.New("it is no answer of stats: a group has no sum")
	}
	s.skipped += *g.Skipped
	sum, places, err := number(total)
	if err != nil {
		return err
	}
	s.sum.Add(s.sum, sum)
	s.places = max(s.places, places)
	least, ok1 := g.Min.(json.Number)
	most, ok2 := g.Max.(json.Number)
	if !ok1 || !ok2 { // nothing but cells that are no numbers
		return nil
	}
	low, _, err := number(least)
	if err != nil {
		return err
	}
	high, _, err := number(most)
	if err != nil {
		return err
	}
	if s.min == nil || low.Cmp(s.min) < 0 {
		s.min, s.least = low, least
	}
	if s.max == nil || high.Cmp(s.max) > 0 {
		s.max, s.most = high, most
	}
	return nil
}

// number reads a JSON number exactly, with its decimal places.
func number(n json.Number) (*big.Rat, int, error) {
	mantissa, exponent, _ := strings.Cut(strings.ToLower(n.String()), "e")
	if len(mantissa) > MaxDigits || len(exponent) > 4 {
		return nil, 0, fmt.Errorf("%.20s… is too long for a number", n)
	}
	r, ok := new(big.Rat).SetString(n.String())
	if !ok {
		return nil, 0, fmt.Errorf("%q is no number", n)
	}
	_, fraction, _ := strings.Cut(mantissa, ".")
	places := len(fraction)
	if exponent != "" {
		places = MaxDigits // rare; FloatString's zeros are cut below
	}
	return r, places, nil
}

func (m *merger) answer(order string, top int) (*answer, error) {
	column := m.first.Column != nil
	if order == "sum" && !column {
		return nil, errors.New("--sort sum: the answers have no sums; run stats with --column")
	}
	all := make([]*sums, 0, len(m.groups))
	for _, s := range m.groups {
		all = append(all, s)
	}
	slices.SortFunc(all, func(a, b *sums) int {
		c := 0
		switch order {
		case "count":
			c = cmp.Compare(b.count, a.count)
		case "sum":
			c = b.sum.Cmp(a.sum)
		}
		return cmp.Or(c, strings.Compare(text(a.key), text(b.key)))
	})
	if top > 0 {
		all = all[:min(top, len(all))]
	}
	out := &answer{Nodes: m.nodes, Column: m.first.Column, By: m.first.By, Rows: m.rows, Groups: []*group{}}
	if column {
		out.Skipped = &m.skipped
	}
	for _, s := range all {
		g := &group{Key: s.key, Count: s.count}
		if column {
			g.Skipped, g.Sum, g.Mean, g.Min, g.Max = &s.skipped, decimal(s.sum, s.places), null, null, null
			if s.count > s.skipped {
				g.Mean, _ = new(big.Rat).Quo(s.sum, new(big.Rat).SetUint64(s.count-s.skipped)).Float64()
			}
			if s.min != nil {
				g.Min, g.Max = s.least, s.most
			}
		}
		out.Groups = append(out.Groups, g)
	}
	return out, nil
}

// decimal writes r exactly, if it has at most places decimal places.
func decimal(r *big.Rat, places int) json.Number {
	s := r.FloatString(places)
	if strings.Contains(s, ".") {
		s = strings.TrimRight(strings.TrimRight(s, "0"), ".")
	}
	return json.Number(s)
}

func same(a, b *string) bool { return (a == nil) == (b == nil) && text(a) == text(b) }

func text(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

package oracle

import (
	"encoding/binary"
	"slices"
)

// A fn is one function while it is made.
type fn struct {
	g      *gen
	index  int // among the defined ones
	code   []byte
	params []valType
	more   []valType // locals that are no parameters
	own    []uint32  // locals that random code may use
	labels []label   // outermost first
	budget int
	nan    map[valType]uint32 // a local for canonicalising
}

// A label is what a branch may go to.
type label struct {
	types []valType
	loop  bool // branching there would be another iteration
}

func (g *gen) function(index int, s signature) {
	f := &fn{g: g, index: index, params: s.params, budget: bodyBudget, labels: []label{{types: s.results}}, nan: map[valType]uint32{}}
	for i := range s.params {
		f.own = append(f.own, uint32(i))
	}
	for _, t := range numTypes {
		f.own = append(f.own, f.local(t))
	}
	f.burn()
	f.op("i32.eqz")
	f.block("if", nil, nil)
	for _, t := range s.results {
		f.constant(t, 0)
	}
	f.op("return")
	f.end()
	for range 2 + g.intn(5) {
		f.statement(depth)
	}
	for _, l := range f.own {
		f.op("local.get", l)
		f.sink(f.typeOf(l))
	}
	f.exprs(s.results, 2)
	f.finish(s)
}

// finish adds the function to the module.
func (f *fn) finish(s signature) {
	f.g.b.funcs = append(f.g.b.funcs, f.g.b.typ(s.params, s.results))
	body := u32(nil, uint32(len(f.more)))
	for _, t := range f.more {
		body = append(body, 1, byte(t))
	}
	body = append(body, f.code...)
	f.g.count("end")
	f.g.b.bodies = append(f.g.b.bodies, append(body, opcodes["end"].code...))
}

func (g *gen) count(op string) { g.ops[op]++ }

func (f *fn) op(name string, immediates ...uint32) {
	f.g.count(name)
	if other, ok := f.g.instead[name]; ok {
		name = other
	}
	o, ok := opcodes[name]
	if !ok {
		panic("no instruction " + name)
	}
	f.code = append(f.code, o.code...)
	for _, im := range immediates {
		f.code = u32(f.code, im)
	}
}

func (f *fn) constant(t valType, bits uint64) {
	f.op(t.String() + ".const")
	switch t {
	case i32:
		f.code = s64(f.code, int64(int32(bits)))
	case i64:
		f.code = s64(f.code, int64(bits))
	case f32:
		f.code = binary.LittleEndian.AppendUint32(f.code, uint32(bits))
	case f64:
		f.code = binary.LittleEndian.AppendUint64(f.code, bits)
	}
}

// local declares a local.
func (f *fn) local(t valType) uint32 {
	f.more = append(f.more, t)
	return uint32(len(f.params) + len(f.more) - 1)
}

func (f *fn) typeOf(local uint32) valType {
	if int(local) < len(f.params) {
		return f.params[local]
	}
	return f.more[int(local)-len(f.params)]
}

// ownOf picks a local of a type that random code may use.
func (f *fn) ownOf(t valType) uint32 {
	var ls []uint32
	for _, l := range f.own {
		if f.typeOf(l) == t {
			ls = append(ls, l)
		}
	}
	return pick(&f.g.choices, ls)
}

func (f *fn) globalOf(t valType) uint32 {
	i := slices.Index(f.g.globals, t)
	if f.g.oneIn(2) {
		i += 1 + slices.Index(f.g.globals[i+1:], t)
	}
	return uint32(firstGlobal + i)
}

// block opens a block, loop or if.
func (f *fn) block(kind string, params, results []valType) {
	f.op(kind)
	switch {
	case len(params) == 0 && len(results) == 0:
		f.code = append(f.code, 0x40)
	case len(params) == 0 && len(results) == 1 && !f.g.oneIn(4):
		f.code = append(f.code, byte(results[0]))
	default:
		f.code = s64(f.code, int64(f.g.b.typ(params, results)))
	}
	l := label{types: results}
	if kind == "loop" {
		l = label{types: params, loop: true}
	}
	f.labels = append(f.labels, l)
}

func (f *fn) end() {
	f.op("end")
	f.labels = f.labels[:len(f.labels)-1]
}

// burn takes a unit of fuel and pushes whether there is some left.
func (f *fn) burn() {
	f.op("global.get", fuelGlobal)
	f.constant(i32, 1)
	f.op("i32.sub")
	f.op("global.set", fuelGlobal)
	f.op("global.get", fuelGlobal)
	f.constant(i32, 0)
	f.op("i32.gt_s")
}

// mask bounds the number on the stack.
func (f *fn) mask(m uint64) {
	f.constant(i32, m)
	f.op("i32.and")
}

// small pushes a number of at most m, which is 2ⁿ-1; a reckless program
// sometimes any.
func (f *fn) small(m uint64, d int) {
	f.expr(i32, d)
	if !f.g.reckless || !f.g.oneIn(30) {
		f.mask(m)
	}
}

// sink has the value on the stack in the answer.
func (f *fn) sink(t valType) {
	switch t {
	case i32:
		f.op("i64.extend_i32_u")
	case f32:
		f.op("i32.reinterpret_f32")
		f.op("i64.extend_i32_u")
	case f64:
		f.op("i64.reinterpret_f64")
	}
	f.op("global.get", sinkGlobal)
	f.constant(i64, 7)
	f.op("i64.rotl")
	f.op("i64.xor")
	f.op("global.set", sinkGlobal)
}

// drop discards what is on the stack.
func (f *fn) drop(ts []valType) {
	for range ts {
		f.op("drop")
	}
}

func (f *fn) exprs(ts []valType, d int) {
	for _, t := range ts {
		f.expr(t, d)
	}
}

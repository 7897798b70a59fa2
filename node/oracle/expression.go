package oracle

import (
	"math/bits"
	"slices"
	"strings"
)

// expr pushes one value of a type. d bounds how deep it nests.
func (f *fn) expr(t valType, d int) {
	g := f.g
	f.budget--
	if d <= 0 || f.budget <= 0 {
		f.leaf(t)
		return
	}
	d--
	switch g.intn(20) {
	case 0, 1:
		f.leaf(t)
	case 2:
		f.expr(t, d)
		f.op("local.tee", f.ownOf(t))
	case 3, 4:
		name := pick(&g.choices, accesses(t, ".load"))
		f.small(reach, d)
		f.access(name)
	case 5:
		f.exprs([]valType{t, t, i32}, d)
		if g.oneIn(2) {
			f.op("select")
		} else {
			f.op("select_t", 1)
			f.code = append(f.code, byte(t))
		}
	case 6:
		f.expr(i32, d)
		f.block("if", nil, []valType{t})
		f.expr(t, d)
		f.op("else")
		f.expr(t, d)
		f.end()
	case 7:
		f.block("block", nil, []valType{t})
		f.exprs([]valType{t, i32}, d)
		f.op("br_if", 0)
		f.op("drop")
		f.expr(t, d)
		f.end()
	case 8:
		f.block("block", nil, []valType{t})
		f.block("block", nil, []valType{t})
		f.exprs([]valType{t, i32}, d)
		f.op("br_table", 2, 0, 1, 0)
		f.end()
		f.end()
	case 9:
		f.callFor(t, d)
	case 10:
		f.severalFor(t, d)
	case 11:
		if t == i32 {
			f.stateFor(d)
			return
		}
		f.number(t, d)
	default:
		f.number(t, d)
	}
}

// leaf pushes a value without computing it.
func (f *fn) leaf(t valType) {
	switch f.g.intn(3) {
	case 0:
		f.constant(t, f.g.bits(t))
	case 1:
		f.op("local.get", f.ownOf(t))
	default:
		f.op("global.get", f.globalOf(t))
	}
}

// access emits a load or store; the address, and the value of a store, are on
// the stack.
func (f *fn) access(name string) {
	align := f.g.intn(bits.Len32(opcodes[name].width))
	if other, ok := f.g.instead[name]; ok {
		align = min(align, bits.Len32(opcodes[other].width)-1)
	}
	offset := f.g.uint64() % reach
	if f.g.oneIn(8) {
		offset = f.g.uint64() % 0xf000
	}
	f.op(name, uint32(align), uint32(offset))
}

// number pushes the result of a numeric instruction.
func (f *fn) number(t valType, d int) {
	name := pick(&f.g.choices, numericOps[t])
	o := opcodes[name]
	careful := !f.g.reckless || !f.g.oneIn(4)
	switch _, what, _ := strings.Cut(name, "."); {
	case careful && (strings.HasPrefix(what, "div_") || strings.HasPrefix(what, "rem_")):
		f.expr(t, d)
		if what == "div_s" { // the least number by -1 overflows
			f.constant(t, 1)
			f.op(t.String() + ".shr_s")
		}
		f.expr(t, d)
		f.constant(t, 1)
		f.op(t.String() + ".or")
	case careful && strings.HasPrefix(what, "trunc_f"):
		// Three quarters of a number that fits.
		from, sign := o.params[0], what[len(what)-1:]
		f.expr(t, d)
		f.op(from.String() + ".convert_" + t.String() + "_" + sign)
		f.constant(from, map[valType]uint64{f32: 0x3f400000, f64: 0x3fe8000000000000}[from])
		f.op(from.String() + ".mul")
	case strings.HasPrefix(what, "trunc_f") && f.g.oneIn(2):
		f.constant(o.params[0], pick(&f.g.choices, interesting[o.params[0]])) // often none that fits
	default:
		f.exprs(o.params, d)
	}
	f.op(name)
	f.canonical(name)
}

// openNaN are the instructions that may give any NaN (core specification,
// §4.3.3, NaN propagation).
var openNaN = strings.Fields("add sub mul div min max sqrt ceil floor trunc nearest demote_f64 promote_f32")

// canonical replaces a NaN that the instruction left by the canonical one.
func (f *fn) canonical(name string) {
	of, what, _ := strings.Cut(name, ".")
	t := opcodes[name].results[0]
	if f.g.rawNaN || (t != f32 && t != f64) || !slices.Contains(openNaN, what) {
		return
	}
	if f.nan == nil {
		f.nan = map[valType]uint32{}
	}
	tmp, ok := f.nan[t]
	if !ok {
		tmp = f.local(t)
		f.nan[t] = tmp
	}
	f.op("local.tee", tmp)
	f.constant(t, map[valType]uint64{f32: 0x7fc00000, f64: 0x7ff8000000000000}[t])
	f.op("local.get", tmp)
	f.op("local.get", tmp)
	f.op(of + ".eq")
	f.op("select")
}

// callFor pushes one result of a call, if there is a function that has it.
func (f *fn) callFor(t valType, d int) {
	var fit []int
	for i, s := range f.g.funcs[:f.index] {
		if slices.Contains(s.results, t) {
			fit = append(fit, i)
		}
	}
	if len(fit) == 0 {
		f.number(t, d)
		return
	}
	callee := pick(&f.g.choices, fit)
	s := f.g.funcs[callee]
	f.call(callee, d)
	tmp := f.local(t)
	at := slices.Index(s.results, t)
	for i := len(s.results) - 1; i >= 0; i-- {
		if i == at {
			f.op("local.set", tmp)
		} else {
			f.op("drop")
		}
	}
	f.op("local.get", tmp)
}

// call pushes the results of a function below this one, called by its index or,
// by a function that is in no table, through one.
func (f *fn) call(callee, d int) {
	g := f.g
	s := g.funcs[callee]
	f.exprs(s.params, d)
	if f.index < g.leaves || callee >= g.leaves || !slices.Contains(g.table, callee) || g.oneIn(3) {
		f.op("call", uint32(imported+callee))
		return
	}
	table := uint32(callTable)
	if g.reckless && g.oneIn(3) {
		if g.oneIn(2) {
			table = playTable
		}
		f.small(15, d) // of another type, null, or past the end
	} else {
		at := uint64(slices.Index(g.table, callee))
		f.constant(i32, at)
		f.constant(i32, at)
		f.expr(i32, d)
		f.op("select")
	}
	f.op("call_indirect", g.b.typ(s.params, s.results), table)
}

// severalFor pushes one of the results of a block that has parameters and
// several results.
func (f *fn) severalFor(t valType, d int) {
	g := f.g
	params, results := g.types(2), append(g.types(2), t)
	f.exprs(params, d)
	f.block("block", params, results)
	for i := len(params) - 1; i >= 0; i-- {
		f.op("local.set", f.ownOf(params[i]))
	}
	f.exprs(results, d)
	f.expr(i32, d)
	f.op("br_if", 0)
	f.end()
	tmp := f.local(t)
	f.op("local.set", tmp)
	f.drop(results[1:])
	f.op("local.get", tmp)
}

// stateFor pushes a number that says something of memory or tables.
func (f *fn) stateFor(d int) {
	g := f.g
	switch g.intn(6) {
	case 0:
		f.op("memory.size", 0)
	case 1:
		f.small(1, d)
		f.op("memory.grow", 0)
	case 2:
		f.op("table.size", pick(&g.choices, []uint32{callTable, playTable}))
	case 3:
		f.ref()
		f.small(3, d)
		f.op("table.grow", playTable)
	case 4:
		f.ref()
		f.op("ref.is_null")
	default:
		f.small(7, d)
		f.op("table.get", playTable)
		f.op("ref.is_null")
	}
}

// ref pushes a function reference.
func (f *fn) ref() {
	if f.g.oneIn(2) {
		f.op("ref.null")
		f.code = append(f.code, byte(funcRef))
		return
	}
	f.op("ref.func", uint32(imported+f.g.intn(f.g.leaves)))
}

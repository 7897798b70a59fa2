package oracle

import (
	"crypto/sha256"
	"encoding/binary"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
)

// A Program is a module that Generate made.
type Program struct {
	Wasm []byte
	Ops  map[string]int // how often it has which instruction, by the names of Opcodes
	// Reckless programs may trap; the others must not.
	Reckless bool
}

// Generate makes a valid module of a seed, always the same of the same. It is a
// wasip1 command that ends soon, needs at most 256 KiB of memory, and writes
// its globals and a hash of its memory to stdout at the end. Reckless ones may
// trap before.
//
// What it writes is determined by the specification alone. The specification
// leaves open which NaN an arithmetic instruction gives; so a program replaces
// each by the canonical one, unless rawNaN: then it leaves the open ones as the
// engine makes them, and is otherwise the same program.
//
// Choices come from the seed's bytes, and from their hash when these are used
// up, so that a fuzzer which changes a late byte changes a late choice.
func Generate(seed []byte, rawNaN bool) Program { return generate(seed, rawNaN, nil) }

// generate writes other instructions for some, as an engine that takes one for
// another would run the program.
func generate(seed []byte, rawNaN bool, instead map[string]string) Program {
	g := &gen{
		instead: instead,
		choices: choices{data: seed, rng: rand.New(rand.NewChaCha8(sha256.Sum256(seed)))},
		b:       builder{typeOf: map[string]uint32{}, start: -1},
		ops:     map[string]int{},
		rawNaN:  rawNaN,
	}
	g.reckless = g.oneIn(4)
	g.program()
	return Program{Wasm: g.b.encode(), Ops: g.ops, Reckless: g.reckless}
}

// Seed is the nth seed of the tests that have a fixed number of them.
func Seed(n int) []byte {
	h := sha256.Sum256(binary.LittleEndian.AppendUint64(nil, uint64(n)))
	return h[:8]
}

type choices struct {
	data []byte
	rng  *rand.Rand
}

// intn gives a number below n, which is at most 256.
func (c *choices) intn(n int) int {
	if len(c.data) == 0 {
		return c.rng.IntN(n)
	}
	v := int(c.data[0]) % n
	c.data = c.data[1:]
	return v
}

func (c *choices) oneIn(n int) bool { return c.intn(n) == 0 }

func (c *choices) uint64() uint64 { return c.rng.Uint64() }

func pick[T any](c *choices, from []T) T { return from[c.intn(len(from))] }

// What each program has.
const (
	maxPages    = 4
	fuel        = 3000 // calls and loop iterations, all in all
	bodyBudget  = 120  // expressions and statements of a function, about
	depth       = 5    // of nested expressions
	imported    = 2    // functions: fd_write, proc_exit
	callTable   = 0    // of 16 entries, for call_indirect
	playTable   = 1    // of 8 to 32 entries, for everything else
	segment     = 48   // bytes of a passive data segment
	fuelGlobal  = 0
	sinkGlobal  = 1    // takes values that nothing else would show
	firstGlobal = 2    // of those that random code uses
	reach       = 1023 // addresses that random code computes, before an offset
	resultsAt   = 0    // where the results lie in memory when they are written
	iovAt       = 512
	passive     = 1 // the segments that are never dropped
	droppable   = 2
	playEntries = 4 // of a passive element segment
)

type signature struct{ params, results []valType }

// A gen makes one program.
type gen struct {
	choices
	b        builder
	ops      map[string]int
	rawNaN   bool
	reckless bool
	instead  map[string]string

	funcs   []signature // defined ones, which come after the imported
	leaves  int         // so many of the first are in tables: they call no table, so nothing recurses
	table   []int       // the functions in callTable
	globals []valType   // the mutable ones from firstGlobal on
}

func (g *gen) program() {
	g.imports()
	g.global(i32, true, fuel)
	g.global(i64, true, 0)
	for _, t := range append(slices.Clone(numTypes), numTypes...) {
		g.global(t, true, g.bits(t))
		g.globals = append(g.globals, t)
	}
	g.global(i64, false, g.bits(i64))

	g.leaves = 2 + g.intn(3)
	for range g.leaves + 1 + g.intn(3) {
		g.funcs = append(g.funcs, signature{g.types(3), g.types(3)})
	}
	void := signature{}
	body, init := len(g.funcs), -1
	g.funcs = append(g.funcs, void)
	if g.oneIn(4) {
		init = len(g.funcs)
		g.funcs = append(g.funcs, void)
		g.b.start = imported + init
	}
	g.segments()
	for i, s := range g.funcs {
		g.function(i, s)
	}
	g.command(body)
}

func (g *gen) imports() {
	wasi := func(fn string, params, results []valType) {
		imp := name(name(nil, "wasi_snapshot_preview1"), fn)
		g.b.imports = append(g.b.imports, u32(append(imp, 0), g.b.typ(params, results)))
	}
	wasi("fd_write", []valType{i32, i32, i32, i32}, []valType{i32})
	wasi("proc_exit", []valType{i32}, nil)
}

func (g *gen) global(t valType, mutable bool, bits uint64) {
	m := byte(0)
	if mutable {
		m = 1
	}
	f := &fn{g: g}
	f.constant(t, bits)
	g.b.globals = append(g.b.globals, append(append([]byte{byte(t), m}, f.code...), 0x0b))
}

// segments makes the memory, the tables, and what is in them.
func (g *gen) segments() {
	g.b.memory = u32([]byte{1, 1}, maxPages)
	g.b.tables = [][]byte{{byte(funcRef), 1, 16, 16}, {byte(funcRef), 1, 8, 32}}

	bytes := func(n int) []byte {
		p := make([]byte, n)
		for i := range p {
			p[i] = byte(g.uint64())
		}
		return append(u32(nil, uint32(n)), p...)
	}
	at := func(offset uint32) []byte { return append(s64([]byte{0x41}, int64(offset)), 0x0b) }
	g.b.data = [][]byte{
		slices.Concat([]byte{0}, at(0), bytes(2*reach)),
		append([]byte{passive}, bytes(segment)...),
		append([]byte{1}, bytes(segment)...),
	}

	entries := func(n int) []byte {
		e := u32(nil, uint32(n))
		for range n {
			leaf := g.intn(g.leaves)
			if len(g.table) < 16 {
				g.table = append(g.table, leaf)
			}
			e = u32(e, uint32(imported+leaf))
		}
		return e
	}
	filled := 16
	if g.reckless {
		filled = 10 // the rest is null
	}
	var all []byte
	for i := range g.leaves {
		all = u32(all, uint32(imported+i))
	}
	g.b.elements = append(g.b.elements, slices.Concat([]byte{0}, at(0), entries(filled)))
	g.table = g.table[:filled]
	for range 2 {
		g.b.elements = append(g.b.elements, append([]byte{1, 0}, entries(playEntries)...))
	}
	g.b.elements = append(g.b.elements, slices.Concat([]byte{3, 0, byte(g.leaves)}, all)) // declared, for ref.func
}

// command adds _start: it calls the body a few times, and writes what came of it.
func (g *gen) command(body int) {
	f := &fn{g: g, index: len(g.funcs)}
	for range 1 + g.intn(3) {
		f.op("call", uint32(imported+body))
	}
	h, p, end := f.local(i64), f.local(i32), f.local(i32)
	f.constant(i64, 0xcbf29ce484222325)
	f.op("local.set", h)
	f.op("memory.size", 0)
	f.constant(i32, 16)
	f.op("i32.shl")
	f.op("local.set", end)
	f.block("loop", nil, nil)
	f.op("local.get", h)
	f.op("local.get", p)
	f.op("i64.load", 0, 0)
	f.op("i64.xor")
	f.constant(i64, 0x100000001b3)
	f.op("i64.mul")
	f.constant(i64, 29)
	f.op("i64.rotl")
	f.op("local.set", h)
	f.op("local.get", p)
	f.constant(i32, 8)
	f.op("i32.add")
	f.op("local.tee", p)
	f.op("local.get", end)
	f.op("i32.lt_u")
	f.op("br_if", 0)
	f.end()

	var to uint32 = resultsAt
	result := func(t valType, push func()) {
		f.constant(i32, 0)
		push()
		width := map[valType]uint32{i32: 4, f32: 4, i64: 8, f64: 8}[t]
		f.op(t.String()+".store", 0, to)
		to += width
	}
	result(i64, func() { f.op("local.get", h) })
	result(i32, func() { f.op("memory.size", 0) })
	result(i32, func() { f.op("table.size", playTable) })
	result(i32, func() { f.op("global.get", fuelGlobal) })
	result(i64, func() { f.op("global.get", sinkGlobal) })
	for i, t := range g.globals {
		result(t, func() { f.op("global.get", uint32(firstGlobal+i)) })
	}
	size := to
	to = iovAt
	result(i32, func() { f.constant(i32, resultsAt) })
	result(i32, func() { f.constant(i32, uint64(size)) })
	for _, arg := range []uint64{1, iovAt, 1, iovAt + 8} {
		f.constant(i32, arg)
	}
	f.op("call", 0)
	f.block("if", nil, nil)
	f.op("unreachable")
	f.end()
	if g.oneIn(8) {
		f.op("local.get", h)
		f.op("i32.wrap_i64")
		f.constant(i32, 7)
		f.op("i32.and")
		f.op("call", 1)
	}
	f.finish(signature{})
	g.b.exports = [][]byte{
		append(name(nil, "memory"), 2, 0),
		u32(append(name(nil, "_start"), 0), uint32(imported+f.index)),
	}
}

// types gives up to n number types.
func (g *gen) types(n int) []valType {
	ts := make([]valType, g.intn(n+1))
	for i := range ts {
		ts[i] = pick(&g.choices, numTypes)
	}
	return ts
}

// interesting are the bits of values at which operations change their minds.
var interesting = map[valType][]uint64{
	i32: {0, 1, 2, 7, 31, 32, 33, 255, 1 << 15, 1 << 31, 1<<31 - 1, 1<<32 - 1, 1<<32 - 2, 0x55555555},
	i64: {0, 1, 2, 63, 64, 65, 1 << 31, 1 << 32, 1<<32 - 1, 1 << 63, 1<<63 - 1, 1<<64 - 1, 0x5555555555555555},
	f32: {0, 1 << 31, 0x3f800000, 0xbf800000, 0x3f000000, 0x40200000, 0x7f800000, 0xff800000, // 0 -0 1 -1 .5 2.5 inf -inf
		0x7fc00000, 0xffc00000, 0x7fa00000, 0x7fc00123, 1, 0x807fffff, 0x7f7fffff, 0x4effffff, // NaNs, denormals, max, below 2³¹
		0x4f000000, 0xcf000000, 0x4f800000, 0x5f000000, 0xdf000000, 0x5f800000}, // 2³¹ -2³¹ 2³² 2⁶³ -2⁶³ 2⁶⁴
	f64: {0, 1 << 63, 0x3ff0000000000000, 0xbff0000000000000, 0x3fe0000000000000, 0x4004000000000000, 0x7ff0000000000000, 0xfff0000000000000,
		0x7ff8000000000000, 0xfff8000000000000, 0x7ff4000000000000, 0x7ff8000000000123, 1, 0x800fffffffffffff, 0x7fefffffffffffff, 0x41dfffffffc00000,
		0x41e0000000000000, 0xc1e0000000000000, 0xc1e0000000200000, 0x41f0000000000000, 0x43e0000000000000, 0xc3e0000000000000, 0x43f0000000000000},
}

// bits gives a value of a type.
func (g *gen) bits(t valType) uint64 {
	switch g.intn(3) {
	case 0:
		return pick(&g.choices, interesting[t])
	case 1:
		return g.uint64()
	}
	switch t {
	case f32:
		return 0x42280000 + uint64(g.intn(200))<<16 // small numbers
	case f64:
		return 0x4045000000000000 + uint64(g.intn(200))<<40
	}
	return uint64(g.intn(256))
}

// numericOps are the names of the numeric instructions by result, sorted.
var numericOps = func() map[valType][]string {
	m := map[valType][]string{}
	for _, n := range slices.Sorted(maps.Keys(opcodes)) {
		if o := opcodes[n]; len(o.results) == 1 {
			m[o.results[0]] = append(m[o.results[0]], n)
		}
	}
	return m
}()

// accesses are the names of the loads or stores of a type, sorted.
func accesses(t valType, kind string) (names []string) {
	for n, o := range opcodes {
		if o.access == t && strings.Contains(n, kind) {
			names = append(names, n)
		}
	}
	slices.Sort(names)
	return names
}

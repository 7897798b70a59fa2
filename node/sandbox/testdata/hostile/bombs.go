package hostile

import (
	"slices"
	"strings"
)

// bombs are modules that are valid, or nearly, and cost the compiler more than
// their size lets expect. Some are small enough to compile within the bounds of
// a node; then they run and do nothing.
func bombs() []Attack {
	// A fast machine may be through in time.
	slow := tooMuch
	slow.Words += ", or it compiles in time"
	slow.Held = true
	list := []struct {
		name, what string
		want       Expect
		wasm       func() []byte
	}{
		{"loops-100", "100 nested loops over 1,000 locals", held(""), func() []byte { return nestedLoops(100) }},
		{"loops-250", "250 nested loops over 1,000 locals", refusedBy("loops"), func() []byte { return nestedLoops(250) }},
		{"loops-1000", "1,000 nested loops over 1,000 locals", refusedBy("loops"), func() []byte { return nestedLoops(1000) }},
		{"loops-5000", "5,000 nested loops over 1,000 locals", refusedBy("loops"), func() []byte { return nestedLoops(5000) }},
		{"loops-50000", "50,000 nested loops and nothing else", refusedBy("loops"), func() []byte { return emptyLoops(50_000) }},
		{"many-ifs", "a function of half a MiB that is all conditions over 1,000 locals", tooMuch, func() []byte { return manyIfs(500_000) }},
		{"many-ifs-1m", "a function of 1 MiB that is all conditions", refusedBy("function size"), func() []byte { return manyIfs(1 << 20) }},
		{"functions-10000", "10,000 functions", slow, func() []byte { return manyFunctions(10_000) }},
		{"functions-50001", "50,001 functions", refusedBy("functions"), func() []byte { return manyFunctions(50_001) }},
		{"br-tables", "60 jump tables with 60,000 targets each", slow, func() []byte { return branchTables(60, 60_000) }},
		{"straight-line", "5 MB of multiplications", slow, func() []byte { return straightLine(10, 500_000) }},
		{"straight-line-one", "5 MB of multiplications in one function", refusedBy("function size"), func() []byte { return straightLine(1, 5_000_000) }},
		{"expand", "4 MB of conversions, each of which becomes 20 times as large", slow, func() []byte { return conversions(9, 450_000) }},
		{"data-100000", "100,000 data segments", held(""), func() []byte { return dataSegments(100_000) }},
		{"data-100001", "100,001 data segments", refusedBy("data segments"), func() []byte { return dataSegments(100_001) }},
		{"elements-10000", "10,000 element segments", held(""), func() []byte { return elementSegments(10_000) }},
		{"elements-10001", "10,001 element segments", refusedBy("element segments"), func() []byte { return elementSegments(10_001) }},
		{"elements-long", "an element segment of 2,000,000 functions", refusedBy("tables"), func() []byte { return longElements(2_000_000) }},
		{"globals-10000", "10,000 globals", held(""), func() []byte { return manyGlobals(10_000) }},
		{"globals-10001", "10,001 globals", refusedBy("globals"), func() []byte { return manyGlobals(10_001) }},
		{"locals-1000", "1,000 locals in each of 1,000 functions", held(""), func() []byte { return manyLocals(1000, 1000) }},
		{"locals-50001", "50,001 locals", refusedBy("locals"), func() []byte { return manyLocals(1, 50_001) }},
		{"locals-overflow", "2^32 - 1 locals, twice", refusedBy("locals"), localsOverflow},
		{"types-10000", "10,000 types", held(""), func() []byte { return manyTypes(10_000, 1) }},
		{"types-10001", "10,001 types", refusedBy("types"), func() []byte { return manyTypes(10_001, 1) }},
		{"types-wide", "7,000 types with 1,000 parameters each", held(""), func() []byte { return manyTypes(7000, 1000) }},
		{"types-wider", "a type with 100,000 parameters", invalid, func() []byte { return manyTypes(2, 100_000) }},
		{"exports-1001", "1,001 exports", refusedBy("exports"), func() []byte { return manyExports(1001) }},
		{"imports-129", "129 imports", refusedBy("imports"), func() []byte { return manyImports(129) }},
		{"export-long-name", "an export with a name of 1 MiB", invalid, longExport},
		{"custom-7m", "7 MiB that are no code", held(""), func() []byte { return command(parts{custom: append(name("x"), make([]byte, 7<<20)...)}).encode() }},
	}
	var attacks []Attack
	for _, b := range list {
		attacks = append(attacks, Attack{Name: b.name, Class: Compile, What: "is made of " + b.what, Expect: b.want, Wasm: b.wasm})
	}
	return attacks
}

// nestedLoops is one function with 1,000 locals and n nested loops, each of
// which changes one: the compiler's work grows with the product. It is compiled,
// but jumped over: local 0 is zero.
func nestedLoops(n int) []byte {
	code := slices.Concat(op(0x02, 0x40), localGet(0), op(0x50, 0x0d, 0)) // block, i64.eqz, br_if 0
	for i := range n {
		code = slices.Concat(code, op(0x03, 0x40), localGet(uint64(i)%1000), i64const(1), op(0x7c), localSet(uint64(i*7+1)%1000))
	}
	for i := range n {
		code = slices.Concat(code, localGet(uint64(i*13)%1000), op(0xa7, 0x0d, 0, 0x0b)) // i32.wrap_i64, br_if 0, end
	}
	return oneFunction(body(1000, i64, code, op(0x0b)))
}

// emptyLoops is as many loops in each other as fit into one function.
func emptyLoops(n int) []byte {
	return oneFunction(body(0, 0, []byte(strings.Repeat("\x03\x40", n)+strings.Repeat("\x0b", n))))
}

// manyIfs is one function with 1,000 locals and conditions on them, about size
// bytes long: after each there are two values that any local may have.
func manyIfs(size int) []byte {
	code := make([]byte, 0, size)
	x := uint32(1)
	next := func() uint64 { // the constants of Numerical Recipes
		x = x*1664525 + 1013904223
		return uint64(x>>8) % 1000
	}
	for len(code) < size {
		code = append(code, localGet(next())...)
		code = append(code, 0xa7, 0x04, 0x40) // i32.wrap_i64, if
		code = append(code, localGet(next())...)
		code = append(code, localSet(next())...)
		code = append(code, 0x0b)
	}
	return oneFunction(body(1000, i64, code))
}

// oneFunction makes a module whose only function is this one.
func oneFunction(f []byte) []byte { return command(parts{code: vec(f)}).encode() }

// functionsOf makes a module of n functions of one type after _start.
func functionsOf(n int, params, results string, f []byte) []byte {
	return command(parts{
		types:     vec(functionType("", ""), functionType(params, results)),
		functions: append(append(uleb(uint64(n+1)), 0), strings.Repeat("\x01", n)...),
		code:      slices.Concat(uleb(uint64(n+1)), body(0, 0), []byte(strings.Repeat(string(f), n))),
	}).encode()
}

func manyFunctions(n int) []byte {
	load := slices.Concat(localGet(0), op(0x28, 2, 8)) // i32.load offset=8
	// n counts _start, too.
	return functionsOf(n-1, "i", "i", body(0, 0, load, load, op(0x6a), load, op(0x6a)))
}

// branchTables is n functions of 100 nested blocks and a jump into them with
// that many targets.
func branchTables(n, targets int) []byte {
	code := []byte(strings.Repeat("\x02\x40", 100))
	code = slices.Concat(code, localGet(0), op(0x0e), uleb(uint64(targets)))
	for i := range targets {
		code = append(code, byte(i*7%100))
	}
	code = append(code, 99)
	code = append(code, strings.Repeat("\x0b", 100)...)
	return functionsOf(n, "i", "", body(0, 0, code))
}

// straightLine is n functions of multiplications, size bytes each.
func straightLine(n, size int) []byte {
	step := slices.Concat(localGet(0), localGet(1), op(0x7e), localSet(0)) // i64.mul
	return functionsOf(n, "II", "", body(0, 0, []byte(strings.Repeat(string(step), size/len(step)))))
}

// conversions is n functions that make integers of floating-point numbers, which
// takes one byte here and many instructions with a check for each case there.
func conversions(n, size int) []byte {
	step := slices.Concat(localGet(0), op(0xb1), op(0xba), localSet(0)) // i64.trunc_f64_u, f64.convert_i64_u
	return functionsOf(n, "D", "", body(0, 0, []byte(strings.Repeat(string(step), size/len(step)))))
}

func dataSegments(n int) []byte {
	return command(parts{data: many(n, slices.Concat([]byte{0}, i32const(8), op(0x0b), name("x")))}).encode()
}

func elementSegments(n int) []byte {
	return command(parts{
		tables:   vec([]byte{0x70, 0, 8}),
		elements: many(n, slices.Concat([]byte{0}, i32const(4), op(0x0b), vec(uleb(0)))),
	}).encode()
}

func longElements(n int) []byte {
	return command(parts{
		tables:   vec(append([]byte{0x70, 0}, uleb(uint64(n))...)),
		elements: vec(slices.Concat([]byte{0}, i32const(0), op(0x0b), many(n, uleb(0)))),
	}).encode()
}

func manyGlobals(n int) []byte {
	return command(parts{globals: many(n, slices.Concat([]byte{i64, 1}, i64const(1), op(0x0b)))}).encode()
}

func manyLocals(functions int, n uint64) []byte {
	return functionsOf(functions, "", "", body(n, i64))
}

func localsOverflow() []byte {
	group := append(uleb(1<<32-1), i32)
	return oneFunction(sized(slices.Concat([]byte{2}, group, group, []byte{0x0b})))
}

func manyTypes(n, params int) []byte {
	// n counts _start's, too.
	return command(parts{types: slices.Concat(uleb(uint64(n)), functionType("", ""),
		[]byte(strings.Repeat(string(functionType(strings.Repeat("i", params), "")), n-1)))}).encode()
}

func manyExports(n int) []byte {
	list := [][]byte{exported("memory", 2, 0), exported("_start", 0, 0)}
	for i := range n - len(list) {
		list = append(list, exported(strings.Repeat("x", i), 0, 0))
	}
	return command(parts{exports: vec(list...)}).encode()
}

func manyImports(n int) []byte {
	return command(parts{
		imports: many(n, wasiImport("proc_exit", 1)),
		types:   vec(functionType("", ""), functionType("i", "")),
		exports: vec(exported("memory", 2, 0), exported("_start", 0, uint64(n))),
	}).encode()
}

func longExport() []byte {
	return command(parts{exports: vec(exported("memory", 2, 0), exported("_start", 0, 0),
		exported(strings.Repeat("x", 1<<20), 0, 0))}).encode()
}

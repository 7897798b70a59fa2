package oracle

// statement emits code that leaves the stack as it was. d bounds how deep it
// nests.
func (f *fn) statement(d int) {
	g := f.g
	f.budget--
	if d <= 0 || f.budget <= 0 {
		f.op("nop")
		return
	}
	d--
	t := pick(&g.choices, numTypes)
	switch g.intn(20) {
	case 0, 1:
		f.expr(t, d)
		f.op("local.set", f.ownOf(t))
	case 2, 3:
		f.expr(t, d)
		f.op("global.set", f.globalOf(t))
	case 4, 5, 6:
		name := pick(&g.choices, accesses(t, ".store"))
		f.small(reach, d)
		f.expr(t, d)
		f.access(name)
	case 7:
		f.expr(t, d)
		f.sink(t)
	case 8:
		f.expr(i32, d)
		f.block("if", nil, nil)
		f.statements(d)
		if g.oneIn(2) {
			f.op("else")
			f.statements(d)
		}
		f.end()
	case 9:
		f.block("block", nil, nil)
		f.statements(d)
		f.branch(d)
		f.statements(d)
		f.end()
	case 10, 11:
		f.loop(d)
	case 12:
		f.switches(d)
	case 13:
		f.dead(d)
	case 14, 15:
		f.bulk(d)
	case 16:
		f.tables(d)
	default:
		if f.index == 0 {
			f.statements(d)
			return
		}
		callee := g.intn(f.index)
		if f.index >= g.leaves && g.oneIn(2) { // so that tables are used
			callee = g.intn(g.leaves)
		}
		f.call(callee, d)
		f.drop(g.funcs[callee].results)
	}
}

func (f *fn) statements(d int) {
	for range 1 + f.g.intn(2) {
		f.statement(d)
	}
}

// branch leaves an enclosing block or the function, on a condition.
func (f *fn) branch(d int) {
	var out []uint32
	for i, l := range f.labels {
		if !l.loop {
			out = append(out, uint32(len(f.labels)-1-i))
		}
	}
	to := pick(&f.g.choices, out)
	types := f.labels[len(f.labels)-1-int(to)].types
	switch f.g.intn(3) {
	case 0:
		f.exprs(types, d)
		f.expr(i32, d)
		f.op("br_if", to)
		f.drop(types)
	case 1:
		f.expr(i32, d)
		f.block("if", nil, nil)
		f.exprs(types, d)
		f.op("br", to+1)
		f.end()
	default:
		f.expr(i32, d)
		f.block("if", nil, nil)
		f.exprs(f.labels[0].types, d)
		f.op("return")
		f.end()
	}
}

// loop repeats statements a few times, while there is fuel. Some loops carry a
// value on the stack.
func (f *fn) loop(d int) {
	g := f.g
	counter := f.local(i32)
	f.constant(i32, uint64(1+g.intn(8)))
	f.op("local.set", counter)
	var carried []valType
	if g.oneIn(2) {
		carried = []valType{pick(&g.choices, numTypes)}
	}
	f.exprs(carried, d)
	f.block("loop", carried, carried)
	for _, t := range carried {
		f.op("local.set", f.ownOf(t))
	}
	f.statements(d)
	f.exprs(carried, d)
	f.op("local.get", counter)
	f.constant(i32, 1)
	f.op("i32.sub")
	f.op("local.tee", counter)
	f.constant(i32, 0)
	f.op("i32.gt_s")
	f.burn()
	f.op("i32.and")
	f.op("br_if", 0)
	f.end()
	f.drop(carried)
}

// switches goes to one of three places.
func (f *fn) switches(d int) {
	for range 3 {
		f.block("block", nil, nil)
	}
	f.expr(i32, d)
	if f.g.oneIn(2) {
		f.mask(3)
	}
	f.op("br_table", 3, 0, 1, 2, 1)
	for range 3 {
		f.end()
		f.statement(d)
	}
}

// dead is code that is not reached, or in a reckless program now and then.
func (f *fn) dead(d int) {
	g := f.g
	if g.reckless && g.oneIn(2) {
		f.expr(i32, d)
		f.mask(7)
		f.op("i32.eqz")
		f.block("if", nil, nil)
		f.op("unreachable")
		f.statement(d)
		f.end()
		return
	}
	f.block("block", nil, nil)
	f.op("br", 0)
	if g.oneIn(2) {
		f.op("unreachable")
	}
	f.statement(d)
	f.end()
}

func (f *fn) bulk(d int) {
	g := f.g
	switch g.intn(5) {
	case 0:
		f.small(reach, d)
		f.expr(i32, d)
		f.small(63, d)
		f.op("memory.fill", 0)
	case 1:
		f.small(reach, d)
		f.small(reach, d)
		f.small(63, d)
		f.op("memory.copy", 0, 0)
	case 2:
		f.small(reach, d)
		f.small(31, d)
		f.small(15, d)
		f.op("memory.init", passive, 0)
	case 3:
		f.small(reach, d)
		f.gone()
		f.op("memory.init", droppable, 0)
	default:
		f.op("data.drop", droppable)
	}
}

// gone pushes a part of a segment that may be there or not: an empty one,
// unless reckless.
func (f *fn) gone() {
	f.constant(i32, 0)
	if f.g.reckless {
		f.constant(i32, uint64(f.g.intn(2)))
	} else {
		f.constant(i32, 0)
	}
}

func (f *fn) tables(d int) {
	g := f.g
	switch g.intn(6) {
	case 0:
		f.small(7, d)
		f.ref()
		f.op("table.set", playTable)
	case 1:
		f.small(3, d)
		f.ref()
		f.small(3, d)
		f.op("table.fill", playTable)
	case 2:
		f.small(3, d)
		f.small(3, d)
		f.small(3, d)
		f.op("table.copy", playTable, pick(&g.choices, []uint32{callTable, playTable}))
	case 3:
		f.small(3, d)
		f.small(1, d)
		f.small(1, d)
		f.op("table.init", passive, playTable)
	case 4:
		f.small(3, d)
		f.gone()
		f.op("table.init", droppable, playTable)
	default:
		f.op("elem.drop", droppable)
	}
}

package hostile

import (
	"slices"
	"strings"

	"github.com/liop-project/liop/core/fault"
)

// malformed are modules that are none, or none that this node takes. Nothing of
// them may run.
func malformed() []Attack {
	list := []Attack{
		{Name: "empty", What: "is no byte at all", Wasm: func() []byte { return []byte{} },
			// Over the wire no bytes are no module.
			Expect: refused("refused as no module", Refusal{fault.ModuleInvalid, "magic"}, Refusal{fault.ModuleUnknown, ""})},
	}
	add := func(name, what string, want Expect, wasm func() []byte) {
		list = append(list, Attack{Name: name, What: what, Expect: want, Wasm: wasm})
	}
	for _, c := range []struct{ name, what, rule, bytes string }{
		{"text", "is a script", "magic", "#!/bin/sh\ncat /etc/passwd\n"},
		{"elf", "is a program for this machine", "magic", "\x7fELF\x02\x01\x01" + strings.Repeat("\x00", 57)},
		{"magic-cut", "ends in the magic number", "magic", "\x00as"},
		{"version-cut", "ends in the version", "version", "\x00asm\x01\x00"},
		{"version-2", "is of a version that does not exist", "version", "\x00asm\x02\x00\x00\x00"},
		{"component", "is a component", "version", "\x00asm\x0d\x00\x01\x00"},
		{"header-only", "has no sections", "exports", header},
		{"zeros", "is a header and 1 MiB of zeros", "exports", header + strings.Repeat("\x00", 1<<20)},
	} {
		add(c.name, c.what, refusedBy(c.rule), func() []byte { return []byte(c.bytes) })
	}

	names := map[byte]string{types: "type", imports: "import", functions: "function", tables: "table", memories: "memory", globals: "global",
		exports: "export", elements: "element", code: "code", data: "data"}
	for _, id := range []byte{types, imports, functions, tables, memories, globals, exports, elements, code, data} {
		add("cut-"+names[id], "ends inside of its "+names[id]+" section", garbled, func() []byte { return cut(id) })
		add("count-"+names[id], "says that its "+names[id]+" section has 2^32 - 1 entries",
			refused("refused before it is compiled", Refusal{fault.ModuleInvalid, ""}), func() []byte {
				return every(parts{id: append(uleb(1<<32-1), every(nil)[id][1:]...)}).encode()
			})
		add("twice-"+names[id], "has two "+names[id]+" sections", garbled, func() []byte {
			p := every(nil)
			s := string(section(id, p[id]))
			return []byte(strings.Replace(string(p.encode()), s, s+s, 1))
		})
	}

	for _, c := range []struct {
		name, what string
		want       Expect
		wasm       func() []byte
	}{
		{"long-number", "has a length of six bytes", garbled, func() []byte { return []byte(header + "\x01\x84\x80\x80\x80\x80\x00\x01\x60\x00\x00") }},
		{"large-number", "has a length of more than 32 bits", garbled, func() []byte { return []byte(header + "\x01\xff\xff\xff\xff\x7f") }},
		{"padded-number", "has lengths with more bytes than they need, which is allowed", held(""), func() []byte {
			p := command(nil)
			return []byte(strings.Replace(string(p.encode()), "\x01\x04\x01\x60", "\x01\x84\x80\x80\x80\x00\x01\x60", 1))
		}},
		{"section-short", "has a section that is shorter than what is in it", refused("refused", Refusal{fault.ModuleInvalid, ""}),
			func() []byte { return resized(code, -1) }},
		{"section-long", "has a section that is longer than what is in it", refused("refused", Refusal{fault.ModuleInvalid, ""}),
			func() []byte { return resized(types, +1) }},
		{"section-unknown", "has a section that does not exist", garbled, func() []byte { return append(every(nil).encode(), 0x0e, 0) }},
		{"section-order", "has its sections in another order", garbled, func() []byte {
			p := every(nil)
			return slices.Concat([]byte(header), section(functions, p[functions]), section(types, p[types]))
		}},
		{"export-twice", "exports one name twice", invalid, func() []byte {
			return command(parts{exports: vec(exported("memory", 2, 0), exported("_start", 0, 0), exported("_start", 0, 0))}).encode()
		}},
		{"export-past-end", "exports a function that it does not have", invalid, func() []byte {
			return command(parts{exports: vec(exported("memory", 2, 0), exported("_start", 0, 1<<32-1))}).encode()
		}},
		{"export-not-utf8", "exports a name that is no UTF-8", invalid, func() []byte {
			return command(parts{exports: vec(exported("memory", 2, 0), exported("_start", 0, 0), exported("\xff\xfe", 0, 0))}).encode()
		}},
		{"start-type", "has a _start with a parameter", trapped, func() []byte {
			return command(parts{types: vec(functionType("i", ""))}).encode()
		}},
		{"bodies-missing", "has fewer bodies than functions", invalid, func() []byte { return command(parts{functions: vec(uleb(0), uleb(0))}).encode() }},
		{"function-type", "has a function of a type that it does not have", invalid, func() []byte { return command(parts{functions: vec(uleb(7))}).encode() }},
		{"start-past-end", "starts with a function that it does not have", invalid, func() []byte { return command(parts{start: uleb(9)}).encode() }},
		{"memory-reversed", "has a memory with a maximum below its minimum", invalid, func() []byte {
			return command(parts{memories: vec([]byte{1, 2, 1})}).encode()
		}},
		{"memory-twice", "has two memories", refusedBy("memories"), func() []byte {
			return command(parts{memories: vec([]byte{0, 1}, []byte{0, 1})}).encode()
		}},
		{"memory-none", "has no memory", refusedBy("exports"), func() []byte {
			return command(parts{memories: vec(), exports: vec(exported("_start", 0, 0))}).encode()
		}},
		{"memory-shared", "has a memory for threads", refusedBy("memory"), func() []byte {
			return command(parts{memories: vec([]byte{3, 1, 1})}).encode()
		}},
		{"memory-64", "has a memory with 64-bit addresses", refusedBy("memory"), func() []byte {
			return command(parts{memories: vec([]byte{4, 1})}).encode()
		}},
		{"tables-5", "has five tables", refusedBy("tables"), func() []byte { return command(parts{tables: many(5, []byte{0x70, 0, 1})}).encode() }},
	} {
		add(c.name, c.what, c.want, c.wasm)
	}

	for _, c := range []struct {
		name, what string
		code       []byte
	}{
		{"code-unknown", "has an instruction that does not exist", op(0xff)},
		{"code-stack", "drops what is not there", op(0x1a)},
		{"code-type", "adds numbers of two types", slices.Concat(i32const(1), i64const(1), op(0x6a, 0x1a))},
		{"code-local", "reads a local that it does not have", append(localGet(1<<32-1), 0x1a)},
		{"code-branch", "jumps out of more blocks than it is in", op(0x0c, 0x7f)},
		{"code-call", "calls a function that it does not have", call(1<<32 - 1)},
		{"code-open", "leaves a block open", op(0x02, 0x40)},
		{"code-after-end", "goes on behind its end", op(0x0b, 0x01)},
		{"code-align", "reads with an alignment beyond all numbers", slices.Concat(i32const(0), op(0x28, 0x3f, 0, 0x1a))},
		{"code-table-targets", "jumps through a table that says it has 2^32 - 1 targets", slices.Concat(i32const(0), op(0x0e), uleb(1<<32-1))},
		{"code-simd", "uses vectors, which are off", op(0xfd, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x1a)},
		{"code-atomic", "uses threads, which are off", op(0xfe, 3, 0)},
		{"code-tail-call", "uses tail calls, which are off", op(0x12, 0)},
		{"code-throw", "uses exceptions, which are off", op(0x08, 0)},
		{"code-gc", "uses garbage collected objects, which are off", op(0x41, 0, 0xfb, 0x1c, 0x1a)},
	} {
		add(c.name, c.what, invalid, func() []byte { return command(parts{code: vec(body(0, 0, c.code))}).encode() })
	}
	for i := range list {
		list[i].Class = Malformed
	}
	return list
}

// every are the parts of a valid module that has each kind of section; with
// replaces some of them.
func every(with parts) parts {
	p := command(parts{
		types:    vec(functionType("", ""), functionType("i", "")),
		imports:  vec(wasiImport("proc_exit", 1)),
		tables:   vec([]byte{0x70, 0, 1}),
		globals:  vec(slices.Concat([]byte{i32, 0}, i32const(1), op(0x0b))),
		exports:  vec(exported("memory", 2, 0), exported("_start", 0, 1)),
		elements: vec(slices.Concat([]byte{0}, i32const(0), op(0x0b), vec(uleb(1)))),
		data:     vec(slices.Concat([]byte{0}, i32const(0), op(0x0b), name("data"))),
	})
	for id, b := range with {
		p[id] = b
	}
	return p
}

// cut is a valid module up to the middle of one of its sections.
func cut(id byte) []byte {
	p := every(nil)
	whole, s := string(p.encode()), string(section(id, p[id]))
	return []byte(whole[:strings.Index(whole, s)+2+len(p[id])/2])
}

// resized is a valid module of which one section lies about its size.
func resized(id byte, by int) []byte {
	p := every(nil)
	whole, s := string(p.encode()), string(section(id, p[id]))
	return []byte(strings.Replace(whole, s, string(append([]byte{id}, uleb(uint64(len(p[id])+by))...))+s[2:], 1))
}

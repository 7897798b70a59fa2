package hostile

import (
	"slices"
	"strings"
)

// The binary format of WebAssembly, as much as is needed to make modules that
// no toolchain would: core specification, chapter 5.

const header = "\x00asm\x01\x00\x00\x00"

const (
	i32 = 0x7f
	i64 = 0x7e
	f64 = 0x7c
)

// Sections by their numbers.
const (
	custom, types, imports, functions, tables, memories = 0, 1, 2, 3, 4, 5
	globals, exports, start, elements, code, data       = 6, 7, 8, 9, 10, 11
)

// uleb and sleb are LEB128 numbers.
func uleb(v uint64) []byte {
	var b []byte
	for v >= 0x80 {
		b = append(b, byte(v)|0x80)
		v >>= 7
	}
	return append(b, byte(v))
}

func sleb(v int64) []byte {
	var b []byte
	for {
		c := byte(v & 0x7f)
		v >>= 7
		if v == 0 && c&0x40 == 0 || v == -1 && c&0x40 != 0 {
			return append(b, c)
		}
		b = append(b, c|0x80)
	}
}

// sized puts the length of b before it.
func sized(b []byte) []byte { return append(uleb(uint64(len(b))), b...) }

func name(s string) []byte { return sized([]byte(s)) }

// vec is a vector of encoded things.
func vec(items ...[]byte) []byte {
	return append(uleb(uint64(len(items))), slices.Concat(items...)...)
}

// many is a vector of n times the same.
func many(n int, item []byte) []byte {
	return append(uleb(uint64(n)), strings.Repeat(string(item), n)...)
}

func section(id byte, body []byte) []byte { return append([]byte{id}, sized(body)...) }

// functionType takes a string with an 'i' for each i32 and an 'I' for each i64.
func functionType(params, results string) []byte {
	kinds := func(s string) []byte {
		b := uleb(uint64(len(s)))
		for _, c := range s {
			b = append(b, map[rune]byte{'i': i32, 'I': i64, 'D': f64}[c])
		}
		return b
	}
	return slices.Concat([]byte{0x60}, kinds(params), kinds(results))
}

// wasiImport imports a function of WASI with a type.
func wasiImport(function string, typeIndex uint64) []byte {
	return importOf("wasi_snapshot_preview1", function, append([]byte{0}, uleb(typeIndex)...))
}

func importOf(module, field string, what []byte) []byte {
	return slices.Concat(name(module), name(field), what)
}

// body is a function with n locals of a type.
func body(n uint64, kind byte, instructions ...[]byte) []byte {
	locals := []byte{0}
	if n > 0 {
		locals = slices.Concat([]byte{1}, uleb(n), []byte{kind})
	}
	return sized(slices.Concat(locals, slices.Concat(instructions...), []byte{0x0b}))
}

// parts are the sections of a module.
type parts map[byte][]byte

// command are the parts of the smallest module that a node runs: a page of
// memory, and a _start that does nothing. with replaces some of them.
func command(with parts) parts {
	p := parts{
		types:     vec(functionType("", "")),
		functions: vec(uleb(0)),
		memories:  vec([]byte{0, 1}),
		exports:   vec(exported("memory", 2, 0), exported("_start", 0, 0)),
		code:      vec(body(0, 0)),
	}
	for id, b := range with {
		p[id] = b
	}
	return p
}

func exported(as string, kind byte, index uint64) []byte {
	return slices.Concat(name(as), []byte{kind}, uleb(index))
}

// encode puts sections in their order.
func (p parts) encode() []byte {
	wasm := []byte(header)
	for _, id := range []byte{custom, types, imports, functions, tables, memories, globals, exports, start, elements, code, data} {
		if b, ok := p[id]; ok {
			wasm = append(wasm, section(id, b)...)
		}
	}
	return wasm
}

// i32const, local and the like are instructions.
func i32const(v int32) []byte  { return append([]byte{0x41}, sleb(int64(v))...) }
func i64const(v int64) []byte  { return append([]byte{0x42}, sleb(v)...) }
func localGet(i uint64) []byte { return append([]byte{0x20}, uleb(i)...) }
func localSet(i uint64) []byte { return append([]byte{0x21}, uleb(i)...) }
func call(f uint64) []byte     { return append([]byte{0x10}, uleb(f)...) }
func op(code ...byte) []byte   { return code }

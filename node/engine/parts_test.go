package engine

import (
	"slices"
	"strings"
)

// A module as the content of its sections, by their numbers.
type sections map[byte][]byte

// command is what every module here has: a memory and a function that does
// nothing, both exported, and both of which change may replace.
func command(change sections) []byte {
	all := sections{
		1:  vec("\x60\x00\x00"), // () -> ()
		3:  vec("\x00"),
		5:  vec("\x00\x01"), // one page
		7:  vec("\x06memory\x02\x00", "\x06_start\x00\x00"),
		10: vec(body("")),
	}
	for id, content := range change {
		all[id] = content
	}
	wasm := []byte(header)
	for _, id := range "\x01\x02\x03\x04\x05\x06\x07\x09\x0a\x0b" {
		if content, ok := all[byte(id)]; ok {
			wasm = slices.Concat(wasm, []byte{byte(id)}, leb(len(content)), content)
		}
	}
	return wasm
}

// leb is n as a LEB128 number.
func leb(n int) (b []byte) {
	for ; n >= 0x80; n >>= 7 {
		b = append(b, byte(n)|0x80)
	}
	return append(b, byte(n))
}

func vec(items ...string) []byte { return append(leb(len(items)), strings.Join(items, "")...) }

// many is a vector of n times the same.
func many(n int, item string) []byte { return append(leb(n), strings.Repeat(item, n)...) }

// body is a function without locals.
func body(code string) string { return sized("\x00" + code + "\x0b") }

// bodyWith is a function with n locals of type i64.
func bodyWith(n int, code string) string {
	return sized("\x01" + string(leb(n)) + "\x7e" + code + "\x0b")
}

func sized(s string) string { return string(leb(len(s))) + s }

// compileBomb is valid WebAssembly of about that size that takes the compiler
// seconds and gigabytes if it is large: a function of conditions over 1,000
// locals, after each of which any local may have one of two values.
func compileBomb(seed uint32, size int) []byte {
	const locals = 1000
	next := func() string { // the constants of Numerical Recipes
		seed = seed*1664525 + 1013904223
		return string(leb(int(seed>>8) % locals))
	}
	var code strings.Builder
	for code.Len() < size {
		code.WriteString("\x20" + next() + "\xa7\x04\x40" + // local.get, i32.wrap_i64, if
			"\x20" + next() + "\x21" + next() + "\x0b") // local.get, local.set, end
	}
	return command(sections{10: vec(bodyWith(locals, code.String()))})
}

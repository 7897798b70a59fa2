package engine

import (
	"encoding/binary"

	"github.com/liop-project/liop/node/bounds"
)

// What follows an opcode (core specification, §5.4). What has no entry in
// operands is of an extension that is off here, or nothing at all.
const (
	unknown   = iota
	none      // no operand
	number    // a LEB128 number: an index, a constant, a type
	numbers   // two of them
	block     // a type, and then instructions until its end
	loop      // the same, which its instructions may begin again
	end       // of a block, a loop or the function
	table     // br_table: a vector of numbers, and one more
	types     // a vector of bytes
	bytes4    // f32.const
	bytes8    // f64.const
	secondary // 0xfc: another opcode
)

var operands = func() (o [256]byte) {
	fill := func(kind byte, from, to int) {
		for op := from; op <= to; op++ {
			o[op] = kind
		}
	}
	fill(none, 0x00, 0x01) // unreachable, nop
	fill(block, 0x02, 0x02)
	fill(loop, 0x03, 0x03)
	fill(block, 0x04, 0x04) // if
	fill(none, 0x05, 0x05)  // else
	fill(end, 0x0b, 0x0b)
	fill(number, 0x0c, 0x0d) // br, br_if
	fill(table, 0x0e, 0x0e)
	fill(none, 0x0f, 0x0f)    // return
	fill(number, 0x10, 0x10)  // call
	fill(numbers, 0x11, 0x11) // call_indirect
	fill(none, 0x1a, 0x1b)    // drop, select
	fill(types, 0x1c, 0x1c)   // select of a type
	fill(number, 0x20, 0x26)  // local, global, table.get and table.set
	fill(numbers, 0x28, 0x3e) // loads and stores: alignment, offset
	fill(number, 0x3f, 0x42)  // memory.size, memory.grow, i32.const, i64.const
	fill(bytes4, 0x43, 0x43)
	fill(bytes8, 0x44, 0x44)
	fill(none, 0x45, 0xc4)   // arithmetic, and sign extension
	fill(number, 0xd0, 0xd0) // ref.null
	fill(none, 0xd1, 0xd1)   // ref.is_null
	fill(number, 0xd2, 0xd2) // ref.func
	fill(secondary, 0xfc, 0xfc)
	return o
}()

// secondaryOperands is how many numbers follow an opcode after 0xfc: none
// after the saturating conversions, then bulk memory and tables.
var secondaryOperands = [18]byte{8: 2, 9: 1, 10: 2, 11: 1, 12: 2, 13: 1, 14: 2, 15: 1, 16: 1, 17: 1}

// nesting is how deep the code of one function has blocks in each other.
type nesting struct {
	stack []bool // of the open blocks: whether it is a loop
	loops int    // how many of them are
}

// walk reads code until its end, or until a bound is crossed, which it names;
// "" is for none. whole says whether the code ended where its last block does.
//
// It looks at no more than it must to know where an instruction ends. At one that
// it does not know it stops, and so does the compiler, before it does any of the
// work that nesting makes costly: it translates a function from the front, and
// refuses it there.
func (n *nesting) walk(code []byte) (bound string, whole bool) {
	n.stack, n.loops = append(n.stack[:0], false), 0 // the function is a block
	r := &reader{b: code}
	for !r.bad {
		switch op := r.byte(); operands[op] {
		case unknown:
			return "", false
		case number:
			r.leb()
		case numbers:
			r.leb()
			r.leb()
		case block, loop:
			r.leb()
			isLoop := operands[op] == loop
			n.stack = append(n.stack, isLoop)
			if isLoop {
				n.loops++
			}
			if len(n.stack)-1 > bounds.Nesting {
				return "nesting", false
			}
			if n.loops > bounds.Loops {
				return "loops", false
			}
		case end:
			last := len(n.stack) - 1
			if n.stack[last] {
				n.loops--
			}
			n.stack = n.stack[:last]
			if last == 0 {
				return "", !r.bad && len(r.b) == 0
			}
		case table:
			for range r.u32() {
				if r.leb(); r.bad {
					break
				}
			}
			r.leb()
		case types:
			r.bytes(r.u32())
		case bytes4:
			r.bytes(4)
		case bytes8:
			r.bytes(8)
		case secondary:
			op := r.u32()
			if op >= uint32(len(secondaryOperands)) {
				return "", false
			}
			for range secondaryOperands[op] {
				r.leb()
			}
		}
	}
	return "", false
}

// leb skips a LEB128 number of any size and sign.
func (r *reader) leb() {
	for i, c := range r.b[:min(len(r.b), binary.MaxVarintLen64)] {
		if c < 0x80 {
			r.b = r.b[i+1:]
			return
		}
	}
	r.fail()
}

package oracle

import "strings"

// A valType is a value type, by the byte it has in a module.
type valType byte

const (
	i32     valType = 0x7f
	i64     valType = 0x7e
	f32     valType = 0x7d
	f64     valType = 0x7c
	funcRef valType = 0x70
)

var numTypes = []valType{i32, i64, f32, f64}

func (t valType) String() string {
	return map[valType]string{i32: "i32", i64: "i64", f32: "f32", f64: "f64", funcRef: "funcref"}[t]
}

// An opcode is an instruction without its immediates. params and results are
// those of numeric instructions; memory instructions have the type they load
// or store, and the bytes they touch.
type opcode struct {
	code    []byte
	params  []valType
	results []valType
	access  valType
	width   uint32
}

// opcodes are all that the generator knows, by name (core specification, §5.4).
var opcodes = func() map[string]opcode {
	m := map[string]opcode{}
	for i, name := range strings.Fields("unreachable nop block loop if else") {
		m[name] = opcode{code: []byte{byte(i)}}
	}
	for i, name := range strings.Fields("end br br_if br_table return call call_indirect") {
		m[name] = opcode{code: []byte{0x0b + byte(i)}}
	}
	m["drop"], m["select"], m["select_t"] = opcode{code: []byte{0x1a}}, opcode{code: []byte{0x1b}}, opcode{code: []byte{0x1c}}
	for i, name := range strings.Fields("local.get local.set local.tee global.get global.set table.get table.set") {
		m[name] = opcode{code: []byte{0x20 + byte(i)}}
	}
	memory(m, 0x28, "i32.load/4 i64.load/8 f32.load/4 f64.load/8 i32.load8_s/1 i32.load8_u/1 i32.load16_s/2 i32.load16_u/2 "+
		"i64.load8_s/1 i64.load8_u/1 i64.load16_s/2 i64.load16_u/2 i64.load32_s/4 i64.load32_u/4 "+
		"i32.store/4 i64.store/8 f32.store/4 f64.store/8 i32.store8/1 i32.store16/2 i64.store8/1 i64.store16/2 i64.store32/4")
	for i, name := range strings.Fields("memory.size memory.grow i32.const i64.const f32.const f64.const") {
		m[name] = opcode{code: []byte{0x3f + byte(i)}}
	}
	numeric(m, nil, 0x45, numbers)
	for i, name := range strings.Fields("ref.null ref.is_null ref.func") {
		m[name] = opcode{code: []byte{0xd0 + byte(i)}}
	}
	numeric(m, []byte{0xfc}, 0, saturating)
	for i, name := range strings.Fields("memory.init data.drop memory.copy memory.fill table.init elem.drop table.copy table.grow table.size table.fill") {
		m[name] = opcode{code: []byte{0xfc, 8 + byte(i)}}
	}
	return m
}()

// numbers are the instructions from 0x45 on, in order: names, then their
// type with i, I, f, F for i32, i64, f32, f64.
const numbers = `
i32: eqz i>i; eq ne lt_s lt_u gt_s gt_u le_s le_u ge_s ge_u ii>i
i64: eqz I>i; eq ne lt_s lt_u gt_s gt_u le_s le_u ge_s ge_u II>i
f32: eq ne lt gt le ge ff>i
f64: eq ne lt gt le ge FF>i
i32: clz ctz popcnt i>i; add sub mul div_s div_u rem_s rem_u and or xor shl shr_s shr_u rotl rotr ii>i
i64: clz ctz popcnt I>I; add sub mul div_s div_u rem_s rem_u and or xor shl shr_s shr_u rotl rotr II>I
f32: abs neg ceil floor trunc nearest sqrt f>f; add sub mul div min max copysign ff>f
f64: abs neg ceil floor trunc nearest sqrt F>F; add sub mul div min max copysign FF>F
i32: wrap_i64 I>i; trunc_f32_s trunc_f32_u f>i; trunc_f64_s trunc_f64_u F>i
i64: extend_i32_s extend_i32_u i>I; trunc_f32_s trunc_f32_u f>I; trunc_f64_s trunc_f64_u F>I
f32: convert_i32_s convert_i32_u i>f; convert_i64_s convert_i64_u I>f; demote_f64 F>f
f64: convert_i32_s convert_i32_u i>F; convert_i64_s convert_i64_u I>F; promote_f32 f>F
i32: reinterpret_f32 f>i
i64: reinterpret_f64 F>I
f32: reinterpret_i32 i>f
f64: reinterpret_i64 I>F
i32: extend8_s extend16_s i>i
i64: extend8_s extend16_s extend32_s I>I`

const saturating = `
i32: trunc_sat_f32_s trunc_sat_f32_u f>i; trunc_sat_f64_s trunc_sat_f64_u F>i
i64: trunc_sat_f32_s trunc_sat_f32_u f>I; trunc_sat_f64_s trunc_sat_f64_u F>I`

func numeric(m map[string]opcode, prefix []byte, first byte, table string) {
	types := func(s string) (ts []valType) {
		for _, c := range s {
			ts = append(ts, numTypes[strings.IndexRune("iIfF", c)])
		}
		return ts
	}
	for line := range strings.Lines(strings.TrimSpace(table)) {
		of, groups, _ := strings.Cut(strings.TrimSpace(line), ": ")
		for group := range strings.SplitSeq(groups, "; ") {
			words := strings.Fields(group)
			names, sig := words[:len(words)-1], words[len(words)-1]
			params, results, _ := strings.Cut(sig, ">")
			for _, n := range names {
				m[of+"."+n] = opcode{code: append(prefix[:len(prefix):len(prefix)], first), params: types(params), results: types(results)}
				first++
			}
		}
	}
}

func memory(m map[string]opcode, first byte, table string) {
	for _, f := range strings.Fields(table) {
		name, width, _ := strings.Cut(f, "/")
		for _, t := range numTypes {
			if strings.HasPrefix(name, t.String()) {
				m[name] = opcode{code: []byte{first}, access: t, width: uint32(width[0] - '0')}
			}
		}
		first++
	}
}

// Opcodes are the names of the instructions that the generator knows.
func Opcodes() []string {
	var names []string
	for n := range opcodes {
		names = append(names, n)
	}
	return names
}

package hostile

import (
	"bytes"
	"encoding/binary"
	"slices"
	"strings"

	"github.com/liop-project/liop/core/fault"
)

// hostCalls are generated attacks on the functions that a node provides: each
// function is called with every pointer, length and descriptor that a careless
// host would believe.
func hostCalls() []Attack {
	refuses := denied.or("ends with a trap", Refusal{fault.ModuleFailed, "trap"})
	ended := exited.or("with a trap", Refusal{fault.ModuleFailed, "trap"})
	list := []Attack{
		{Name: "pointers-file", Class: HostCall, What: "reads a file to where no memory is", Wasm: committedModule("pointers-file"),
			Runs: numbers(fileProbes), Expect: refuses},
		{Name: "read-huge", Class: HostCall, What: "reads a file into 2 GiB that it does not have", Wasm: committedModule("read-huge"),
			Runs: numbers(8), Expect: refuses},
	}
	for _, f := range wasi {
		n := len(f.probes())
		list = append(list, Attack{Name: "pointers-" + strings.ReplaceAll(f.name, "_", "-"), Class: HostCall,
			What: "calls " + f.name + " with pointers to where no memory is", Wasm: f.wasm, Runs: numbers(n),
			Inputs: map[string][]byte{"k": make([]byte, 256)}, Expect: refuses})
	}
	for _, c := range []struct {
		name string
		code int32
		want Expect
	}{
		{"exit-1", 1, exited},
		{"exit-255", 255, ended}, // this engine traps above 125
		{"exit-256", 256, ended}, // 0 where a host keeps one byte
		{"exit-min", -1 << 31, ended},
		{"exit-max", -1, ended},
	} {
		list = append(list, Attack{Name: c.name, Class: HostCall, What: "exits with a code that is not 0", Expect: c.want,
			Wasm: func() []byte { return exits(c.code) }})
	}
	const preview1 = "wasi_snapshot_preview1"
	for _, c := range []struct{ name, what, module, field, desc string }{
		{"import-unknown", "a function that WASI does not have", preview1, "fd_exec", "\x00\x00"},
		{"import-old", "an older WASI", "wasi_unstable", "proc_exit", "\x00\x00"},
		{"import-new", "a newer WASI", "wasi:cli/exit@0.2.0", "exit", "\x00\x00"},
		{"import-nothing", "a function without a name", "", "", "\x00\x00"},
		{"import-memory", "a memory", preview1, "memory", "\x02\x00\x01"},
		{"import-table", "a table", preview1, "table", "\x01\x70\x00\x01"},
		{"import-global", "a global", preview1, "global", "\x03\x7f\x01"},
		{"import-long-name", "a function with a name of 1 MiB", preview1, strings.Repeat("x", 1<<20), "\x00\x00"},
		{"import-control-bytes", "a function whose name would clear a terminal", preview1, "\x1b[2J\r\n", "\x00\x00"},
	} {
		list = append(list, Attack{Name: c.name, Class: HostCall, What: "imports " + c.what, Expect: noImport, Wasm: func() []byte {
			return command(parts{imports: vec(importOf(c.module, c.field, []byte(c.desc)))}).encode()
		}})
	}
	list = append(list, Attack{Name: "import-signature", Class: HostCall, What: "imports fd_write as a function of another type",
		Expect: refused("cannot be instantiated", Refusal{fault.ModuleInvalid, "instantiate"}),
		Wasm: func() []byte {
			return command(parts{
				imports: vec(wasiImport("fd_write", 0)),
				exports: vec(exported("memory", 2, 0), exported("_start", 0, 1)),
			}).encode()
		}})
	return append(list, traps()...)
}

// exits is a module that calls proc_exit.
func exits(code32 int32) []byte {
	return command(parts{
		types:   vec(functionType("", ""), functionType("i", "")),
		imports: vec(wasiImport("proc_exit", 1)),
		exports: vec(exported("memory", 2, 0), exported("_start", 0, 1)),
		code:    vec(body(0, 0, i32const(code32), call(0))),
	}).encode()
}

// traps are single instructions that cannot be executed.
func traps() []Attack {
	zero, one := i32const(0), i32const(1)
	var list []Attack
	for _, c := range []struct {
		name, what string
		class      Class
		code       [][]byte
	}{
		{"divide-by-zero", "divides by zero", CPU, [][]byte{one, zero, op(0x6d, 0x1a)}},
		{"divide-overflow", "divides the smallest integer by -1", CPU, [][]byte{i32const(-1 << 31), i32const(-1), op(0x6d, 0x1a)}},
		{"convert-nan", "makes an integer of a number that is none", CPU, [][]byte{op(0x43, 0, 0, 0xc0, 0x7f, 0xa8, 0x1a)}},
		{"call-null", "calls through an empty entry of a table", CPU, [][]byte{one, op(0x11, 0, 0)}},
		{"call-past-end", "calls through a table, past its end", CPU, [][]byte{i32const(-1), op(0x11, 0, 0)}},
		{"call-signature", "calls a function through a table as if it were of another type", CPU, [][]byte{zero, op(0x11, 1, 0, 0x1a)}},
		{"load-past-end", "reads past the end of its memory", Memory, [][]byte{i32const(65536 - 7), op(0x29, 0, 0, 0x1a)}},
		{"load-far", "reads at the last address, 4 GiB further on", Memory,
			[][]byte{i32const(-1), op(0x29, 0, 0xff, 0xff, 0xff, 0xff, 0x0f, 0x1a)}},
		{"store-past-end", "writes past the end of its memory", Memory, [][]byte{i32const(-8), i64const(-1), op(0x37, 0, 0)}},
		{"fill-past-end", "fills memory past its end", Memory, [][]byte{one, one, i32const(65536), op(0xfc, 11, 0)}},
		{"copy-past-end", "copies memory from past its end", Memory, [][]byte{zero, i32const(-1), i32const(2), op(0xfc, 10, 0, 0)}},
	} {
		list = append(list, Attack{Name: c.name, Class: c.class, What: c.what, Expect: trapped, Wasm: func() []byte {
			return command(parts{
				types:    vec(functionType("", ""), functionType("", "i")),
				tables:   vec([]byte{0x70, 0, 2}),
				elements: vec(slices.Concat([]byte{0}, zero, op(0x0b), vec(uleb(0)))),
				code:     vec(body(0, 0, c.code...)),
			}).encode()
		}})
	}
	return list
}

// function is a function of WASI preview 1: its name, and its parameters, one
// word each:
//
//	f  a descriptor, 3 (the first dataset) or another one that is given
//	N  a pointer to N bytes that are read or written
//	b  a pointer and a length of bytes that are read
//	w  a pointer and a length of bytes that are written, as many as are needed
//	v  a pointer and a number of vectors to read into
//	s  a number of subscriptions
//	i, I  another 32-bit or 64-bit number
type function struct{ name, params string }

var wasi = []function{
	{"args_get", "8 16"}, {"args_sizes_get", "4 4"}, {"environ_sizes_get", "4 4"}, {"environ_get", "i i"}, // there is no environment
	{"clock_res_get", "i 8"}, {"clock_time_get", "i I 8"}, {"random_get", "b"}, {"poll_oneoff", "48 32 s 4"},
	{"fd_advise", "f I I i"}, {"fd_allocate", "f I I"}, {"fd_close", "f"}, {"fd_datasync", "f"}, {"fd_fdstat_get", "f 24"},
	{"fd_fdstat_set_flags", "f i"}, {"fd_fdstat_set_rights", "f I I"}, {"fd_filestat_get", "f 64"}, {"fd_filestat_set_size", "f I"},
	{"fd_filestat_set_times", "f I I i"}, {"fd_pread", "f v I 4"}, {"fd_prestat_get", "f 8"}, {"fd_prestat_dir_name", "f w"},
	{"fd_pwrite", "f v I 4"}, {"fd_read", "f0 v 4"}, {"fd_readdir", "f w I 4"}, {"fd_renumber", "f f0"}, {"fd_seek", "f I i 8"},
	{"fd_sync", "f"}, {"fd_tell", "f 8"}, {"fd_write", "f1 v 4"}, {"path_create_directory", "f b"}, {"path_filestat_get", "f i b 64"},
	{"path_filestat_set_times", "f i b I I i"}, {"path_link", "f i b f b"}, {"path_open", "f i b i I I i 4"},
	{"path_readlink", "f b w 4"}, {"path_remove_directory", "f b"}, {"path_rename", "f b f b"}, {"path_symlink", "b f b"},
	{"path_unlink_file", "f b"}, {"proc_raise", "i"}, {"sched_yield", ""},
}

// fileProbes is how many calls pointers-file.c makes, by the number of its
// arguments.
const fileProbes = 14

// probe is one call: the values of its parameters. If strict, it must not
// succeed; otherwise it may, and only must not harm the host.
type probe struct {
	values []int64
	strict bool
}

// Where things are in the memory of a generated module, which has one page.
const (
	page      = 65536
	textAt    = 0     // a vector, and what is written if a call succeeds
	dotAt     = 64    // "."
	vectorsAt = 128   // one good vector, then bad ones
	argcAt    = 512   // number of arguments, and their length
	bufferAt  = 4096  // good buffers
	outAt     = 16384 // good pointers; zeros are a clock to wait for that has passed
)

var (
	badVectors = [][2]uint32{{0xffffffff, 2}, {page - 16, 17}, {1 << 31, 1 << 31}, {page, 1}}
	longVector = [2]uint32{bufferAt, 0xffffffff}
)

// probes are all calls of f that are tried: with one bad value each, and with
// numbers at their extremes.
func (f function) probes() []probe {
	var good []int64
	var bad []func([]int64) []probe // of one parameter each
	for n, word := range strings.Fields(f.params) {
		at := len(good)
		replace := func(strict bool, width int, values ...int64) {
			bad = append(bad, func(good []int64) (ps []probe) {
				for v := range slices.Chunk(values, width) {
					p := probe{slices.Clone(good), strict}
					copy(p.values[at:], v)
					ps = append(ps, p)
				}
				return ps
			})
		}
		out := int64(outAt + 1024*n)
		switch word[0] {
		case 'f':
			fd := int64(3)
			if len(word) > 1 {
				fd = int64(word[1] - '0')
			}
			good = append(good, fd)
			replace(true, 1, -1, 1<<31-1, -1<<31, 1000)
		case 'b':
			good = append(good, dotAt, 1)
			replace(true, 2, page-31, 32, page-1, 2, page, 1, -1, 2, -16, 32, 1, page, 0, -1, 1<<31, 1<<31)
		case 'w':
			// Sizes that reach too far may go unnoticed if what is written does not.
			good = append(good, bufferAt, 64)
			replace(true, 2, page-1, 32, page, 1, -1, 32, -16, 32, 1<<31, 1<<31)
			replace(false, 2, page-31, 32, bufferAt, page, bufferAt, -1, bufferAt, 1<<31)
		case 'v':
			good = append(good, vectorsAt, 1)
			replace(true, 2, page-7, 1, -8, 1, -1, 1)
			for i := range badVectors {
				replace(true, 2, int64(vectorsAt+8*(i+1)), 1)
			}
			// So may vectors after the first, and the end of one that is not filled.
			replace(false, 2, vectorsAt, 1<<29, vectorsAt, -1, vectorsAt, 1<<31, vectorsAt+8*int64(len(badVectors)+1), 1)
		case 's':
			good = append(good, 1)
			replace(true, 1, 0, 65, 1<<27, 0x05555556, 1<<31, -1)
		case 'i':
			good = append(good, 0)
			replace(false, 1, -1, 1<<31-1, -1<<31, 255)
		case 'I':
			good = append(good, 0)
			replace(false, 1, -1, 1<<63-1, -1<<63)
		default:
			size := int64(0)
			for _, c := range word {
				size = size*10 + int64(c-'0')
			}
			good = append(good, out)
			replace(true, 1, page-size+1, page, -size, -1, 1<<31)
		}
	}
	all := []probe{{good, false}}
	for _, b := range bad {
		all = append(all, b(good)...)
	}
	if f.name == "proc_raise" || f.name == "path_symlink" || f.name == "path_link" || f.name == "path_rename" {
		for i := range all { // not even with good values
			all[i].strict = true
		}
	}
	return all
}

// signature is f's type as functionType wants it.
func (f function) signature() string {
	var s string
	for _, word := range strings.Fields(f.params) {
		switch word[0] {
		case 'b', 'w', 'v':
			s += "ii"
		case 'I':
			s += "I"
		default:
			s += "i"
		}
	}
	return s
}

// wasm is a module that makes the probe whose number is that of its arguments.
// It exits with code 13 if the call fails, or may succeed, and answers
// "ACCEPTED" otherwise.
func (f function) wasm() []byte {
	const text = "ACCEPTED\n"
	memory := make([]byte, 256)
	binary.LittleEndian.PutUint32(memory[textAt:], textAt+8)
	binary.LittleEndian.PutUint32(memory[textAt+4:], uint32(len(text)))
	copy(memory[textAt+8:], text)
	memory[dotAt] = '.'
	for i, v := range slices.Concat([][2]uint32{{bufferAt, 64}}, badVectors, [][2]uint32{longVector}) {
		binary.LittleEndian.PutUint32(memory[vectorsAt+8*i:], v[0])
		binary.LittleEndian.PutUint32(memory[vectorsAt+8*i+4:], v[1])
	}

	sig := f.signature()
	const target, write, argSizes, exit, main = 0, 1, 2, 3, 4
	instructions := [][]byte{i32const(argcAt), i32const(argcAt + 4), call(argSizes), op(0x1a)}
	for n, p := range f.probes() {
		// if argc == n+1: argv[0] is always there
		instructions = append(instructions, i32const(argcAt), op(0x28, 2, 0), i32const(int32(n+1)), op(0x46, 0x04, 0x40))
		for i, v := range p.values {
			if sig[i] == 'I' {
				instructions = append(instructions, i64const(v))
			} else {
				instructions = append(instructions, i32const(int32(v)))
			}
		}
		instructions = append(instructions, call(target))
		if p.strict { // if errno == 0: write the text and return
			instructions = append(instructions, op(0x45, 0x04, 0x40),
				i32const(1), i32const(textAt), i32const(1), i32const(argcAt), call(write), op(0x1a, 0x0f, 0x0b))
		} else {
			instructions = append(instructions, op(0x1a))
		}
		instructions = append(instructions, i32const(13), call(exit), op(0x0b))
	}
	return command(parts{
		types:    vec(functionType("", ""), functionType(sig, "i"), functionType("iiii", "i"), functionType("ii", "i"), functionType("i", "")),
		imports:  vec(wasiImport(f.name, 1), wasiImport("fd_write", 2), wasiImport("args_sizes_get", 3), wasiImport("proc_exit", 4)),
		memories: vec([]byte{1, 1, 1}),
		exports:  vec(exported("memory", 2, 0), exported("_start", 0, main)),
		code:     vec(body(0, 0, instructions...)),
		data:     vec(slices.Concat([]byte{0}, i32const(0), op(0x0b), sized(bytes.TrimRight(memory, "\x00")))),
	}).encode()
}

// numbers are n argument lists, of which each has one argument more.
func numbers(n int) [][]string {
	runs := make([][]string, n)
	for i := range runs {
		runs[i] = slices.Repeat([]string{"x"}, i)
	}
	return runs
}

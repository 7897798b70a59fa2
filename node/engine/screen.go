package engine

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"github.com/liop-project/liop/core/fault"
	"github.com/liop-project/liop/node/bounds"
)

// wasiFunctions are the imports a module may have, all of
// wasi_snapshot_preview1: everything but sockets.
var wasiFunctions = set(
	"args_get", "args_sizes_get", "environ_get", "environ_sizes_get",
	"clock_res_get", "clock_time_get", "random_get", "poll_oneoff",
	"proc_exit", "proc_raise", "sched_yield",
	"fd_advise", "fd_allocate", "fd_close", "fd_datasync", "fd_fdstat_get",
	"fd_fdstat_set_flags", "fd_fdstat_set_rights", "fd_filestat_get",
	"fd_filestat_set_size", "fd_filestat_set_times", "fd_pread",
	"fd_prestat_get", "fd_prestat_dir_name", "fd_pwrite", "fd_read",
	"fd_readdir", "fd_renumber", "fd_seek", "fd_sync", "fd_tell", "fd_write",
	"path_create_directory", "path_filestat_get", "path_filestat_set_times",
	"path_link", "path_open", "path_readlink", "path_remove_directory",
	"path_rename", "path_symlink", "path_unlink_file",
)

func set(names ...string) map[string]bool {
	m := make(map[string]bool, len(names))
	for _, n := range names {
		m[n] = true
	}
	return m
}

// Screen looks at a module's sections, and at its code as far as to see how
// deep it is nested, and refuses what this node would refuse later at a higher
// price: it is not WebAssembly, imports what does not exist here, lacks what a
// wasip1 command has, or is made of more parts than package bounds allows.
// memory is what its linear memory may grow to, in bytes. Errors are
// *fault.Error with code ModuleInvalid or LimitMemory.
//
// The format is the WebAssembly core specification, §5.5 (modules). Validation
// proper is the compiler's.
func Screen(wasm []byte, memory uint64) error {
	if len(wasm) > bounds.Module {
		return invalid("module size", fmt.Sprintf("the module has %d bytes", len(wasm)), fmt.Sprintf("at most %d are accepted", bounds.Module))
	}
	if !bytes.HasPrefix(wasm, []byte("\x00asm")) {
		return invalid("magic", "this is not a WebAssembly module", "send a .wasm file in binary form")
	}
	if len(wasm) < 8 || binary.LittleEndian.Uint32(wasm[4:]) != 1 {
		return invalid("version", "this is not a WebAssembly core module of version 1",
			"build for wasip1; components and WASI preview 2 are not supported")
	}
	s := &screen{memory: memory, exports: map[string]byte{}}
	r := &reader{b: wasm[8:]}
	var last byte
	for len(r.b) > 0 {
		id := r.byte()
		body := &reader{b: r.bytes(r.u32())}
		if r.bad {
			return truncated()
		}
		if id != 0 {
			// Data count (12) stands between element (9) and code (10).
			if rank := sectionRank(id); rank == 0 || rank <= last {
				return invalid("sections", fmt.Sprintf("section %d is unknown or out of order", id), "rebuild the module")
			} else {
				last = rank
			}
		}
		if err := s.section(id, body); err != nil {
			return err
		}
		if body.bad {
			return truncated()
		}
	}
	return s.finish()
}

type screen struct {
	memory   uint64
	memories uint32
	exports  map[string]byte // kind
}

func sectionRank(id byte) byte {
	const order = "\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0c\x0a\x0b"
	return byte(bytes.IndexByte([]byte(order), id) + 1)
}

func (s *screen) section(id byte, r *reader) error {
	if id == 0 || id == 8 || id == 12 { // custom, start, data count
		return nil
	}
	n := r.u32()
	limits := map[byte]struct {
		what string
		max  uint32
	}{
		1: {"types", bounds.Types}, 2: {"imports", bounds.Imports}, 3: {"functions", bounds.Functions},
		4: {"tables", bounds.Tables}, 5: {"memories", bounds.Memories}, 6: {"globals", bounds.Globals}, 7: {"exports", bounds.Exports},
		9: {"element segments", bounds.ElementSegments}, 10: {"function bodies", bounds.Functions}, 11: {"data segments", bounds.DataSegments},
	}
	if l := limits[id]; n > l.max {
		return invalid(l.what, fmt.Sprintf("the module has %d %s", n, l.what), fmt.Sprintf("at most %d are accepted", l.max))
	}
	switch id {
	case 2:
		return s.imports(r, n)
	case 4:
		return s.tables(r, n)
	case 5:
		return s.memorySection(r, n)
	case 7:
		for range n {
			name := string(r.bytes(r.u32()))
			s.exports[name] = r.byte()
			r.u32()
		}
	case 10:
		return s.code(r, n)
	}
	return nil
}

func (s *screen) imports(r *reader, n uint32) error {
	for range n {
		module, name := string(r.bytes(r.u32())), string(r.bytes(r.u32()))
		kind := r.byte()
		if r.bad {
			return nil // the caller reports it
		}
		if module != "wasi_snapshot_preview1" || !wasiFunctions[name] || kind != 0 {
			return invalid("imports", fmt.Sprintf("the module imports %q.%q, which does not exist here", clip(module), clip(name)),
				"import functions of wasi_snapshot_preview1 only, without sockets")
		}
		r.u32() // type index
	}
	return nil
}

func (s *screen) tables(r *reader, n uint32) error {
	for range n {
		typ, flags, least := r.byte(), r.byte(), r.u32()
		if typ != 0x70 && typ != 0x6f || flags > 1 {
			return nil // another form of table, which the compiler refuses
		}
		if flags == 1 {
			r.u32() // most
		}
		if r.bad {
			return nil
		}
		if least > bounds.TableElements {
			return invalid("tables", fmt.Sprintf("the module has a table of %d elements", least),
				fmt.Sprintf("at most %d are accepted", bounds.TableElements))
		}
	}
	return nil
}

func (s *screen) memorySection(r *reader, n uint32) error {
	s.memories = n
	for range n {
		flags, pages := r.byte(), r.u32()
		if r.bad {
			return nil
		}
		if flags > 1 {
			return invalid("memory", "the module's memory is shared or 64-bit", "build without threads and memory64")
		}
		if need := uint64(pages) << 16; need > s.memory {
			return &fault.Error{Code: fault.LimitMemory, Rule: "limits.memory_bytes", Owner: fault.Grant,
				Message: fmt.Sprintf("the module starts with %d bytes of memory, the session allows %d", need, s.memory),
				Hint:    "ask for a grant with a larger memory_bytes"}
		}
	}
	return nil
}

func (s *screen) code(r *reader, n uint32) error {
	var deep nesting
	for i := range n {
		body := &reader{b: r.bytes(r.u32())}
		if r.bad {
			return nil
		}
		if len(body.b) > bounds.FunctionBytes {
			return invalid("function size", fmt.Sprintf("function body %d has %d bytes", i, len(body.b)),
				fmt.Sprintf("at most %d are accepted", bounds.FunctionBytes))
		}
		var locals uint64
		for range body.u32() {
			if locals += uint64(body.u32()); body.bad || locals > bounds.Locals {
				break
			}
			body.byte() // type; a reference type with more bytes is refused by the compiler
		}
		if body.bad {
			return truncated()
		}
		if locals > bounds.Locals {
			return invalid("locals", fmt.Sprintf("function body %d declares more than %d locals", i, bounds.Locals), "use smaller functions")
		}
		switch bound, _ := deep.walk(body.b); bound {
		case "nesting":
			return invalid(bound, fmt.Sprintf("function body %d has more than %d blocks in each other", i, bounds.Nesting), "use smaller functions")
		case "loops":
			return invalid(bound, fmt.Sprintf("function body %d has more than %d loops in each other", i, bounds.Loops), "use smaller functions")
		}
	}
	return nil
}

func (s *screen) finish() error {
	if kind, ok := s.exports["_start"]; !ok || kind != 0 {
		return invalid("exports", "the module exports no function _start", "build it as a command (a program with main), not as a library")
	}
	if kind, ok := s.exports["memory"]; !ok || kind != 2 || s.memories != 1 {
		return invalid("exports", `the module does not export its memory as "memory"`, "build it as a wasip1 command")
	}
	return nil
}

func invalid(rule, msg, hint string) error {
	return &fault.Error{Code: fault.ModuleInvalid, Rule: rule, Owner: fault.Node, Message: msg, Hint: hint}
}

func truncated() error {
	return invalid("sections", "the module is truncated or malformed", "send the whole .wasm file")
}

// clip bounds a name that comes from the module before it is repeated.
func clip(s string) string { return s[:min(len(s), 64)] }

// reader reads a prefix of b; once bad it stays bad and gives zeros.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) fail() { r.b, r.bad = nil, true }

func (r *reader) byte() byte {
	if len(r.b) == 0 {
		r.fail()
		return 0
	}
	c := r.b[0]
	r.b = r.b[1:]
	return c
}

// u32 reads an unsigned LEB128 number of at most 5 bytes (core spec §5.2.2).
func (r *reader) u32() uint32 {
	v, n := binary.Uvarint(r.b[:min(len(r.b), 5)])
	if n <= 0 || v > 1<<32-1 {
		r.fail()
		return 0
	}
	r.b = r.b[n:]
	return uint32(v)
}

func (r *reader) bytes(n uint32) []byte {
	if uint64(n) > uint64(len(r.b)) {
		r.fail()
		return nil
	}
	p := r.b[:n]
	r.b = r.b[n:]
	return p
}

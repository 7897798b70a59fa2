//go:build cgo

package sandbox

// #include "shim.h"
import "C"

import (
	"fmt"
	"time"
	"unsafe"

	wasmtime "github.com/bytecodealliance/wasmtime-go/v39" // brings the link flags too
)

// stream collects what a guest writes, up to a hard cap. It must be freed
// after the store that writes to it is closed, not before.
type stream struct{ b *C.liop_buf }

// newStream makes a stream of at most limit bytes. A guest that writes more is
// interrupted by the epoch of stop; without one, the rest is forgotten.
func newStream(limit int, stop *wasmtime.Engine) stream {
	var engine unsafe.Pointer
	if stop != nil {
		engine = enginePtr(stop)
	}
	b := C.liop_buf_new(C.size_t(limit), engine)
	if b == nil {
		panic("out of memory")
	}
	return stream{b}
}

// bytes is the stream's content without a copy, valid until free; never nil.
func (s stream) bytes() []byte {
	if s.b.len == 0 {
		return []byte{}
	}
	return unsafe.Slice((*byte)(unsafe.Pointer(s.b.p)), int(s.b.len))
}

func (s stream) over() bool { return s.b.over != 0 }
func (s stream) free()      { C.liop_buf_free(s.b) }

// deadlineTrap is the message of the trap by which poll_oneoff ends a guest.
const deadlineTrap = C.LIOP_DEADLINE

// The C pointer is the first, unexported field of WasiConfig, Linker and
// Engine; shim_test.go checks that.
func wasiPtr(c *wasmtime.WasiConfig) unsafe.Pointer { return *(*unsafe.Pointer)(unsafe.Pointer(c)) }
func enginePtr(e *wasmtime.Engine) unsafe.Pointer   { return *(*unsafe.Pointer)(unsafe.Pointer(e)) }
func linkerPtr(l *wasmtime.Linker) unsafe.Pointer   { return *(*unsafe.Pointer)(unsafe.Pointer(l)) }

// These come before Store.SetWasi, which consumes the WasiConfig.
func setStdout(c *wasmtime.WasiConfig, s stream) { C.liop_set_stdout(wasiPtr(c), s.b) }
func setStderr(c *wasmtime.WasiConfig, s stream) { C.liop_set_stderr(wasiPtr(c), s.b) }

func setStdin(c *wasmtime.WasiConfig, p []byte) {
	if len(p) == 0 {
		p = make([]byte, 0, 1) // the C API wants a pointer even for nothing
	}
	C.liop_set_stdin(wasiPtr(c), unsafe.Pointer(unsafe.SliceData(p)), C.size_t(len(p)))
}

// host is what the shadowed WASI functions know: the run's deadline.
type host struct{ h *C.liop_host }

func newHost() host { return host{C.liop_host_new()} }

func (h host) setDeadline(d time.Duration) { C.liop_host_deadline(h.h, C.uint64_t(d.Nanoseconds())) }

// define replaces the WASI functions that block or tell too much.
func (h host) define(l *wasmtime.Linker) error {
	l.AllowShadowing(true)
	if name := C.liop_define_host(linkerPtr(l), h.h); name != nil {
		return fmt.Errorf("define host function %s", C.GoString(name))
	}
	return nil
}

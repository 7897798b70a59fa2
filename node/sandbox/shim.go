//go:build cgo

package sandbox

// #include "shim.h"
import "C"

import (
	"errors"
	"fmt"
	"time"
	"unsafe"

	wasmtime "github.com/bytecodealliance/wasmtime-go/v39" // brings the link flags too

	"github.com/liop-project/liop/node/bounds"
)

// deadlineTrap is the message of the trap by which poll_oneoff ends a guest.
const deadlineTrap = C.LIOP_DEADLINE

// The C pointer is the first, unexported field of WasiConfig, Config,
// Linker and Engine; shim_test.go checks that.
func wasiPtr(c *wasmtime.WasiConfig) unsafe.Pointer { return *(*unsafe.Pointer)(unsafe.Pointer(c)) }
func enginePtr(e *wasmtime.Engine) unsafe.Pointer   { return *(*unsafe.Pointer)(unsafe.Pointer(e)) }
func configPtr(c *wasmtime.Config) unsafe.Pointer   { return *(*unsafe.Pointer)(unsafe.Pointer(c)) }
func linkerPtr(l *wasmtime.Linker) unsafe.Pointer   { return *(*unsafe.Pointer)(unsafe.Pointer(l)) }

// keepMemory has an engine use the same linear memory and tables for one run
// after the other: what a run touched, up to bounds.Resident, is zeroed instead
// of unmapped.
func keepMemory(c *wasmtime.Config) {
	C.liop_keep_memory(configPtr(c), C.liop_pool{
		instances:      bounds.Instances,
		memories:       bounds.Memories,
		tables:         bounds.Tables,
		table_elements: bounds.TableElements,
		instance_size:  bounds.InstanceSize,
		resident:       bounds.Resident,
	})
}

// setStdin comes before Store.SetWasi, which consumes the WasiConfig.
func setStdin(c *wasmtime.WasiConfig, p []byte) {
	if len(p) == 0 {
		p = make([]byte, 0, 1) // the C API wants a pointer even for nothing
	}
	C.liop_set_stdin(wasiPtr(c), unsafe.Pointer(unsafe.SliceData(p)), C.size_t(len(p)))
}

// host is what the shadowed WASI functions know: where the guest's output goes,
// and the alarm that ends a run at its deadline. There is one in a process.
type host struct{ h *C.liop_host }

// newHost may be called once in a process; setEngine must follow.
func newHost() (host, error) {
	h := C.liop_host_new(C.liop_bounds{
		tick_ns:       C.uint64_t(bounds.ClockTick),
		random:        bounds.Random,
		subscriptions: bounds.Subscriptions,
		iovecs:        bounds.IOVectors,
		read:          bounds.Read,
	})
	if h == nil {
		return host{}, errors.New("set up the alarm for deadlines")
	}
	return host{h}, nil
}

// setEngine says whose epoch moves at a deadline. No run may be under way.
func (h host) setEngine(e *wasmtime.Engine) { h.h.engine = enginePtr(e) }

// setDeadline arranges that the engine's epoch moves after d, once a
// millisecond from then on until clearDeadline.
func (h host) setDeadline(d time.Duration) error {
	if C.liop_deadline_set(h.h, C.uint64_t(d.Nanoseconds())) != 0 {
		return errors.New("set the alarm for a deadline")
	}
	return nil
}

// clearDeadline returns with no alarm on its way that could move the epoch.
func (h host) clearDeadline() { C.liop_deadline_clear(h.h) }

// resetStreams empties stdout and stderr. A guest that writes more than out
// bytes is interrupted; what it writes past err bytes is forgotten.
func (h host) resetStreams(out, err int) {
	C.liop_streams_reset(h.h, C.size_t(out), C.size_t(err))
}

// stdout and stderr are what was written since the reset, without a copy, and
// not nil; stdoutOver says that there was more.
func (h host) stdout() []byte   { return content(&h.h.out) }
func (h host) stderr() []byte   { return content(&h.h.err) }
func (h host) stdoutOver() bool { return h.h.out.over != 0 }

func content(b *C.liop_buf) []byte {
	if b.len == 0 {
		return []byte{}
	}
	return unsafe.Slice((*byte)(unsafe.Pointer(b.p)), int(b.len))
}

// prepare makes what host functions that the module imports need, while the
// process may still make code.
func (h host) prepare(m *wasmtime.Module) error {
	for _, i := range m.Imports() {
		if name := i.Name(); name != nil && *name == "fd_pread" && !bool(C.liop_prepare_pread(h.h)) {
			return errors.New("set up fd_pread")
		}
	}
	return nil
}

// define replaces WASI functions that block, tell too much, or are slow.
func (h host) define(l *wasmtime.Linker) error {
	l.AllowShadowing(true)
	if name := C.liop_define_host(linkerPtr(l), h.h); name != nil {
		return fmt.Errorf("define host function %s", C.GoString(name))
	}
	return nil
}

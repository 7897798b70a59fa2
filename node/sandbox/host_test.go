//go:build cgo

package sandbox

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	wasmtime "github.com/bytecodealliance/wasmtime-go/v39"

	"github.com/liop-project/liop/node/sandbox/wire"
)

// inProcess is an engine with our host functions, as a runner has it, without
// the containment. There can be one in a process.
var inProcess = sync.OnceValues(func() (*bound, error) {
	h, err := newHost()
	if err != nil {
		return nil, err
	}
	b, err := newBound(h, false)
	if err == nil {
		b.memory = 1 << 20
	}
	return b, err
})

// call makes one call of a WASI function from a guest with one page of memory,
// whose result becomes the exit code.
func call(t *testing.T, name, params, data string, args ...any) *wire.Ran {
	t.Helper()
	b, err := inProcess()
	if err != nil {
		t.Fatal(err)
	}
	var consts strings.Builder
	for i, a := range args {
		fmt.Fprintf(&consts, "(%s.const %d)", strings.Fields(params)[i], a)
	}
	wat := fmt.Sprintf(`(module
		(import "wasi_snapshot_preview1" %q (func $f (param %s) (result i32)))
		(import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
		(memory (export "memory") 1)
		(data (i32.const 0) "%s")
		(func (export "_start") (call $exit (call $f %s))))`, name, params, data, consts.String())
	wasm, err := wasmtime.Wat2Wasm(wat)
	if err != nil {
		t.Fatal(err)
	}
	if b.module, err = wasmtime.NewModule(b.eng, wasm); err != nil {
		t.Fatal(err)
	}
	b.host.resetStreams(8, 8)
	ran, err := b.execute(&wire.Run{WallMs: 200}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return ran
}

// Whatever pointers and sizes a guest passes, the host answers with an error
// number and touches nothing outside the guest's memory.
func TestHostFunctionsCheckPointers(t *testing.T) {
	const i32x4 = "i32 i32 i32 i32"
	const pread = "i32 i32 i32 i64 i32"
	const page = 65536
	for _, tc := range []struct {
		name, params string
		args         []any
		errno        int32
	}{
		{"fd_write", i32x4, []any{1, 0, 0, 8}, 0},
		{"fd_write", i32x4, []any{0, 0, 0, 8}, 8},            // stdin
		{"fd_write", i32x4, []any{3, 0, 0, 8}, 8},            // a directory, or nothing
		{"fd_write", i32x4, []any{-1, 0, 0, 8}, 8},           //
		{"fd_write", i32x4, []any{1, page - 4, 1, 8}, 21},    // vector over the end
		{"fd_write", i32x4, []any{1, -8, 1, 8}, 21},          // vector past the end, wraps around
		{"fd_write", i32x4, []any{1, 0, 1 << 29, 8}, 28},     // 4 GiB of vectors
		{"fd_write", i32x4, []any{1, 0, -1, 8}, 28},          //
		{"fd_write", i32x4, []any{1, 0, 1, page - 3}, 21},    // count over the end
		{"fd_write", i32x4, []any{1, 16, 1, 8}, 21},          // content past the end
		{"fd_write", i32x4, []any{1, 24, 1, 8}, 21},          // content wraps around
		{"random_get", "i32 i32", []any{0, 65536}, 0},        // the whole page
		{"random_get", "i32 i32", []any{0, 65537}, 28},       // too much in one call
		{"random_get", "i32 i32", []any{1, 65536}, 21},       // over the end
		{"random_get", "i32 i32", []any{-1, 2}, 21},          // wraps around
		{"random_get", "i32 i32", []any{0, -1}, 28},          //
		{"clock_time_get", "i32 i64 i32", []any{0, 0, 0}, 0}, //
		{"clock_time_get", "i32 i64 i32", []any{0, 0, page - 7}, 21},
		{"clock_time_get", "i32 i64 i32", []any{0, 0, -8}, 21},
		{"clock_time_get", "i32 i64 i32", []any{2, 0, 0}, 58}, // CPU time
		{"clock_res_get", "i32 i32", []any{1, page - 8}, 0},
		{"clock_res_get", "i32 i32", []any{1, page - 7}, 21},
		{"clock_res_get", "i32 i32", []any{-1, 0}, 58},
		{"fd_pread", pread, []any{3, 0, 1, 0, 8}, 8},         // no such file
		{"fd_pread", pread, []any{3, 0, 0, 0, 8}, 8},         //
		{"fd_pread", pread, []any{3, page - 4, 1, 0, 8}, 21}, // vector over the end
		{"fd_pread", pread, []any{3, -8, 1, 0, 8}, 21},       // vector past the end, wraps around
		{"fd_pread", pread, []any{3, 0, 1 << 29, 0, 8}, 28},  // 4 GiB of vectors
		{"fd_pread", pread, []any{3, 0, 1, 0, page - 3}, 21}, // count over the end
		{"fd_pread", pread, []any{3, 16, 1, 0, 8}, 21},       // buffer over the end
		{"fd_pread", pread, []any{3, 24, 1, 0, 8}, 21},       // buffer wraps around
		{"fd_pread", pread, []any{3, 0, 4, 0, 8}, 21},        // the third of four
		{"poll_oneoff", i32x4, []any{64, 1024, 1, 2048}, 0},  // a clock of 0 ns
		{"poll_oneoff", i32x4, []any{64, 1024, 0, 2048}, 28},
		{"poll_oneoff", i32x4, []any{64, 1024, 65, 2048}, 28},
		{"poll_oneoff", i32x4, []any{64, 1024, -1, 2048}, 28},
		{"poll_oneoff", i32x4, []any{page - 47, 1024, 1, 2048}, 21},
		{"poll_oneoff", i32x4, []any{64, page - 31, 1, 2048}, 21},
		{"poll_oneoff", i32x4, []any{64, 1024, 1, page - 3}, 21},
		{"poll_oneoff", i32x4, []any{-48, 1024, 1, 2048}, 21},
	} {
		t.Run(fmt.Sprint(tc.name, tc.args), func(t *testing.T) {
			// At 16: an iovec of 16 bytes at the last page's end. At 24: one of
			// 2 bytes at the last address.
			data := strings.Repeat("\x00", 16) + "\xf8\xff\x00\x00\x10\x00\x00\x00" + "\xff\xff\xff\xff\x02\x00\x00\x00"
			ran := call(t, tc.name, tc.params, escape(data), tc.args...)
			if ran.Outcome != wire.Outcome_EXITED || ran.ExitCode != tc.errno {
				t.Errorf("%v, want error number %d", ran, tc.errno)
			}
		})
	}
}

// escape is Go's quoting in WAT's terms: \xNN is \NN there.
func escape(s string) string {
	var b strings.Builder
	for i := range len(s) {
		fmt.Fprintf(&b, "\\%02x", s[i])
	}
	return b.String()
}

func TestWritesAreCapped(t *testing.T) {
	iov := escape("\x20\x00\x00\x00\x0c\x00\x00\x00") + escape(strings.Repeat("\x00", 24)) + "hello, world"
	for fd, want := range map[int]string{1: "hello, w", 2: "hello, w"} {
		ran := call(t, "fd_write", "i32 i32 i32 i32", iov, fd, 0, 1, 16)
		b, _ := inProcess()
		got := string(b.host.stdout())
		if fd == 2 {
			got = string(b.host.stderr())
		}
		if got != want {
			t.Errorf("descriptor %d kept %q", fd, got)
		}
		if over := b.host.stdoutOver(); over != (fd == 1) {
			t.Errorf("descriptor %d: over is %v (%v)", fd, over, ran)
		}
	}
}

func TestSleepEndsAtTheDeadline(t *testing.T) {
	hour := escape(strings.Repeat("\x00", 24) + "\x00\xa0\xb8\x30\x46\x03\x00\x00") // 3.6e12 ns at 24
	start := time.Now()
	ran := call(t, "poll_oneoff", "i32 i32 i32 i32", hour, 0, 1024, 1, 2048)
	if ran.Outcome != wire.Outcome_TIME_LIMIT {
		t.Errorf("%v", ran)
	}
	if took := time.Since(start); took < 200*time.Millisecond {
		t.Errorf("ended after %s, before its deadline", took)
	}
	// The alarm is off: the next run is not interrupted.
	if ran := call(t, "clock_res_get", "i32 i32", "", 0, 0); ran.Outcome != wire.Outcome_EXITED {
		t.Errorf("the next run: %v", ran)
	}
}

// A runner keeps memory and tables for the next run: what one leaves there, the
// next must not find, however the first ended.
func TestRunsShareNothing(t *testing.T) {
	b, err := inProcess()
	if err != nil {
		t.Fatal(err)
	}
	defer func(memory uint64) { b.memory = memory }(b.memory)
	b.memory = 4 << 20
	for _, end := range []string{"(call $exit (i32.const 0))", "unreachable", "(loop $forever (br $forever))"} {
		wasm, err := wasmtime.Wat2Wasm(`(module
			(import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
			(memory (export "memory") 1)
			(data (i32.const 0) "\00\00\00\00")
			(global $g (mut i32) (i32.const 0))
			(table $t 10 1000 funcref)
			(func $f)
			(elem declare func $f)
			(func $check (param i32 i32) (if (local.get 0) (then (call $exit (local.get 1)))))
			(func (export "_start") (local $p i32)
				(call $check (global.get $g) (i32.const 10))
				(call $check (i32.ne (memory.size) (i32.const 1)) (i32.const 11))
				(call $check (i32.ne (memory.grow (i32.const 40)) (i32.const 1)) (i32.const 12))
				(loop $l
					(call $check (i64.ne (i64.load (local.get $p)) (i64.const 0)) (i32.const 13))
					(local.set $p (i32.add (local.get $p) (i32.const 8)))
					(br_if $l (i32.lt_u (local.get $p) (i32.const 2686976))))
				(call $check (i32.ne (table.size $t) (i32.const 10)) (i32.const 14))
				(call $check (i32.eqz (ref.is_null (table.get $t (i32.const 3)))) (i32.const 15))
				(global.set $g (i32.const 1))
				(memory.fill (i32.const 0) (i32.const 0xff) (i32.const 2686976))
				(table.set $t (i32.const 3) (ref.func $f))
				(drop (table.grow $t (ref.func $f) (i32.const 500)))
				` + end + `))`)
		if err != nil {
			t.Fatal(err)
		}
		if b.module, err = wasmtime.NewModule(b.eng, wasm); err != nil {
			t.Fatal(err)
		}
		var first *wire.Ran
		for i := range 5 {
			ran, err := b.execute(&wire.Run{WallMs: 300}, nil)
			if err != nil {
				t.Fatal(err)
			}
			if i == 0 {
				first = ran
			}
			if ran.ExitCode != 0 || ran.Outcome != first.Outcome {
				t.Fatalf("with %s, run %d ended with %v, the first with %v", end, i, ran, first)
			}
		}
	}
}

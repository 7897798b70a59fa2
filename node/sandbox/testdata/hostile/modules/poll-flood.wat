;; poll-flood: waits for 64 clocks that have all passed, without end.
(module
  (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "_start")
    (loop $again
      (drop (call $poll (i32.const 0) (i32.const 8192) (i32.const 64) (i32.const 16384)))
      (br $again))))

;; sleep-until-the-end: sleeps until the end of time, by the clock on the wall: the
;; largest number of nanoseconds, an absolute time.
(module
  (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  ;; userdata, clock (tag 0), realtime (id 0), timeout, precision, flags: absolute
  (data (i32.const 24) "\ff\ff\ff\ff\ff\ff\ff\ff")
  (data (i32.const 40) "\01")
  (func (export "_start")
    (drop (call $poll (i32.const 0) (i32.const 8192) (i32.const 1) (i32.const 16384)))))

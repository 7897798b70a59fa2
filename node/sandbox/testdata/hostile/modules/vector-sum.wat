;; vector-sum: writes to stderr with vectors whose lengths add up to 8 GiB, which
;; no 32-bit number of bytes can tell. It answers "ok" if the host counts no more
;; than it was given: at most 4 GiB.
(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 128)
  (data (i32.const 8192) "\08\20\00\00\03\00\00\00ok\n")
  (func (export "_start") (local $i i32)
    (loop $more
      (i32.store offset=4 (i32.mul (local.get $i) (i32.const 8)) (i32.const 8388608))
      (local.set $i (i32.add (local.get $i) (i32.const 1)))
      (br_if $more (i32.lt_u (local.get $i) (i32.const 1024))))
    (drop (call $write (i32.const 2) (i32.const 0) (i32.const 1024) (i32.const 12288)))
    ;; A whole number of vectors, and as many as fit.
    (if (i32.or
          (i32.rem_u (i32.load (i32.const 12288)) (i32.const 8388608))
          (i32.eqz (i32.load (i32.const 12288))))
      (then (unreachable)))
    (drop (call $write (i32.const 1) (i32.const 8192) (i32.const 1) (i32.const 12288)))))

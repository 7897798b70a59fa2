;; flood-vectors: answers with its whole memory 1024 times over in each call, by
;; as many vectors that all lie on each other: 64 MiB a call from one page.
(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "_start") (local $i i32)
    (loop $more
      (i32.store offset=4 (i32.mul (local.get $i) (i32.const 8)) (i32.const 65536))
      (local.set $i (i32.add (local.get $i) (i32.const 1)))
      (br_if $more (i32.lt_u (local.get $i) (i32.const 1024))))
    (loop $again
      (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1024) (i32.const 16384)))
      (br $again))))

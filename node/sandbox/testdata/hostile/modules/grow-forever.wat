;; grow-forever: asks for one page more, without end, and touches those it gets.
;; Refusals do not stop it. With 4 GiB it is content, and says so.
(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "\08\00\00\00\0b\00\00\00GREW 4 GiB\n")
  (func (export "_start") (local $old i32)
    (loop $again
      (local.set $old (memory.grow (i32.const 1)))
      (if (i32.ne (local.get $old) (i32.const -1))
        (then (i32.store (i32.mul (local.get $old) (i32.const 65536)) (i32.const 1))))
      (br_if $again (i32.ne (memory.size) (i32.const 65536))))
    (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 32)))))

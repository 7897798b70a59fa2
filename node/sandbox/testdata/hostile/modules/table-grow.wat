;; table-grow: grows four tables as far as they go. They must be refused at some
;; point (exit code 13) before they are a million elements long.
(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 1)
  (table $a 0 funcref)
  (table $b 0 funcref)
  (table $c 0 funcref)
  (table $d 0 funcref)
  (data (i32.const 0) "\08\00\00\00\05\00\00\00GREW\n")
  (func (export "_start") (local $n i32)
    (loop $again
      (local.set $n (i32.add (local.get $n) (i32.const 1000)))
      (if (i32.or
            (i32.or
              (i32.eq (table.grow $a (ref.null func) (i32.const 1000)) (i32.const -1))
              (i32.eq (table.grow $b (ref.null func) (i32.const 1000)) (i32.const -1)))
            (i32.or
              (i32.eq (table.grow $c (ref.null func) (i32.const 1000)) (i32.const -1))
              (i32.eq (table.grow $d (ref.null func) (i32.const 1000)) (i32.const -1))))
        (then
          ;; Not beyond, not even in one step that overflows.
          (if (i32.eq (table.grow $a (ref.null func) (i32.const -1)) (i32.const -1))
            (then (call $exit (i32.const 13))))))
      (br_if $again (i32.lt_u (local.get $n) (i32.const 1000000))))
    (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 32)))))

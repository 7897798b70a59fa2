;; grow-huge: asks for impossible amounts of memory: the whole address space,
;; and numbers that overflow when they are added or multiplied. All must be
;; refused (exit code 13), and the memory must be as it was.
(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "\08\00\00\00\05\00\00\00GREW\n")
  (func $grew (param i32) (result i32) (i32.ne (memory.grow (local.get 0)) (i32.const -1)))
  (func (export "_start")
    (if (i32.or (i32.or
          (i32.or (call $grew (i32.const 65536)) (call $grew (i32.const 65535)))
          (i32.or (call $grew (i32.const 0x7fffffff)) (call $grew (i32.const 0x80000000))))
          (i32.or (call $grew (i32.const 0xffffffff)) (i32.ne (memory.size) (i32.const 1))))
      (then (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 32))))
      (else (call $exit (i32.const 13))))))

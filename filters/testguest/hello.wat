;; hello: answers "hello". As small as a command can be, to measure what a run
;; costs.
(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  ;; One ciovec at 0: address 8, six bytes. The text follows; the number of
  ;; bytes written goes to 16.
  (data (i32.const 0) "\08\00\00\00\06\00\00\00hello\n")
  (func (export "_start")
    (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 16)))))

;; start-recurse: overflows the stack while it is instantiated.
(module
  (memory (export "memory") 1)
  (func $again (param i64) (result i64)
    (i64.add (i64.const 1) (call $again (i64.add (local.get 0) (i64.const 1)))))
  (func $init (drop (call $again (i64.const 0))))
  (start $init)
  (func (export "_start")))

;; recurse-indirect: a function calls itself through a table, with many locals
;; alive, until the engine's stack ends.
(module
  (type $f (func (param i64 i64 i64 i64) (result i64)))
  (memory (export "memory") 1)
  (table 1 1 funcref)
  (elem (i32.const 0) $again)
  (func $again (type $f)
    (i64.add
      (i64.xor (i64.add (local.get 0) (local.get 1)) (i64.mul (local.get 2) (local.get 3)))
      (call_indirect (type $f)
        (i64.add (local.get 0) (i64.const 1)) (local.get 0) (local.get 1) (local.get 2) (i32.const 0))))
  (func (export "_start")
    (drop (call $again (i64.const 1) (i64.const 2) (i64.const 3) (i64.const 4)))))

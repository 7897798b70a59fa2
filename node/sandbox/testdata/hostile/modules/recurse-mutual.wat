;; recurse-mutual: two functions call each other until the engine's stack ends.
(module
  (memory (export "memory") 1)
  (func $odd (param i64) (result i64)
    (i64.add (i64.const 1) (call $even (i64.add (local.get 0) (i64.const 1)))))
  (func $even (param i64) (result i64)
    (i64.mul (i64.const 3) (call $odd (i64.add (local.get 0) (i64.const 1)))))
  (func (export "_start") (drop (call $even (i64.const 0)))))

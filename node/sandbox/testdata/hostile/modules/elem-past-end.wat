;; elem-past-end: has an element segment that ends behind its table.
(module
  (memory (export "memory") 1)
  (table 1 funcref)
  (elem (i32.const 4294967295) $f $f)
  (func $f)
  (func (export "_start")))

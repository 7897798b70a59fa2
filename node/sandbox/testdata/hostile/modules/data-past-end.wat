;; data-past-end: has a data segment that ends behind its memory.
(module
  (memory (export "memory") 1)
  (data (i32.const 65533) "abcd")
  (func (export "_start")))

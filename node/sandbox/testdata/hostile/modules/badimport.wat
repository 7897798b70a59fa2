;; badimport: wants a function that no node has.
(module
  (import "env" "evil" (func $evil))
  (memory (export "memory") 1)
  (func (export "_start") (call $evil)))

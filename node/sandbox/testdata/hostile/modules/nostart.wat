;; nostart: a module that is no command. It has nothing to call.
(module
  (memory (export "memory") 1)
  (func (export "run")))

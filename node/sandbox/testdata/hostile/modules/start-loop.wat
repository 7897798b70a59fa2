;; start-loop: never ends, before _start is called: in the start function,
;; which runs while the module is instantiated.
(module
  (memory (export "memory") 1)
  (func $forever (loop $again (br $again)))
  (start $forever)
  (func (export "_start")))

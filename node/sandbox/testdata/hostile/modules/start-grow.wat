;; start-grow: takes all the memory it can get while it is instantiated, then
;; traps.
(module
  (memory (export "memory") 1)
  (func $init (local $old i32)
    (loop $again
      (local.set $old (memory.grow (i32.const 16)))
      (if (i32.ne (local.get $old) (i32.const -1))
        (then
          (i32.store (i32.mul (local.get $old) (i32.const 65536)) (i32.const 1))
          (br $again))))
    unreachable)
  (start $init)
  (func (export "_start")))

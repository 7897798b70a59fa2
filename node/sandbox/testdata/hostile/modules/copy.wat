;; copy: takes as much memory as it gets and copies it onto itself, shifted by a
;; byte, again and again. Each memory.copy is one instruction, within which no
;; epoch interrupts.
(module
  (memory (export "memory") 1)
  (func (export "_start") (local $pages i32) (local $n i32)
    (local.set $pages (i32.const 4096))
    (loop $smaller
      (if (i32.eq (memory.grow (local.get $pages)) (i32.const -1))
        (then
          (local.set $pages (i32.shr_u (local.get $pages) (i32.const 1)))
          (br $smaller))))
    (local.set $n (i32.sub (i32.mul (memory.size) (i32.const 65536)) (i32.const 1)))
    (loop $again
      (memory.copy (i32.const 1) (i32.const 0) (local.get $n))
      (memory.copy (i32.const 0) (i32.const 1) (local.get $n))
      (br $again))))

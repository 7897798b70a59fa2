;; br-table-storm: jumps through a table on unpredictable numbers without end.
(module
  (memory (export "memory") 1)
  (func (export "_start") (local $x i32) (local $sum i32)
    (local.set $x (i32.const 2463534242))
    (loop $again
      (local.set $x (i32.xor (local.get $x) (i32.shl (local.get $x) (i32.const 13))))
      (local.set $x (i32.xor (local.get $x) (i32.shr_u (local.get $x) (i32.const 17))))
      (local.set $x (i32.xor (local.get $x) (i32.shl (local.get $x) (i32.const 5))))
      (block $d (block $c (block $b (block $a
        (br_table $a $b $c $d $b $a $d $c $d $d $a $b $c $a $b $d
          (i32.and (local.get $x) (i32.const 15))))
        (local.set $sum (i32.add (local.get $sum) (local.get $x)))
        (br $again))
        (local.set $sum (i32.rotl (local.get $sum) (i32.const 3)))
        (br $again))
        (i32.store (i32.const 0) (local.get $sum))
        (br $again))
      (br $again))))

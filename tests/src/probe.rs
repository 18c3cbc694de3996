//! A small contract with one function for every way to behave and to misbehave. Functions are told by their first letter.
//!
//! | call | does |
//! |---|---|
//! | `put key value` | writes, reads nothing, answers the key |
//! | `get key` | answers the value, or 404 |
//! | `add key value` | reads the key, then writes: two of them in a block conflict |
//! | `event name payload` | emits an event |
//! | `fail` | answers 500 "as told" |
//! | `loop` | never ends |
//! | `trap` | executes `unreachable` |
//! | `deep` | recurses without end |
//! | `widen` | takes memory until it gets no more, then traps |
//! | `out` | hands the peer a pointer beyond its memory |
//! | `silent` | returns without an answer |

/// The module's bytes.
pub fn module() -> Vec<u8> {
    wat::parse_str(SOURCE).expect("the probe's text is good")
}

/// A module that is no contract: it exports none of what a peer looks for.
pub fn not_a_contract() -> Vec<u8> {
    wat::parse_str("(module (memory (export \"memory\") 1) (func (export \"main\")))").expect("good text")
}

/// A module that wants an import that no peer has.
pub fn with_foreign_import() -> Vec<u8> {
    wat::parse_str(
        r#"(module
            (import "env" "open_file" (func (param i32)))
            (memory (export "memory") 1)
            (func (export "selvedge_abi_v1") (result i32) (i32.const 1))
            (func (export "selvedge_invoke")))"#,
    )
    .expect("good text")
}

const SOURCE: &str = r#"
(module
  (import "selvedge_v1" "input" (func $input (result i32)))
  (import "selvedge_v1" "buffer_read" (func $buffer_read (param i32)))
  (import "selvedge_v1" "get_state" (func $get_state (param i32 i32) (result i32)))
  (import "selvedge_v1" "put_state" (func $put_state (param i32 i32 i32 i32) (result i32)))
  (import "selvedge_v1" "set_event" (func $set_event (param i32 i32 i32 i32) (result i32)))
  (import "selvedge_v1" "respond" (func $respond (param i32 i32 i32 i32 i32)))

  ;; 0: texts, 4096: the arguments, 4 MiB: values read
  (memory (export "memory") 128)
  (data (i32.const 0) "no such key")
  (data (i32.const 32) "as told")
  (data (i32.const 64) "no such function")
  (data (i32.const 96) "refused")

  (func (export "selvedge_abi_v1") (result i32) (i32.const 1))

  ;; Address of argument $i: its length, then its bytes. The list begins with the number of arguments.
  (func $arg (param $i i32) (result i32)
    (local $at i32)
    (local.set $at (i32.const 4100))
    (block $done
      (loop $next
        (br_if $done (i32.eqz (local.get $i)))
        (local.set $at (i32.add (local.get $at) (i32.add (i32.const 4) (i32.load (local.get $at)))))
        (local.set $i (i32.sub (local.get $i) (i32.const 1)))
        (br $next)))
    (local.get $at))
  (func $bytes (param $i i32) (result i32) (i32.add (call $arg (local.get $i)) (i32.const 4)))
  (func $len (param $i i32) (result i32) (i32.load (call $arg (local.get $i))))

  (func $ok (call $respond (i32.const 200) (i32.const 0) (i32.const 0) (call $bytes (i32.const 1)) (call $len (i32.const 1))))

  (func $write
    (if (call $put_state
          (call $bytes (i32.const 1)) (call $len (i32.const 1)) (call $bytes (i32.const 2)) (call $len (i32.const 2)))
      (then (call $respond (i32.const 400) (i32.const 96) (i32.const 7) (i32.const 0) (i32.const 0)))
      (else (call $ok))))

  (func $recurse (param $n i32) (result i32)
    (i32.add (i32.const 1) (call $recurse (i32.add (local.get $n) (i32.const 1)))))

  (func (export "selvedge_invoke")
    (local $letter i32)
    (local $found i32)
    (drop (call $input))
    (call $buffer_read (i32.const 4096))
    (local.set $letter (i32.load8_u (call $bytes (i32.const 0))))

    (if (i32.eq (local.get $letter) (i32.const 112)) ;; put
      (then (call $write) (return)))
    (if (i32.eq (local.get $letter) (i32.const 97)) ;; add
      (then
        (drop (call $get_state (call $bytes (i32.const 1)) (call $len (i32.const 1))))
        (call $write) (return)))
    (if (i32.eq (local.get $letter) (i32.const 103)) ;; get
      (then
        (local.set $found (call $get_state (call $bytes (i32.const 1)) (call $len (i32.const 1))))
        (if (i32.lt_s (local.get $found) (i32.const 0))
          (then (call $respond (i32.const 404) (i32.const 0) (i32.const 11) (i32.const 0) (i32.const 0)))
          (else
            (call $buffer_read (i32.const 4194304))
            (call $respond (i32.const 200) (i32.const 0) (i32.const 0) (i32.const 4194304) (local.get $found))))
        (return)))
    (if (i32.eq (local.get $letter) (i32.const 101)) ;; event
      (then
        (drop (call $set_event
          (call $bytes (i32.const 1)) (call $len (i32.const 1)) (call $bytes (i32.const 2)) (call $len (i32.const 2))))
        (call $ok) (return)))
    (if (i32.eq (local.get $letter) (i32.const 102)) ;; fail
      (then (call $respond (i32.const 500) (i32.const 32) (i32.const 7) (i32.const 0) (i32.const 0)) (return)))
    (if (i32.eq (local.get $letter) (i32.const 108)) ;; loop
      (then (loop $ever (br $ever))))
    (if (i32.eq (local.get $letter) (i32.const 116)) ;; trap
      (then (unreachable)))
    (if (i32.eq (local.get $letter) (i32.const 100)) ;; deep
      (then (drop (call $recurse (i32.const 0))) (return)))
    (if (i32.eq (local.get $letter) (i32.const 119)) ;; widen
      (then
        (loop $more (br_if $more (i32.ge_s (memory.grow (i32.const 64)) (i32.const 0))))
        (unreachable)))
    (if (i32.eq (local.get $letter) (i32.const 111)) ;; out
      (then
        (drop (call $put_state (i32.const 0x7fffff00) (i32.const 4096) (i32.const 0) (i32.const 4)))
        (return)))
    (if (i32.eq (local.get $letter) (i32.const 115)) ;; silent
      (then (return)))
    (call $respond (i32.const 404) (i32.const 64) (i32.const 16) (i32.const 0) (i32.const 0)))
)
"#;

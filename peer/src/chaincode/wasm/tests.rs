use std::collections::BTreeMap;

use parking_lot::Mutex;
use selvedge_ledger::Version;

use super::*;
use crate::chaincode::simulator::tests::MemoryState;
use crate::chaincode::simulator::{SharedSimulator, Simulator};
use crate::chaincode::transaction::TxContext;
use crate::test_network::Org;

/// A contract around `body`, with the whole ABI imported and a few strings in memory. `$answer` responds with what a
/// host function returned.
pub(crate) fn contract(body: &str) -> Vec<u8> {
    let text = format!(
        r#"(module
 (import "selvedge_v1" "buffer_read" (func $buffer_read (param i32)))
 (import "selvedge_v1" "buffer_len" (func $buffer_len (result i32)))
 (import "selvedge_v1" "input" (func $input (result i32)))
 (import "selvedge_v1" "context" (func $context (param i32) (result i32)))
 (import "selvedge_v1" "transient" (func $transient (param i32 i32) (result i32)))
 (import "selvedge_v1" "get_state" (func $get (param i32 i32) (result i32)))
 (import "selvedge_v1" "put_state" (func $put (param i32 i32 i32 i32) (result i32)))
 (import "selvedge_v1" "del_state" (func $del (param i32 i32) (result i32)))
 (import "selvedge_v1" "get_state_range" (func $range (param i32 i32 i32 i32) (result i32)))
 (import "selvedge_v1" "get_history" (func $history (param i32 i32) (result i32)))
 (import "selvedge_v1" "iterator_next" (func $next (param i32) (result i32)))
 (import "selvedge_v1" "iterator_close" (func $close (param i32)))
 (import "selvedge_v1" "get_private" (func $get_private (param i32 i32 i32 i32) (result i32)))
 (import "selvedge_v1" "put_private" (func $put_private (param i32 i32 i32 i32 i32 i32) (result i32)))
 (import "selvedge_v1" "invoke_chaincode" (func $invoke (param i32 i32 i32 i32) (result i32)))
 (import "selvedge_v1" "set_event" (func $event (param i32 i32 i32 i32) (result i32)))
 (import "selvedge_v1" "log" (func $log (param i32 i32 i32)))
 (import "selvedge_v1" "respond" (func $respond (param i32 i32 i32 i32 i32)))
 (memory (export "memory") 2)
 (global $count (mut i32) (i32.const 0))
 (data (i32.const 0) "key")
 (data (i32.const 16) "value")
 (data (i32.const 32) "other")
 (data (i32.const 48) "\01\00\00\00\04\00\00\00ping")
 (data (i32.const 80) "collection")
 (func (export "selvedge_abi_v1") (result i32) (i32.const 1))
 (func $answer (param $len i32)
   (if (i32.eq (local.get $len) (i32.const -1))
     (then (call $respond (i32.const 404) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)))
     (else (if (i32.eq (local.get $len) (i32.const -2))
       (then
         (call $buffer_read (i32.const 1024))
         (call $respond (i32.const 400) (i32.const 1024) (call $buffer_len) (i32.const 0) (i32.const 0)))
       (else
         (call $buffer_read (i32.const 1024))
         (call $respond (i32.const 200) (i32.const 0) (i32.const 0) (i32.const 1024) (local.get $len)))))))
 {body})"#
    );
    wat::parse_str(text).unwrap()
}

/// As [`contract`], with the body of the entry function.
pub(crate) fn invoking(body: &str) -> Vec<u8> {
    contract(&format!(r#"(func $main (export "selvedge_invoke") {body})"#))
}

struct Alone;

impl Nested for Alone {
    fn invoke(
        &self,
        _: &CallContext,
        target: &str,
        args: Vec<Bytes>,
        simulator: &SharedSimulator,
        fuel: u64,
    ) -> Invoked {
        simulator.lock().put(target, "called", args[0].clone()).unwrap();
        let response = protos::Response {
            status: 201,
            message: "m".into(),
            payload: args[0].clone(),
        };
        Invoked {
            fuel: fuel - 1000,
            result: Ok(response),
        }
    }

    fn collection(&self, _: &CallContext, collection: &str) -> Result<CollectionRights, String> {
        match collection {
            "collection" => Ok(CollectionRights {
                read: true,
                write: false,
            }),
            other => Err(format!("collection {other} could not be found")),
        }
    }
}

fn config() -> RuntimeConfig {
    RuntimeConfig {
        fuel: 10_000_000,
        memory_bytes: 1024 * 1024,
        timeout: Duration::from_secs(20),
        concurrency: 2,
    }
}

fn call(depth: usize) -> Arc<CallContext> {
    let org = Org::new("Org1MSP", "org1");
    let identity = org.client("alice", &[("role", "buyer")]);
    let tx = TxContext {
        channel_id: "trade".into(),
        tx_id: "ab".repeat(32),
        timestamp: (1_700_000_000, 5),
        creator: identity.creator().clone(),
        identity: Arc::new(identity.identity().clone()),
        transient: BTreeMap::from([("key".into(), Bytes::from_static(b"hidden"))]),
        proposal_bytes: Bytes::new(),
        signature: Bytes::new(),
    };
    Arc::new(CallContext {
        tx: Arc::new(tx),
        channel_id: "trade".into(),
        chaincode: "cc".into(),
        depth,
        deadline: Instant::now() + config().timeout,
        nested: Arc::new(Alone),
    })
}

struct Bench {
    engine: WasmEngine,
    simulator: SharedSimulator,
}

impl Bench {
    fn new() -> Self {
        Self::with(&config(), MemoryState::default())
    }

    fn with(config: &RuntimeConfig, state: MemoryState) -> Self {
        let simulator = Arc::new(Mutex::new(Simulator::new(Box::new(state))));
        Self {
            engine: WasmEngine::new(config).unwrap(),
            simulator,
        }
    }

    fn run(&self, wasm: &[u8]) -> Result<Outcome, ExecuteError> {
        self.run_with(wasm, call(0)).result
    }

    fn run_with(&self, wasm: &[u8], call: Arc<CallContext>) -> Ran {
        let module = self.engine.compile(wasm).unwrap();
        let args = vec![Bytes::from_static(b"fn"), Bytes::from_static(b"arg")];
        self.engine.run(
            &module,
            call,
            args,
            self.simulator.clone(),
            self.engine.config.fuel,
        )
    }

    /// Status, message and payload of what a body answers.
    fn answer(&self, body: &str) -> (i32, String, Bytes) {
        let response = self.run(&invoking(body)).unwrap().response;
        (response.status, response.message, response.payload)
    }

    fn error(&self, wasm: &[u8]) -> String {
        self.run(wasm).unwrap_err().to_string()
    }
}

#[test]
fn state_is_read_and_written() {
    let mut state = MemoryState::default();
    state.put("cc", "key", b"committed", Version { block: 1, tx: 0 });
    let bench = Bench::with(&config(), state);
    let (status, _, payload) = bench.answer(
        "(drop (call $put (i32.const 0) (i32.const 3) (i32.const 16) (i32.const 5)))
         (drop (call $del (i32.const 32) (i32.const 5)))
         (call $answer (call $get (i32.const 0) (i32.const 3)))",
    );
    assert_eq!((status, payload), (200, Bytes::from_static(b"committed")));
    let results = bench.simulator.lock().results();
    assert_eq!(results.public.ns_rwset[0].namespace, "cc");
    assert_eq!(
        bench
            .answer("(call $answer (call $get (i32.const 32) (i32.const 5)))")
            .0,
        404
    );
}

#[test]
fn refusals_come_with_their_reason_and_the_contract_goes_on() {
    let bench = Bench::new();
    let (status, message, _) =
        bench.answer("(call $answer (call $put (i32.const 0) (i32.const 3) (i32.const 0) (i32.const 0)))");
    assert_eq!(status, 400);
    assert!(message.contains("delete the key instead"), "{message}");
    let (_, message, _) = bench.answer("(call $answer (call $get (i32.const 0) (i32.const 0)))");
    assert!(message.contains("key is empty"), "{message}");
    let (_, message, _) = bench.answer("(call $answer (call $get (i32.const 0) (i32.const 20000)))");
    assert!(message.contains("has 20000 bytes; at most 16384"), "{message}");
    let (_, message, _) = bench.answer("(call $answer (call $next (i32.const 3)))");
    assert!(message.contains("iterator 3 is not open"), "{message}");
    let (_, message, _) = bench.answer("(call $answer (call $context (i32.const 99)))");
    assert!(message.contains("not known"), "{message}");
    let put = |len| {
        format!(
            "(call $answer (call $put_private (i32.const 80) (i32.const {len}) (i32.const 0) (i32.const 3) (i32.const 16) (i32.const 5)))"
        )
    };
    let (_, message, _) = bench.answer(&put(10));
    assert!(
        message.contains("does not have write access permission on privatedata in chaincodeName:cc"),
        "{message}"
    );
    let (_, message, _) = bench.answer(&put(4));
    assert!(
        message.contains("collection coll could not be found"),
        "{message}"
    );
}

#[test]
fn ranges_and_history_are_iterated() {
    let mut state = MemoryState::default();
    state.put("cc", "a", b"1", Version { block: 1, tx: 0 });
    state.history.insert(
        ("cc".into(), "key".into()),
        vec![selvedge_ledger::HistoryEntry {
            tx_id: "t".into(),
            value: Bytes::from_static(b"old"),
            timestamp: Some(prost_types::Timestamp { seconds: 7, nanos: 9 }),
            is_delete: false,
            version: Version { block: 1, tx: 0 },
        }],
    );
    let bench = Bench::with(&config(), state);
    let first =
        "(call $answer (call $next (call $range (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0))))";
    assert_eq!(bench.answer(first).2, Bytes::from_static(b"\x01\0\0\0a1"));
    let change = "(call $answer (call $next (call $history (i32.const 0) (i32.const 3))))";
    let expected = b"\x01\0\0\0t\x07\0\0\0\0\0\0\0\x09\0\0\0\0old";
    assert_eq!(bench.answer(change).2, Bytes::from_static(expected));
    let ended = "(local $h i32)
        (local.set $h (call $range (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)))
        (drop (call $next (local.get $h)))
        (call $answer (call $next (local.get $h)))";
    assert_eq!(bench.answer(ended).0, 404);
}

#[test]
fn a_contract_learns_about_its_transaction() {
    let bench = Bench::new();
    let context = |what: i32| {
        let payload = bench
            .answer(&format!("(call $answer (call $context (i32.const {what})))"))
            .2;
        String::from_utf8_lossy(&payload).into_owned()
    };
    assert_eq!(context(1), "ab".repeat(32));
    assert_eq!(context(2), "trade");
    assert_eq!(context(4), "Org1MSP");
    assert_eq!(context(5), r#"{"role":"buyer"}"#);
    assert_eq!(context(6), "alice");
    assert!(context(7).contains("client"));
    assert_eq!(context(8), "1700000000.000000005");
    assert_eq!(context(9), "cc");
    assert_eq!(context(10).len(), 64);
    assert_eq!(
        bench
            .answer("(call $answer (call $transient (i32.const 0) (i32.const 3)))")
            .2,
        "hidden"
    );
    assert_eq!(
        bench
            .answer("(call $answer (call $transient (i32.const 32) (i32.const 5)))")
            .0,
        404
    );
    let input = bench.answer("(call $answer (call $input))").2;
    assert_eq!(
        list::decode(&input).unwrap(),
        [Bytes::from_static(b"fn"), Bytes::from_static(b"arg")]
    );
}

#[test]
fn every_call_gets_a_fresh_instance() {
    let bench = Bench::new();
    let body = "(global.set $count (i32.add (global.get $count) (i32.const 1)))
        (i32.store (i32.const 2048) (i32.add (i32.load (i32.const 2048)) (i32.const 1)))
        (call $respond (i32.add (i32.const 200) (i32.add (global.get $count) (i32.load (i32.const 2048))))
          (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0))";
    for _ in 0..5 {
        assert_eq!(bench.answer(body).0, 202);
    }
}

#[test]
fn no_response_is_an_error_response() {
    let outcome = Bench::new().run(&invoking("")).unwrap();
    assert_eq!(outcome.response.status, 500);
    assert_eq!(outcome.response.message, "contract gave no response");
}

#[test]
fn the_last_event_counts_and_needs_a_name() {
    let bench = Bench::new();
    let outcome = bench
        .run(&invoking(
            "(drop (call $event (i32.const 0) (i32.const 3) (i32.const 16) (i32.const 5)))
             (drop (call $event (i32.const 32) (i32.const 5) (i32.const 16) (i32.const 5)))",
        ))
        .unwrap();
    assert_eq!(outcome.event.unwrap().event_name, "other");
    let (_, message, _) =
        bench.answer("(call $answer (call $event (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)))");
    assert_eq!(message, "event name can not be empty string");
}

#[test]
fn chaincodes_call_each_other_to_a_depth() {
    let bench = Bench::new();
    let wasm =
        invoking("(call $answer (call $invoke (i32.const 32) (i32.const 5) (i32.const 48) (i32.const 12)))");
    let ran = bench.run_with(&wasm, call(MAX_CALL_DEPTH - 1));
    let response = ran.result.unwrap().response;
    assert_eq!(response.payload, Bytes::from_static(b"\xc9\0\0\0\x01\0\0\0mping"));
    assert!(
        bench
            .simulator
            .lock()
            .results()
            .public
            .ns_rwset
            .iter()
            .any(|n| n.namespace == "other")
    );
    let response = bench
        .run_with(&wasm, call(MAX_CALL_DEPTH))
        .result
        .unwrap()
        .response;
    assert!(
        response.message.contains("4 deep at most"),
        "{}",
        response.message
    );
    let malformed =
        invoking("(call $answer (call $invoke (i32.const 32) (i32.const 5) (i32.const 48) (i32.const 11)))");
    assert!(
        bench
            .run(&malformed)
            .unwrap()
            .response
            .message
            .contains("malformed")
    );
}

#[test]
fn an_endless_loop_ends_by_fuel() {
    let text = Bench::new().error(&invoking("(loop $l (br $l))"));
    assert!(
        text.contains("chaincode cc, function fn: out of fuel after 10000000 units"),
        "{text}"
    );
}

#[test]
fn an_endless_loop_ends_by_time_where_fuel_allows() {
    let generous = RuntimeConfig {
        fuel: u64::MAX / 4,
        ..config()
    };
    let bench = Bench::with(&generous, MemoryState::default());
    let mut late = call(0);
    Arc::get_mut(&mut late).unwrap().deadline = Instant::now();
    let error = bench
        .run_with(&invoking("(loop $l (br $l))"), late)
        .result
        .unwrap_err();
    assert!(
        error
            .to_string()
            .contains("timeout expired while executing transaction"),
        "{error}"
    );
    assert!(error.is_local());
}

#[test]
fn calls_to_the_peer_cost_fuel() {
    let bench = Bench::new();
    let body = "(loop $l (drop (call $get (i32.const 0) (i32.const 3))) (br $l))";
    assert!(bench.error(&invoking(body)).contains("out of fuel"));
    let log = "(loop $l (call $log (i32.const 1) (i32.const 0) (i32.const 3)) (br $l))";
    assert!(bench.error(&invoking(log)).contains("out of fuel"));
}

#[test]
fn the_same_work_costs_the_same_fuel() {
    let bench = Bench::new();
    let wasm = invoking("(call $answer (call $input))");
    let left: Vec<_> = (0..3).map(|_| bench.run_with(&wasm, call(0)).fuel).collect();
    assert!(left[0] < config().fuel);
    assert!(left.iter().all(|l| *l == left[0]), "{left:?}");
}

#[test]
fn misbehaviour_is_named() {
    let bench = Bench::new();
    let text = bench.error(&invoking("(unreachable)"));
    assert!(
        text.contains("the contract crashed: wasm trap: wasm `unreachable` instruction executed"),
        "{text}"
    );
    let text = bench.error(&invoking("(call $main)"));
    assert!(text.contains("call stack exhausted"), "{text}");
    let text = bench.error(&invoking("(loop $l (drop (memory.grow (i32.const 4))) (br $l))"));
    assert!(
        text.contains("1179648 bytes of memory, 1048576 are allowed"),
        "{text}"
    );
    let text = bench.error(&invoking("(drop (call $get (i32.const -5) (i32.const 3)))"));
    assert!(
        text.contains("it handed get_state a pointer outside its memory"),
        "{text}"
    );
    let text = bench.error(&invoking("(drop (call $get (i32.const 0) (i32.const -1)))"));
    assert!(text.contains("pointer outside"), "{text}");
    let text = bench.error(&invoking(
        "(drop (call $input)) (call $buffer_read (i32.const 131070))",
    ));
    assert!(
        text.contains("it handed buffer_read a pointer outside its memory"),
        "{text}"
    );
    let text = bench.error(&invoking("(drop (i32.div_u (i32.const 1) (i32.const 0)))"));
    assert!(text.contains("integer divide by zero"), "{text}");
}

fn refused(text: &str) -> String {
    Bench::new()
        .engine
        .compile(&wat::parse_str(text).unwrap())
        .err()
        .unwrap()
}

#[test]
fn only_modules_that_speak_the_abi_are_accepted() {
    let exports = r#"(memory (export "memory") 1) (func (export "selvedge_invoke"))
        (func (export "selvedge_abi_v1") (result i32) (i32.const 1))"#;
    let engine = Bench::new().engine;
    assert!(
        engine
            .compile(&wat::parse_str(format!("(module {exports})")).unwrap())
            .is_ok()
    );
    assert!(
        engine
            .compile(b"junk")
            .err()
            .unwrap()
            .contains("not a module that this peer can run")
    );
    let text = refused(&format!(
        r#"(module (import "wasi_snapshot_preview1" "fd_write" (func)) {exports})"#
    ));
    assert!(
        text.contains("imports wasi_snapshot_preview1::fd_write"),
        "{text}"
    );
    let text = refused(&format!(
        r#"(module (import "selvedge_v1" "clock" (func)) {exports})"#
    ));
    assert!(text.contains("does not have") && text.contains("clock"), "{text}");
    let text = refused(&format!(
        r#"(module (import "selvedge_v1" "input" (func)) {exports})"#
    ));
    assert!(text.contains("another type"), "{text}");
    let text = refused(&format!(
        "(module {})",
        exports.replace(r#"(export "memory")"#, "")
    ));
    assert!(text.contains("does not export its memory"), "{text}");
    let text = refused(
        r#"(module (memory (export "memory") 1) (func (export "selvedge_abi_v1") (result i32) (i32.const 1)))"#,
    );
    assert!(
        text.contains("does not export the function selvedge_invoke()"),
        "{text}"
    );
    let text = refused(
        r#"(module (memory (export "memory") 1) (func (export "selvedge_invoke"))
        (func (export "selvedge_abi_v1") (result i64) (i64.const 1)))"#,
    );
    assert!(
        text.contains("does not export the function selvedge_abi_v1() -> i32"),
        "{text}"
    );
    let text = refused(
        r#"(module (memory (export "memory") 1) (func (export "selvedge_invoke"))
        (func (export "selvedge_abi_v1") (result i32) (i32.const 2)))"#,
    );
    assert!(
        text.contains("version 2 of the contract ABI; this peer speaks version 1"),
        "{text}"
    );
    let text = refused(
        r#"(module (memory (export "memory") 100) (func (export "selvedge_invoke"))
        (func (export "selvedge_abi_v1") (result i32) (i32.const 1)))"#,
    );
    assert!(text.contains("exceeds the limit"), "{text}");
    let text = refused(
        r#"(module (memory (export "memory") 1) (func (export "selvedge_invoke"))
        (func $s (loop $l (br $l))) (start $s)
        (func (export "selvedge_abi_v1") (result i32) (i32.const 1)))"#,
    );
    assert!(text.contains("cannot be started"), "{text}");
}

#[test]
fn compiled_modules_are_kept_and_damage_is_noticed() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("cc.cwasm");
    let wasm = invoking("");
    let engine = WasmEngine::new(&config()).unwrap();
    let compiles = std::cell::Cell::new(0);
    let load = |engine: &WasmEngine| {
        let wasm = || {
            compiles.set(compiles.get() + 1);
            Ok(wasm.clone())
        };
        engine.load(&path, wasm).map(|_| compiles.get())
    };
    assert_eq!(load(&engine).unwrap(), 1);
    assert_eq!(load(&engine).unwrap(), 1);
    assert_eq!(
        std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o600
    );
    let whole = std::fs::read(&path).unwrap();
    for damage in [0, 60, 150, whole.len() / 2, whole.len() - 1] {
        let mut bytes = whole.clone();
        bytes[damage] ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        let before = compiles.get();
        assert_eq!(load(&engine).unwrap(), before + 1, "{damage}");
        assert_eq!(std::fs::read(&path).unwrap(), whole, "{damage}");
    }
    let other = WasmEngine::new(&RuntimeConfig {
        memory_bytes: 2 * 1024 * 1024,
        ..config()
    })
    .unwrap();
    let before = compiles.get();
    assert_eq!(load(&other).unwrap(), before + 1);
}

/// Prints what one call costs: `cargo test --release -p selvedge-peer one_call -- --nocapture`.
#[test]
fn one_call_is_timed() {
    let mut state = MemoryState::default();
    state.put("cc", "key", &[7; 200], Version { block: 1, tx: 0 });
    let bench = Bench::with(&RuntimeConfig::default(), state);
    let wasm = invoking(
        "(drop (call $input)) (call $buffer_read (i32.const 1024))
         (drop (call $put (i32.const 0) (i32.const 3) (i32.const 16) (i32.const 5)))
         (call $answer (call $get (i32.const 0) (i32.const 3)))",
    );
    let module = bench.engine.compile(&wasm).unwrap();
    let call = call(0);
    let args = vec![Bytes::from_static(b"fn"), Bytes::from(vec![1; 300])];
    let rounds = 2_000;
    let start = Instant::now();
    for _ in 0..rounds {
        let ran = bench.engine.run(
            &module,
            call.clone(),
            args.clone(),
            bench.simulator.clone(),
            10_000_000,
        );
        assert_eq!(ran.result.unwrap().response.status, 200);
    }
    println!(
        "one call (fresh instance, input, put, get, respond): {:?}",
        start.elapsed() / rounds
    );
}

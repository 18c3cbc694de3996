//! Contract that benchmarks run: it does nothing but read and write, as often and as much as it is told.

use selvedge_chaincode::prelude::*;

/// Keys that one call of `mix` may read, and write.
const MAX_KEYS: u64 = 1000;

/// The contract.
#[derive(Debug, Clone, Copy)]
pub struct BenchContract;

impl Contract for BenchContract {
    const NAME: &'static str = "bench";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const FUNCTIONS: &'static [Function] = &[
        Function::submit("put", &["key", "value"], put),
        Function::submit("update", &["key", "value"], update),
        Function::submit("mix", &["prefix", "value", "reads?", "writes?"], mix),
        Function::evaluate("get", &["key"], get),
    ];
}

fn put(ctx: &Context<'_>, args: &Args) -> Result<Response> {
    ctx.put_state(args.text(0)?, args.bytes(1))?;
    Ok(Response::empty())
}

/// Reads the key first, so that two updates of one key in a block conflict.
fn update(ctx: &Context<'_>, args: &Args) -> Result<Response> {
    let key = args.text(0)?;
    ctx.get_state(key)?;
    ctx.put_state(key, args.bytes(1))?;
    Ok(Response::empty())
}

/// Reads `prefix.0` and on, then writes `prefix.0` and on.
fn mix(ctx: &Context<'_>, args: &Args) -> Result<Response> {
    let prefix = args.text(0)?;
    let value = args.bytes(1);
    let count = |at| -> Result<u64> {
        let count = args.optional_integer(at)?.unwrap_or(1);
        if count > MAX_KEYS {
            return Err(Error::bad_request(format!(
                "{count} keys are too many; {MAX_KEYS} at most"
            )));
        }
        Ok(count)
    };
    for i in 0..count(2)? {
        ctx.get_state(&format!("{prefix}.{i}"))?;
    }
    for i in 0..count(3)? {
        ctx.put_state(&format!("{prefix}.{i}"), value)?;
    }
    Ok(Response::empty())
}

fn get(ctx: &Context<'_>, args: &Args) -> Result<Response> {
    let key = args.text(0)?;
    let value = ctx.get_state(key)?;
    value
        .map(Response::bytes)
        .ok_or_else(|| Error::not_found(format!("there is no key {key}")))
}

selvedge_chaincode::export!(BenchContract);

#[cfg(test)]
mod tests {
    use selvedge_chaincode::testing::{MockLedger, TestCaller};

    use super::*;

    fn ledger() -> (MockLedger, TestCaller) {
        let mut ledger = MockLedger::new();
        ledger.install::<BenchContract>("bench");
        (ledger, TestCaller::new("Org1MSP", "load"))
    }

    #[test]
    fn what_is_put_is_got() {
        let (mut ledger, caller) = ledger();
        ledger.submit(&caller, "bench", "put", &["k", "v"]).unwrap();
        ledger.submit(&caller, "bench", "update", &["k", "w"]).unwrap();
        assert_eq!(ledger.evaluate(&caller, "bench", "get", &["k"]).unwrap(), b"w");
        let missing = ledger.evaluate(&caller, "bench", "get", &["x"]);
        assert_eq!(missing.unwrap_err().status(), 404);
    }

    #[test]
    fn mix_writes_as_many_keys_as_told() {
        let (mut ledger, caller) = ledger();
        ledger
            .submit(&caller, "bench", "mix", &["k", "v", "3", "2"])
            .unwrap();
        assert!(ledger.evaluate(&caller, "bench", "get", &["k.1"]).is_ok());
        assert!(ledger.evaluate(&caller, "bench", "get", &["k.2"]).is_err());
        assert!(
            ledger
                .submit(&caller, "bench", "mix", &["k", "v", "3", "1001"])
                .is_err()
        );
    }
}

//! The peer's functions as wasm imports. `unsafe`, since a foreign function can be declared and
//! called in no other way. Pointers passed to the peer come from live slices, and the one
//! buffer that the peer fills was allocated with the length that the peer announced.
#![expect(unsafe_code, reason = "wasm imports are foreign functions")]

use crate::host::{Fact, Host};
use crate::{Error, Level, Response, Result, abi};

const ABSENT: i32 = -1;
const REFUSED: i32 = -2;

#[link(wasm_import_module = "selvedge_v1")]
unsafe extern "C" {
    fn buffer_read(ptr: *mut u8);
    fn buffer_len() -> i32;
    fn input() -> i32;
    fn context(what: i32) -> i32;
    fn transient(k: *const u8, kl: usize) -> i32;
    fn get_state(k: *const u8, kl: usize) -> i32;
    fn put_state(k: *const u8, kl: usize, v: *const u8, vl: usize) -> i32;
    fn del_state(k: *const u8, kl: usize) -> i32;
    fn get_state_range(s: *const u8, sl: usize, e: *const u8, el: usize) -> i32;
    fn get_history(k: *const u8, kl: usize) -> i32;
    fn iterator_next(handle: i32) -> i32;
    fn iterator_close(handle: i32);
    fn get_state_validation_parameter(k: *const u8, kl: usize) -> i32;
    fn set_state_validation_parameter(k: *const u8, kl: usize, v: *const u8, vl: usize) -> i32;
    fn get_private(c: *const u8, cl: usize, k: *const u8, kl: usize) -> i32;
    fn put_private(c: *const u8, cl: usize, k: *const u8, kl: usize, v: *const u8, vl: usize) -> i32;
    fn del_private(c: *const u8, cl: usize, k: *const u8, kl: usize) -> i32;
    fn get_private_hash(c: *const u8, cl: usize, k: *const u8, kl: usize) -> i32;
    fn invoke_chaincode(n: *const u8, nl: usize, a: *const u8, al: usize) -> i32;
    fn set_event(n: *const u8, nl: usize, p: *const u8, pl: usize) -> i32;
    fn log(level: i32, p: *const u8, l: usize);
    fn respond(status: i32, m: *const u8, ml: usize, p: *const u8, pl: usize);
}

/// The peer that runs this module.
#[derive(Debug, Default)]
pub(crate) struct Peer;

/// Takes the peer's result buffer, whose length it has announced.
fn buffer(len: i32) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(len).unwrap_or(0)];
    // SAFETY: the peer copies exactly the announced length, for which `bytes` was allocated.
    unsafe { buffer_read(bytes.as_mut_ptr()) };
    bytes
}

fn refusal(code: i32) -> Error {
    if code != REFUSED {
        return Error::internal(format!("the peer answered with the unknown code {code}"));
    }
    // SAFETY: takes nothing, returns a number.
    let reason = buffer(unsafe { buffer_len() });
    Error::internal(String::from_utf8_lossy(&reason).into_owned())
}

fn required(code: i32) -> Result<Vec<u8>> {
    if code < 0 {
        Err(refusal(code))
    } else {
        Ok(buffer(code))
    }
}

fn optional(code: i32) -> Result<Option<Vec<u8>>> {
    if code == ABSENT {
        Ok(None)
    } else {
        required(code).map(Some)
    }
}

fn handle(code: i32) -> Result<i32> {
    if code < 0 { Err(refusal(code)) } else { Ok(code) }
}

fn done(code: i32) -> Result<()> {
    if code == 0 { Ok(()) } else { Err(refusal(code)) }
}

// SAFETY of all calls below: each pointer and length pair is one live slice, which the peer only reads during the call.
impl Host for Peer {
    fn input(&self) -> Result<Vec<Vec<u8>>> {
        abi::decode_list(&required(unsafe { input() })?)
    }

    fn fact(&self, fact: Fact) -> Result<Vec<u8>> {
        required(unsafe { context(fact as i32) })
    }

    fn transient(&self, name: &str) -> Result<Option<Vec<u8>>> {
        optional(unsafe { transient(name.as_ptr(), name.len()) })
    }

    fn get_state(&self, key: &str) -> Result<Option<Vec<u8>>> {
        optional(unsafe { get_state(key.as_ptr(), key.len()) })
    }

    fn put_state(&self, key: &str, value: &[u8]) -> Result<()> {
        done(unsafe { put_state(key.as_ptr(), key.len(), value.as_ptr(), value.len()) })
    }

    fn del_state(&self, key: &str) -> Result<()> {
        done(unsafe { del_state(key.as_ptr(), key.len()) })
    }

    fn get_state_range(&self, start: &str, end: &str) -> Result<i32> {
        handle(unsafe { get_state_range(start.as_ptr(), start.len(), end.as_ptr(), end.len()) })
    }

    fn get_history(&self, key: &str) -> Result<i32> {
        handle(unsafe { get_history(key.as_ptr(), key.len()) })
    }

    fn iterator_next(&self, handle: i32) -> Result<Option<Vec<u8>>> {
        optional(unsafe { iterator_next(handle) })
    }

    fn iterator_close(&self, handle: i32) {
        unsafe { iterator_close(handle) };
    }

    fn validation_parameter(&self, key: &str) -> Result<Option<Vec<u8>>> {
        optional(unsafe { get_state_validation_parameter(key.as_ptr(), key.len()) })
    }

    fn set_validation_parameter(&self, key: &str, policy: &[u8]) -> Result<()> {
        done(unsafe {
            set_state_validation_parameter(key.as_ptr(), key.len(), policy.as_ptr(), policy.len())
        })
    }

    fn get_private(&self, collection: &str, key: &str) -> Result<Option<Vec<u8>>> {
        optional(unsafe { get_private(collection.as_ptr(), collection.len(), key.as_ptr(), key.len()) })
    }

    fn put_private(&self, collection: &str, key: &str, value: &[u8]) -> Result<()> {
        let (c, k) = (collection.as_bytes(), key.as_bytes());
        done(unsafe {
            put_private(
                c.as_ptr(),
                c.len(),
                k.as_ptr(),
                k.len(),
                value.as_ptr(),
                value.len(),
            )
        })
    }

    fn del_private(&self, collection: &str, key: &str) -> Result<()> {
        done(unsafe { del_private(collection.as_ptr(), collection.len(), key.as_ptr(), key.len()) })
    }

    fn private_hash(&self, collection: &str, key: &str) -> Result<Option<Vec<u8>>> {
        optional(unsafe { get_private_hash(collection.as_ptr(), collection.len(), key.as_ptr(), key.len()) })
    }

    fn invoke_chaincode(&self, name: &str, args: &[&[u8]]) -> Result<Response> {
        let list = abi::encode_list(args);
        let answer =
            required(unsafe { invoke_chaincode(name.as_ptr(), name.len(), list.as_ptr(), list.len()) })?;
        abi::decode_response(&answer)
    }

    fn set_event(&self, name: &str, payload: &[u8]) -> Result<()> {
        done(unsafe { set_event(name.as_ptr(), name.len(), payload.as_ptr(), payload.len()) })
    }

    fn log(&self, level: Level, message: &str) {
        unsafe { log(level as i32, message.as_ptr(), message.len()) };
    }

    fn respond(&self, response: &Response) {
        let (m, p) = (response.message.as_bytes(), response.payload.as_slice());
        unsafe { respond(response.status, m.as_ptr(), m.len(), p.as_ptr(), p.len()) };
    }
}

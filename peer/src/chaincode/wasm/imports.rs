//! The imports of module `selvedge_v1` by name: each reads its arguments from the instance's memory and asks the
//! simulator or the peer.

use selvedge_proto::protos;
use wasmtime::{Caller, Linker};

use super::host::{
    Fault, HostState, MAX_MESSAGE_BYTES, MAX_NAME_BYTES, QUERY_FUEL, READ_FUEL, Reply, Stop, fact, handle,
    handle_code, host, invoke_chaincode, item, optional, write_log,
};
use super::list;
use crate::chaincode::simulator::{MAX_KEY_BYTES, MAX_VALUE_BYTES, MAX_WRITE_BYTES};

type C<'a> = Caller<'a, HostState>;
type R = wasmtime::Result<i32>;

/// Defines all functions.
pub(super) fn link(linker: &mut Linker<HostState>) -> wasmtime::Result<()> {
    link_basics(linker)?;
    link_state(linker)?;
    link_private(linker)
}

fn link_basics(linker: &mut Linker<HostState>) -> wasmtime::Result<()> {
    const M: &str = super::IMPORT_MODULE;
    linker.func_wrap(
        M,
        "buffer_read",
        |mut c: C<'_>, ptr: i32| -> wasmtime::Result<()> {
            host(&mut c, "buffer_read", 0, |g| {
                let start = usize::try_from(ptr.cast_unsigned()).unwrap_or(usize::MAX);
                let buffer = g.host.buffer.clone();
                let target = start
                    .checked_add(buffer.len())
                    .and_then(|end| g.memory.get_mut(start..end));
                target
                    .ok_or(Fault::Pointer {
                        function: "buffer_read",
                    })?
                    .copy_from_slice(&buffer);
                Ok(Reply::Code(0))
            })
            .map(|_| ())
        },
    )?;
    linker.func_wrap(M, "buffer_len", |mut c: C<'_>| -> R {
        host(&mut c, "buffer_len", 0, |g| {
            Ok(Reply::Code(
                i32::try_from(g.host.buffer.len()).map_err(|_| Fault::Size)?,
            ))
        })
    })?;
    linker.func_wrap(M, "input", |mut c: C<'_>| -> R {
        host(&mut c, "input", 0, |g| {
            Ok(Reply::Buffer(list::encode(&g.host.args).into()))
        })
    })?;
    linker.func_wrap(M, "context", |mut c: C<'_>, what: i32| -> R {
        host(&mut c, "context", 0, |g| fact(&g.call, what).map(Reply::Buffer))
    })?;
    linker.func_wrap(M, "transient", |mut c: C<'_>, kp: i32, kl: i32| -> R {
        host(&mut c, "transient", 0, |g| {
            let key = g.key(kp, kl)?;
            Ok(optional(g.call.tx.transient.get(&key).cloned()))
        })
    })?;
    linker.func_wrap(
        M,
        "invoke_chaincode",
        |mut c: C<'_>, np: i32, nl: i32, ap: i32, al: i32| -> R {
            host(&mut c, "invoke_chaincode", QUERY_FUEL, |g| {
                let target = g.text(np, nl, 2 * MAX_NAME_BYTES, "the name of the chaincode")?;
                let args = g.bytes(ap, al, MAX_VALUE_BYTES, "the list of arguments")?;
                let args = list::decode(&args)
                    .ok_or_else(|| Stop::Refused("the list of arguments is malformed".to_owned()))?;
                invoke_chaincode(g, &target, args)
            })
        },
    )?;
    linker.func_wrap(
        M,
        "set_event",
        |mut c: C<'_>, np: i32, nl: i32, pp: i32, pl: i32| -> R {
            host(&mut c, "set_event", 0, |g| {
                let event_name = g.text(np, nl, MAX_NAME_BYTES, "the name of the event")?;
                if event_name.is_empty() {
                    return Err(Stop::Refused("event name can not be empty string".to_owned()));
                }
                let payload = g.bytes(pp, pl, MAX_VALUE_BYTES, "the payload of the event")?;
                g.host.event = Some(protos::ChaincodeEvent {
                    event_name,
                    payload,
                    ..Default::default()
                });
                Ok(Reply::Code(0))
            })
        },
    )?;
    linker.func_wrap(
        M,
        "log",
        |mut c: C<'_>, level: i32, p: i32, l: i32| -> wasmtime::Result<()> {
            host(&mut c, "log", 0, |g| write_log(g, level, p, l)).map(|_| ())
        },
    )?;
    linker.func_wrap(
        M,
        "respond",
        |mut c: C<'_>, status: i32, mp: i32, ml: i32, pp: i32, pl: i32| -> wasmtime::Result<()> {
            host(&mut c, "respond", 0, |g| {
                let too_large = |stop| match stop {
                    Stop::Refused(_) => Stop::Fault(Fault::Response {
                        limit: MAX_WRITE_BYTES,
                    }),
                    fault => fault,
                };
                let message = g
                    .bytes(mp, ml, MAX_MESSAGE_BYTES, "the message")
                    .map_err(too_large)?;
                let payload = g
                    .bytes(pp, pl, MAX_WRITE_BYTES, "the payload")
                    .map_err(too_large)?;
                let message = String::from_utf8_lossy(&message).into_owned();
                g.host.response = Some(protos::Response {
                    status,
                    message,
                    payload,
                });
                Ok(Reply::Code(0))
            })
            .map(|_| ())
        },
    )?;
    Ok(())
}

fn link_state(linker: &mut Linker<HostState>) -> wasmtime::Result<()> {
    const M: &str = super::IMPORT_MODULE;
    linker.func_wrap(M, "get_state", |mut c: C<'_>, kp: i32, kl: i32| -> R {
        host(&mut c, "get_state", READ_FUEL, |g| {
            let key = g.key(kp, kl)?;
            Ok(optional(g.simulator.lock().get(&g.call.chaincode, &key)?))
        })
    })?;
    linker.func_wrap(
        M,
        "put_state",
        |mut c: C<'_>, kp: i32, kl: i32, vp: i32, vl: i32| -> R {
            host(&mut c, "put_state", 0, |g| {
                let key = g.key(kp, kl)?;
                let value = g.bytes(vp, vl, MAX_VALUE_BYTES, "the value")?;
                g.simulator.lock().put(&g.call.chaincode, &key, value)?;
                Ok(Reply::Code(0))
            })
        },
    )?;
    linker.func_wrap(M, "del_state", |mut c: C<'_>, kp: i32, kl: i32| -> R {
        host(&mut c, "del_state", 0, |g| {
            let key = g.key(kp, kl)?;
            g.simulator.lock().delete(&g.call.chaincode, &key)?;
            Ok(Reply::Code(0))
        })
    })?;
    linker.func_wrap(
        M,
        "get_state_range",
        |mut c: C<'_>, sp: i32, sl: i32, ep: i32, el: i32| -> R {
            host(&mut c, "get_state_range", QUERY_FUEL, |g| {
                let start = g.text(sp, sl, MAX_KEY_BYTES, "the start of the range")?;
                let end = g.text(ep, el, MAX_KEY_BYTES, "the end of the range")?;
                handle_code(g.simulator.lock().open_range(&g.call.chaincode, &start, &end)?)
            })
        },
    )?;
    linker.func_wrap(M, "get_history", |mut c: C<'_>, kp: i32, kl: i32| -> R {
        host(&mut c, "get_history", QUERY_FUEL, |g| {
            let key = g.key(kp, kl)?;
            handle_code(g.simulator.lock().open_history(&g.call.chaincode, &key)?)
        })
    })?;
    linker.func_wrap(M, "iterator_next", |mut c: C<'_>, h: i32| -> R {
        host(&mut c, "iterator_next", 0, |g| {
            Ok(optional(g.simulator.lock().next(handle(h))?.map(item)))
        })
    })?;
    linker.func_wrap(
        M,
        "iterator_close",
        |mut c: C<'_>, h: i32| -> wasmtime::Result<()> {
            host(&mut c, "iterator_close", 0, |g| {
                g.simulator.lock().close(handle(h));
                Ok(Reply::Code(0))
            })
            .map(|_| ())
        },
    )?;
    linker.func_wrap(
        M,
        "get_state_validation_parameter",
        |mut c: C<'_>, kp: i32, kl: i32| -> R {
            host(&mut c, "get_state_validation_parameter", READ_FUEL, |g| {
                let key = g.key(kp, kl)?;
                Ok(optional(
                    g.simulator.lock().validation_parameter(&g.call.chaincode, &key)?,
                ))
            })
        },
    )?;
    linker.func_wrap(
        M,
        "set_state_validation_parameter",
        |mut c: C<'_>, kp: i32, kl: i32, vp: i32, vl: i32| -> R {
            host(&mut c, "set_state_validation_parameter", 0, |g| {
                let key = g.key(kp, kl)?;
                let policy = g.bytes(vp, vl, MAX_MESSAGE_BYTES, "the policy")?;
                g.simulator
                    .lock()
                    .set_validation_parameter(&g.call.chaincode, &key, policy)?;
                Ok(Reply::Code(0))
            })
        },
    )?;
    Ok(())
}

fn link_private(linker: &mut Linker<HostState>) -> wasmtime::Result<()> {
    const M: &str = super::IMPORT_MODULE;
    linker.func_wrap(
        M,
        "get_private",
        |mut c: C<'_>, cp: i32, cl: i32, kp: i32, kl: i32| -> R {
            host(&mut c, "get_private", READ_FUEL, |g| {
                let coll = g.collection_for(cp, cl, false)?;
                let key = g.key(kp, kl)?;
                Ok(optional(g.simulator.lock().get_private(
                    &g.call.chaincode,
                    &coll,
                    &key,
                )?))
            })
        },
    )?;
    linker.func_wrap(
        M,
        "get_private_hash",
        |mut c: C<'_>, cp: i32, cl: i32, kp: i32, kl: i32| -> R {
            host(&mut c, "get_private_hash", READ_FUEL, |g| {
                let (coll, _) = g.collection(cp, cl)?;
                let key = g.key(kp, kl)?;
                Ok(optional(g.simulator.lock().get_private_hash(
                    &g.call.chaincode,
                    &coll,
                    &key,
                )?))
            })
        },
    )?;
    linker.func_wrap(
        M,
        "put_private",
        |mut c: C<'_>, cp: i32, cl: i32, kp: i32, kl: i32, vp: i32, vl: i32| -> R {
            host(&mut c, "put_private", READ_FUEL, |g| {
                let coll = g.collection_for(cp, cl, true)?;
                let key = g.key(kp, kl)?;
                let value = g.bytes(vp, vl, MAX_VALUE_BYTES, "the value")?;
                g.simulator
                    .lock()
                    .put_private(&g.call.chaincode, &coll, &key, value)?;
                Ok(Reply::Code(0))
            })
        },
    )?;
    linker.func_wrap(
        M,
        "del_private",
        |mut c: C<'_>, cp: i32, cl: i32, kp: i32, kl: i32| -> R {
            host(&mut c, "del_private", READ_FUEL, |g| {
                let coll = g.collection_for(cp, cl, true)?;
                let key = g.key(kp, kl)?;
                g.simulator
                    .lock()
                    .delete_private(&g.call.chaincode, &coll, &key)?;
                Ok(Reply::Code(0))
            })
        },
    )?;
    Ok(())
}

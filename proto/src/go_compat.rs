//! Decoding as Go decodes (spec 01 A.4 item 19).
//!
//! Validation codes depend on whether Go's `proto.Unmarshal` accepts some bytes. prost is stricter in one point (a known
//! field with another wire type than declared is an error there; in Go it is an unknown field) and bounds nested groups
//! differently. So the bytes are walked here first, by a table of field kinds made from the descriptors: what Go refuses
//! is refused; what prost reads just as Go does goes to prost unchanged, without a copy; anything else goes to prost
//! rewritten, with those fields left out.
//!
//! A field of type `bytes` that is there with zero length is, in Go as in prost, the same as one that is not there: Go's
//! decoder leaves it nil. So where Fabric compares such a field with nil, it is to be asked whether it is empty here.
//!
//! One difference is kept on purpose: messages nested more than [`MAX_DEPTH`] deep are refused (Go: 10000). No chain
//! has them, and the recursion has to end somewhere.

use bytes::Bytes;
use prost::{Message, Name};

/// How deep known messages may nest; what prost allows too.
pub const MAX_DEPTH: usize = 96;
/// Go's limit for nested groups of unknown fields.
const MAX_GROUP_DEPTH: usize = 10_001;
const MAX_FIELD_NUMBER: u64 = (1 << 29) - 1;

/// Why Go would not decode a message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message} does not unmarshal: {why} at byte {offset}")]
pub struct GoDecodeError {
    /// Full name of the message that was asked for.
    pub message: String,
    /// What is wrong.
    pub why: &'static str,
    /// Where, counted from the start of the innermost message that holds the fault.
    pub offset: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Varint,
    String,
    Bytes,
    /// Index into [`MESSAGES`].
    Message(usize),
}

#[derive(Debug)]
struct FieldSchema {
    number: u32,
    kind: Kind,
    repeated: bool,
}

#[derive(Debug)]
struct MessageSchema {
    name: &'static str,
    fields: &'static [FieldSchema],
}

static MESSAGES: &[MessageSchema] = include!(concat!(env!("OUT_DIR"), "/go_schema.rs"));

impl MessageSchema {
    fn find(name: &str) -> Option<&'static Self> {
        let place = MESSAGES.binary_search_by(|m| m.name.cmp(name)).ok()?;
        MESSAGES.get(place)
    }

    fn field(&self, number: u64) -> Option<&'static FieldSchema> {
        let place = self
            .fields
            .binary_search_by(|f| u64::from(f.number).cmp(&number))
            .ok()?;
        self.fields.get(place)
    }
}

const VARINT: u8 = 0;
const FIXED64: u8 = 1;
const LEN: u8 = 2;
const START_GROUP: u8 = 3;
const END_GROUP: u8 = 4;
const FIXED32: u8 = 5;

struct Fault {
    why: &'static str,
    offset: usize,
}

struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    fn fault<T>(&self, why: &'static str) -> Result<T, Fault> {
        Err(Fault { why, offset: self.at })
    }

    fn done(&self) -> bool {
        self.at >= self.bytes.len()
    }

    fn varint(&mut self) -> Result<u64, Fault> {
        let mut value = 0u64;
        for i in 0..10u32 {
            let Some(&byte) = self.bytes.get(self.at) else {
                return self.fault("a varint is cut off");
            };
            // The tenth byte holds bit 63 alone.
            if i == 9 && byte > 1 {
                return self.fault("a varint exceeds 64 bits");
            }
            self.at += 1;
            value |= u64::from(byte & 0x7f) << (7 * i);
            if byte < 0x80 {
                break;
            }
        }
        Ok(value)
    }

    fn take(&mut self, len: u64) -> Result<&'a [u8], Fault> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        match usize::try_from(len).ok().and_then(|len| rest.get(..len)) {
            Some(taken) => {
                self.at += taken.len();
                Ok(taken)
            }
            None => self.fault("a field runs past the end"),
        }
    }

    fn sized(&mut self) -> Result<&'a [u8], Fault> {
        let len = self.varint()?;
        self.take(len)
    }

    /// Steps over the value of an unknown field, groups with all that is in them included.
    fn skip(&mut self, number: u64, wire: u8) -> Result<(), Fault> {
        if self.skip_plain(wire)? {
            return Ok(());
        }
        if wire != START_GROUP {
            return self.fault("a group ends that did not begin");
        }
        let mut open = vec![number];
        while let Some(&group) = open.last() {
            let tag = self.varint()?;
            let (number, wire) = (tag >> 3, wire_type(tag));
            // Inside of groups Go's bound is that of int32.
            if number == 0 || number > 0x7fff_ffff {
                return self.fault("a field number is out of range");
            }
            match wire {
                END_GROUP if number == group => {
                    open.pop();
                }
                START_GROUP if open.len() < MAX_GROUP_DEPTH => open.push(number),
                START_GROUP => return self.fault("groups nest too deeply"),
                END_GROUP => return self.fault("a group ends that did not begin"),
                _ => {
                    self.skip_plain(wire)?;
                }
            }
        }
        Ok(())
    }

    /// Steps over a value that is not a group; `false` for group marks.
    fn skip_plain(&mut self, wire: u8) -> Result<bool, Fault> {
        match wire {
            VARINT => self.varint().map(drop)?,
            FIXED64 => self.take(8).map(drop)?,
            LEN => self.sized().map(drop)?,
            FIXED32 => self.take(4).map(drop)?,
            START_GROUP | END_GROUP => return Ok(false),
            _ => return self.fault("a wire type does not exist"),
        }
        Ok(true)
    }
}

fn wire_type(tag: u64) -> u8 {
    (tag & 7) as u8
}

/// Walks a message as Go would. Without `out`, tells whether prost reads the bytes equally; with it, also writes there what
/// prost is to read instead.
fn walk(
    schema: &MessageSchema,
    bytes: &[u8],
    depth: usize,
    mut out: Option<&mut Vec<u8>>,
) -> Result<bool, Fault> {
    let mut cursor = Cursor::new(bytes);
    if depth > MAX_DEPTH {
        return cursor.fault("messages nest too deeply");
    }
    let mut same = true;
    while !cursor.done() {
        let start = cursor.at;
        let tag = cursor.varint()?;
        let (number, wire) = (tag >> 3, wire_type(tag));
        if number == 0 || number > MAX_FIELD_NUMBER {
            return cursor.fault("a field number is out of range");
        }
        let known = schema.field(number).filter(|f| f.takes(wire));
        let Some(field) = known else {
            cursor.skip(number, wire)?;
            // prost steps over plain unknown fields by itself, but fails on a known number with another wire type.
            same &= wire != START_GROUP && schema.field(number).is_none();
            continue;
        };
        match (field.kind, wire) {
            (Kind::Message(place), LEN) => {
                let content = cursor.sized()?;
                let Some(inner) = MESSAGES.get(place) else {
                    return cursor.fault("the schema is incomplete");
                };
                if let Some(out) = out.as_deref_mut() {
                    let mut rewritten = Vec::with_capacity(content.len());
                    same &= walk(inner, content, depth + 1, Some(&mut rewritten))?;
                    prost::encoding::encode_varint(tag, out);
                    prost::encoding::encode_varint(rewritten.len() as u64, out);
                    out.extend_from_slice(&rewritten);
                } else {
                    same &= walk(inner, content, depth + 1, None)?;
                }
                continue;
            }
            (Kind::String, _) => {
                if std::str::from_utf8(cursor.sized()?).is_err() {
                    return cursor.fault("a string is not UTF-8");
                }
            }
            (Kind::Varint, LEN) => {
                let mut packed = Cursor::new(cursor.sized()?);
                while !packed.done() {
                    packed.varint()?;
                }
            }
            _ => {
                cursor.skip_plain(wire)?;
            }
        }
        if let Some(out) = out.as_deref_mut() {
            out.extend_from_slice(bytes.get(start..cursor.at).unwrap_or_default());
        }
    }
    Ok(same)
}

impl FieldSchema {
    fn takes(&self, wire: u8) -> bool {
        match self.kind {
            Kind::Varint => wire == VARINT || (self.repeated && wire == LEN),
            Kind::String | Kind::Bytes | Kind::Message(_) => wire == LEN,
        }
    }
}

/// Bytes that prost decodes to what Go would decode from `bytes`; the same `Bytes` where nothing has to change.
///
/// # Errors
/// Go would not decode the bytes.
pub fn normalise<M: Name>(bytes: Bytes) -> Result<Bytes, GoDecodeError> {
    let name = M::full_name();
    let Some(schema) = MessageSchema::find(&name) else {
        return Err(GoDecodeError {
            message: name,
            why: "the schema is not known",
            offset: 0,
        });
    };
    let error = |fault: Fault| GoDecodeError {
        message: schema.name.to_owned(),
        why: fault.why,
        offset: fault.offset,
    };
    if walk(schema, &bytes, 0, None).map_err(error)? {
        return Ok(bytes);
    }
    let mut out = Vec::with_capacity(bytes.len());
    walk(schema, &bytes, 0, Some(&mut out)).map_err(error)?;
    Ok(out.into())
}

/// Decodes a message as Go's `proto.Unmarshal` does; fields of type `bytes` borrow from the input.
///
/// # Errors
/// Go would not decode the bytes.
pub fn decode<M: Message + Name + Default>(bytes: Bytes) -> Result<M, GoDecodeError> {
    M::decode(normalise::<M>(bytes)?).map_err(|_| GoDecodeError {
        message: M::full_name(),
        why: "it is refused",
        offset: 0,
    })
}

#[cfg(test)]
mod tests;

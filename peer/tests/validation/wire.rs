//! A slow and obvious reader of protobuf as Go reads it (spec 01 A.4 item 19), which shares no code with the one under test:
//! a message is split into its fields, and each kind of message picks what it knows out of them.

/// The bytes do not unmarshal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Unreadable;

pub(crate) type Read<T> = Result<T, Unreadable>;

#[derive(Debug, Clone, PartialEq)]
enum Value {
    Varint(u64),
    Bytes(Vec<u8>),
    /// A fixed number or a group: no message here has such fields.
    Other,
}

/// A message's fields in their order. Known fields of another wire type than declared are never asked for, and so count as
/// unknown.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Fields(Vec<(u64, Value)>);

fn varint(bytes: &[u8], at: &mut usize) -> Read<u64> {
    let mut value: u128 = 0;
    for place in 0..10 {
        let byte = *bytes.get(*at).ok_or(Unreadable)?;
        *at += 1;
        value |= u128::from(byte & 0x7f) << (7 * place);
        if byte < 0x80 {
            return u64::try_from(value).map_err(|_| Unreadable);
        }
    }
    Err(Unreadable)
}

fn take(bytes: &[u8], at: &mut usize, len: u64) -> Read<Vec<u8>> {
    let end = usize::try_from(len)
        .ok()
        .and_then(|len| at.checked_add(len))
        .ok_or(Unreadable)?;
    let taken = bytes.get(*at..end).ok_or(Unreadable)?.to_vec();
    *at = end;
    Ok(taken)
}

/// Reads one field; `None` where the group `within` ends.
fn field(bytes: &[u8], at: &mut usize, within: Option<u64>) -> Read<Option<(u64, Value)>> {
    let tag = varint(bytes, at)?;
    let number = tag >> 3;
    // Inside of groups Go's bound is that of int32.
    let most = if within.is_some() {
        i32::MAX as u64
    } else {
        (1 << 29) - 1
    };
    if number == 0 || number > most {
        return Err(Unreadable);
    }
    let value = match tag & 7 {
        0 => Value::Varint(varint(bytes, at)?),
        1 => take(bytes, at, 8).map(|_| Value::Other)?,
        2 => {
            let len = varint(bytes, at)?;
            Value::Bytes(take(bytes, at, len)?)
        }
        3 => {
            while field(bytes, at, Some(number))?.is_some() {}
            Value::Other
        }
        4 if within == Some(number) => return Ok(None),
        5 => take(bytes, at, 4).map(|_| Value::Other)?,
        _ => return Err(Unreadable),
    };
    Ok(Some((number, value)))
}

impl Fields {
    pub(crate) fn read(bytes: &[u8]) -> Read<Self> {
        let (mut fields, mut at) = (Vec::new(), 0);
        while at < bytes.len() {
            fields.extend(field(bytes, &mut at, None)?);
        }
        Ok(Self(fields))
    }

    fn all_bytes(&self, number: u64) -> impl DoubleEndedIterator<Item = &Vec<u8>> {
        self.0.iter().filter_map(move |(n, value)| match value {
            Value::Bytes(bytes) if *n == number => Some(bytes),
            _ => None,
        })
    }

    /// A number of 64 bits; the last occurrence counts.
    pub(crate) fn number(&self, number: u64) -> u64 {
        let mut all = self.0.iter().filter_map(|(n, value)| match value {
            Value::Varint(value) if *n == number => Some(*value),
            _ => None,
        });
        all.next_back().unwrap_or(0)
    }

    /// A number of 32 bits, of a varint that may be wider.
    pub(crate) fn number32(&self, number: u64) -> u32 {
        (self.number(number) & 0xffff_ffff) as u32
    }

    pub(crate) fn truth(&self, number: u64) -> bool {
        self.number(number) != 0
    }

    /// A field of type `bytes`; absent and empty are one, as in Go.
    pub(crate) fn blob(&self, number: u64) -> Vec<u8> {
        self.all_bytes(number).next_back().cloned().unwrap_or_default()
    }

    /// A text: every occurrence must be UTF-8.
    pub(crate) fn text(&self, number: u64) -> Read<String> {
        let mut found = String::new();
        for bytes in self.all_bytes(number) {
            found = String::from_utf8(bytes.clone()).map_err(|_| Unreadable)?;
        }
        Ok(found)
    }

    /// A nested message, whose occurrences are merged: that is as if their bytes stood one behind the other.
    pub(crate) fn message<T>(&self, number: u64, read: impl Fn(Fields) -> Read<T>) -> Read<Option<T>> {
        let mut merged: Option<Fields> = None;
        for bytes in self.all_bytes(number) {
            let fields = Fields::read(bytes)?;
            // Each must be sound on its own.
            read(fields.clone())?;
            merged.get_or_insert_default().0.extend(fields.0);
        }
        merged.map(read).transpose()
    }

    pub(crate) fn messages<T>(&self, number: u64, read: impl Fn(Fields) -> Read<T>) -> Read<Vec<T>> {
        self.all_bytes(number)
            .map(|bytes| read(Fields::read(bytes)?))
            .collect()
    }

    /// Which of two nested messages, of a `oneof`, came last; occurrences of the other one before it are void.
    pub(crate) fn last_of(&self, one: u64, other: u64) -> Option<(u64, Fields)> {
        let numbers: Vec<u64> = self
            .0
            .iter()
            .filter(|(n, value)| (*n == one || *n == other) && matches!(value, Value::Bytes(_)))
            .map(|(n, _)| *n)
            .collect();
        let last = *numbers.last()?;
        let run = numbers.iter().rev().take_while(|n| **n == last).count();
        let all: Vec<&Vec<u8>> = self.all_bytes(last).collect();
        let merged = all[all.len() - run..].iter().map(|bytes| Fields::read(bytes));
        let fields = merged
            .filter_map(Result::ok)
            .flat_map(|fields| fields.0)
            .collect();
        Some((last, Fields(fields)))
    }
}

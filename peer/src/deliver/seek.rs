//! Where a stream of blocks begins and ends (spec 05 §4 items 7-9).

use selvedge_proto::common::Status;
use selvedge_proto::orderer::seek_position::Type;
use selvedge_proto::orderer::{SeekInfo, SeekPosition, seek_info};

/// A seek, worked out against the height of the channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Range {
    pub(crate) start: u64,
    pub(crate) stop: u64,
    /// A block that is not there ends the stream with NOT_FOUND.
    pub(crate) fail_if_not_ready: bool,
}

/// # Errors
/// NOT_FOUND for a seek that begins beyond the next block or at no position at all, wherever it should end; BAD_REQUEST for
/// one without start or stop, or one that ends before it begins.
pub(crate) fn resolve(seek: &SeekInfo, height: u64) -> Result<Range, Status> {
    let position = |p: &Option<SeekPosition>| p.as_ref().map(|p| p.r#type).ok_or(Status::BadRequest);
    let (start, stop) = (position(&seek.start)?, position(&seek.stop)?);
    let newest = height.saturating_sub(1);
    let first = match start {
        Some(Type::Oldest(_)) => 0,
        Some(Type::Newest(_)) => newest,
        Some(Type::Specified(specified)) if specified.number > height => return Err(Status::NotFound),
        Some(Type::Specified(specified)) => specified.number,
        Some(Type::NextCommit(_)) => height,
        None => return Err(Status::NotFound),
    };
    let last = match stop {
        Some(Type::Oldest(_)) => first,
        Some(Type::Newest(_)) if matches!(start, Some(Type::Newest(_))) => first,
        Some(Type::Newest(_)) => newest,
        Some(Type::Specified(specified)) if specified.number < first => return Err(Status::BadRequest),
        Some(Type::Specified(specified)) => specified.number,
        Some(Type::NextCommit(_)) | None => 0,
    };
    Ok(Range {
        start: first,
        stop: last,
        fail_if_not_ready: seek.behavior == seek_info::SeekBehavior::FailIfNotReady as i32,
    })
}

#[cfg(test)]
mod tests {
    use selvedge_proto::orderer::{SeekNewest, SeekNextCommit, SeekOldest, SeekSpecified};

    use super::*;

    const OLDEST: Option<Type> = Some(Type::Oldest(SeekOldest {}));
    const NEWEST: Option<Type> = Some(Type::Newest(SeekNewest {}));
    const NEXT: Option<Type> = Some(Type::NextCommit(SeekNextCommit {}));

    fn at(number: u64) -> Option<Type> {
        Some(Type::Specified(SeekSpecified { number }))
    }

    fn seek(start: Option<Type>, stop: Option<Type>) -> SeekInfo {
        SeekInfo {
            start: Some(SeekPosition { r#type: start }),
            stop: Some(SeekPosition { r#type: stop }),
            ..Default::default()
        }
    }

    /// Height 5: blocks 0..=4.
    #[test]
    fn table_of_seeks() {
        let cases = [
            (OLDEST, NEWEST, Ok((0, 4))),
            (OLDEST, OLDEST, Ok((0, 0))),
            (OLDEST, at(u64::MAX), Ok((0, u64::MAX))),
            (NEWEST, NEWEST, Ok((4, 4))),
            (NEWEST, at(u64::MAX), Ok((4, u64::MAX))),
            (NEWEST, at(3), Err(Status::BadRequest)),
            (NEXT, at(u64::MAX), Ok((5, u64::MAX))),
            (NEXT, at(4), Err(Status::BadRequest)),
            (NEXT, NEWEST, Ok((5, 4))),
            (at(2), at(2), Ok((2, 2))),
            (at(2), at(1), Err(Status::BadRequest)),
            (at(3), OLDEST, Ok((3, 3))),
            (at(5), at(9), Ok((5, 9))),
            (at(6), at(9), Err(Status::NotFound)),
            (at(2), NEXT, Ok((2, 0))),
            (at(2), None, Ok((2, 0))),
            (None, NEWEST, Err(Status::NotFound)),
            (at(1000), at(5), Err(Status::NotFound)),
        ];
        for (start, stop, expected) in cases {
            let range = resolve(&seek(start, stop), 5).map(|r| (r.start, r.stop));
            assert_eq!(range, expected, "{start:?} to {stop:?}");
        }
    }

    #[test]
    fn both_ends_must_be_given() {
        for seek in [
            SeekInfo {
                start: None,
                ..seek(OLDEST, NEWEST)
            },
            SeekInfo {
                stop: None,
                ..seek(OLDEST, NEWEST)
            },
        ] {
            assert_eq!(resolve(&seek, 5), Err(Status::BadRequest));
        }
        let strict = SeekInfo {
            behavior: 1,
            ..seek(OLDEST, NEWEST)
        };
        assert!(resolve(&strict, 5).unwrap().fail_if_not_ready);
    }
}

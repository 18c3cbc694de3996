//! Small files that hold one message: the vote, the purged position, the applied position.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use prost::Message;

use super::segments::{LogError, io_error};

/// Makes the names in a folder durable.
pub(super) fn sync_dir(dir: &Path) -> Result<(), LogError> {
    File::open(dir)
        .and_then(|d| d.sync_all())
        .map_err(io_error("sync", dir))
}

/// Stores a small message with its checksum, so that either the old or the new one is there after a crash.
pub(crate) fn write_record<M: Message>(path: &Path, message: &M) -> Result<(), LogError> {
    let body = message.encode_to_vec();
    let mut bytes = crc32c::crc32c(&body).to_le_bytes().to_vec();
    bytes.extend_from_slice(&body);
    let fresh = path.with_extension("new");
    let mut file = File::create(&fresh).map_err(io_error("create", &fresh))?;
    file.write_all(&bytes).map_err(io_error("write", &fresh))?;
    file.sync_all().map_err(io_error("sync", &fresh))?;
    std::fs::rename(&fresh, path).map_err(io_error("replace", path))?;
    path.parent().map_or(Ok(()), sync_dir)
}

/// Reads what [`write_record`] stored; `None` when there is no such file.
pub(crate) fn read_record<M: Message + Default>(path: &Path) -> Result<Option<M>, LogError> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(io_error("read", path)(e)),
    };
    let damaged = |why: &str| LogError::Damaged {
        path: path.to_owned(),
        offset: 0,
        why: why.into(),
    };
    let (crc, body) = bytes
        .split_first_chunk::<4>()
        .ok_or_else(|| damaged("too short"))?;
    if crc32c::crc32c(body) != u32::from_le_bytes(*crc) {
        return Err(damaged("checksum"));
    }
    M::decode(body).map(Some).map_err(|e| damaged(&e.to_string()))
}

#[cfg(test)]
mod tests {
    use selvedge_proto::selvedge::cluster as pb;

    use super::*;

    #[test]
    fn a_record_is_there_whole_or_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("vote");
        assert_eq!(read_record::<pb::Vote>(&path).unwrap(), None);
        for term in [1, 1 << 40] {
            let vote = pb::Vote {
                term,
                node: 3,
                committed: true,
            };
            write_record(&path, &vote).unwrap();
            assert_eq!(read_record(&path).unwrap(), Some(vote));
        }
        let whole = std::fs::read(&path).unwrap();
        for cut in 0..whole.len() {
            std::fs::write(&path, &whole[..cut]).unwrap();
            assert!(read_record::<pb::Vote>(&path).is_err(), "cut at {cut}");
        }
    }
}

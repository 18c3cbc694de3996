//! What a node that lost its data needs to come back: for each of its channels the block that it was joined with, in a
//! folder apart from the data.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use prost::Message;
use selvedge_proto::common;

use crate::error::OrdererError;

/// Files `<channel>.block`, each written under a temporary name and renamed.
pub(crate) struct Joined {
    dir: PathBuf,
}

impl Joined {
    /// Makes the folder if it is not there.
    pub(crate) fn open(dir: &Path) -> Result<Self, OrdererError> {
        let joined = Self { dir: dir.to_owned() };
        std::fs::create_dir_all(dir).map_err(|e| joined.failed("create", dir, e))?;
        Ok(joined)
    }

    /// Channels with their blocks, by name. A file that is no block is reported in the log and passed over: it must not keep
    /// the node's other channels from working.
    pub(crate) fn blocks(&self) -> Result<Vec<(String, common::Block)>, OrdererError> {
        let mut blocks = Vec::new();
        for entry in std::fs::read_dir(&self.dir).map_err(|e| self.failed("list", &self.dir, e))? {
            let path = entry.map_err(|e| self.failed("list", &self.dir, e))?.path();
            let name = path.file_name().and_then(|n| n.to_str());
            let Some(id) = name.and_then(|n| n.strip_suffix(".block")) else {
                continue;
            };
            let bytes = std::fs::read(&path).map_err(|e| self.failed("read", &path, e))?;
            match common::Block::decode(bytes.as_slice()) {
                Ok(block) => blocks.push((id.to_owned(), block)),
                Err(why) => tracing::error!(file = %path.display(), %why, "not a block; passed over"),
            }
        }
        blocks.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(blocks)
    }

    /// Keeps the block of a channel; on disk when this returns.
    pub(crate) fn remember(&self, channel: &str, block: &common::Block) -> Result<(), OrdererError> {
        let (path, fresh) = (self.path(channel), self.dir.join(format!(".{channel}.new")));
        let write = || {
            let mut file = File::create(&fresh)?;
            file.write_all(&block.encode_to_vec())?;
            file.sync_all()?;
            std::fs::rename(&fresh, &path)?;
            File::open(&self.dir)?.sync_all()
        };
        write().map_err(|e| self.failed("write", &path, e))
    }

    /// Forgets a channel that was left.
    pub(crate) fn forget(&self, channel: &str) -> Result<(), OrdererError> {
        let path = self.path(channel);
        match std::fs::remove_file(&path).and_then(|()| File::open(&self.dir)?.sync_all()) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(self.failed("remove", &path, e)),
            _ => Ok(()),
        }
    }

    fn path(&self, channel: &str) -> PathBuf {
        self.dir.join(format!("{channel}.block"))
    }

    fn failed(&self, action: &'static str, path: &Path, source: std::io::Error) -> OrdererError {
        OrdererError::Io {
            action,
            path: path.to_owned(),
            source,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(number: u64) -> common::Block {
        common::Block {
            header: Some(common::BlockHeader {
                number,
                ..Default::default()
            }),
            ..Default::default()
        }
    }

    #[test]
    fn what_is_remembered_is_there_until_it_is_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let joined = Joined::open(&dir.path().join("joined")).unwrap();
        joined.remember("trade", &block(0)).unwrap();
        joined.remember("lab", &block(7)).unwrap();
        joined.remember("trade", &block(3)).unwrap();
        std::fs::write(joined.path("broken"), b"\xff\xff\xff").unwrap();
        std::fs::write(joined.dir.join(".half.new"), b"").unwrap();
        let found = joined.blocks().unwrap();
        assert_eq!(
            found,
            [("lab".to_owned(), block(7)), ("trade".to_owned(), block(3))]
        );
        joined.forget("trade").unwrap();
        joined.forget("trade").unwrap();
        assert_eq!(joined.blocks().unwrap().len(), 1);
    }
}

//! RocksDB, set up for little memory.

use std::path::{Path, PathBuf};

use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamily, ColumnFamilyDescriptor, DB, DBPinnableSlice, Direction,
    IteratorMode, LogLevel, Options, ReadOptions, Snapshot, WriteBatch, WriteOptions,
};

use crate::error::LedgerError;

/// Key and value.
pub(crate) type Pair = (Box<[u8]>, Box<[u8]>);

const COLUMN_FAMILY: &str = "default";

/// How much memory a ledger's databases may use.
#[derive(Debug, Clone)]
pub struct DatabaseOptions {
    /// Blocks kept in memory, in bytes.
    pub block_cache_bytes: usize,
    /// Size of one write buffer, in bytes; there are at most two.
    pub write_buffer_bytes: usize,
    /// How many table files are kept open, with their indexes and filters in memory: 2.5 bytes a key.
    pub open_files: i32,
}

impl Default for DatabaseOptions {
    fn default() -> Self {
        Self {
            block_cache_bytes: 16 << 20,
            write_buffer_bytes: 8 << 20,
            open_files: 256,
        }
    }
}

/// One database with one column family, so that its write-ahead log always comes back as a prefix of what was written.
///
/// Batches go to the log without a sync: a killed process loses nothing, a machine that loses power loses the last batches,
/// whole ones from the end.
pub(crate) struct Db {
    db: DB,
    path: PathBuf,
}

impl Db {
    pub(crate) fn open(path: &Path, options: &DatabaseOptions) -> Result<Self, LedgerError> {
        std::fs::create_dir_all(path).map_err(|source| LedgerError::Io {
            doing: "create",
            path: path.to_owned(),
            source,
        })?;
        let mut tables = BlockBasedOptions::default();
        tables.set_block_cache(&Cache::new_lru_cache(options.block_cache_bytes));
        tables.set_bloom_filter(10.0, false);
        // In the cache, filters would push each other out: from a million keys on, reading them again for every key that is
        // looked up took a quarter of a peer's time.
        tables.set_cache_index_and_filter_blocks(false);
        tables.set_format_version(5);
        let mut opts = Options::default();
        opts.create_if_missing(true);
        opts.set_block_based_table_factory(&tables);
        opts.set_write_buffer_size(options.write_buffer_bytes);
        opts.set_max_write_buffer_number(2);
        // Most keys that are asked for are not in the write buffer: new transaction ids, chaincode definitions.
        opts.set_memtable_prefix_bloom_ratio(0.1);
        opts.set_memtable_whole_key_filtering(true);
        opts.set_max_total_wal_size(4 * options.write_buffer_bytes as u64);
        opts.set_max_open_files(options.open_files);
        opts.set_max_background_jobs(2);
        opts.set_target_file_size_base(32 << 20);
        opts.set_level_compaction_dynamic_level_bytes(true);
        opts.set_bytes_per_sync(1 << 20);
        opts.set_keep_log_file_num(2);
        opts.set_max_log_file_size(1 << 20);
        opts.set_log_level(LogLevel::Warn);
        let family = ColumnFamilyDescriptor::new(COLUMN_FAMILY, opts.clone());
        let db = DB::open_cf_descriptors(&opts, path, [family]).map_err(failed(path, "open it"))?;
        Ok(Self {
            db,
            path: path.to_owned(),
        })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn rocks(&self) -> &DB {
        &self.db
    }

    pub(crate) fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, LedgerError> {
        self.db.get(key).map_err(failed(&self.path, "read it"))
    }

    /// Many keys at once, of the snapshot if one is given.
    pub(crate) fn get_many(
        &self,
        keys: &[Vec<u8>],
        snapshot: Option<&Snapshot<'_>>,
    ) -> Result<Vec<Option<DBPinnableSlice<'_>>>, LedgerError> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let mut read = ReadOptions::default();
        if let Some(snapshot) = snapshot {
            read.set_snapshot(snapshot);
        }
        if let [key] = keys {
            // Half the price of a batch of one.
            let found = self.db.get_pinned_opt(key, &read);
            return Ok(vec![found.map_err(failed(&self.path, "read it"))?]);
        }
        let found = self
            .db
            .batched_multi_get_cf_opt(self.family()?, keys, false, &read);
        found
            .into_iter()
            .collect::<Result<_, _>>()
            .map_err(failed(&self.path, "read it"))
    }

    pub(crate) fn write(&self, batch: WriteBatch, sync: bool) -> Result<(), LedgerError> {
        let mut write = WriteOptions::default();
        write.set_sync(sync);
        self.db
            .write_opt(batch, &write)
            .map_err(failed(&self.path, "write to it"))
    }

    /// The entries with `from <= key < to`, of the snapshot if one is given.
    pub(crate) fn scan<'a>(
        &'a self,
        from: Vec<u8>,
        to: Vec<u8>,
        direction: Direction,
        snapshot: Option<&Snapshot<'_>>,
    ) -> impl Iterator<Item = Result<Pair, LedgerError>> + use<'a> {
        let mut read = ReadOptions::default();
        if let Some(snapshot) = snapshot {
            read.set_snapshot(snapshot);
        }
        let empty = from >= to;
        if !empty {
            read.set_iterate_lower_bound(from);
            read.set_iterate_upper_bound(to);
        }
        let mode = match direction {
            Direction::Forward => IteratorMode::Start,
            Direction::Reverse => IteratorMode::End,
        };
        self.db
            .iterator_opt(mode, read)
            .take_while(move |_| !empty)
            .map(|entry| entry.map_err(failed(&self.path, "scan it")))
    }

    /// The entries whose key starts with `prefix`.
    pub(crate) fn scan_prefix(
        &self,
        prefix: &[u8],
        direction: Direction,
    ) -> impl Iterator<Item = Result<Pair, LedgerError>> {
        self.scan(prefix.to_vec(), after_prefix(prefix), direction, None)
    }

    fn family(&self) -> Result<&ColumnFamily, LedgerError> {
        self.db
            .cf_handle(COLUMN_FAMILY)
            .ok_or_else(|| LedgerError::Database {
                path: self.path.clone(),
                doing: "find its column family",
                why: "it is not open".into(),
            })
    }
}

impl std::fmt::Debug for Db {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Db")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

/// The least key above all that start with `prefix`, whose last byte must not be 255 throughout.
fn after_prefix(prefix: &[u8]) -> Vec<u8> {
    let mut bound = prefix.to_vec();
    while let Some(last) = bound.last_mut() {
        if *last < u8::MAX {
            *last += 1;
            break;
        }
        bound.pop();
    }
    bound
}

fn failed(path: &Path, doing: &'static str) -> impl FnOnce(rocksdb::Error) -> LedgerError {
    let path = path.to_owned();
    move |error| LedgerError::Database {
        path,
        doing,
        why: error.into_string(),
    }
}

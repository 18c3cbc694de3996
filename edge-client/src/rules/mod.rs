//! Edge rules: which readings become transactions, with a memory that a crash does not take.
//!
//! ```text
//! reading ─► Engine (pure) ─┬─ memory unchanged ─► what passes, to be sent by the caller
//!                           └─ memory changed ───► journal (durable) ─► outbox ─► buffer
//! ```
//!
//! A reading that changes the memory is noted in the journal before its sender is told that it was taken. What it leads
//! to (the value that passed, the summary of the window that it closed) is *owed* from then on: it waits in the outbox
//! until the buffer has it. After a crash the noted readings are applied again, which gives the same memory and the same
//! output. What the buffer or the ledger has already is recognised by its key, and each note tells whether everything
//! before it was in the buffer by then, so that little comes again. From time to time the memory as a whole
//! replaces the notes, when nothing is owed.

mod config;
mod engine;
mod window;

use std::collections::VecDeque;
use std::path::Path;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

pub use self::config::{ChangeRule, OutsideRule, Rule, RuleSet, Statistic, WindowRule};
pub(crate) use self::engine::is_reserved;
use self::engine::{Applied, Engine, Remembered, TooManyStreams};
use crate::intake::reading::Reading;
use crate::journal::{Journal, JournalError, Pending, Recovered};

/// After so many notes the memory is written as a whole.
const NOTES: usize = 20_000;
/// Streams of the memory in one record.
const STREAMS_A_NOTE: usize = 100;

#[derive(Serialize, Deserialize)]
enum Note {
    /// The memory of some streams, instead of all notes before if it is the first.
    #[serde(rename = "m")]
    Memory(Vec<Remembered>, bool),
    /// The reading, when it arrived, and whether everything that earlier notes led to was in the buffer by then.
    #[serde(rename = "r")]
    Reading(Box<Reading>, u64, bool),
    #[serde(rename = "t")]
    Tick(u64),
}

fn bytes_of(note: &Note) -> Vec<u8> {
    // Maps with text keys, texts and finite numbers always become JSON.
    serde_json::to_vec(note).unwrap_or_default()
}

#[derive(Default)]
struct Inner {
    engine: Engine,
    /// What is owed, oldest first.
    outbox: VecDeque<Reading>,
    notes: usize,
    /// Notes that are being written; what they lead to is not in the outbox yet.
    under_way: usize,
    /// The journal has failed: the memory is ahead of it and is read again before anything else is taken.
    behind: bool,
}

/// Names the rules that a reading falls under.
pub(crate) type RulesOf = dyn Fn(&Reading) -> Option<RuleSet> + Send + Sync;

/// The rules at work.
pub(crate) struct Rules {
    inner: Mutex<Inner>,
    journal: Journal,
    rules_of: Box<RulesOf>,
}

/// Why a reading was not taken.
#[derive(Debug)]
pub(crate) enum NotTaken {
    TooManyStreams,
}

/// What became of a reading.
#[derive(Debug)]
pub(crate) struct Judged {
    /// To be sent by the caller, who may refuse the reading if that fails.
    pub(crate) pass: Vec<Reading>,
    /// Noted, and what it led to is owed.
    pub(crate) noted: Option<Pending>,
    pub(crate) owed: Vec<Reading>,
}

impl Rules {
    /// Opens the journal and comes to the memory that was there before; what was owed is owed again.
    pub(crate) fn open(
        path: &Path,
        rules_of: impl Fn(&Reading) -> Option<RuleSet> + Send + Sync + 'static,
    ) -> Result<Self, JournalError> {
        let (journal, recovered) = Journal::open(path)?;
        let rules_of = Box::new(rules_of);
        let inner = replay(recovered, &*rules_of);
        Ok(Self {
            inner: Mutex::new(inner),
            journal,
            rules_of,
        })
    }

    /// Applies the rules. The memory is ahead of the journal until `noted` is durable.
    pub(crate) fn judge(&self, rules: &RuleSet, reading: &Reading, arrived: u64) -> Result<Judged, NotTaken> {
        let mut inner = self.inner.lock();
        let Applied { out, changed } = match inner.engine.apply(rules, reading, arrived) {
            Ok(applied) => applied,
            Err(TooManyStreams) => return Err(NotTaken::TooManyStreams),
        };
        if !changed {
            return Ok(Judged {
                pass: out,
                noted: None,
                owed: Vec::new(),
            });
        }
        let settled = inner.outbox.is_empty() && inner.under_way == 0;
        inner.notes += 1;
        inner.under_way += 1;
        let note = bytes_of(&Note::Reading(Box::new(reading.clone()), arrived, settled));
        Ok(Judged {
            pass: Vec::new(),
            noted: Some(self.journal.append(note)),
            owed: out,
        })
    }

    /// Adds what a durable note has led to.
    pub(crate) fn owe(&self, readings: Vec<Reading>) {
        let mut inner = self.inner.lock();
        inner.under_way = inner.under_way.saturating_sub(1);
        inner.outbox.extend(readings);
    }

    /// A note could not be written.
    pub(crate) fn fell_behind(&self) {
        self.inner.lock().behind = true;
    }

    /// Comes back to what the journal holds after it failed.
    pub(crate) async fn catch_up(&self) -> Result<(), JournalError> {
        if !self.inner.lock().behind {
            return Ok(());
        }
        let recovered = self.journal.reload().await?;
        *self.inner.lock() = replay(recovered, &*self.rules_of);
        Ok(())
    }

    /// Closes windows of streams that have gone quiet.
    pub(crate) async fn tick(&self, now: u64) -> Result<(), JournalError> {
        let (pending, out) = {
            let mut inner = self.inner.lock();
            let out = inner.engine.tick(now);
            if out.is_empty() {
                return Ok(());
            }
            inner.notes += 1;
            inner.under_way += 1;
            (self.journal.append(bytes_of(&Note::Tick(now))), out)
        };
        if let Err(error) = pending.durable().await {
            self.fell_behind();
            return Err(error);
        }
        self.owe(out);
        Ok(())
    }

    /// The oldest reading that is owed.
    pub(crate) fn next_owed(&self) -> Option<Reading> {
        self.inner.lock().outbox.front().cloned()
    }

    /// The oldest one is in the buffer.
    pub(crate) fn settled(&self) {
        self.inner.lock().outbox.pop_front();
    }

    /// Readings that are owed.
    pub(crate) fn owed(&self) -> usize {
        self.inner.lock().outbox.len()
    }

    /// Writes the memory as a whole when there are many notes and nothing is owed or under way.
    pub(crate) async fn compact(&self) -> Result<(), JournalError> {
        let pending = {
            let mut inner = self.inner.lock();
            if inner.behind || inner.notes < NOTES || inner.under_way > 0 || !inner.outbox.is_empty() {
                return Ok(());
            }
            inner.notes = 0;
            let all = inner.engine.remembered();
            let mut notes: Vec<Vec<u8>> = Vec::new();
            for streams in all.chunks(STREAMS_A_NOTE) {
                notes.push(bytes_of(&Note::Memory(streams.to_vec(), notes.is_empty())));
            }
            self.journal.replace(notes)
        };
        pending.durable().await.inspect_err(|_| self.fell_behind())
    }
}

fn replay(recovered: Recovered, rules_of: &RulesOf) -> Inner {
    for line in &recovered.damage {
        tracing::error!("{line}");
    }
    let mut inner = Inner::default();
    for record in recovered.records {
        inner.notes += 1;
        match serde_json::from_slice(&record) {
            Ok(Note::Memory(memory, is_first)) => {
                if is_first {
                    inner = Inner::default();
                }
                inner.engine.recall(memory);
            }
            Ok(Note::Reading(reading, arrived, settled)) => {
                if settled {
                    inner.outbox.clear();
                }
                if let Some(rules) = rules_of(&reading)
                    && let Ok(applied) = inner.engine.apply(&rules, &reading, arrived)
                {
                    inner.outbox.extend(applied.out);
                }
            }
            Ok(Note::Tick(now)) => {
                let out = inner.engine.tick(now);
                inner.outbox.extend(out);
            }
            Err(error) => tracing::error!(%error, "a note of the edge rules cannot be read and is left out"),
        }
    }
    inner
}

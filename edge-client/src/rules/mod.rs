//! Edge rules: which readings become transactions, with a memory that a crash does not take.
//!
//! ```text
//! reading ─► Engine (pure) ─┬─ memory unchanged ─► what passes, to be sent by the caller
//!                           └─ memory changed ───► journal (durable) ─► outbox ─► buffer
//! ```
//!
//! A reading that changes the memory is noted in the journal before its sender is told that it was taken. What it leads
//! to (the value that passed, the summary of the window that it closed) is *owed* from then on: it waits in the outbox
//! until the buffer has it. It has its place there from when it was judged, so that what is owed keeps its order; where a
//! route wants order, readings that change nothing go through the outbox too while anything of their source is in it.
//! After a crash the noted readings are applied again, which gives the same memory and the same
//! output. What the buffer or the ledger has already is recognised by its key, and each note tells whether everything
//! before it was in the buffer by then, so that little comes again. From time to time the memory as a whole
//! replaces the notes, when nothing is owed.

mod config;
mod engine;
mod window;

use std::collections::{BTreeSet, VecDeque};
use std::path::Path;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

pub use self::config::{ChangeRule, OutsideRule, Rule, RuleSet, Statistic, WindowRule};
pub(crate) use self::engine::is_reserved;
use self::engine::{Applied, Engine, Remembered, TooManyStreams};
use crate::intake::Refusal;
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

/// Why a reading is in the outbox.
enum Because {
    /// A note led to it, which is durable if it is none of those that are being written.
    Noted(u64),
    /// It waits behind others of its source. Its caller hears what became of it, if it is the last of its reading.
    Queued(Option<oneshot::Sender<Result<u64, Refusal>>>),
}

struct Entry {
    id: u64,
    reading: Reading,
    because: Because,
}

#[derive(Default)]
struct Inner {
    engine: Engine,
    /// What is owed or waits behind that, in the order in which it was judged.
    outbox: VecDeque<Entry>,
    notes: usize,
    /// Notes that are being written.
    writing: BTreeSet<u64>,
    /// The last number of a note or an entry.
    last_id: u64,
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
    catching_up: tokio::sync::Mutex<()>,
}

/// Why a reading was not taken.
#[derive(Debug)]
pub(crate) enum NotTaken {
    TooManyStreams,
    /// The journal has failed, and has to be read again first.
    Behind,
}

/// A note that is being written.
#[derive(Debug)]
pub(crate) struct Noted {
    pub(crate) id: u64,
    pub(crate) pending: Pending,
}

/// Tells what became of a reading that was queued.
pub(crate) type Answered = oneshot::Receiver<Result<u64, Refusal>>;

impl Inner {
    fn next_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    fn put(&mut self, reading: Reading, because: Because) {
        let id = self.next_id();
        self.outbox.push_back(Entry { id, reading, because });
    }

    /// A note that is about to be written has led to this.
    fn note(&mut self, out: Vec<Reading>) -> u64 {
        self.notes += 1;
        let note = self.next_id();
        self.writing.insert(note);
        for reading in out {
            self.put(reading, Because::Noted(note));
        }
        note
    }

    /// What a note in the file has led to.
    fn put_noted(&mut self, out: Vec<Reading>) {
        let note = self.next_id();
        for reading in out {
            self.put(reading, Because::Noted(note));
        }
    }

    fn is_settled(&self) -> bool {
        self.outbox.is_empty() && self.writing.is_empty()
    }
}

/// What became of a reading.
#[derive(Debug)]
pub(crate) struct Judged {
    /// To be sent by the caller, who may refuse the reading if that fails.
    pub(crate) pass: Vec<Reading>,
    /// Or: it is being noted, and what it led to will be owed. See [`Rules::owe`].
    pub(crate) noted: Option<Noted>,
}

impl Rules {
    /// Opens the journal and comes to the memory that was there before; what was owed is owed again.
    pub(crate) fn open(
        path: &Path,
        rules_of: impl Fn(&Reading) -> Option<RuleSet> + Send + Sync + 'static,
    ) -> Result<Self, JournalError> {
        let (journal, recovered) = Journal::open(path)?;
        let rules_of = Box::new(rules_of);
        let inner = replay(recovered, 0, &*rules_of);
        Ok(Self {
            catching_up: tokio::sync::Mutex::new(()),
            inner: Mutex::new(inner),
            journal,
            rules_of,
        })
    }

    /// Applies the rules. The memory is ahead of the journal until `noted` is durable.
    pub(crate) fn judge(&self, rules: &RuleSet, reading: &Reading, arrived: u64) -> Result<Judged, NotTaken> {
        let mut inner = self.inner.lock();
        if inner.behind {
            return Err(NotTaken::Behind);
        }
        let settled = inner.is_settled();
        let Applied { out, changed } = match inner.engine.apply(rules, reading, arrived) {
            Ok(applied) => applied,
            Err(TooManyStreams) => return Err(NotTaken::TooManyStreams),
        };
        if !changed {
            return Ok(Judged {
                pass: out,
                noted: None,
            });
        }
        let id = inner.note(out);
        let note = bytes_of(&Note::Reading(Box::new(reading.clone()), arrived, settled));
        let pending = self.journal.append(note);
        Ok(Judged {
            pass: Vec::new(),
            noted: Some(Noted { id, pending }),
        })
    }

    /// A note is durable: what it has led to is owed from now on.
    pub(crate) fn owe(&self, note: u64) {
        self.inner.lock().writing.remove(&note);
    }

    /// Puts what passed of one reading behind what is in the outbox of the same source; none if there is nothing. The answer is
    /// the last one's.
    pub(crate) fn queue_behind(&self, readings: &[Reading]) -> Option<Answered> {
        let mut inner = self.inner.lock();
        let (last, before) = readings.split_last()?;
        if !inner
            .outbox
            .iter()
            .any(|entry| entry.reading.source == last.source)
        {
            return None;
        }
        for reading in before {
            inner.put(reading.clone(), Because::Queued(None));
        }
        let (answer, answered) = oneshot::channel();
        inner.put(last.clone(), Because::Queued(Some(answer)));
        Some(answered)
    }

    /// What is queued behind something that cannot be stored now is refused.
    pub(crate) fn refuse_queued(&self, refusal: &Refusal) {
        let mut refused = Vec::new();
        let mut inner = self.inner.lock();
        let mut kept = VecDeque::with_capacity(inner.outbox.len());
        for entry in inner.outbox.drain(..) {
            match entry.because {
                Because::Noted(_) => kept.push_back(entry),
                Because::Queued(answer) => refused.extend(answer),
            }
        }
        inner.outbox = kept;
        drop(inner);
        for answer in refused {
            // A caller that has gone does not need the answer.
            drop(answer.send(Err(refusal.clone())));
        }
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
        let _one_at_a_time = self.catching_up.lock().await;
        // What was noted since another caller has caught up is not in what this one would read.
        if !self.inner.lock().behind {
            return Ok(());
        }
        // Nothing is noted meanwhile, since the memory is behind.
        let recovered = self.journal.reload().await?;
        let mut inner = self.inner.lock();
        *inner = replay(recovered, inner.last_id, &*self.rules_of);
        Ok(())
    }

    /// Closes windows of streams that have gone quiet.
    pub(crate) async fn tick(&self, now: u64) -> Result<(), JournalError> {
        let (pending, note) = {
            let mut inner = self.inner.lock();
            if inner.behind {
                return Ok(());
            }
            let out = inner.engine.tick(now);
            if out.is_empty() {
                return Ok(());
            }
            let note = inner.note(out);
            (self.journal.append(bytes_of(&Note::Tick(now))), note)
        };
        if let Err(error) = pending.durable().await {
            self.fell_behind();
            return Err(error);
        }
        self.owe(note);
        Ok(())
    }

    /// The oldest reading in the outbox, and its number; none while its note is not durable.
    pub(crate) fn next_owed(&self) -> Option<(u64, Reading)> {
        let inner = self.inner.lock();
        let entry = inner.outbox.front()?;
        match entry.because {
            Because::Noted(note) if inner.behind || inner.writing.contains(&note) => None,
            _ => Some((entry.id, entry.reading.clone())),
        }
    }

    /// Whether the oldest one is this, and owed.
    pub(crate) fn is_noted(&self, entry: u64) -> bool {
        let inner = self.inner.lock();
        let front = inner.outbox.front().filter(|front| front.id == entry);
        front.is_some_and(|front| matches!(front.because, Because::Noted(_)))
    }

    /// The oldest one, if it is this, is in the buffer, or never will be.
    pub(crate) fn settled(&self, entry: u64, stored: Result<u64, Refusal>) {
        let mut inner = self.inner.lock();
        // After the file was read again there are other ones.
        if inner.outbox.front().is_none_or(|front| front.id != entry) {
            return;
        }
        let because = inner.outbox.pop_front().map(|entry| entry.because);
        drop(inner);
        if let Some(Because::Queued(Some(answer))) = because {
            drop(answer.send(stored));
        }
    }

    /// Readings that are owed.
    pub(crate) fn owed(&self) -> usize {
        self.inner.lock().outbox.len()
    }

    /// Writes the memory as a whole when there are many notes and nothing is owed or under way.
    pub(crate) async fn compact(&self) -> Result<(), JournalError> {
        let pending = {
            let mut inner = self.inner.lock();
            if inner.behind || inner.notes < NOTES || !inner.is_settled() {
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

/// Notes and entries are numbered from behind `last_id` on.
fn replay(recovered: Recovered, last_id: u64, rules_of: &RulesOf) -> Inner {
    for line in &recovered.damage {
        tracing::error!("{line}");
    }
    let mut inner = Inner {
        last_id,
        ..Inner::default()
    };
    for record in recovered.records {
        inner.notes += 1;
        match serde_json::from_slice(&record) {
            Ok(Note::Memory(memory, is_first)) => {
                if is_first {
                    inner = Inner {
                        last_id: inner.last_id,
                        ..Inner::default()
                    };
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
                    inner.put_noted(applied.out);
                }
            }
            Ok(Note::Tick(now)) => {
                let out = inner.engine.tick(now);
                inner.put_noted(out);
            }
            Err(error) => tracing::error!(%error, "a note of the edge rules cannot be read and is left out"),
        }
    }
    inner
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use serde_json::json;

    use super::*;

    fn rules(folder: &tempfile::TempDir) -> (Rules, RuleSet) {
        let set: RuleSet =
            serde_json::from_value(json!({ "t": { "rule": "outside", "min": 2, "max": 8 } })).unwrap();
        let all = set.clone();
        let opened = Rules::open(&folder.path().join("rules"), move |_| Some(all.clone()));
        (opened.unwrap(), set)
    }

    fn reading(sequence: u64, value: f64) -> Reading {
        serde_json::from_value(json!({
            "source": "s", "stream": "t", "sequence": sequence, "at": sequence, "time": "1970-01-01T00:00:00Z",
            "values": { "t": value },
        }))
        .unwrap()
    }

    #[tokio::test]
    async fn who_catches_up_late_forgets_nothing_that_was_noted_meanwhile() {
        let folder = tempfile::tempdir().unwrap();
        let (rules, set) = rules(&folder);
        rules.fell_behind();
        let refused = rules.judge(&set, &reading(1, 9.0), 1);
        assert!(
            matches!(refused, Err(NotTaken::Behind)),
            "not before the journal was read"
        );
        let (mut first, mut second) = (Box::pin(rules.catch_up()), Box::pin(rules.catch_up()));
        assert!(first.as_mut().now_or_never().is_none());
        assert!(second.as_mut().now_or_never().is_none());
        first.await.unwrap();
        let judged = rules.judge(&set, &reading(1, 9.0), 1).unwrap();
        let noted = judged.noted.expect("it leaves the band");
        noted.pending.durable().await.unwrap();
        rules.owe(noted.id);
        second.await.unwrap();
        assert_eq!(rules.next_owed().map(|(_, reading)| reading.sequence), Some(1));
    }

    #[tokio::test]
    async fn what_is_let_out_keeps_the_order_in_which_it_was_judged() {
        let folder = tempfile::tempdir().unwrap();
        let (rules, set) = rules(&folder);
        let mut noted = Vec::new();
        for (sequence, value) in [(1, 9.0), (2, 5.0)] {
            noted.extend(rules.judge(&set, &reading(sequence, value), 1).unwrap().noted);
        }
        let inside = rules.judge(&set, &reading(3, 5.0), 1).unwrap();
        assert!(inside.pass.is_empty() && inside.noted.is_none());
        let other = Reading {
            source: "other".into(),
            ..reading(9, 9.0)
        };
        assert!(rules.queue_behind(std::slice::from_ref(&other)).is_none());
        let behind = rules
            .queue_behind(&[reading(4, 9.0)])
            .expect("others of its source wait");
        let [first, second] = <[Noted; 2]>::try_from(noted).unwrap();
        // The second note's caller is the quicker one.
        rules.owe(second.id);
        assert!(rules.next_owed().is_none());
        rules.owe(first.id);
        let mut order = Vec::new();
        while let Some((entry, reading)) = rules.next_owed() {
            order.push(reading.sequence);
            rules.settled(entry, Ok(reading.sequence));
        }
        assert_eq!(order, [1, 2, 4]);
        assert_eq!(behind.await.unwrap().unwrap(), 4);

        let behind = {
            let judged = rules.judge(&set, &reading(5, 9.0), 1).unwrap();
            rules.owe(judged.noted.unwrap().id);
            rules.queue_behind(&[reading(6, 9.0)]).unwrap()
        };
        rules.refuse_queued(&Refusal::Storage("full".to_owned()));
        assert!(behind.await.unwrap().is_err());
        assert_eq!(rules.owed(), 1, "what is owed stays");
    }
}

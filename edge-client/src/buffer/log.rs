//! The segment files as one log: groups of records are appended with one fsync.
//!
//! | what fails | what follows |
//! |---|---|
//! | a write (disk full) | the segment is cut back; callers in the group are told that nothing was taken |
//! | an fsync, or the cut | the segment is given up: what was written since its last fsync is unknown. The head of the next segment voids the group; until that is durable the log is *uncertain* |
//! | a write of bookkeeping, for want of space | the reserve file is deleted and the write repeated; requests are refused until the reserve is there again |

use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::oneshot;

use super::disk::Disk;
use super::engine::Position;
use super::gaps::Gaps;
use super::record::{self, Accepted, Dropped, Event, Found, MAGIC, Run, Snapshot, StoredTemplate, Target};
use super::request::Template;

/// After so many records of a template it is said again, so that damage to it costs little.
const SAY_AGAIN: u32 = 128;
/// How often a missing reserve is tried to be made for a request, in milliseconds.
const RESERVE_PAUSE: u64 = 5_000;
/// Notes after which there is an fsync for them alone.
const MAX_UNSYNCED: usize = 1000;

/// What is to be appended.
#[derive(Debug)]
pub(crate) enum What {
    /// A new request.
    Intake(Accepted, Arc<Template>),
    /// A request copied from a segment that goes.
    Copy(Accepted, Arc<Template>),
    /// A request that was given up, and the segment that holds its record.
    Dropped(Dropped, Arc<Template>, u32),
    /// Something about requests, which may be said again.
    Note(Event),
    /// The same, said twice in two records, since its loss could make one request two transactions.
    Twice(Event),
    /// The same about requests that get a new template.
    Rebound(record::Rebound, Arc<Template>),
    /// The clock was set. Said again it would count again.
    Redated(record::Redated),
    /// A request that tells of all drops of a target so far; said twice, since nothing else tells of them from then on.
    Tell(Box<Tell>),
    /// Nothing: durable when everything before is.
    Barrier,
}

/// See [`What::Tell`].
#[derive(Debug)]
pub(crate) struct Tell {
    pub(crate) accepted: Accepted,
    pub(crate) template: Arc<Template>,
    /// Of which target it tells, which need not be where it goes.
    pub(crate) of: Target,
    pub(crate) gateway: String,
}

/// One thing to be appended; who waits for it hears where it is, once it is durable.
#[derive(Debug)]
pub(crate) struct Append {
    pub(crate) what: What,
    pub(crate) done: Option<oneshot::Sender<Result<Position, WriteFailed>>>,
}

impl Append {
    fn is_intake(&self) -> bool {
        matches!(self.what, What::Intake(..))
    }

    /// Whether it is to be written with the next group if this one fails.
    pub(crate) fn is_kept(&self) -> bool {
        self.done.is_none()
    }

    fn wants_sync(&self) -> bool {
        self.done.is_some() || matches!(self.what, What::Dropped(..) | What::Redated(_))
    }
}

/// A group could not be written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub(crate) struct WriteFailed {
    pub(crate) why: String,
    /// It was for want of space.
    pub(crate) no_space: bool,
}

impl WriteFailed {
    fn of(error: &io::Error) -> Self {
        Self {
            why: error.to_string(),
            no_space: matches!(
                error.kind(),
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
            ),
        }
    }
}

/// The end of a segment that a power cut or a failed fsync has ended.
#[derive(Debug, Default)]
pub(crate) struct Torn {
    pub(crate) segment: u32,
    /// Where what may be torn begins.
    pub(crate) from: u64,
    /// Requests that were read from behind it after all.
    pub(crate) whole: Vec<Run>,
}

/// The end of the log.
#[derive(Debug)]
pub(crate) struct Log {
    disk: Arc<dyn Disk>,
    segment_bytes: u64,
    segment: u32,
    /// End of what is known to be whole.
    length: u64,
    /// End of what is durable.
    synced: u64,
    /// To be said in the next segment.
    torn: Torn,
    /// No segment to append to: the next append begins one.
    closed: bool,
    /// How often each template was used since it was last said in this segment.
    said: HashMap<u32, u32>,
    /// Where a group begins that may be on disk although those who waited for it were told that it is not.
    void: Option<(u32, u64)>,
    /// Notes since the last fsync: a failed one loses them, and then they are said again.
    unsynced: Vec<Event>,
    /// Notes that a failed fsync has lost, for the head of the next segment.
    lost: Vec<Event>,
    gaps: Gaps,
    /// Requests lost through damage that the sum of the gaps has counted.
    damaged: Vec<Run>,
    next_number: u64,
    next_batch: u64,
    reserve: bool,
    reserve_tried: Option<u64>,
    pub(crate) written_bytes: u64,
    pub(crate) syncs: u64,
}

struct Encoded {
    bytes: Vec<u8>,
    positions: Vec<Position>,
    said: HashMap<u32, u32>,
    gaps: Gaps,
    next_number: u64,
    next_batch: u64,
    /// Whether the next record is the first after an fsync.
    clean: bool,
}

impl Log {
    /// A log after the segments that are there; its first append begins a new one.
    pub(crate) fn new(
        disk: Arc<dyn Disk>,
        segment_bytes: u64,
        last_segment: u32,
        (next_number, next_batch): (u64, u64),
        (gaps, damaged): (Gaps, Vec<Run>),
        torn: Torn,
    ) -> Self {
        Self {
            reserve: disk.has_reserve(),
            disk,
            segment_bytes,
            segment: last_segment,
            length: 0,
            synced: 0,
            torn,
            closed: true,
            said: HashMap::new(),
            void: None,
            unsynced: Vec::new(),
            lost: Vec::new(),
            gaps,
            damaged,
            next_number,
            next_batch,
            reserve_tried: None,
            written_bytes: 0,
            syncs: 0,
        }
    }

    /// No record that is appended from now on goes to an earlier segment than this.
    pub(crate) fn segment(&self) -> u32 {
        if self.closed {
            self.segment + 1
        } else {
            self.segment
        }
    }

    /// What was dropped and not yet told, as it is on disk.
    pub(crate) fn gaps(&self) -> &Gaps {
        &self.gaps
    }

    fn write(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.disk.write(u64::from(self.segment), offset, bytes)?;
        self.written_bytes += bytes.len() as u64;
        Ok(())
    }

    pub(crate) fn sync(&mut self) -> io::Result<()> {
        if self.closed {
            return Ok(());
        }
        let synced = self.disk.sync(u64::from(self.segment));
        self.syncs += 1;
        match &synced {
            Ok(()) => {
                self.synced = self.length;
                self.unsynced.clear();
            }
            Err(_) => self.give_up_segment(),
        }
        synced
    }

    /// Nothing more goes to this segment; what was written since its last fsync is unknown.
    fn give_up_segment(&mut self) {
        self.closed = true;
        self.torn = Torn {
            segment: self.segment,
            from: self.synced,
            whole: Vec::new(),
        };
        self.lost.append(&mut self.unsynced);
    }

    fn begin_segment(&mut self) -> io::Result<()> {
        // What earlier notes say must not get lost after later ones are durable.
        self.sync()?;
        self.closed = true;
        let next = self.segment + 1;
        match self.disk.create(u64::from(next)) {
            // Left over from an attempt that failed half-way.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                self.disk.truncate(u64::from(next), 0)?;
            }
            made => made?,
        }
        let head = self.head();
        self.disk.write(u64::from(next), 0, &head)?;
        self.disk.sync(u64::from(next))?;
        self.written_bytes += head.len() as u64;
        self.syncs += 1;
        self.segment = next;
        self.said.clear();
        self.length = head.len() as u64;
        self.synced = self.length;
        self.torn = Torn::default();
        self.void = None;
        self.lost.clear();
        self.unsynced.clear();
        self.closed = false;
        Ok(())
    }

    /// What a segment begins with.
    fn head(&self) -> Vec<u8> {
        let mut head = MAGIC.to_vec();
        let snapshot = Snapshot {
            next_number: self.next_number,
            next_batch: self.next_batch,
            gaps: self.gaps.stored(),
            damaged: self.damaged.clone(),
            torn_segment: self.torn.segment,
            torn_from: self.torn.from,
            whole: self.torn.whole.clone(),
            void_segment: self.void.map_or(0, |(segment, _)| segment),
            void_from: self.void.map_or(0, |(_, offset)| offset),
        };
        record::encode_into(Event::Snapshot(snapshot), true, &mut head);
        for note in &self.lost {
            record::encode_into(note.clone(), false, &mut head);
        }
        head
    }

    /// Appends a group; one fsync for all of it. All of it is written, or none.
    pub(crate) fn append(&mut self, group: &[Append], now: u64) -> Result<Vec<Position>, WriteFailed> {
        if group.iter().any(Append::is_intake) {
            self.want_reserve(now)?;
        }
        let nothing_new = group.iter().all(|a| matches!(a.what, What::Barrier));
        if nothing_new && self.void.is_none() && self.lost.is_empty() {
            // Needs no space, so that a full disk can be emptied.
            self.sync().map_err(|e| WriteFailed::of(&e))?;
            let here = Position {
                segment: self.segment,
                offset: 0,
                bytes: 0,
            };
            return Ok(vec![here; group.len()]);
        }
        if self.closed || self.length >= self.segment_bytes {
            self.begin_segment().map_err(|e| WriteFailed::of(&e))?;
        }
        let encoded = self.encode(group);
        if let Err(error) = self.write(self.length, &encoded.bytes) {
            self.undo();
            return Err(WriteFailed::of(&error));
        }
        self.unsynced
            .extend(group.iter().filter_map(|append| match &append.what {
                What::Note(event) => Some(event.clone()),
                _ => None,
            }));
        if group.iter().any(Append::wants_sync) || self.unsynced.len() > MAX_UNSYNCED {
            let synced = self.disk.sync(u64::from(self.segment));
            self.syncs += 1;
            if let Err(error) = synced {
                self.give_up_segment();
                self.undo();
                return Err(WriteFailed::of(&error));
            }
            self.synced = self.length + encoded.bytes.len() as u64;
            self.unsynced.clear();
        }
        self.length += encoded.bytes.len() as u64;
        self.said = encoded.said;
        self.gaps = encoded.gaps;
        self.next_number = encoded.next_number;
        self.next_batch = encoded.next_batch;
        Ok(encoded.positions)
    }

    /// After a failed write: what is there of the group must neither stand between other records nor be found later.
    fn undo(&mut self) {
        let segment = u64::from(self.segment);
        let undone = self
            .disk
            .truncate(segment, self.length)
            .and_then(|()| self.disk.sync(segment));
        if undone.is_ok() && !self.closed {
            self.synced = self.length;
            self.unsynced.clear();
            return;
        }
        self.give_up_segment();
        self.void = Some((self.segment, self.length));
    }

    /// Whether what was told to have failed may still be found on disk after a crash.
    pub(crate) fn is_uncertain(&self) -> bool {
        self.void.is_some()
    }

    /// Whether there is space set aside.
    pub(crate) fn has_reserve(&self) -> bool {
        self.reserve
    }

    fn want_reserve(&mut self, now: u64) -> Result<(), WriteFailed> {
        let soon = self
            .reserve_tried
            .is_some_and(|tried| now < tried + RESERVE_PAUSE);
        if !self.reserve && soon {
            return Err(WriteFailed {
                why: "the disk is full".to_owned(),
                no_space: true,
            });
        }
        self.restore_reserve(now)
    }

    /// Makes the reserve again, if it is missing.
    pub(crate) fn restore_reserve(&mut self, now: u64) -> Result<(), WriteFailed> {
        if self.reserve {
            return Ok(());
        }
        self.reserve_tried = Some(now);
        self.disk.make_reserve().map_err(|e| WriteFailed::of(&e))?;
        self.reserve = true;
        Ok(())
    }

    /// Gives the reserve's space up for bookkeeping. False if there was none.
    pub(crate) fn use_reserve(&mut self) -> bool {
        if !self.reserve {
            return false;
        }
        self.reserve = false;
        self.disk.free_reserve().is_ok()
    }

    fn encode(&self, group: &[Append]) -> Encoded {
        let mut out = Encoded {
            bytes: Vec::new(),
            positions: Vec::with_capacity(group.len()),
            said: self.said.clone(),
            gaps: self.gaps.clone(),
            next_number: self.next_number,
            next_batch: self.next_batch,
            clean: self.synced == self.length,
        };
        for append in group {
            self.encode_one(&append.what, &mut out);
        }
        out
    }

    fn encode_one(&self, what: &What, out: &mut Encoded) {
        let start = out.bytes.len();
        let mut last = start;
        let mut put = |out: &mut Encoded, event: Event| {
            last = out.bytes.len();
            record::encode_into(event, std::mem::take(&mut out.clean), &mut out.bytes);
        };
        let number = match what {
            What::Intake(accepted, template) | What::Copy(accepted, template) => {
                say(out, accepted.template, template);
                if template.tells_gaps {
                    // As when it was first written.
                    put(out, Event::Accepted(accepted.clone()));
                }
                put(out, Event::Accepted(accepted.clone()));
                accepted.number
            }
            What::Dropped(dropped, template, _) => {
                out.gaps.add(Some(template), dropped);
                say(out, dropped.template, template);
                put(out, Event::Dropped(dropped.clone()));
                dropped.number
            }
            What::Note(event) => {
                put(out, event.clone());
                number_in(event)
            }
            What::Redated(redated) => {
                put(out, Event::Redated(*redated));
                0
            }
            What::Twice(event) => {
                put(out, event.clone());
                put(out, event.clone());
                number_in(event)
            }
            What::Rebound(rebound, template) => {
                say(out, rebound.template, template);
                put(out, Event::Rebound(rebound.clone()));
                put(out, Event::Rebound(rebound.clone()));
                0
            }
            What::Tell(tell) => {
                let told = out.gaps.told(&tell.gateway, &tell.of);
                let mut accepted = tell.accepted.clone();
                accepted.args = vec![Bytes::from(told.unwrap_or_default().to_string())];
                accepted.tells = Some(tell.of.clone());
                out.gaps.clear(&tell.of);
                say(out, accepted.template, &tell.template);
                let number = accepted.number;
                put(out, Event::Accepted(accepted.clone()));
                put(out, Event::Accepted(accepted));
                number
            }
            What::Barrier => 0,
        };
        if number < record::FIRST_BATCH {
            out.next_number = out.next_number.max(number + 1);
        } else {
            out.next_batch = out.next_batch.max(number + 1);
        }
        // Segments are of some megabytes.
        let narrow = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
        out.positions.push(Position {
            segment: self.segment,
            offset: narrow(self.length + last as u64),
            bytes: narrow((out.bytes.len() - last) as u64),
        });
    }
}

fn number_in(event: &Event) -> u64 {
    match event {
        Event::Batch(batch) => batch.number,
        Event::Settled(settled) => settled.number,
        _ => 0,
    }
}

fn say(out: &mut Encoded, id: u32, template: &Template) {
    let uses = out.said.entry(id).or_insert(SAY_AGAIN);
    if *uses >= SAY_AGAIN {
        *uses = 0;
        let template = Event::Template(StoredTemplate::of(id, template));
        record::encode_into(template, std::mem::take(&mut out.clean), &mut out.bytes);
    }
    *uses += 1;
}

/// Why a record cannot be read back.
#[derive(Debug)]
pub(crate) enum ReadFailed {
    /// It is not what was written.
    Damaged,
    /// The disk says so.
    Io(io::Error),
}

/// Reads a request back.
pub(crate) fn read_back(disk: &dyn Disk, number: u64, at: Position) -> Result<Accepted, ReadFailed> {
    let length = usize::try_from(at.bytes).unwrap_or(usize::MAX);
    let bytes = disk
        .read(u64::from(at.segment), u64::from(at.offset), length)
        .map_err(ReadFailed::Io)?;
    match record::decode_at(&Bytes::from(bytes), 0) {
        Some(Found {
            event: Event::Accepted(accepted),
            ..
        }) if accepted.number == number => Ok(accepted),
        _ => Err(ReadFailed::Damaged),
    }
}

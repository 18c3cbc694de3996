//! Reading the segments at start: what was accepted and is not finished is open again.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use bytes::Bytes;

use super::BufferError;
use super::disk::Disk;
use super::engine::{Engine, NewEntry, Position, State};
use super::gaps::{DropReason, Gaps};
use super::log::Torn;
use super::record::{self, Accepted, Dropped, EARLIER_MAGIC, Event, Found, MAGIC, Run, Settled, runs_of};
use super::request::Template;

/// Members of a batch that are read from a file at most.
const MAX_MEMBERS: usize = 100_000;
/// More requests do not fit into a segment.
const MAX_MISSING: usize = 100_000;
/// Longest snapshot at the head of a segment, with its frame.
const LONGEST_HEAD: usize = 1024 * 1024;

/// What the files hold.
#[derive(Debug)]
pub(crate) struct Recovered {
    pub(crate) engine: Engine,
    pub(crate) gaps: Gaps,
    /// Requests lost through damage, all of which are in the sum of the gaps, or were told.
    pub(crate) damaged: Vec<Run>,
    pub(crate) last_segment: u32,
    /// Human-readable reports of damage.
    pub(crate) damage: Vec<String>,
    /// Requests that are known only now to be lost through it.
    pub(crate) lost: u64,
    /// The end of the last segment.
    pub(crate) torn: Torn,
}

/// A damaged stretch: of the requests between those before and behind it nothing may be known any more.
struct Hole {
    segment: String,
    offset: usize,
    length: usize,
    /// Number of the last request before it, if that is known.
    after: Option<u64>,
    /// Number of the first behind it.
    next: Option<u64>,
    /// What is lost was to go, most likely, where this one was.
    near: Option<Arc<Template>>,
    /// How many requests it may have held, for a hole with none behind it.
    requests: u64,
}

struct Reader {
    engine: Engine,
    gaps: Gaps,
    next_number: u64,
    damage: Vec<String>,
    holes: Vec<Hole>,
    /// Requests whose templates or copies are damaged, and the segments they are in.
    unreadable: BTreeMap<u64, String>,
    /// Those of them, or of the holes, that are known to have ended.
    ended: BTreeSet<u64>,
    /// Requests lost through damage that the sum of the gaps has counted.
    counted: Vec<Run>,
    /// Number of the last request so far, once one is known.
    before: Option<u64>,
    /// What the last request that could be read has in common with others.
    near: Option<Arc<Template>>,
    /// Open batches with the segments of their records. Only in the end is it known which of their members are there: a
    /// member may have been copied forward, behind the record of its batch.
    batches: BTreeMap<u64, (record::Batch, u32)>,
    /// Groups of which requests may have been sent, with the segments that say so; they hold for copies behind them too.
    marks: BTreeMap<u64, u32>,
    /// Requests of which a follower was on disk.
    followed: BTreeSet<u64>,
    /// Requests that were read from the part of a segment that may be torn.
    whole: BTreeSet<u64>,
}

struct Segment {
    number: u32,
    name: String,
    templates: HashMap<u32, Arc<Template>>,
    bytes: Bytes,
    /// All templates of the segment are known.
    read_ahead: bool,
    /// From here on damage may be a torn write, of which nobody was told that it is durable.
    torn_from: usize,
}

impl Segment {
    fn learn(&mut self, stored: record::StoredTemplate) {
        let id = stored.id;
        if let Some(template) = stored.read() {
            self.templates.entry(id).or_insert_with(|| Arc::new(template));
        }
    }

    /// A template is said again and again; any of its records will do for all requests of the segment.
    fn template(&mut self, id: u32) -> Option<Arc<Template>> {
        if !self.templates.contains_key(&id) && !self.read_ahead {
            self.read_ahead = true;
            let bytes = self.bytes.clone();
            record::scan(&bytes, MAGIC.len().min(bytes.len()), |found| {
                if let Ok(Found {
                    event: Event::Template(stored),
                    ..
                }) = found
                {
                    self.learn(stored);
                }
            });
        }
        self.templates.get(&id).cloned()
    }
}

/// Reads all segments.
///
/// # Errors
/// The disk cannot be read, or a segment was written by another version. Damage is no error.
pub(crate) fn recover(disk: &dyn Disk, engine: Engine, dir: &str) -> Result<Recovered, BufferError> {
    let failed = |source| BufferError::Io {
        path: dir.into(),
        source,
    };
    let mut reader = Reader {
        engine,
        gaps: Gaps::default(),
        next_number: 1,
        damage: Vec::new(),
        holes: Vec::new(),
        unreadable: BTreeMap::new(),
        ended: BTreeSet::new(),
        counted: Vec::new(),
        before: None,
        near: None,
        batches: BTreeMap::new(),
        marks: BTreeMap::new(),
        followed: BTreeSet::new(),
        whole: BTreeSet::new(),
    };
    let segments = disk.list().map_err(failed)?;
    let last = segments.last().copied();
    if let Some(last) = last
        && let Err(error) = disk.sync(last)
    {
        // What a killed process wrote may be in the page cache alone, and must not be lost after it was acted on.
        tracing::warn!(%error, "the last file of the buffer cannot be made durable");
    }
    let mut torn = Torn::default();
    for (index, segment) in segments.iter().copied().enumerate() {
        let length = disk.length(segment).map_err(failed)?;
        let bytes = disk
            .read(segment, 0, usize::try_from(length).unwrap_or(usize::MAX))
            .map_err(failed)?;
        let name = format!("{dir}/{segment:012}.seg");
        let mut bytes = Bytes::from(bytes);
        let narrow = u32::try_from(segment).unwrap_or(u32::MAX);
        reader.whole.clear();
        match segments.get(index + 1) {
            None => {
                let from = last_clean(&bytes);
                reader.segment(&bytes, segment, name, from)?;
                torn = Torn {
                    segment: narrow,
                    from: from as u64,
                    whole: runs_of(std::mem::take(&mut reader.whole)),
                };
            }
            Some(next) => {
                let said = said_by(disk, *next, narrow).map_err(failed)?;
                bytes.truncate(said.void_from);
                // The next one may be torn before it could say anything.
                let from = said.torn_from.unwrap_or_else(|| last_clean(&bytes));
                reader.segment(&bytes, segment, name.clone(), from)?;
                reader.expect(&said.whole, &name);
            }
        }
    }
    for (number, (batch, segment)) in std::mem::take(&mut reader.batches) {
        if let Ok(nonce) = <[u8; 24]>::try_from(batch.nonce.as_ref()) {
            let members = record::numbers_of(&batch.members, MAX_MEMBERS);
            reader.engine.form(number, members, nonce, &batch.into, segment);
        }
    }
    reader.close_holes();
    reader.engine.given(reader.next_number);
    for (group, segment) in std::mem::take(&mut reader.marks) {
        reader.engine.mark(group, segment);
    }
    for number in std::mem::take(&mut reader.followed) {
        reader.engine.has_follower(number);
    }
    let (damaged, lost) = reader.count_lost();
    reader.engine.recovered();
    Ok(Recovered {
        damaged,
        last_segment: last.map_or(0, |n| u32::try_from(n).unwrap_or(u32::MAX)),
        engine: reader.engine,
        gaps: reader.gaps,
        damage: reader.damage,
        lost,
        torn,
    })
}

/// Where the last record is before which everything was durable.
fn last_clean(bytes: &Bytes) -> usize {
    let mut clean = 0;
    record::scan(bytes, MAGIC.len().min(bytes.len()), |found| {
        if let Ok(found) = found
            && found.clean
        {
            clean = found.offset;
        }
    });
    clean
}

/// What a segment says of the one before it: from where on that may be torn, and from where on it is void.
struct Said {
    torn_from: Option<usize>,
    void_from: usize,
    /// Requests that were there all the same.
    whole: Vec<Run>,
}

fn said_by(disk: &dyn Disk, next: u64, segment: u32) -> std::io::Result<Said> {
    let head = Bytes::from(disk.read(next, 0, LONGEST_HEAD)?);
    let place = |offset: u64, of: u32| {
        if of == segment {
            usize::try_from(offset).unwrap_or(usize::MAX)
        } else {
            usize::MAX
        }
    };
    Ok(
        match record::decode_at(&head, MAGIC.len()).map(|found| found.event) {
            Some(Event::Snapshot(head)) => Said {
                torn_from: Some(place(head.torn_from, head.torn_segment)),
                void_from: place(head.void_from, head.void_segment),
                whole: Some(head.whole)
                    .filter(|_| head.torn_segment == segment)
                    .unwrap_or_default(),
            },
            _ => Said {
                torn_from: None,
                void_from: usize::MAX,
                whole: Vec::new(),
            },
        },
    )
}

impl Reader {
    fn segment(
        &mut self,
        bytes: &Bytes,
        segment: u64,
        name: String,
        torn_from: usize,
    ) -> Result<(), BufferError> {
        let (word, version) = MAGIC.split_at(6);
        let found = bytes.get(word.len()..MAGIC.len()).unwrap_or_default();
        let numbered = !found.is_empty() && found.iter().all(u8::is_ascii_digit);
        let known = bytes.starts_with(MAGIC) || bytes.starts_with(EARLIER_MAGIC);
        if bytes.starts_with(word) && numbered && !known {
            return Err(BufferError::Version {
                path: name.into(),
                found: String::from_utf8_lossy(found).into_owned(),
                expected: String::from_utf8_lossy(version).into_owned(),
            });
        }
        let start = if known { MAGIC.len() } else { 0 };
        if start == 0 && bytes.len() >= MAGIC.len() && torn_from > 0 {
            self.damage.push(format!("{name}: its first bytes are damaged"));
        }
        let mut here = Segment {
            number: u32::try_from(segment).unwrap_or(u32::MAX),
            name,
            templates: HashMap::new(),
            bytes: bytes.clone(),
            read_ahead: false,
            torn_from,
        };
        if segment == 1 {
            self.before = Some(0);
        }
        record::scan(bytes, start, |found| match found {
            Ok(found) => self.record(&mut here, found),
            // What a power cut leaves of the last writes: nobody was told that they were taken.
            Err(torn) if torn.offset >= here.torn_from => tracing::info!(
                segment = %here.name, from = torn.offset, bytes = torn.length, "torn writes are left out"
            ),
            Err(damage) => self.holes.push(Hole {
                segment: here.name.clone(),
                offset: damage.offset,
                length: damage.length,
                after: self.before,
                next: None,
                near: self.near.clone(),
                requests: record::most_requests(bytes, &damage),
            }),
        });
        Ok(())
    }

    /// These requests stood in a segment: those that are not known by now are lost.
    fn expect(&mut self, numbers: &[Run], segment: &str) {
        for number in record::numbers_of(numbers, MAX_MEMBERS) {
            if self.is_missing(number) {
                self.unreadable.insert(number, segment.to_owned());
            }
        }
    }

    /// `next` is the first request behind everything that was read so far.
    fn goes_on_with(&mut self, next: u64) {
        for hole in self.holes.iter_mut().rev().take_while(|hole| hole.next.is_none()) {
            hole.next = Some(next);
        }
    }

    /// Behind the last request only their size tells how many requests holes have taken. Those numbers are not given again.
    fn close_holes(&mut self) {
        let open = self.holes.iter_mut().filter(|hole| hole.next.is_none());
        for hole in open.filter(|hole| hole.after.is_some()) {
            hole.after = Some(self.next_number - 1);
            self.next_number += hole.requests;
            hole.next = Some(self.next_number);
        }
    }

    /// Notes the end of a request of which damage may have taken the record.
    fn ends(&mut self, number: u64) {
        let behind = self
            .holes
            .partition_point(|hole| hole.after.unwrap_or(0) < number);
        let in_hole = behind
            .checked_sub(1)
            .and_then(|last| self.holes.get(last))
            .is_some_and(|hole| hole.next.is_none_or(|next| number < next));
        if in_hole || self.unreadable.contains_key(&number) {
            self.ended.insert(number);
        }
    }

    /// Reports the damage, and adds to the gaps what is lost by it and was not counted before. Gives all that is lost, and how
    /// many requests were not counted before.
    fn count_lost(&mut self) -> (Vec<Run>, u64) {
        let mut lost: BTreeMap<u64, Option<Arc<Template>>> = BTreeMap::new();
        let mut reached = 0;
        for hole in std::mem::take(&mut self.holes) {
            let (first, next) = match (hole.after, hole.next) {
                (Some(after), Some(next)) => (reached.max(after + 1), next),
                _ => (0, 0),
            };
            reached = reached.max(next);
            let missing: Vec<u64> = (first..next)
                .take(MAX_MISSING)
                .filter(|number| self.is_missing(*number))
                .collect();
            let what = match missing.len() {
                0 => "no request is known to be lost by it".to_owned(),
                1 => "one request is lost by it".to_owned(),
                more => format!("up to {more} requests are lost by it"),
            };
            self.damage.push(format!(
                "{}: {} bytes from {} on are damaged; {what}",
                hole.segment, hole.length, hole.offset
            ));
            let near = hole.near.or_else(|| self.near.clone());
            lost.extend(missing.into_iter().map(|number| (number, near.clone())));
        }
        for (number, segment) in std::mem::take(&mut self.unreadable) {
            if self.is_missing(number) {
                self.damage.push(format!(
                    "{segment}: request {number} is in a damaged record, or refers to one, and is lost"
                ));
                lost.entry(number).or_insert_with(|| self.near.clone());
            }
        }
        let counted = |number: u64| {
            let run = self.counted.partition_point(|run| run.first <= number);
            run.checked_sub(1)
                .and_then(|run| self.counted.get(run))
                .is_some_and(|run| number < run.first.saturating_add(run.count))
        };
        let mut new = 0;
        for (number, near) in lost.iter().filter(|(number, _)| !counted(**number)) {
            new += 1;
            self.gaps.add(
                like(near.as_deref()).as_ref(),
                &Dropped {
                    number: *number,
                    template: 0,
                    accepted_s: 0,
                    reason: DropReason::Damaged.number(),
                },
            );
        }
        (runs_of(lost.into_keys()), new)
    }

    fn is_missing(&self, number: u64) -> bool {
        self.engine.slot(number).is_none()
            && !self.engine.is_finished(number)
            && !self.ended.contains(&number)
    }

    fn record(&mut self, here: &mut Segment, found: Found) {
        let position = Position {
            segment: here.number,
            offset: u32::try_from(found.offset).unwrap_or(u32::MAX),
            bytes: u32::try_from(found.length).unwrap_or(u32::MAX),
        };
        match found.event {
            Event::Template(stored) => here.learn(stored),
            Event::Snapshot(snapshot) => {
                self.goes_on_with(snapshot.next_number);
                let before = snapshot.next_number.saturating_sub(1);
                self.before = Some(self.before.unwrap_or(0).max(before));
                self.next_number = self.next_number.max(snapshot.next_number);
                self.engine.given_batches(snapshot.next_batch);
                self.gaps = Gaps::load(snapshot.gaps);
                self.counted = snapshot.damaged;
            }
            Event::Accepted(accepted) => self.accepted(here, accepted, position),
            Event::Settled(settled) => self.settled(&settled),
            Event::Sending(sending) => {
                self.marks.insert(sending.group, here.number);
            }
            Event::Batch(batch) => {
                if batch.number >= record::FIRST_BATCH {
                    self.engine.given_batches(batch.number + 1);
                    self.batches.insert(batch.number, (batch, here.number));
                }
            }
            Event::BatchCommitted(done) => {
                self.batches.remove(&done.number);
                for number in record::numbers_of(&done.members, MAX_MEMBERS) {
                    self.ends(number);
                    self.engine.remember_end(number, State::Committed, done.block, "");
                }
            }
            Event::Apart(apart) => {
                if let Some((batch, _)) = self.batches.remove(&apart.number) {
                    let level = u8::try_from(apart.level).unwrap_or(u8::MAX);
                    let members = record::numbers_of(&batch.members, MAX_MEMBERS);
                    self.engine.set_level(&members, level);
                }
            }
            Event::Dropped(dropped) => {
                let template = here.template(dropped.template);
                if template.is_none() && found.offset >= here.torn_from {
                    return;
                }
                match &template {
                    Some(template) => self.gaps.add(Some(template), &dropped),
                    None => self.gaps.add(like(self.near.as_deref()).as_ref(), &dropped),
                }
                self.ends(dropped.number);
                let reason = DropReason::from_number(dropped.reason);
                if dropped.number > 0 {
                    self.engine
                        .remember_end(dropped.number, State::Dropped, 0, reason.name());
                }
            }
            Event::Rebound(rebound) => {
                if let Some(template) = here.template(rebound.template) {
                    for number in record::numbers_of(&rebound.members, usize::MAX) {
                        self.engine.rebind(number, &template);
                    }
                }
            }
            Event::Carried(carried) => self.expect(&carried.members, &here.name),
            Event::Redated(redated) => self.engine.redate(redated.first..redated.next, redated.by),
        }
    }

    fn accepted(&mut self, here: &mut Segment, accepted: Accepted, position: Position) {
        self.next_number = self.next_number.max(accepted.number + 1);
        if found_torn(here, position) && here.template(accepted.template).is_some() {
            self.whole.insert(accepted.number);
        }
        // One whose template was torn away cannot be read again: it is not there, and a loser has no follower in it.
        if accepted.follows != 0 && here.template(accepted.template).is_some() {
            self.followed.insert(accepted.follows);
        }
        if accepted.followed {
            self.followed.insert(accepted.number);
        }
        if !accepted.copied {
            self.goes_on_with(accepted.number);
            self.before = Some(accepted.number);
        }
        if self.engine.slot(accepted.number).is_some() {
            // A copy whose template was torn away could not be read again: the first one stays where it is.
            if here.template(accepted.template).is_some() {
                self.engine.moved(accepted.number, position);
            }
            return;
        }
        if self.engine.is_finished(accepted.number) {
            return;
        }
        let Some(template) = here.template(accepted.template) else {
            if found_torn(here, position) {
                // A part of a torn write.
                return;
            }
            self.unreadable.insert(accepted.number, here.name.clone());
            return;
        };
        if !template.tells_gaps {
            self.near = Some(Arc::clone(&template));
        }
        if let Some(target) = &accepted.tells {
            self.gaps.clear(target);
        }
        self.engine.insert(&NewEntry {
            number: accepted.number,
            template: &template,
            key: key_name(&accepted.key, &accepted.nonce),
            accepted_s: accepted.accepted_s,
            follows: accepted.follows,
            place: accepted.place,
            position,
        });
        if accepted.maybe_sent {
            self.engine
                .mark(accepted.number / super::slots::GROUP, here.number);
        }
    }

    fn settled(&mut self, settled: &Settled) {
        let state = if settled.committed {
            State::Committed
        } else {
            State::Refused
        };
        // A member that ended by itself proves that its batch was taken apart.
        let number = settled.number;
        self.ends(number);
        let within = |run: &record::Run| (run.first..run.first.saturating_add(run.count)).contains(&number);
        self.batches
            .retain(|_, (batch, _)| !batch.members.iter().any(within));
        self.engine
            .remember_end(settled.number, state, settled.block, &settled.reason);
    }
}

/// Whether a record stands where a write may be torn.
fn found_torn(here: &Segment, position: Position) -> bool {
    usize::try_from(position.offset).is_ok_and(|at| at >= here.torn_from)
}

/// What is known of a request whose record is lost from one beside it: where it was to go, and not whose it was.
fn like(near: Option<&Template>) -> Option<Template> {
    near.map(|near| Template {
        source: String::new(),
        ..near.clone()
    })
}

/// The name under which a request's key is kept in memory: the first bytes of the nonce that was made from it.
pub(crate) fn key_name(key: &str, nonce: &[u8]) -> Option<u64> {
    if key.is_empty() {
        return None;
    }
    Some(u64::from_le_bytes(nonce.get(..8)?.try_into().ok()?))
}

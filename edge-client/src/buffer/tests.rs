//! The buffer over real files, and named cases of damage over the fake disk.

use futures::FutureExt;

use super::core::Committed;
use super::fake::{FakeClock, FakeDisk, drive};
use super::*;

const ME: IdentityId = [7; 32];

fn request(key: &str, args: usize) -> TransactionRequest {
    TransactionRequest {
        channel: "trade".into(),
        chaincode: "shipment".into(),
        function: "recordReading".into(),
        args: vec![vec![b'x'; args].into()],
        idempotency_key: key.into(),
        ..TransactionRequest::default()
    }
}

fn open(dir: &Path) -> Buffer {
    Buffer::open(dir, BufferOptions::default()).unwrap()
}

async fn accept(buffer: &Buffer, key: &str, args: usize) -> u64 {
    buffer.accept(request(key, args), ME).await.unwrap().id
}

async fn commit_all(buffer: &Buffer) -> usize {
    let due = buffer.take_due(1000).await;
    for job in &due {
        buffer
            .settle(job, Outcome::Committed { block: 1 }, Duration::ZERO)
            .await;
    }
    due.len()
}

async fn numbers(buffer: &Buffer) -> Vec<u64> {
    buffer.take_due(1000).await.iter().map(|job| job.id).collect()
}

#[tokio::test]
async fn accepted_requests_survive_with_their_nonces() {
    let dir = tempfile::tempdir().unwrap();
    let buffer = open(dir.path());
    for n in 0..50 {
        accept(&buffer, &format!("k{n}"), 10).await;
    }
    let before = buffer.take_due(100).await;
    assert_eq!(before.len(), 50);
    // Settle ten of them; the notes are on disk after the next acknowledged write.
    for job in &before[..10] {
        buffer
            .settle(job, Outcome::Committed { block: 4 }, Duration::ZERO)
            .await;
    }
    accept(&buffer, "last", 1).await;
    drop(buffer);

    let again = open(dir.path());
    let after = again.take_due(100).await;
    let kept = |jobs: &[Job]| jobs.iter().map(|j| (j.id, j.nonce)).collect::<Vec<_>>();
    assert_eq!(kept(&after)[..40], kept(&before)[10..]);
    assert_eq!(after.len(), 41);
    assert_eq!(again.view(before[0].id).unwrap().state, State::Committed);
    assert_eq!(again.view(before[0].id).unwrap().block, 4);
    assert_eq!(again.damage(), Vec::<String>::new());
}

#[tokio::test]
async fn one_key_is_one_request_and_one_nonce_for_ever() {
    let dir = tempfile::tempdir().unwrap();
    let limits = BufferLimits {
        remembered: 1,
        ..BufferLimits::default()
    };
    let options = BufferOptions {
        limits,
        ..BufferOptions::default()
    };
    let buffer = Buffer::open(dir.path(), options).unwrap();
    let first = accept(&buffer, "reading-1", 5).await;
    let again = buffer.accept(request("reading-1", 5), ME).await.unwrap();
    assert_eq!(
        again,
        Receipt {
            id: first,
            known: true
        }
    );
    let nonce = buffer.take_due(1).await[0].nonce;
    commit(&buffer, first, 1).await;
    accept(&buffer, "reading-2", 5).await;
    let other = buffer.take_due(1).await.remove(0);
    assert_ne!(other.nonce, nonce);
    commit(&buffer, other.id, 2).await;

    // The first is forgotten by now; sent again it has the same nonce, so the ledger knows its id.
    let again = accept(&buffer, "reading-1", 5).await;
    assert_ne!(again, first);
    assert_eq!(buffer.take_due(1).await[0].nonce, nonce);
}

/// Ends a request that is in hand.
async fn commit(buffer: &Buffer, id: u64, block: u64) {
    let job = Job {
        id,
        members: vec![id],
        target: 0,
        channel: String::new(),
        chaincode: String::new(),
        function: String::new(),
        args: Vec::new(),
        nonce: [0; NONCE_BYTES],
        identity: ME,
        attempts: 1,
        retry_conflicts: false,
        followed: false,
        maybe_sent: false,
        recovered: false,
    };
    buffer
        .settle(&job, Outcome::Committed { block }, Duration::ZERO)
        .await;
}

#[tokio::test]
async fn requests_without_a_key_are_all_different() {
    let dir = tempfile::tempdir().unwrap();
    let buffer = open(dir.path());
    let a = accept(&buffer, "", 5).await;
    let b = accept(&buffer, "", 5).await;
    assert_ne!(a, b);
    let due = buffer.take_due(2).await;
    assert_ne!(due[0].nonce, due[1].nonce);
}

#[tokio::test]
async fn a_lost_race_is_followed_by_a_new_request() {
    let dir = tempfile::tempdir().unwrap();
    let buffer = open(dir.path());
    let first = accept(&buffer, "k", 5).await;
    let lost = buffer.take_due(1).await.remove(0);
    // As the uplink does it: the follower is durable before the loser is settled.
    let second = buffer.follow(&lost, ME).await.unwrap();
    let conflict = Outcome::Conflict {
        reason: "MVCC_READ_CONFLICT".into(),
    };
    buffer.settle(&lost, conflict, Duration::ZERO).await;
    accept(&buffer, "another", 5).await;
    assert_eq!(buffer.view(first).unwrap().followed_by, second);
    assert_eq!(buffer.view(second).unwrap().follows, first);
    let follower = buffer.take_due(1).await.remove(0);
    assert_ne!(follower.nonce, lost.nonce);
    assert_eq!(follower.args, lost.args);
    drop(buffer);
    let again = open(dir.path());
    assert_eq!(again.view(first).unwrap().followed_by, second);
    assert_eq!(again.view(first).unwrap().state, State::Refused);
    assert_eq!(numbers(&again).await.len(), 2);
}

#[tokio::test]
async fn after_a_crash_a_loser_knows_its_follower() {
    let dir = tempfile::tempdir().unwrap();
    let buffer = open(dir.path());
    accept(&buffer, "k", 5).await;
    let lost = buffer.take_due(1).await.remove(0);
    assert!(!lost.followed);
    let second = buffer.follow(&lost, ME).await.unwrap();
    // The process ends before the loser is settled.
    drop(buffer);
    let again = open(dir.path());
    let due = again.take_due(9).await;
    assert_eq!(
        due.iter().map(|j| (j.id, j.followed)).collect::<Vec<_>>(),
        [(lost.id, true), (second, false)]
    );
}

#[tokio::test]
async fn old_files_go_and_open_requests_stay() {
    let dir = tempfile::tempdir().unwrap();
    let buffer = open(dir.path());
    let stuck = accept(&buffer, "stuck", 10).await;
    assert_eq!(numbers(&buffer).await, [stuck]);
    // Some 20 MiB go through while the first request stays open.
    for n in 0..40 {
        accept(&buffer, &format!("n{n}"), 512 * 1024).await;
        assert_eq!(commit_all(&buffer).await, 1);
    }
    let segments = || buffer.core.disk.list().unwrap().len();
    assert!(segments() >= 5);
    buffer.keep_house(ME).await.unwrap();
    assert!(
        segments() <= 4,
        "what holds the open request remains, and some history"
    );
    assert!(buffer.totals().file_bytes < 3 * SEGMENT_BYTES + 2 * 1024 * 1024);
    drop(buffer);
    let again = open(dir.path());
    assert_eq!(numbers(&again).await, [stuck]);
}

#[tokio::test]
async fn a_full_buffer_pushes_back() {
    let dir = tempfile::tempdir().unwrap();
    let limits = BufferLimits {
        max_entries: 2,
        ..BufferLimits::default()
    };
    let options = BufferOptions {
        limits,
        ..BufferOptions::default()
    };
    let buffer = Buffer::open(dir.path(), options).unwrap();
    accept(&buffer, "a", 1).await;
    accept(&buffer, "b", 1).await;
    let full = buffer.accept(request("c", 1), ME).await.unwrap_err();
    assert!(matches!(full, BufferError::Full { .. }), "{full}");
    assert_eq!(
        full.retry_after(),
        Some(Duration::from_secs(30)),
        "nothing is sent now"
    );
    assert_eq!(commit_all(&buffer).await, 2);
    accept(&buffer, "c", 1).await;
    let long = buffer
        .accept(request("d", MAX_REQUEST_BYTES + 1), ME)
        .await
        .unwrap_err();
    assert!(matches!(long, BufferError::TooLong { .. }) && long.retry_after().is_none());
}

#[tokio::test]
async fn a_reading_costs_less_than_a_hundred_bytes_of_our_own() {
    let dir = tempfile::tempdir().unwrap();
    let buffer = open(dir.path());
    let before = buffer.totals().written_bytes;
    let payload = 150;
    for n in 0..1000 {
        accept(&buffer, &format!("truck-17/t/{n:08}"), payload - 18).await;
        commit_all(&buffer).await;
    }
    drop(buffer.core.log.lock().sync());
    let each = (buffer.totals().written_bytes - before) / 1000;
    println!("{each} bytes written for a reading of {payload}");
    assert!(each <= (payload * 3 / 2 + 100) as u64, "{each}");
    assert!(each <= (payload + 100) as u64, "{each}");
}

/// A buffer over a fake disk, whose segments can be damaged.
struct Fake {
    disk: Arc<FakeDisk>,
    clock: Arc<FakeClock>,
    options: BufferOptions,
    /// What is staged is written when the test says so.
    by_hand: bool,
    buffer: Option<Buffer>,
}

impl Fake {
    fn new(segment_bytes: u64) -> Self {
        let mut fake = Self {
            disk: Arc::new(FakeDisk::new(1)),
            clock: Arc::default(),
            by_hand: false,
            options: BufferOptions {
                segment_bytes,
                gaps: vec![GapRule {
                    of_channel: String::new(),
                    of_chaincode: String::new(),
                    channel: "trade".into(),
                    chaincode: "shipment".into(),
                    function: "recordGaps".into(),
                }],
                gateway: "hall-7".into(),
                ..BufferOptions::default()
            },
            buffer: None,
        };
        fake.open().unwrap();
        fake
    }

    fn open(&mut self) -> Result<(), BufferError> {
        self.buffer = None;
        self.buffer = Some(Buffer::assemble(
            "fake".into(),
            Arc::clone(&self.disk) as Arc<dyn Disk>,
            Arc::clone(&self.clock) as Arc<dyn Clock>,
            [9; 32],
            self.options.clone(),
            !self.by_hand,
        )?);
        Ok(())
    }

    fn get(&self) -> &Buffer {
        self.buffer.as_ref().unwrap()
    }

    async fn fill(&self, count: usize) {
        for n in 0..count {
            accept(self.get(), &format!("k{n}"), 40).await;
        }
    }

    /// Flips one bit inside the record of a request.
    fn flip(&self, number: u64) {
        let at = *self.get().core.inner.lock().engine.slot(number).unwrap();
        self.disk.damage(u64::from(at.segment), |bytes| {
            bytes[(at.offset + at.bytes / 2) as usize] ^= 0x10;
        });
    }

    /// What is still there, and what the gap record tells is lost.
    async fn left(&self) -> (Vec<u64>, u64) {
        self.get().keep_house(ME).await.unwrap();
        let due = self.get().take_due(1000).await;
        let (told, data): (Vec<&Job>, Vec<&Job>) = due.iter().partition(|j| j.function == "recordGaps");
        let lost = told
            .iter()
            .map(|job| serde_json::from_slice::<serde_json::Value>(&job.args[0]).unwrap())
            .flat_map(|v| v["gaps"].as_array().unwrap().clone())
            .inspect(|gap| assert_eq!(gap["reason"], "damaged"))
            .map(|gap| gap["count"].as_u64().unwrap())
            .sum();
        (data.iter().map(|j| j.id).collect(), lost)
    }

    /// Requests dropped of which the gap records tell, once these are sent.
    async fn told(&self) -> u64 {
        self.get().keep_house(ME).await.unwrap();
        let mut told = 0;
        for job in self.get().take_due(1000).await {
            if job.function == "recordGaps" {
                let value: serde_json::Value = serde_json::from_slice(&job.args[0]).unwrap();
                let counts = value["gaps"].as_array().unwrap().iter();
                told += counts.map(|gap| gap["count"].as_u64().unwrap()).sum::<u64>();
            }
            let committed = Outcome::Committed { block: 1 };
            self.get().settle(&job, committed, Duration::ZERO).await;
        }
        told
    }
}

#[test]
fn a_request_that_comes_twice_while_the_disk_is_full_is_taken_by_nobody() {
    let mut fake = Fake::new(100_000);
    fake.by_hand = true;
    fake.open().unwrap();
    drive(fake.get(), 9, fake.get().accept(request("before", 40), ME)).unwrap();
    fake.disk.leave_free(Some(20));
    let twice = futures::future::join(
        fake.get().accept(request("k", 40), ME),
        fake.get().accept(request("k", 40), ME),
    );
    let (first, second) = drive(fake.get(), 9, twice);
    assert!(matches!(first, Err(BufferError::Write(_))), "{first:?}");
    assert!(matches!(second, Err(BufferError::Write(_))), "{second:?}");
    fake.disk.leave_free(None);
    fake.clock.advance(10_000);
    let again = drive(fake.get(), 9, fake.get().accept(request("k", 40), ME)).unwrap();
    assert!(!again.known);
    let known = drive(fake.get(), 9, fake.get().accept(request("k", 40), ME)).unwrap();
    assert_eq!((known.known, known.id), (true, again.id));
}

#[test]
fn a_request_that_comes_again_after_its_write_failed_is_not_taken_for_stored() {
    let mut fake = Fake::new(100_000);
    fake.by_hand = true;
    fake.open().unwrap();
    let (buffer, disk) = (fake.get(), &fake.disk);
    let mut first = Box::pin(buffer.accept(request("k", 40), ME));
    let mut second = Box::pin(buffer.accept(request("k", 40), ME));
    assert!(first.as_mut().now_or_never().is_none());
    assert!(second.as_mut().now_or_never().is_none());
    disk.set_failing(1.0);
    assert_eq!(buffer.core.commit(1), Committed::Failed);
    disk.set_failing(0.0);
    assert_eq!(buffer.core.commit(1), Committed::Group);
    assert!(first.now_or_never().expect("its write has failed").is_err());
    let second = second.now_or_never().expect("everything before it is written");
    assert!(matches!(second, Err(BufferError::Write(_))), "{second:?}");
}

#[tokio::test]
async fn files_go_only_after_the_drops_of_what_they_hold_are_on_disk() {
    let mut fake = Fake::new(400);
    fake.options.limits.max_age = Some(Duration::from_secs(60));
    fake.open().unwrap();
    fake.fill(30).await;
    fake.by_hand = true;
    fake.open().unwrap();
    drive(fake.get(), 9, fake.get().accept(request("new segment", 40), ME)).unwrap();
    fake.clock.advance(100_000);
    let files = fake.disk.list().unwrap().len();
    // The drops are staged, and nothing is written before the power goes.
    assert!(fake.get().keep_house(ME).now_or_never().is_none());
    assert_eq!(fake.disk.list().unwrap().len(), files);
    fake.disk.power_on();
    fake.by_hand = false;
    fake.open().unwrap();
    let told = fake.told().await + fake.told().await;
    assert_eq!(told, 31, "each is dropped again, and told");
    fake.get().keep_house(ME).await.unwrap();
    assert!(fake.disk.list().unwrap().len() < files);
}

#[tokio::test]
async fn a_full_disk_is_emptied_though_drops_cannot_be_told() {
    let mut fake = Fake::new(1_000);
    fake.fill(30).await;
    fake.flip(2);
    let due = fake.get().take_due(1000).await;
    assert_eq!(due.len(), 29);
    for job in &due {
        fake.get().sending(job).await.unwrap();
        let committed = Outcome::Committed { block: 1 };
        fake.get().settle(job, committed, Duration::ZERO).await;
    }
    // The reserve is used for something, and then there is no space at all.
    assert!(fake.get().core.log.lock().use_reserve());
    fake.disk.leave_free(Some(0));
    assert!(
        fake.get().keep_house(ME).await.is_err(),
        "the drop cannot be told"
    );
    assert!(fake.disk.list().unwrap().len() <= 2, "dead files are gone");
    assert_eq!(fake.told().await, 1, "there is space again");
    fake.open().unwrap();
    assert_eq!(fake.get().totals().untold_drops, 0);
}

#[tokio::test]
async fn a_clock_that_is_set_makes_nothing_older() {
    for days in [40, -40] {
        let mut fake = Fake::new(100_000);
        fake.clock.set(100 * 86_400);
        fake.options.limits.max_age = Some(Duration::from_secs(12 * 3600));
        fake.open().unwrap();
        fake.fill(3).await;
        fake.get().keep_house(ME).await.unwrap();
        fake.clock.advance(5_000);
        accept(fake.get(), "before the step", 1).await;
        fake.clock.set(days * 86_400);
        accept(fake.get(), "after the step", 1).await;
        fake.clock.advance(5_000);
        fake.get().keep_house(ME).await.unwrap();
        assert_eq!(fake.get().totals().open.values().sum::<usize>(), 5, "{days} days");
        // It is known after a restart too.
        fake.open().unwrap();
        fake.get().keep_house(ME).await.unwrap();
        assert_eq!(fake.get().totals().open.values().sum::<usize>(), 5, "{days} days");
        fake.clock.advance(12 * 3_600_000 - 8_000);
        fake.get().keep_house(ME).await.unwrap();
        assert_eq!(fake.told().await, 3, "{days} days: they are old now");
        fake.clock.advance(10_000);
        assert_eq!(fake.told().await, 0);
    }
}

#[tokio::test]
async fn what_came_before_the_time_was_known_grows_old_from_then_on() {
    let mut fake = Fake::new(100_000);
    fake.clock.set(-86_400);
    fake.options.limits.max_age = Some(Duration::from_secs(60));
    fake.open().unwrap();
    fake.fill(3).await;
    fake.clock.advance(100_000);
    fake.get().keep_house(ME).await.unwrap();
    fake.clock.set(40 * 86_400);
    fake.get().keep_house(ME).await.unwrap();
    assert_eq!(fake.get().totals().open.values().sum::<usize>(), 3);
    fake.clock.advance(61_000);
    assert_eq!(fake.told().await, 3);
}

#[tokio::test]
async fn damage_at_rest_costs_one_record_and_is_told() {
    let mut fake = Fake::new(100_000);
    fake.fill(5).await;
    fake.flip(3);
    fake.open().unwrap();
    assert_eq!(fake.get().damage().len(), 1, "{:?}", fake.get().damage());
    assert!(fake.get().damage()[0].contains("one request is lost"));
    assert_eq!(fake.left().await, (vec![1, 2, 4, 5], 1));
    // It is told once, also after another start.
    fake.open().unwrap();
    let (data, lost) = fake.left().await;
    assert_eq!((data.len(), lost), (4, 1));
    assert_eq!(fake.get().totals().untold_drops, 0);
}

#[tokio::test]
async fn damage_in_an_old_file_is_told_once_and_where_its_neighbours_go() {
    let mut fake = Fake::new(400);
    // As the documentation prints it: without a channel of its own.
    fake.options.gaps[0].channel = String::new();
    fake.options.gaps[0].of_chaincode = "shipment".into();
    fake.open().unwrap();
    fake.fill(30).await;
    assert!(fake.disk.list().unwrap().len() > 4);
    fake.flip(5);
    for _ in 0..2 {
        fake.open().unwrap();
        assert_eq!(fake.get().damage().len(), 1, "{:?}", fake.get().damage());
        assert!(fake.get().damage()[0].contains("one request is lost"));
    }
    let expected: Vec<u64> = (1..=30).filter(|n| *n != 5).collect();
    assert_eq!(fake.left().await, (expected, 1));
    for _ in 0..3 {
        fake.open().unwrap();
        let (data, told) = fake.left().await;
        assert_eq!((data.len(), told), (29, 1), "the one record that tells it waits");
        assert_eq!(fake.get().totals().untold_drops, 0);
    }
    let due = fake.get().take_due(1000).await;
    assert!(due.is_empty(), "they are in hand");
    fake.open().unwrap();
    assert_eq!(fake.told().await, 1);
    fake.open().unwrap();
    assert_eq!(fake.told().await, 0);
}

#[tokio::test]
async fn damage_to_what_has_ended_loses_nothing() {
    let mut fake = Fake::new(400);
    fake.options.limits.remembered = 3;
    fake.open().unwrap();
    fake.fill(30).await;
    let slot = *fake.get().core.inner.lock().engine.slot(5).unwrap();
    let due = fake.get().take_due(10).await;
    for job in &due {
        let committed = Outcome::Committed { block: 1 };
        fake.get().settle(job, committed, Duration::ZERO).await;
    }
    fake.disk.damage(u64::from(slot.segment), |bytes| {
        bytes[(slot.offset + slot.bytes / 2) as usize] ^= 0x10;
    });
    fake.open().unwrap();
    assert!(fake.get().damage()[0].contains("no request is known to be lost"));
    assert_eq!(fake.left().await, ((11..=30).collect(), 0));
}

#[tokio::test]
async fn damage_to_a_copy_is_told() {
    let mut fake = Fake::new(400);
    fake.fill(60).await;
    let due = fake.get().take_due(1000).await;
    for job in due.iter().filter(|job| ![3, 4].contains(&job.id)) {
        let committed = Outcome::Committed { block: 1 };
        fake.get().settle(job, committed, Duration::ZERO).await;
    }
    let before = *fake.get().core.inner.lock().engine.slot(3).unwrap();
    fake.get().keep_house(ME).await.unwrap();
    let copy = *fake.get().core.inner.lock().engine.slot(3).unwrap();
    assert!(copy.segment > before.segment && !fake.disk.list().unwrap().contains(&u64::from(before.segment)));
    accept(fake.get(), "later", 40).await;
    fake.flip(3);
    fake.open().unwrap();
    let damage = fake.get().damage();
    assert!(
        damage.iter().any(|line| line.contains("request 3 ")),
        "{damage:?}"
    );
    assert_eq!(fake.left().await, (vec![4, 61], 1));
}

#[tokio::test]
async fn damage_to_what_tells_of_drops_takes_none_of_them() {
    for second in [false, true] {
        let mut fake = Fake::new(400);
        fake.options.limits.max_age = Some(Duration::from_secs(60));
        fake.open().unwrap();
        fake.fill(3).await;
        fake.clock.advance(61_000);
        fake.get().keep_house(ME).await.unwrap();
        let slot = {
            let inner = fake.get().core.inner.lock();
            let open: Vec<_> = inner.engine.slots().iter().map(|(_, slot)| *slot).collect();
            assert_eq!(open.len(), 1, "the record that tells of them");
            open[0]
        };
        // The files after it know of no drop any more.
        for n in 0..10 {
            accept(fake.get(), &format!("later{n}"), 40).await;
        }
        let at = if second {
            slot.offset
        } else {
            slot.offset - slot.bytes
        };
        fake.disk.damage(u64::from(slot.segment), |bytes| {
            bytes[(at + slot.bytes / 2) as usize] ^= 0x10;
        });
        fake.open().unwrap();
        assert_eq!(fake.get().damage().len(), 1, "{:?}", fake.get().damage());
        assert_eq!(fake.told().await, 3);
        assert_eq!(fake.told().await, 0);
    }
}

#[tokio::test]
async fn a_whole_file_that_is_lost_is_counted() {
    let mut fake = Fake::new(400);
    fake.fill(30).await;
    let slots = |fake: &Fake, segment: u32| -> Vec<u64> {
        let inner = fake.get().core.inner.lock();
        let all = inner
            .engine
            .slots()
            .iter()
            .filter(|(_, slot)| slot.segment == segment);
        all.map(|(number, _)| number).collect()
    };
    let lost = slots(&fake, 3);
    assert!(lost.len() > 1);
    fake.disk.damage(3, |bytes| bytes.fill(0));
    fake.open().unwrap();
    let expected: Vec<u64> = (1..=30).filter(|n| !lost.contains(n)).collect();
    assert_eq!(fake.left().await, (expected, lost.len() as u64));
}

#[tokio::test]
async fn damage_while_running_is_found_when_the_record_is_read() {
    let fake = Fake::new(100_000);
    fake.fill(3).await;
    fake.flip(2);
    assert_eq!(numbers(fake.get()).await, [1, 3]);
    assert_eq!(fake.get().view(2).unwrap().state, State::Dropped);
    assert_eq!(fake.get().view(2).unwrap().reason, "damaged");
    assert!(fake.get().damage()[0].contains("request 2"));
    assert_eq!(fake.left().await, (vec![], 1));
    assert_eq!(fake.get().totals().dropped[&DropReason::Damaged], 1);
}

#[tokio::test]
async fn damage_of_the_first_record_of_a_template_costs_nothing() {
    let mut fake = Fake::new(1_000_000);
    fake.fill(200).await;
    fake.disk.damage(1, |bytes| {
        let at = bytes
            .windows(b"recordReading".len())
            .position(|w| w == b"recordReading")
            .unwrap();
        bytes[at] ^= 1;
    });
    fake.open().unwrap();
    assert_eq!(fake.get().damage().len(), 1);
    assert!(fake.get().damage()[0].contains("no request is known to be lost"));
    let (data, lost) = fake.left().await;
    assert_eq!((data.len(), lost), (200, 0));
}

#[tokio::test]
async fn damage_of_a_segments_head_costs_nothing_but_a_report() {
    let mut fake = Fake::new(100_000);
    fake.fill(3).await;
    fake.disk.damage(1, |bytes| bytes[2] ^= 1);
    fake.open().unwrap();
    assert!(
        fake.get().damage()[0].contains("first bytes"),
        "{:?}",
        fake.get().damage()
    );
    assert_eq!(fake.left().await.0, [1, 2, 3]);
}

#[tokio::test]
async fn damage_over_several_records_is_counted() {
    let mut fake = Fake::new(100_000);
    fake.fill(9).await;
    let (from, to) = {
        let inner = fake.get().core.inner.lock();
        let at = |n| inner.engine.slot(n).unwrap().offset as usize;
        (at(3) + 5, at(6) + 5)
    };
    fake.disk.damage(1, |bytes| bytes[from..to].fill(0xAA));
    fake.open().unwrap();
    assert_eq!(fake.left().await, (vec![1, 2, 7, 8, 9], 4));
}

#[tokio::test]
async fn a_segment_of_zeros_and_a_cut_one_are_reported() {
    let mut fake = Fake::new(400);
    fake.fill(30).await;
    assert!(fake.disk.list().unwrap().len() > 4);
    fake.disk.damage(2, |bytes| bytes.fill(0));
    fake.disk.damage(3, |bytes| bytes.truncate(bytes.len() - 7));
    fake.open().unwrap();
    let damage = fake.get().damage();
    assert!(
        damage.iter().any(|d| d.contains("000000000002.seg")),
        "{damage:?}"
    );
    assert!(
        damage.iter().any(|d| d.contains("000000000003.seg")),
        "{damage:?}"
    );
    assert!(fake.left().await.0.len() > 8);
}

#[tokio::test]
async fn a_torn_tail_is_no_damage() {
    let mut fake = Fake::new(100_000);
    fake.fill(4).await;
    fake.disk.damage(1, |bytes| {
        bytes.extend_from_slice(&[0xD5, 0x5E, 0x1F, 0xED, 9, 0, 0])
    });
    for _ in 0..3 {
        fake.open().unwrap();
        assert_eq!(fake.get().damage(), Vec::<String>::new());
    }
    assert_eq!(fake.left().await, (vec![1, 2, 3, 4], 0));
}

#[tokio::test]
async fn what_was_read_behind_a_tear_is_missed_when_it_is_damaged_later() {
    let mut fake = Fake::new(100_000);
    fake.fill(3).await;
    // Nothing says that the last record is durable: it might be a torn write, and it is whole.
    fake.open().unwrap();
    accept(fake.get(), "k4", 3).await;
    let slot = *fake.get().core.inner.lock().engine.slot(3).unwrap();
    assert_eq!(slot.segment, 1);
    let at = usize::try_from(slot.offset).unwrap() + 20;
    fake.disk.damage(1, |bytes| bytes[at] ^= 1);
    fake.open().unwrap();
    let damage = fake.get().damage();
    assert!(damage.iter().any(|d| d.contains("request 3")), "{damage:?}");
    assert_eq!(fake.left().await, (vec![1, 2, 4], 1));
}

#[tokio::test]
async fn the_format_before_is_read_and_left_behind() {
    let mut fake = Fake::new(100_000);
    fake.fill(2).await;
    fake.disk.damage(1, |bytes| bytes[7] = b'2');
    fake.open().unwrap();
    assert_eq!(fake.get().damage(), Vec::<String>::new());
    accept(fake.get(), "k3", 3).await;
    assert_eq!(fake.disk.read(2, 0, 8).unwrap(), b"SLVBUF03");
    fake.open().unwrap();
    assert_eq!(fake.left().await, (vec![1, 2, 3], 0));
}

#[tokio::test]
async fn another_format_is_refused_and_named() {
    let mut fake = Fake::new(100_000);
    fake.fill(1).await;
    fake.disk.damage(1, |bytes| bytes[7] = b'9');
    let error = fake.open().unwrap_err();
    assert!(matches!(error, BufferError::Version { .. }));
    assert!(error.to_string().contains("format 09"), "{error}");
}

#[tokio::test]
async fn a_full_disk_refuses_requests_and_drains() {
    let mut fake = Fake::new(2_000);
    fake.fill(30).await;
    fake.disk.leave_free(Some(100));
    let error = fake.get().accept(request("more", 200), ME).await.unwrap_err();
    assert!(matches!(error, BufferError::Write(_)), "{error}");
    assert_eq!(error.retry_after(), Some(DISK_PAUSE));
    // What must be noted goes on in the reserve.
    let due = fake.get().take_due(1000).await;
    assert_eq!(due.len(), 30);
    for job in &due {
        fake.get().sending(job).await.unwrap();
        let committed = Outcome::Committed { block: 1 };
        fake.get().settle(job, committed, Duration::ZERO).await;
    }
    assert!(fake.get().core.inner.lock().engine.slots().marked(1));
    fake.get().keep_house(ME).await.unwrap();
    assert!(
        fake.disk.list().unwrap().len() <= 2,
        "files of what was sent are gone"
    );
    fake.disk.leave_free(None);
    fake.get().keep_house(ME).await.unwrap();
    accept(fake.get(), "more", 200).await;
    fake.open().unwrap();
    assert_eq!(fake.get().take_due(9).await.len(), 1);
}

#[tokio::test]
async fn a_renewed_certificate_takes_over_what_nobody_has_seen() {
    let mut fake = Fake::new(100_000);
    fake.fill(70).await;
    let due = fake.get().take_due(1).await;
    fake.get().sending(&due[0]).await.unwrap();
    let again = Outcome::Again {
        state: State::OrderingError,
        reason: String::new(),
    };
    fake.get().settle(&due[0], again, Duration::ZERO).await;
    // The first 63 are of a group of which one was sent.
    assert_eq!(fake.get().rebind_unsent(&ME, [8; 32]).await.unwrap(), 7);
    for _ in 0..2 {
        let due = fake.get().take_due(100).await;
        let mut old: Vec<u64> = due.iter().filter(|j| j.identity == ME).map(|j| j.id).collect();
        // What was tried goes after what was not.
        old.sort_unstable();
        assert_eq!(old, (1..64).collect::<Vec<_>>());
        assert!(due.iter().all(|j| j.maybe_sent == (j.identity == ME)));
        fake.open().unwrap();
    }
    assert_eq!(fake.get().identities().len(), 2);
}

#[tokio::test]
async fn what_cannot_be_merged_or_read_keeps_its_place_in_its_source() {
    for unreadable in [false, true] {
        let mut fake = Fake::new(100_000);
        fake.options.merge = vec![MergeRule {
            channel: String::new(),
            chaincode: "shipment".into(),
            function: "recordReading".into(),
            into: "recordReadings".into(),
            most: 10,
            most_bytes: 10_000,
        }];
        fake.open().unwrap();
        for n in 1..=5 {
            // The third of the source is no JSON, or cannot be read for a while.
            let text = if n == 3 && !unreadable {
                "junk".to_owned()
            } else {
                n.to_string()
            };
            let one = TransactionRequest {
                args: vec![text.into()],
                source: "s".into(),
                ordered: true,
                ..request(&format!("k{n}"), 0)
            };
            fake.get().accept(one, ME).await.unwrap();
        }
        if unreadable {
            let slot = *fake.get().core.inner.lock().engine.slot(3).unwrap();
            fake.disk
                .set_unreadable(Some((u64::from(slot.segment), u64::from(slot.offset))));
        }
        let mut order = Vec::new();
        for _ in 0..3 {
            let due = fake.get().take_due(1).await;
            for job in &due {
                order.push(job.members.clone());
                let committed = Outcome::Committed { block: 1 };
                fake.get().settle(job, committed, Duration::ZERO).await;
            }
            fake.disk.set_unreadable(None);
            fake.clock.advance(6_000);
        }
        // What could not be read may go together with those behind it later on.
        let expected: &[Vec<u64>] = if unreadable {
            &[vec![1, 2], vec![3, 4, 5]]
        } else {
            &[vec![1, 2], vec![3], vec![4, 5]]
        };
        assert_eq!(order, expected, "unreadable: {unreadable}");
    }
}

#[tokio::test]
async fn a_batch_goes_out_the_same_after_a_crash() {
    let mut fake = Fake::new(100_000);
    fake.options.merge = vec![MergeRule {
        channel: String::new(),
        chaincode: "shipment".into(),
        function: "recordReading".into(),
        into: "recordReadings".into(),
        most: 3,
        most_bytes: 10_000,
    }];
    fake.open().unwrap();
    for n in 0..4 {
        let one = TransactionRequest {
            args: vec![format!("{{\"n\":{n}}}").into()],
            ..request(&format!("k{n}"), 0)
        };
        fake.get().accept(one, ME).await.unwrap();
    }
    // This one is no JSON: it cannot stand in a list.
    accept(fake.get(), "junk", 5).await;
    let first = fake.get().take_due(1).await;
    assert_eq!(first[0].function, "recordReadings");
    assert_eq!(first[0].args[0].as_ref(), br#"[{"n":0},{"n":1},{"n":2}]"#);
    fake.options.merge.clear();
    fake.open().unwrap();
    let again = fake.get().take_due(9).await;
    let (batches, single): (Vec<_>, Vec<_>) = again.iter().partition(|job| job.is_batch());
    let [batch] = batches[..] else {
        panic!("one batch was on its way: {batches:?}");
    };
    assert_eq!(
        (batch.nonce, &batch.args, &batch.function),
        (first[0].nonce, &first[0].args, &first[0].function)
    );
    assert!(batch.recovered);
    assert_eq!(single.iter().map(|j| j.id).collect::<Vec<_>>(), [4, 5]);
    let committed = Outcome::Committed { block: 8 };
    fake.get().settle(batch, committed, Duration::ZERO).await;
    fake.open().unwrap();
    assert_eq!(fake.get().view(2).unwrap().block, 8);
    assert_eq!(numbers(fake.get()).await, [4, 5]);
}

//! The buffer against a model: random devices, a random network and a disk that loses power, fails and fills up.
//!
//! A scenario is fixed by its seed. It is run once to count its calls of the disk, then again and again with the power
//! failing at one of them. After each: every promise is kept once, what was dropped was told once, order was kept.
//!
//! `SELVEDGE_CRASH_POINTS` sets how many power cuts there are in all; 12,000 if unset.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use serde_json::Value;

use super::core::Committed;
use super::fake::{FakeClock, FakeDisk, drive};
use super::*;

const ME: IdentityId = [7; 32];
const STEPS: usize = 40;

/// A ledger that admits a nonce once.
#[derive(Debug, Default)]
struct Ledger {
    /// The verdict by nonce.
    verdicts: HashMap<[u8; NONCE_BYTES], bool>,
    /// Requests in the order of their transactions.
    recorded: Vec<u64>,
    /// Requests that gap records tell of, by reason.
    told: BTreeMap<String, u64>,
}

impl Ledger {
    fn admit(&mut self, job: &Job, valid: bool) {
        if self.verdicts.contains_key(&job.nonce) {
            return;
        }
        self.verdicts.insert(job.nonce, valid);
        if !valid {
            return;
        }
        if job.function == "recordGaps" {
            let told: Value = serde_json::from_slice(&job.args[0]).unwrap();
            for gap in told["gaps"].as_array().unwrap() {
                let reason = gap["reason"].as_str().unwrap().to_owned();
                *self.told.entry(reason).or_default() += gap["count"].as_u64().unwrap();
            }
            return;
        }
        self.recorded
            .extend(labels(job).into_iter().map(|(label, _)| label));
    }
}

/// The requests in a job: label and whether the contract refuses it.
fn labels(job: &Job) -> Vec<(u64, bool)> {
    let value: Value = serde_json::from_slice(&job.args[0]).unwrap();
    let list = match value {
        Value::Array(list) => list,
        one => vec![one],
    };
    list.iter()
        .map(|v| (v["n"].as_u64().unwrap(), v["bad"] == true))
        .collect()
}

/// What goes wrong in a scenario besides the power.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trouble {
    None,
    Failing,
    Full,
    /// One bit of an old record flips.
    Rot,
}

struct World {
    seed: u64,
    rng: SmallRng,
    disk: Arc<FakeDisk>,
    clock: Arc<FakeClock>,
    options: BufferOptions,
    trouble: Trouble,
    /// Things that are written at a time, when a caller waits for them or luck has it; 0 for at once.
    at_a_time: usize,
    rotten: bool,
    buffer: Option<Buffer>,
    ledger: Ledger,
    in_hand: Vec<Job>,
    next_label: u64,
    promised: BTreeSet<u64>,
    bad: BTreeSet<u64>,
    /// Callers were told that these were not taken.
    turned_away: BTreeSet<u64>,
    keys: Vec<TransactionRequest>,
    ordered: BTreeMap<u64, String>,
    restarted: bool,
    /// Requests that were handed over again after they were dropped or forgotten.
    retaken: u64,
}

fn request(label: u64, bad: bool) -> TransactionRequest {
    TransactionRequest {
        channel: "trade".into(),
        chaincode: "shipment".into(),
        function: "record".into(),
        args: vec![format!("{{\"n\":{label},\"bad\":{bad}}}").into()],
        retry_conflicts: true,
        ..TransactionRequest::default()
    }
}

fn options(rng: &mut SmallRng) -> BufferOptions {
    let when_full = match rng.random_range(0..3) {
        0 => WhenFull::Refuse,
        1 => WhenFull::DropOldest,
        _ => WhenFull::DropLowestPriority,
    };
    BufferOptions {
        limits: BufferLimits {
            max_entries: rng.random_range(5..60),
            max_age: rng.random_bool(0.3).then(|| Duration::from_secs(60)),
            when_full,
            remembered: rng.random_range(0..20),
            ..BufferLimits::default()
        },
        segment_bytes: rng.random_range(300..3000),
        merge: vec![MergeRule {
            channel: String::new(),
            chaincode: "shipment".into(),
            function: "record".into(),
            into: "records".into(),
            most: rng.random_range(2..9),
            most_bytes: 100_000,
        }],
        gaps: vec![GapRule {
            of_channel: String::new(),
            of_chaincode: String::new(),
            channel: "trade".into(),
            chaincode: "shipment".into(),
            function: "recordGaps".into(),
        }],
        ..BufferOptions::default()
    }
}

impl World {
    fn new(seed: u64, power_fails_at: Option<u64>) -> Self {
        let mut rng = SmallRng::seed_from_u64(seed);
        let disk = Arc::new(FakeDisk::new(seed ^ power_fails_at.unwrap_or(0)));
        if let Some(call) = power_fails_at {
            disk.power_fails_at(call);
        }
        let trouble = match seed % 5 {
            0 => Trouble::Failing,
            1 => Trouble::Full,
            2 => Trouble::Rot,
            _ => Trouble::None,
        };
        let at_a_time = if seed.is_multiple_of(2) {
            0
        } else {
            rng.random_range(1..9)
        };
        Self {
            seed,
            options: options(&mut rng),
            rng,
            disk,
            clock: Arc::default(),
            trouble,
            at_a_time,
            rotten: false,
            buffer: None,
            ledger: Ledger::default(),
            in_hand: Vec::new(),
            next_label: 0,
            promised: BTreeSet::new(),
            bad: BTreeSet::new(),
            turned_away: BTreeSet::new(),
            keys: Vec::new(),
            ordered: BTreeMap::new(),
            restarted: false,
            retaken: 0,
        }
    }

    fn open(&mut self) {
        self.in_hand.clear();
        self.buffer = None;
        let opened = Buffer::assemble(
            "fake".into(),
            Arc::clone(&self.disk) as Arc<dyn Disk>,
            Arc::clone(&self.clock) as Arc<dyn Clock>,
            [9; 32],
            self.options.clone(),
            self.at_a_time == 0,
        );
        match opened {
            Ok(buffer) => self.buffer = Some(buffer),
            Err(error) => assert!(self.disk.is_off(), "seed {}: {error}", self.seed),
        }
    }

    fn buffer(&self) -> &Buffer {
        self.buffer.as_ref().expect("it is open")
    }

    fn now<T>(&self, work: impl Future<Output = T>) -> T {
        drive(self.buffer(), self.at_a_time, work)
    }

    /// Writes everything that is staged.
    fn write_all(&self) {
        while self.buffer().core.commit(usize::MAX) == Committed::Group {}
    }

    /// Flips a bit of a record that is durable beyond doubt, once.
    fn rot(&mut self) {
        if self.rotten {
            return;
        }
        let segments = self.disk.list().unwrap_or_default();
        let Some(segment) = segments.first().copied() else {
            return;
        };
        let rng = &mut self.rng;
        let mut rotten = false;
        self.disk.damage(segment, |bytes| {
            let mut records = Vec::new();
            record::scan(
                &bytes.clone().into(),
                record::MAGIC.len().min(bytes.len()),
                |found| {
                    records.extend(found);
                },
            );
            let last_clean = records.iter().rposition(|found| found.clean).unwrap_or(0);
            // Not the head: what earlier files said stands there alone.
            let good = records.get(1..last_clean).unwrap_or_default();
            if !good.is_empty() {
                let record = &good[rng.random_range(0..good.len())];
                let at = record.offset + rng.random_range(0..record.length);
                bytes[at] ^= 1 << rng.random_range(0..8);
                rotten = true;
            }
        });
        self.rotten = rotten;
    }

    fn accept(&mut self) {
        let label = self.next_label;
        self.next_label += 1;
        let bad = self.rng.random_bool(0.05);
        let mut request = request(label, bad);
        request.priority = Priority::ALL[self.rng.random_range(0..4)];
        request.source = format!("s{}", self.rng.random_range(0..3));
        request.ordered = self.rng.random_bool(0.3);
        if request.ordered {
            // The order of one source is that of its one stream.
            request.source = format!("ordered-{}", self.rng.random_range(0..2));
            self.ordered.insert(label, request.source.clone());
        }
        if self.rng.random_bool(0.2) {
            request.max_age = Some(Duration::from_secs(self.rng.random_range(1..90)));
        }
        if self.rng.random_bool(0.3) {
            request.idempotency_key = format!("k{label}");
            // What is merged is known under its key only while it is remembered; what is not, for ever.
            if self.rng.random_bool(0.5) {
                request.function = "recordOnce".into();
                self.keys.push(request.clone());
            }
        }
        // Now and then it comes twice at once.
        let twice = !request.idempotency_key.is_empty() && self.rng.random_bool(0.3);
        let taken = if twice {
            let both = futures::future::join(
                self.buffer().accept(request.clone(), ME),
                self.buffer().accept(request, ME),
            );
            let (first, second) = self.now(both);
            first.or(second)
        } else {
            self.now(self.buffer().accept(request, ME))
        };
        if bad {
            self.bad.insert(label);
        }
        match taken {
            Ok(_) => drop(self.promised.insert(label)),
            Err(_) if self.disk.is_off() => {}
            Err(_) => drop(self.turned_away.insert(label)),
        }
    }

    /// A device that did not hear the answer says it again.
    fn repeat(&mut self) {
        if self.keys.is_empty() {
            return;
        }
        let request = self.keys[self.rng.random_range(0..self.keys.len())].clone();
        let label = serde_json::from_slice::<Value>(&request.args[0]).unwrap()["n"]
            .as_u64()
            .unwrap();
        if let Ok(receipt) = self.now(self.buffer().accept(request, ME)) {
            self.retaken += u64::from(!receipt.known);
            self.turned_away.remove(&label);
            self.promised.insert(label);
        }
    }

    fn attempt(&mut self) {
        if self.in_hand.is_empty() || self.rng.random_bool(0.3) {
            let most = self.rng.random_range(1..4);
            let jobs = self.now(self.buffer().take_due(most));
            self.in_hand.extend(jobs);
            return;
        }
        let at = self.rng.random_range(0..self.in_hand.len());
        let job = self.in_hand.swap_remove(at);
        let luck = self.rng.random_range(0..10);
        self.outcome(&job, luck);
    }

    /// One attempt at a job; `luck` decides what the network does.
    fn outcome(&mut self, job: &Job, luck: u32) {
        let committed = Outcome::Committed { block: 1 };
        let again = |state| Outcome::Again {
            state,
            reason: "no answer".into(),
        };
        let conflict = || Outcome::Conflict {
            reason: "MVCC_READ_CONFLICT".into(),
        };
        let result = match self.ledger.verdicts.get(&job.nonce) {
            Some(true) => committed,
            Some(false) => conflict(),
            None if luck == 0 => again(State::EndorsementError),
            None if job.function != "recordGaps" && labels(job).iter().any(|(_, bad)| *bad) => {
                Outcome::Refused {
                    reason: "chaincode response 400".into(),
                }
            }
            None => {
                let noted = self.now(self.buffer().sending(job));
                if self.disk.is_off() {
                    return;
                }
                match luck {
                    _ if noted.is_err() => again(State::OrderingError),
                    1 => again(State::OrderingError),
                    2 => {
                        self.ledger.admit(job, true);
                        again(State::CommitError)
                    }
                    3 => {
                        self.ledger.admit(job, false);
                        conflict()
                    }
                    _ => {
                        self.ledger.admit(job, true);
                        committed
                    }
                }
            }
        };
        let pause = Duration::from_millis(self.rng.random_range(0..2000));
        if matches!(result, Outcome::Conflict { .. }) && !job.is_batch() && !job.followed {
            // As the uplink does it: the follower is durable before the loser is settled.
            if let Err(error) = self.now(self.buffer().follow(job, ME)) {
                let later = again(State::CommitError);
                drop(error);
                self.now(self.buffer().settle(job, later, pause));
                return;
            }
        }
        self.now(self.buffer().settle(job, result, pause));
    }

    fn step(&mut self) {
        match self.rng.random_range(0..21) {
            0..=7 => {
                for _ in 0..self.rng.random_range(1..5) {
                    self.accept();
                }
            }
            8 => self.repeat(),
            9..=15 => self.attempt(),
            16 => drop(self.now(self.buffer().keep_house(ME))),
            17 if self.at_a_time > 0 => drop(self.buffer().core.commit(self.at_a_time)),
            18 => {
                self.clock.advance(self.rng.random_range(0..20_000));
                if self.rng.random_bool(0.1) {
                    self.clock.set(self.rng.random_range(-100_000..100_000));
                }
            }
            19 => match self.trouble {
                Trouble::None => {}
                Trouble::Rot => {
                    self.rot();
                    self.restarted = true;
                    self.open();
                }
                Trouble::Failing => {
                    let failing = if self.rng.random_bool(0.5) { 0.2 } else { 0.0 };
                    self.disk.set_failing(failing);
                }
                Trouble::Full => {
                    let free = self.rng.random_bool(0.6).then(|| self.rng.random_range(0..2000));
                    self.disk.leave_free(free);
                }
            },
            // After a failed fsync the page cache shows what is not on the disk; a process that starts then believes it.
            _ if self.trouble == Trouble::Failing => {}
            _ => {
                // kill -9: what was written stays.
                self.restarted = true;
                self.open();
            }
        }
    }

    fn run(&mut self) {
        self.open();
        for _ in 0..STEPS {
            if self.disk.is_off() || self.buffer.is_none() {
                self.disk.power_on();
                self.restarted = true;
                self.open();
            }
            self.step();
        }
        if self.disk.is_off() || self.buffer.is_none() {
            self.disk.power_on();
            self.restarted = true;
        }
        self.disk.set_failing(0.0);
        self.disk.leave_free(None);
        self.disk.power_fails_at(u64::MAX);
        if self.restarted {
            self.open();
        }
        self.drain();
    }

    /// The sun comes out: everything that is open is sent.
    fn drain(&mut self) {
        for round in 0.. {
            assert!(
                round < 1000,
                "seed {}: it never ends: {:?}",
                self.seed,
                self.buffer().totals()
            );
            self.clock.advance(6_000);
            self.now(self.buffer().keep_house(ME)).unwrap();
            self.write_all();
            let jobs = std::mem::take(&mut self.in_hand);
            let more = self.now(self.buffer().take_due(50));
            for job in jobs.into_iter().chain(more) {
                self.outcome(&job, 9);
            }
            self.write_all();
            let totals = self.buffer().totals();
            if totals.open.is_empty() && totals.untold_drops == 0 {
                break;
            }
        }
    }

    fn check(&self) {
        let seed = self.seed;
        let mut times: BTreeMap<u64, u64> = BTreeMap::new();
        for label in &self.ledger.recorded {
            *times.entry(*label).or_default() += 1;
        }
        for (label, count) in &times {
            assert_eq!(
                *count, 1,
                "seed {seed}: request {label} is on the ledger {count} times"
            );
            assert!(!self.bad.contains(label), "seed {seed}: {label} was refused");
            if !self.restarted {
                assert!(
                    !self.turned_away.contains(label),
                    "seed {seed}: request {label} was not taken, and is on the ledger"
                );
            }
        }
        let missing: Vec<u64> = self
            .promised
            .iter()
            .copied()
            .filter(|label| !times.contains_key(label) && !self.bad.contains(label))
            .collect();
        let told: u64 = self.ledger.told.values().sum();
        let dropped_bad = self.bad.len() as u64;
        assert!(
            told >= missing.len() as u64,
            "seed {seed}: {missing:?} are missing, and {told} drops were told: {:?}",
            self.ledger.told
        );
        let uncertain = self.trouble != Trouble::None || self.restarted;
        if !uncertain {
            assert!(
                told <= missing.len() as u64 + dropped_bad + self.retaken,
                "seed {seed}: {missing:?} are missing, and {told} drops were told"
            );
        }
        assert!(
            self.rotten || !self.ledger.told.contains_key("damaged"),
            "seed {seed}"
        );
        let mut last: BTreeMap<&str, u64> = BTreeMap::new();
        for label in &self.ledger.recorded {
            let Some(source) = self.ordered.get(label) else {
                continue;
            };
            if self.keys.iter().any(|k| k.idempotency_key == format!("k{label}")) {
                continue;
            }
            let before = last.insert(source, *label);
            assert!(
                before.is_none_or(|b| b < *label),
                "seed {seed}: {label} of {source} is after {before:?}"
            );
        }
        assert!(self.rotten || self.buffer().damage().is_empty(), "seed {seed}");
    }
}

fn run(seed: u64, power_fails_at: Option<u64>) -> World {
    let mut world = World::new(seed, power_fails_at);
    world.run();
    world.check();
    world
}

#[test]
fn every_promise_is_kept_once_whenever_the_power_fails() {
    let wanted: u64 = std::env::var("SELVEDGE_CRASH_POINTS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(12_000);
    let mut points = 0;
    let mut seed = 0;
    while points < wanted {
        let calls = run(seed, None).disk.calls();
        let first_runs_calls = calls.max(1);
        for call in 1..=first_runs_calls {
            let crash = std::panic::catch_unwind(|| drop(run(seed, Some(call))));
            assert!(crash.is_ok(), "seed {seed}, power fails at call {call}");
            points += 1;
        }
        seed += 1;
    }
    println!("{points} power cuts in {seed} scenarios");
}

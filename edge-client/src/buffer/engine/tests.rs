//! The state machine by itself.

use super::*;
use crate::buffer::gaps::DropReason;
use crate::buffer::request::{Priority, TransactionRequest};

fn limits(max_entries: usize, when_full: WhenFull) -> BufferLimits {
    BufferLimits {
        max_entries,
        when_full,
        remembered: 2,
        ..BufferLimits::default()
    }
}

fn engine(max_entries: usize) -> Engine {
    Engine::new(limits(max_entries, WhenFull::Refuse))
}

#[derive(Default, Clone)]
struct Of {
    source: &'static str,
    ordered: bool,
    key: Option<u64>,
    priority: Priority,
    max_age: u64,
}

fn put(engine: &mut Engine, of: &Of) -> u64 {
    let number = engine.reserve();
    let request = TransactionRequest {
        channel: "trade".into(),
        chaincode: "shipment".into(),
        function: "record".into(),
        source: of.source.into(),
        ordered: of.ordered,
        priority: of.priority,
        max_age: (of.max_age > 0).then(|| std::time::Duration::from_secs(of.max_age)),
        ..TransactionRequest::default()
    };
    engine.insert(&NewEntry {
        number,
        template: &Template::of(&request, [0; 32]),
        key: of.key,
        accepted_s: 1000,
        follows: 0,
        place: 0,
        position: at(10),
    });
    number
}

fn at(bytes: u32) -> Position {
    Position {
        segment: 1,
        offset: 0,
        bytes,
    }
}

fn add(engine: &mut Engine, of: &Of) -> u64 {
    let number = put(engine, of);
    engine.durable(number, at(10));
    number
}

fn due(engine: &mut Engine, now: u64) -> Vec<u64> {
    engine
        .take_due(now, 10, &[])
        .into_iter()
        .map(|pick| match pick {
            Pick::One(number) | Pick::Batch(number) => number,
            Pick::Form { .. } => panic!("nothing is merged here"),
        })
        .collect()
}

fn rule(most: usize) -> MergeRule {
    MergeRule {
        channel: String::new(),
        chaincode: "shipment".into(),
        function: "record".into(),
        into: "records".into(),
        most,
        most_bytes: 1000,
    }
}

#[test]
fn nothing_is_sent_before_it_is_durable() {
    let mut engine = engine(10);
    let a = put(&mut engine, &Of::default());
    assert!(due(&mut engine, 100).is_empty());
    engine.durable(a, at(10));
    assert_eq!(due(&mut engine, 5), [a]);
    assert!(due(&mut engine, 6).is_empty(), "in hand");
}

#[test]
fn failed_attempts_come_again_and_finished_ones_do_not() {
    let mut engine = engine(10);
    let a = add(&mut engine, &Of::default());
    assert_eq!(due(&mut engine, 0), [a]);
    engine.again(a, State::OrderingError, "no leader", 50);
    let totals = engine.totals();
    assert_eq!((totals.open[&State::OrderingError], totals.open.len()), (1, 1));
    assert_eq!((totals.retried, totals.retried_in[&State::OrderingError]), (1, 1));
    assert_eq!(engine.reason(a), "no leader");
    assert_eq!(engine.next_due(), Some(50));
    assert!(due(&mut engine, 49).is_empty());
    assert_eq!(due(&mut engine, 50), [a]);
    engine.settle(a, true, 7, "");
    assert_eq!(engine.slots().len(), 0);
    assert_eq!(engine.finished(a).unwrap().block, 7);
    assert_eq!(engine.totals().open_bytes, 0);
    assert!(engine.totals().open.is_empty());
}

#[test]
fn order_is_kept_per_source() {
    let mut engine = engine(10);
    let of = |source| Of {
        source,
        ordered: true,
        ..Of::default()
    };
    let a = add(&mut engine, &of("s"));
    let b = add(&mut engine, &of("s"));
    let other = add(&mut engine, &of("t"));
    assert_eq!(due(&mut engine, 0), [a, other]);
    engine.again(a, State::EndorsementError, "", 10);
    assert!(due(&mut engine, 5).is_empty(), "b waits for a");
    assert_eq!(due(&mut engine, 10), [a]);
    engine.settle(a, true, 1, "");
    assert_eq!(due(&mut engine, 10), [b]);
}

#[test]
fn a_dropped_head_lets_its_source_go_on() {
    let mut engine = engine(10);
    let of = Of {
        source: "s",
        ordered: true,
        ..Of::default()
    };
    let a = add(&mut engine, &of);
    let b = add(&mut engine, &of);
    engine.drop_entry(a, DropReason::Full).unwrap();
    assert_eq!(due(&mut engine, 0), [b]);
}

#[test]
fn limits_hold_and_withdrawn_requests_free_room() {
    let mut engine = engine(2);
    let a = put(
        &mut engine,
        &Of {
            key: Some(5),
            ..Of::default()
        },
    );
    put(&mut engine, &Of::default());
    assert_eq!(engine.room_for(10, Priority::Normal), Err(Full::Entries));
    assert_eq!(engine.by_key(5), Some((a, false)));
    engine.withdraw(a);
    assert_eq!(engine.by_key(5), None);
    assert_eq!(engine.room_for(10, Priority::Normal), Ok(vec![]));
    assert_eq!(
        engine.room_for(u64::from(u32::MAX), Priority::Normal),
        Err(Full::Bytes)
    );
}

#[test]
fn keys_are_known_while_remembered() {
    let mut engine = engine(10);
    let mut numbers = Vec::new();
    for key in 0..3 {
        let of = Of {
            key: Some(key),
            ..Of::default()
        };
        let n = add(&mut engine, &of);
        due(&mut engine, 0);
        engine.settle(n, true, 1, "");
        numbers.push(n);
    }
    assert_eq!(engine.by_key(0), None, "two are remembered");
    assert_eq!(engine.by_key(2), Some((numbers[2], true)));
}

#[test]
fn the_oldest_goes_unless_somebody_may_have_seen_it() {
    let mut engine = Engine::new(limits(3, WhenFull::DropOldest));
    let in_hand = add(&mut engine, &Of::default());
    assert_eq!(due(&mut engine, 0), [in_hand]);
    let b = add(&mut engine, &Of::default());
    add(&mut engine, &Of::default());
    assert_eq!(engine.room_for(10, Priority::Low), Ok(vec![Victim(b)]));
    engine.drop_entry(b, DropReason::Full).unwrap();
    assert_eq!(engine.finished(b).unwrap().state, State::Dropped);
    add(&mut engine, &Of::default());
    // Once an orderer may have seen them, none may go.
    engine.mark(0, 1);
    assert_eq!(engine.room_for(10, Priority::Critical), Err(Full::Entries));
    assert_eq!(engine.totals().dropped[&DropReason::Full], 1);
}

#[test]
fn the_lowest_priority_goes_first_and_not_for_a_lower_one() {
    let mut engine = Engine::new(limits(3, WhenFull::DropLowestPriority));
    let of = |priority| Of {
        priority,
        ..Of::default()
    };
    let high = add(&mut engine, &of(Priority::High));
    let low = add(&mut engine, &of(Priority::Low));
    let normal = add(&mut engine, &of(Priority::Normal));
    for (victim, priority) in [
        (low, Priority::Low),
        (normal, Priority::Normal),
        (high, Priority::High),
    ] {
        let lower = Priority::ALL.iter().filter(|p| **p < priority);
        for lower in lower {
            assert_eq!(engine.room_for(10, *lower), Err(Full::Entries));
        }
        assert_eq!(engine.room_for(10, Priority::Critical), Ok(vec![Victim(victim)]));
        engine.drop_entry(victim, DropReason::Full).unwrap();
        add(&mut engine, &of(Priority::Critical));
    }
}

#[test]
fn a_failed_attempt_may_be_dropped_again() {
    let mut engine = Engine::new(limits(2, WhenFull::DropOldest));
    let a = add(&mut engine, &Of::default());
    let b = add(&mut engine, &Of::default());
    due(&mut engine, 0);
    assert_eq!(engine.room_for(10, Priority::Normal), Err(Full::Entries));
    engine.again(b, State::EndorsementError, "", 5);
    assert_eq!(engine.room_for(10, Priority::Normal), Ok(vec![Victim(b)]));
    engine.again(a, State::EndorsementError, "", 5);
    assert_eq!(engine.room_for(10, Priority::Normal), Ok(vec![Victim(a)]));
    engine.drop_entry(a, DropReason::Full).unwrap();
    assert_eq!(due(&mut engine, 9), [b], "what was dropped does not come again");
}

#[test]
fn ages_count_from_a_known_time() {
    let mut engine = engine(10);
    let short = Of {
        max_age: 60,
        ..Of::default()
    };
    let a = add(&mut engine, &short);
    add(&mut engine, &Of::default());
    assert_eq!(engine.expired(0, 9), [0; 0], "the machine does not know the time");
    assert_eq!(engine.expired(1059, 9), [0; 0]);
    assert_eq!(engine.expired(1060, 9), [a]);
}

#[test]
fn what_waits_together_goes_together() {
    let mut engine = engine(100);
    for _ in 0..7 {
        add(&mut engine, &Of::default());
    }
    let rules = [rule(3)];
    let picks = engine.take_due(0, 1, &rules);
    assert_eq!(
        picks,
        [Pick::Form {
            members: vec![1, 2, 3],
            rule: 0
        }]
    );
    engine.form(1 << 60, vec![1, 2, 3], [1; 24], "records", 0);
    // As many as there are slots: nothing is merged.
    assert_eq!(
        engine.take_due(0, 4, &rules),
        [Pick::One(4), Pick::One(5), Pick::One(6), Pick::One(7)]
    );
    engine.again(1 << 60, State::OrderingError, "no leader", 10);
    assert_eq!(engine.totals().open[&State::OrderingError], 3);
    assert_eq!(engine.take_due(10, 1, &rules), [Pick::Batch(1 << 60)]);
    assert_eq!(engine.settle_batch(1 << 60, 9), 3);
    assert_eq!(engine.finished(2).unwrap().block, 9);
    assert_eq!(engine.totals().committed, 3);
}

#[test]
fn a_refused_batch_comes_back_in_halves_and_in_order() {
    let mut engine = engine(100);
    let of = Of {
        source: "s",
        ordered: true,
        ..Of::default()
    };
    for _ in 0..5 {
        add(&mut engine, &of);
    }
    let rules = [rule(4)];
    // The lane's head is alone in line; the others go along.
    assert_eq!(due(&mut engine, 0), [1]);
    engine.free(vec![1], 0);
    add(&mut engine, &Of::default());
    let picks = engine.take_due(0, 1, &rules);
    let Pick::Form { members, .. } = &picks[0] else {
        panic!("{picks:?}")
    };
    assert_eq!(members[..], [1, 2, 3, 4]);
    engine.form(1 << 60, members.clone(), [1; 24], "records", 1);
    assert!(
        engine.take_due(0, 9, &rules).iter().all(|p| *p == Pick::One(6)),
        "5 waits for the batch"
    );
    engine.dissolve(1 << 60, 1);
    assert!(engine.take_due(0, 0, &rules).is_empty());
    let half = Pick::Form {
        members: vec![1, 2],
        rule: 0,
    };
    assert_eq!(engine.take_due(0, 1, &rules), [half]);
}

#[test]
fn a_paused_target_holds_its_requests_only() {
    let mut engine = engine(10);
    let a = add(&mut engine, &Of::default());
    let target = engine.target_of(engine.slot(a).unwrap().template);
    engine.pause_target(target, 100);
    assert!(due(&mut engine, 99).is_empty());
    assert_eq!(engine.next_due(), Some(100));
    assert_eq!(due(&mut engine, 100), [a]);
    engine.again(a, State::EndorsementError, "", 101);
    engine.pause_target(target, 200);
    assert!(due(&mut engine, 150).is_empty());
    engine.resume_target(target);
    assert_eq!(due(&mut engine, 200), [a]);
}

#[test]
fn repeated_attempts_wait_in_line_with_the_others() {
    let mut engine = engine(100);
    let of = |priority| Of {
        priority,
        ..Of::default()
    };
    for _ in 0..20 {
        add(&mut engine, &of(Priority::Normal));
    }
    let tried: Vec<u64> = engine.take_due(0, 20, &[]).iter().map(one).collect();
    for number in &tried {
        engine.again(*number, State::OrderingError, "no leader", 10);
    }
    let alarm = add(&mut engine, &of(Priority::Critical));
    let live = add(&mut engine, &of(Priority::Normal));
    let picks: Vec<u64> = engine.take_due(10, 3, &[]).iter().map(one).collect();
    assert_eq!(picks, [alarm, live, tried[0]]);
    let rest: Vec<u64> = engine.take_due(10, 100, &[]).iter().map(one).collect();
    assert_eq!(rest, tried[1..]);
}

fn one(pick: &Pick) -> u64 {
    match pick {
        Pick::One(number) => *number,
        other => panic!("{other:?} is not one request"),
    }
}

#[test]
fn a_repeated_attempt_is_merged_only_if_no_orderer_has_seen_it() {
    let mut engine = engine(300);
    // Of two groups, since marks are for groups.
    for _ in 0..130 {
        add(&mut engine, &Of::default());
    }
    let tried: Vec<u64> = engine.take_due(0, 130, &[]).iter().map(one).collect();
    engine.mark(0, 1);
    for number in &tried {
        let state = if *number == 100 {
            State::CommitError
        } else {
            State::EndorsementError
        };
        engine.again(*number, state, "", 10);
    }
    let picks = engine.take_due(10, 80, &[rule(200)]);
    let members: Vec<u64> = picks
        .iter()
        .flat_map(|pick| match pick {
            Pick::Form { members, .. } => members.clone(),
            _ => Vec::new(),
        })
        .collect();
    let expected: Vec<u64> = (64..=130).filter(|number| *number != 100).collect();
    assert_eq!(members, expected);
    let singles = picks.iter().filter(|pick| matches!(pick, Pick::One(_))).count();
    assert_eq!(singles, 64, "1 to 63, and 100");
}

#[test]
fn after_a_pause_one_is_tried_until_it_gets_through() {
    let mut engine = engine(10);
    for _ in 0..3 {
        add(&mut engine, &Of::default());
    }
    let target = engine.target_of(engine.slot(1).unwrap().template);
    engine.pause_target(target, 100);
    assert_eq!(due(&mut engine, 100), [1]);
    assert!(due(&mut engine, 101).is_empty());
    // It failed again: the pause is longer.
    engine.again(1, State::OrderingError, "", 150);
    engine.pause_target(target, 5000);
    assert!(due(&mut engine, 4999).is_empty());
    assert_eq!(due(&mut engine, 5000), [2]);
    engine.resume_target(target);
    assert_eq!(due(&mut engine, 5001), [3, 1]);
}

#[test]
fn what_is_delayed_is_stepped_over_until_then() {
    let mut engine = engine(10);
    let a = add(&mut engine, &Of::default());
    let b = add(&mut engine, &Of::default());
    engine.delay(a, 50);
    assert_eq!(due(&mut engine, 49), [b]);
    assert_eq!(engine.next_due(), Some(50));
    engine.delay(b, 60);
    assert_eq!(due(&mut engine, 50), [a]);
    engine.again(b, State::CommitError, "", 55);
    assert_eq!(due(&mut engine, 55), [b], "what is in hand cannot be delayed");
}

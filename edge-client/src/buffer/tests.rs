//! The buffer over real files: what was acknowledged is there after any stop.

use std::time::Duration;

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
    Buffer::open(dir, BufferLimits::default()).unwrap()
}

fn commit_all(buffer: &Buffer) -> usize {
    let due = buffer.take_due(usize::MAX);
    for entry in &due {
        buffer.settle(entry.number, Outcome::Committed { block: 1 }, Duration::ZERO);
    }
    due.len()
}

#[tokio::test]
async fn accepted_requests_survive_with_their_nonces() {
    let dir = tempfile::tempdir().unwrap();
    let buffer = open(dir.path());
    for n in 0..50 {
        buffer.accept(request(&format!("k{n}"), 10), ME).await.unwrap();
    }
    let before: Vec<_> = buffer
        .take_due(100)
        .into_iter()
        .map(|e| (e.number, e.nonce))
        .collect();
    assert_eq!(before.len(), 50);
    // Settle ten of them; the notes are on disk after the next acknowledged write.
    for (number, _) in &before[..10] {
        buffer.settle(*number, Outcome::Committed { block: 4 }, Duration::ZERO);
    }
    buffer.accept(request("last", 1), ME).await.unwrap();
    drop(buffer);

    let again = open(dir.path());
    let after: Vec<_> = again
        .take_due(100)
        .into_iter()
        .map(|e| (e.number, e.nonce))
        .collect();
    assert_eq!(after[..40], before[10..]);
    assert_eq!(after.len(), 41);
    assert_eq!(again.view(before[0].0).unwrap().state, State::Committed);
    assert_eq!(again.view(before[0].0).unwrap().block, 4);
}

#[tokio::test]
async fn one_key_is_one_request_and_one_nonce_for_ever() {
    let dir = tempfile::tempdir().unwrap();
    let buffer = Buffer::open(
        dir.path(),
        BufferLimits {
            remembered: 1,
            ..BufferLimits::default()
        },
    )
    .unwrap();
    let first = buffer.accept(request("reading-1", 5), ME).await.unwrap();
    assert_eq!(buffer.accept(request("reading-1", 5), ME).await.unwrap(), first);
    let nonce = buffer.take_due(1)[0].nonce.clone();
    buffer.settle(first, Outcome::Committed { block: 1 }, Duration::ZERO);
    let other = buffer.accept(request("reading-2", 5), ME).await.unwrap();
    assert_ne!(buffer.take_due(1)[0].nonce, nonce);
    buffer.settle(other, Outcome::Committed { block: 2 }, Duration::ZERO);

    // The first is forgotten by now; sent again it has the same nonce, so the ledger knows its id.
    let again = buffer.accept(request("reading-1", 5), ME).await.unwrap();
    assert_ne!(again, first);
    assert_eq!(buffer.take_due(1)[0].nonce, nonce);
}

#[tokio::test]
async fn requests_without_a_key_are_all_different() {
    let dir = tempfile::tempdir().unwrap();
    let buffer = open(dir.path());
    let a = buffer.accept(request("", 5), ME).await.unwrap();
    let b = buffer.accept(request("", 5), ME).await.unwrap();
    assert_ne!(a, b);
    let due = buffer.take_due(2);
    assert_ne!(due[0].nonce, due[1].nonce);
}

#[tokio::test]
async fn a_lost_race_is_followed_by_a_new_request() {
    let dir = tempfile::tempdir().unwrap();
    let buffer = open(dir.path());
    let first = buffer.accept(request("k", 5), ME).await.unwrap();
    let lost = buffer.take_due(1).remove(0);
    // As the uplink does it: the follower is durable before the loser is settled.
    let second = buffer.follow(&lost, ME).await.unwrap();
    let conflict = Outcome::Conflict {
        reason: "MVCC_READ_CONFLICT".into(),
    };
    buffer.settle(first, conflict, Duration::ZERO).unwrap();
    buffer.accept(request("another", 5), ME).await.unwrap();
    assert_eq!(buffer.view(first).unwrap().followed_by, second);
    assert_eq!(buffer.view(second).unwrap().follows, first);
    assert_ne!(buffer.take_due(1)[0].nonce, lost.nonce);
    drop(buffer);
    let again = open(dir.path());
    assert_eq!(again.view(first).unwrap().followed_by, second);
    assert_eq!(again.view(first).unwrap().state, State::Refused);
    assert_eq!(again.take_due(9).len(), 2);
}

#[tokio::test]
async fn after_a_crash_a_loser_knows_its_follower() {
    let dir = tempfile::tempdir().unwrap();
    let buffer = open(dir.path());
    buffer.accept(request("k", 5), ME).await.unwrap();
    let lost = buffer.take_due(1).remove(0);
    assert_eq!(lost.followed_by, 0);
    let second = buffer.follow(&lost, ME).await.unwrap();
    // The process ends before the loser is settled.
    drop(buffer);
    let again = open(dir.path());
    let due = again.take_due(9);
    assert_eq!(
        due.iter().map(|e| (e.number, e.followed_by)).collect::<Vec<_>>(),
        [(lost.number, second), (second, 0)]
    );
}

#[tokio::test]
async fn old_files_go_and_open_requests_stay() {
    let dir = tempfile::tempdir().unwrap();
    let buffer = open(dir.path());
    let stuck = buffer.accept(request("stuck", 10), ME).await.unwrap();
    assert_eq!(buffer.take_due(1)[0].number, stuck);
    // Some 20 MiB go through while the first request stays open.
    for n in 0..40 {
        buffer
            .accept(request(&format!("n{n}"), 512 * 1024), ME)
            .await
            .unwrap();
        assert_eq!(commit_all(&buffer), 1);
    }
    assert!(files::segments(dir.path()).unwrap().len() >= 5);
    buffer.compact().await.unwrap();
    assert!(
        files::segments(dir.path()).unwrap().len() <= 2,
        "only what holds the open request remains"
    );
    drop(buffer);
    let again = open(dir.path());
    assert_eq!(
        again.take_due(9).iter().map(|e| e.number).collect::<Vec<_>>(),
        [stuck]
    );
}

#[tokio::test]
async fn a_full_buffer_pushes_back() {
    let dir = tempfile::tempdir().unwrap();
    let limits = BufferLimits {
        max_entries: 2,
        ..BufferLimits::default()
    };
    let buffer = Buffer::open(dir.path(), limits).unwrap();
    buffer.accept(request("a", 1), ME).await.unwrap();
    buffer.accept(request("b", 1), ME).await.unwrap();
    assert!(matches!(
        buffer.accept(request("c", 1), ME).await,
        Err(BufferError::Full(_))
    ));
    assert_eq!(commit_all(&buffer), 2);
    buffer.accept(request("c", 1), ME).await.unwrap();
    let long = buffer.accept(request("d", MAX_REQUEST_BYTES + 1), ME).await;
    assert!(matches!(long, Err(BufferError::TooLong { .. })));
}

#[tokio::test]
async fn damage_is_reported_and_costs_only_what_it_hit() {
    let dir = tempfile::tempdir().unwrap();
    let buffer = open(dir.path());
    for n in 0..5 {
        buffer.accept(request(&format!("k{n}"), 100), ME).await.unwrap();
    }
    drop(buffer);
    let segment = dir.path().join("000000000001.seg");
    let mut bytes = std::fs::read(&segment).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x10;
    bytes.extend_from_slice(b"torn");
    std::fs::write(&segment, bytes).unwrap();

    let again = open(dir.path());
    assert_eq!(again.take_due(9).len(), 4);
    assert_eq!(again.damage().len(), 1, "{:?}", again.damage());
}

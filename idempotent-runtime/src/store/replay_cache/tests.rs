use bytes::Bytes;
use http::{HeaderMap, StatusCode};

use super::shard::Completed;
use super::*;
use crate::fingerprint::Fingerprint;
use crate::record::CompactResponse;

const ROOM: usize = 64 * 1024;
const FINGERPRINT: Fingerprint = Fingerprint::from_bytes([7; 32]);
const SOON: Duration = Duration::from_secs(1);
const LATE: Duration = Duration::from_secs(9);

fn key(number: u64) -> RecordKey {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&number.to_le_bytes());
    RecordKey::from_bytes(bytes)
}

fn completed(body_bytes: usize) -> Completed {
    let response = StoredResponse::new(StatusCode::OK, HeaderMap::new(), vec![0; body_bytes]);
    Completed {
        fingerprint: FINGERPRINT,
        response: Arc::new(CompactResponse::from(&response)),
        fresh_until: SOON,
        expires_at: LATE,
    }
}

fn look(shard: &mut Shard, number: u64) -> Look {
    shard.look(&key(number), &FINGERPRINT, Duration::ZERO)
}

fn is_kept(shard: &mut Shard, number: u64) -> bool {
    matches!(look(shard, number), Look::Answer(Claim::Completed(_)))
}

/// Keeps a response as the second replay does, or one that comes when the first is stale.
fn keep(shard: &mut Shard, number: u64, body_bytes: usize) {
    let key = key(number);
    shard.note(&key);
    let Look::Lead(lead) = shard.look(&key, &FINGERPRINT, SOON) else {
        panic!("it is neither noted nor stale");
    };
    assert!(shard.land(&key, lead.number));
    shard.keep(key, completed(body_bytes));
}

fn is_noted(shard: &mut Shard, number: u64) -> bool {
    match look(shard, number) {
        Look::Lead(lead) => shard.land(&key(number), lead.number),
        _ => false,
    }
}

#[test]
fn what_is_used_outlives_what_is_not() {
    let mut shard = Shard::new(ROOM);
    keep(&mut shard, 0, 100);
    keep(&mut shard, 1, 100);
    for number in 2..1000 {
        keep(&mut shard, number, 100);
        assert!(is_kept(&mut shard, 0), "after {number}");
        assert!(is_kept(&mut shard, number));
        assert!(shard.size_bytes() <= ROOM);
    }
    assert!(matches!(look(&mut shard, 1), Look::Unknown));
    assert!(shard.size_bytes() > ROOM / 3, "room is made use of");
}

#[test]
fn notes_are_bounded_too() {
    let mut shard = Shard::new(ROOM);
    for number in 0..100_000 {
        shard.note(&key(number));
    }
    assert!(shard.size_bytes() <= ROOM);
    assert!(matches!(look(&mut shard, 0), Look::Unknown));
    assert!(is_noted(&mut shard, 99_999));
}

#[test]
fn bytes_are_given_back() {
    let mut shard = Shard::new(ROOM);
    for round in 0..3 {
        for number in 0..40 {
            keep(&mut shard, number, 300 + round);
        }
    }
    for number in 0..40 {
        shard.forget(&key(number));
    }
    assert_eq!(shard.size_bytes(), 0);
}

#[test]
fn large_response_is_not_kept_and_pushes_nothing_out() {
    let mut shard = Shard::new(ROOM);
    keep(&mut shard, 0, 100);
    keep(&mut shard, 1, ROOM / 4);
    assert!(is_noted(&mut shard, 1));
    assert!(is_kept(&mut shard, 0));
    keep(&mut shard, 1, ROOM / 5);
    assert!(is_kept(&mut shard, 1));
}

#[test]
fn life_and_freshness_end_on_time() {
    let mut shard = Shard::new(ROOM);
    keep(&mut shard, 0, 100);
    let mut at = |now| {
        let look = shard.look(&key(0), &FINGERPRINT, now);
        if let Look::Lead(lead) = &look {
            assert!(lead.is_cached && shard.land(&key(0), lead.number));
        }
        look
    };
    let millisecond = Duration::from_millis(1);
    assert!(matches!(at(SOON - millisecond), Look::Answer(_)));
    assert!(matches!(at(SOON), Look::Lead(_)));
    assert!(matches!(at(LATE - millisecond), Look::Lead(_)));
    assert!(matches!(at(LATE), Look::Unknown));
    assert_eq!(shard.size_bytes(), 0);
}

#[test]
fn what_was_read_before_a_removal_is_not_kept() {
    let mut shard = Shard::new(ROOM);
    shard.note(&key(0));
    let Look::Lead(early) = look(&mut shard, 0) else {
        panic!("it was replayed");
    };
    shard.forget(&key(0));
    assert!(!shard.land(&key(0), early.number));
    // Nor does it end the read of a caller that asks after the removal.
    shard.note(&key(0));
    let Look::Lead(late) = look(&mut shard, 0) else {
        panic!("it was replayed again");
    };
    assert!(!shard.land(&key(0), early.number));
    assert!(shard.land(&key(0), late.number));
}

#[test]
fn removal_of_one_key_spares_what_is_read_of_another() {
    let mut shard = Shard::new(ROOM);
    shard.note(&key(0));
    let Look::Lead(lead) = look(&mut shard, 0) else {
        panic!("it was replayed");
    };
    shard.forget(&key(1));
    assert!(shard.land(&key(0), lead.number));
}

#[test]
fn one_reads_and_the_others_follow() {
    let mut shard = Shard::new(ROOM);
    shard.note(&key(0));
    let lead = look(&mut shard, 0);
    assert!(matches!(lead, Look::Lead(_)));
    for _ in 0..3 {
        assert!(matches!(look(&mut shard, 0), Look::Follow { .. }));
    }
}

#[test]
fn what_cannot_be_read_is_shown_until_it_expires() {
    let mut shard = Shard::new(ROOM);
    keep(&mut shard, 0, 100);
    let millisecond = Duration::from_millis(1);
    let retry_at = SOON + Duration::from_secs(1);
    shard.put_off(&key(0), retry_at);
    let at = |shard: &mut Shard, now| shard.look(&key(0), &FINGERPRINT, now);
    assert!(matches!(
        at(&mut shard, retry_at - millisecond),
        Look::Answer(_)
    ));
    // Then one asks again, and no other waits for that.
    assert!(matches!(at(&mut shard, retry_at), Look::Lead(_)));
    assert!(matches!(at(&mut shard, retry_at), Look::Answer(_)));
    assert!(matches!(at(&mut shard, LATE), Look::Unknown));
    assert!(shard.stale(&key(0), &FINGERPRINT, LATE).is_none());
}

#[test]
fn keys_are_spread_over_the_shards() {
    let store = Cache {
        shards: std::array::from_fn(|_| Mutex::new(Shard::new(ROOM))),
        max_age: SOON,
        clock: Arc::new(SystemClock::default()),
    };
    for number in 0..=255 {
        let key = RecordKey::from_bytes([number; 32]);
        store.with_shard(&key, |shard| shard.note(&key));
    }
    let sizes = store
        .shards
        .each_ref()
        .map(|shard| lock(shard).size_bytes());
    assert!(sizes.iter().all(|size| *size == sizes[0]), "{sizes:?}");
    assert_eq!(store.size_bytes(), sizes[0] * SHARDS);
}

#[test]
fn other_fingerprint_is_a_mismatch() {
    let mut shard = Shard::new(ROOM);
    keep(&mut shard, 0, 100);
    let other = Fingerprint::from_bytes([8; 32]);
    let look = shard.look(&key(0), &other, Duration::ZERO);
    assert!(matches!(look, Look::Answer(Claim::Mismatch)));
}

#[test]
fn answers_share_one_body() {
    let mut shard = Shard::new(ROOM);
    keep(&mut shard, 0, 100);
    let bodies = [(); 2].map(|()| match look(&mut shard, 0) {
        Look::Answer(Claim::Completed(response)) => response.body.clone().unwrap_or_default(),
        other => panic!("{other:?}"),
    });
    let [one, other] = bodies.map(|body: Bytes| body.as_ptr());
    assert_eq!(one, other);
}

use bytes::Bytes;
use http::HeaderMap;

use super::table::SWEEP_WHEN_FULL;
use super::*;
use crate::clock::ManualClock;
use crate::fingerprint::Fingerprint;
use crate::record::Token;
use crate::store::{Acquired, Store, StoreErrorKind};

const LEASE: Duration = Duration::from_secs(30);
const RETENTION: Duration = Duration::from_secs(30);
/// Also the life of a claim: its lease and its retention.
const TTL: Duration = Duration::from_secs(60);

fn request(n: u64) -> ClaimRequest<'static> {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&n.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
    // In all parts of the queue.
    key[24..].copy_from_slice(&n.to_be_bytes());
    ClaimRequest {
        owner: Owner {
            key: RecordKey::from_bytes(key),
            token: Token::random().unwrap(),
        },
        fingerprint: Fingerprint::from_bytes([1; 32]),
        operation: "payments.create",
        label: None,
        lease: LEASE,
        retention: RETENTION,
        progress: &[],
        take_over: None,
    }
}

fn response(bytes: usize) -> Arc<StoredResponse> {
    let body = Some(Bytes::from(vec![b'x'; bytes]));
    Arc::new(StoredResponse::of_parts(200, HeaderMap::new(), body))
}

fn store() -> (MemoryStore, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::new());
    (MemoryStore::builder().clock(clock.clone()).build(), clock)
}

async fn acquired(store: &MemoryStore, request: &ClaimRequest<'_>) -> bool {
    matches!(
        store.claim(request).await,
        Ok(Claim::Acquired(Acquired { attempt: 1, .. }))
    )
}

async fn released(store: &MemoryStore, owner: &Owner) {
    let released = store.release(&[*owner]).await;
    assert!(matches!(released[..], [Ok(_)]), "{released:?}");
}

async fn renewed(store: &MemoryStore, owner: Owner, lease: Duration) {
    let renewal = Renewal {
        owner,
        lease,
        retention: RETENTION,
    };
    let renewed = store.renew(&[renewal]).await;
    assert!(matches!(renewed[..], [Ok(Renewed::Renewed)]));
}

async fn purged(store: &MemoryStore, limit: usize) -> usize {
    store.purge_expired(limit).await.unwrap().records
}

#[tokio::test]
async fn what_is_counted_is_what_is_there() {
    let (store, clock) = store();
    let requests: Vec<_> = (0..100).map(request).collect();
    for request in &requests {
        assert!(acquired(&store, request).await);
    }
    assert_eq!(
        (store.len(), store.size_bytes()),
        (100, 100 * Entry::BASE_BYTES)
    );
    for request in &requests[..50] {
        store
            .complete(&request.owner, &response(1000), TTL)
            .await
            .unwrap();
    }
    let whole = CompactResponse::from(&*response(1000)).size_bytes();
    assert_eq!(store.size_bytes(), 100 * Entry::BASE_BYTES + 50 * whole);
    for request in &requests[40..60] {
        released(&store, &request.owner).await;
    }
    assert_eq!(store.len(), 90, "completed ones are not released");
    assert!(store.remove(&requests[0].owner.key).await.unwrap());
    assert_eq!(store.size_bytes(), 89 * Entry::BASE_BYTES + 49 * whole);
    clock.advance(TTL);
    // Claimed anew without having been swept: counted once.
    assert!(acquired(&store, &request(1)).await);
    store.purge_expired(1000).await.unwrap();
    assert_eq!((store.len(), store.size_bytes()), (1, Entry::BASE_BYTES));
}

#[tokio::test]
async fn at_its_bounds_it_refuses_new_claims_and_only_those() {
    let clock: Arc<ManualClock> = Arc::default();
    let store = MemoryStore::builder()
        .max_records(10)
        .clock(clock.clone())
        .build();
    let requests: Vec<_> = (0..10).map(request).collect();
    for request in &requests {
        assert!(acquired(&store, request).await);
    }
    let refused = store.claim(&request(10)).await.unwrap_err();
    assert_eq!(refused.kind(), StoreErrorKind::Full);
    assert!(!refused.may_have_happened());
    for request in &requests {
        let completion = store
            .complete(&request.owner, &response(10), TTL)
            .await
            .unwrap();
        assert_eq!(completion, Completion::Stored);
        assert!(matches!(
            store.claim(request).await,
            Ok(Claim::Completed(_))
        ));
    }
    clock.advance(TTL);
    assert!(
        acquired(&store, &request(10)).await,
        "expired records make room"
    );
}

#[tokio::test]
async fn the_bound_in_bytes_counts_responses() {
    let store = MemoryStore::builder()
        .max_bytes(Entry::BASE_BYTES * 2 + 10_000)
        .build();
    let (one, two) = (request(1), request(2));
    for request in [&one, &two] {
        assert!(acquired(&store, request).await);
        let completion = store.complete(&request.owner, &response(8_000), TTL).await;
        assert_eq!(completion.unwrap(), Completion::Stored);
    }
    assert_eq!(
        store.claim(&request(3)).await.unwrap_err().kind(),
        StoreErrorKind::Full
    );
    assert!(matches!(store.claim(&one).await, Ok(Claim::Completed(_))));
    store.remove(&one.owner.key).await.unwrap();
    assert!(acquired(&store, &request(3)).await);
}

#[tokio::test]
async fn the_bound_holds_when_many_claim_at_once() {
    let store = Arc::new(MemoryStore::builder().max_records(50).build());
    let acquired: usize = std::thread::scope(|scope| {
        let claimants: Vec<_> = (0..4u64)
            .map(|thread| {
                let store = Arc::clone(&store);
                scope.spawn(move || {
                    let now = store.now();
                    let requests = (0..100).map(|n| request(thread * 1000 + n));
                    requests
                        .filter(|request| {
                            store
                                .table
                                .try_claim(request, now, &mut Purged::default())
                                .is_ok()
                        })
                        .count()
                })
            })
            .collect();
        claimants
            .into_iter()
            .map(|claimant| claimant.join().unwrap())
            .sum()
    });
    assert_eq!((acquired, store.len()), (50, 50));
}

#[tokio::test]
async fn expired_records_are_freed_a_few_with_each_claim() {
    let (store, clock) = store();
    for n in 0..100 {
        assert!(acquired(&store, &request(n)).await);
    }
    clock.advance(TTL);
    for n in 100..134 {
        assert!(acquired(&store, &request(n)).await);
    }
    assert_eq!(store.len(), 34, "the store drains faster than it fills");
}

#[tokio::test]
async fn a_renewed_record_is_freed_at_its_new_expiry_and_not_before() {
    let (store, clock) = store();
    let request = request(1);
    assert!(acquired(&store, &request).await);
    for _ in 0..9 {
        clock.advance(LEASE / 3 * 2);
        renewed(&store, request.owner, LEASE).await;
        assert_eq!(purged(&store, 10).await, 0);
    }
    clock.advance(TTL - Duration::from_millis(1));
    assert_eq!(purged(&store, 10).await, 0);
    clock.advance(Duration::from_secs(1));
    assert_eq!(purged(&store, 10).await, 1);
    assert!(store.is_empty());
}

#[tokio::test]
async fn purge_takes_no_more_than_its_limit() {
    let (store, clock) = store();
    for n in 0..10 {
        assert!(acquired(&store, &request(n)).await);
    }
    clock.advance(TTL);
    assert_eq!(purged(&store, 3).await, 3);
    assert_eq!(purged(&store, 100).await, 7);
    assert_eq!((store.len(), store.size_bytes()), (0, 0));
}

#[tokio::test]
async fn a_record_has_one_place_in_the_queue_and_none_once_it_is_gone() {
    let (store, clock) = store();
    for n in 0..1000 {
        let request = request(n);
        assert!(acquired(&store, &request).await);
        released(&store, &request.owner).await;
    }
    assert_eq!(store.table.expiries.len(), 0, "released");

    // The same key again and again: taken over, renewed, expired, and claimed anew without having
    // been swept.
    let mut last = request(1);
    assert!(acquired(&store, &last).await);
    for _ in 0..100 {
        clock.advance(LEASE);
        let take_over = ClaimRequest {
            take_over: Some(1),
            ..request(1)
        };
        let taken = store.claim(&take_over).await;
        assert!(matches!(
            taken,
            Ok(Claim::Acquired(Acquired { attempt: 2, .. }))
        ));
        renewed(&store, take_over.owner, 2 * TTL).await;
        assert_eq!(store.table.expiries.len(), 1);
        clock.advance(3 * TTL);
        last = request(1);
        let anew = store
            .table
            .try_claim(&last, store.now(), &mut Purged::default());
        assert!(matches!(
            anew,
            Ok(Claim::Acquired(Acquired { attempt: 1, .. }))
        ));
        assert_eq!(store.table.expiries.len(), 1);
    }
    assert_eq!((store.len(), store.table.expiries.len()), (1, 1));
    assert!(store.remove(&last.owner.key).await.unwrap());
    assert_eq!((store.len(), store.table.expiries.len()), (0, 0));
}

#[tokio::test]
async fn expired_records_make_room_however_many_releases_came_between() {
    let clock: Arc<ManualClock> = Arc::default();
    let store = MemoryStore::builder()
        .max_records(3)
        .clock(clock.clone())
        .build();
    assert!(acquired(&store, &request(1)).await);
    assert!(acquired(&store, &request(2)).await);
    for n in 0..2 * SWEEP_WHEN_FULL as u64 {
        let request = ClaimRequest {
            retention: Duration::ZERO,
            ..request(1000 + n)
        };
        assert!(acquired(&store, &request).await);
        released(&store, &request.owner).await;
    }
    let long_lived = ClaimRequest {
        retention: 100 * TTL,
        ..request(4)
    };
    assert!(acquired(&store, &long_lived).await);
    clock.advance(TTL);
    assert!(acquired(&store, &request(5)).await);
}

#[tokio::test]
async fn a_body_that_was_cut_out_of_a_larger_buffer_does_not_keep_that_alive() {
    let (store, _) = store();
    let request = request(1);
    assert!(acquired(&store, &request).await);
    let upload = Bytes::from(vec![b'x'; 1_000_000]);
    let cut = StoredResponse::new(http::StatusCode::OK, HeaderMap::new(), upload.slice(..10));
    store
        .complete(&request.owner, &Arc::new(cut), TTL)
        .await
        .unwrap();
    assert!(upload.is_unique(), "the store shares the upload");
    let Ok(Claim::Completed(stored)) = store.claim(&request).await else {
        panic!("not completed");
    };
    assert_eq!(stored.body.as_deref(), Some(&b"xxxxxxxxxx"[..]));
}

#[tokio::test]
async fn a_completed_record_is_freed_when_its_ttl_is_over_and_not_when_its_claim_would_be() {
    let (store, clock) = store();
    let requests: Vec<_> = (0..10)
        .map(|n| ClaimRequest {
            retention: 1000 * TTL,
            ..request(n)
        })
        .collect();
    for request in &requests {
        assert!(acquired(&store, request).await);
        let completion = store
            .complete(&request.owner, &response(1000), TTL / 2)
            .await;
        assert_eq!(completion.unwrap(), Completion::Stored);
    }
    assert_eq!(store.table.expiries.len(), 10, "one place each");
    clock.advance(TTL / 2);
    assert_eq!(purged(&store, 100).await, 10);
    assert_eq!(
        (store.len(), store.size_bytes(), store.table.expiries.len()),
        (0, 0, 0)
    );
}

#[tokio::test]
async fn a_completed_record_that_outlives_its_claim_is_freed_then() {
    let (store, clock) = store();
    let request = request(1);
    assert!(acquired(&store, &request).await);
    let completion = store.complete(&request.owner, &response(10), 3 * TTL).await;
    assert_eq!(completion.unwrap(), Completion::Stored);
    for _ in 0..2 {
        clock.advance(TTL);
        assert_eq!(purged(&store, 10).await, 0);
        assert_eq!(store.table.expiries.len(), 1);
    }
    clock.advance(TTL);
    assert_eq!(purged(&store, 10).await, 1);
}

/// Places of records whose expiry was put off do not count.
#[tokio::test]
async fn sweep_goes_on_until_it_has_freed_as_many_as_it_may() {
    let (store, clock) = store();
    for n in 0..200 {
        let request = request(n);
        assert!(acquired(&store, &request).await);
        if n % 2 == 0 {
            renewed(&store, request.owner, 10 * TTL).await;
        }
    }
    clock.advance(TTL);
    assert_eq!(purged(&store, 30).await, 30);
    assert_eq!(purged(&store, 1000).await, 70);
    assert_eq!((store.len(), store.table.expiries.len()), (100, 100));
}

/// Also where no claim comes whose key shares a lock with theirs.
#[tokio::test]
async fn claims_of_one_key_free_all_that_has_expired() {
    let (store, clock) = store();
    for n in 0..100 {
        assert!(acquired(&store, &request(n)).await);
    }
    clock.advance(TTL);
    for _ in 0..50 {
        let request = request(1000);
        acquired(&store, &request).await;
    }
    assert_eq!(store.len(), 1);
}

#[tokio::test]
async fn a_response_that_alone_is_over_the_bound_is_too_large_and_a_tombstone_is_not() {
    let store = MemoryStore::builder().max_bytes(10_000).build();
    let request = request(1);
    assert!(acquired(&store, &request).await);
    let refused = store.complete(&request.owner, &response(10_000), TTL).await;
    let refused = refused.unwrap_err();
    assert_eq!(refused.kind(), StoreErrorKind::TooLarge);
    assert!(refused.is_about_item() && !refused.may_have_happened());
    let progress = Bytes::from(vec![0; 10_000]);
    let refused = store.save_progress(&request.owner, 0, &progress).await;
    assert_eq!(refused.unwrap_err().kind(), StoreErrorKind::TooLarge);
    let tombstone = StoredResponse::tombstone(http::StatusCode::OK, HeaderMap::new());
    let tombstone = Arc::new(tombstone);
    let completion = store.complete(&request.owner, &tombstone, TTL).await;
    assert_eq!(completion.unwrap(), Completion::Stored);
}

#[tokio::test]
async fn names_progress_and_waiters_are_counted_and_given_back() {
    let (store, clock) = store();
    let long = "x".repeat(5000);
    let named = ClaimRequest {
        operation: &long,
        ..request(1)
    };
    assert!(acquired(&store, &named).await);
    let with_name = store.size_bytes();
    assert!(with_name >= Entry::BASE_BYTES + 5000);
    let progress = Bytes::from(vec![0; 10_000]);
    let saved = store.save_progress(&named.owner, 0, &progress).await;
    assert_eq!(saved.unwrap(), Progress::Saved);
    let with_progress = store.size_bytes();
    assert!(with_progress >= with_name + 10_000);
    let waiting = store.subscribe(&named.owner.key);
    assert!(store.size_bytes() > with_progress);
    drop(waiting);
    let completion = store.complete(&named.owner, &response(10), TTL).await;
    assert_eq!(completion.unwrap(), Completion::Stored);
    assert!(store.size_bytes() < with_name + 1000);
    clock.advance(TTL);
    // Claimed anew under a shorter name.
    assert!(acquired(&store, &request(1)).await);
    assert_eq!(store.size_bytes(), Entry::BASE_BYTES);
    released(&store, &request(1).owner).await;
    assert!(store.remove(&named.owner.key).await.unwrap());
    assert_eq!((store.len(), store.size_bytes()), (0, 0));
}

/// In a window between a release's removal of the record and that of its place, another request would
/// get the same place.
#[test]
fn a_key_that_is_claimed_while_it_is_released_has_a_place() {
    let (store, _) = store();
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                for _ in 0..300_000 {
                    let request = request(1);
                    let claimed =
                        store
                            .table
                            .try_claim(&request, store.now(), &mut Purged::default());
                    if !matches!(claimed, Ok(Claim::Acquired { .. })) {
                        continue;
                    }
                    for _ in 0..4 {
                        assert_eq!(store.table.expiries.len(), 1);
                    }
                    let is_own = |entry: &Entry| entry.is_held_by(&request.owner, store.now());
                    assert!(store.table.remove_if(&request.owner.key, is_own).is_some());
                }
            });
        }
    });
    assert_eq!((store.len(), store.table.expiries.len()), (0, 0));
}

#[tokio::test]
async fn a_purge_names_what_was_abandoned_and_what_a_claim_frees_is_not_named_twice() {
    let (store, clock) = store();
    for n in 0..1000 {
        assert!(acquired(&store, &request(n)).await);
    }
    clock.advance(TTL);
    // Frees four, and the one of its key.
    assert!(acquired(&store, &request(9)).await);
    let purged = store.purge_expired(1000).await.unwrap();
    assert_eq!(purged.records, purged.abandoned.len());
    assert!((995..=996).contains(&purged.records), "{}", purged.records);
    assert_eq!(&*purged.abandoned[0].operation, "payments.create");
    assert_eq!(store.len(), 1);
}

#[tokio::test]
async fn a_replay_without_waiting_is_for_this_request_alone_and_until_the_record_expires() {
    let (store, clock) = store();
    let request = request(1);
    let other = Fingerprint::from_bytes([99; 32]);
    let replay = |fingerprint| store.replay(&request.owner.key, fingerprint);
    assert!(acquired(&store, &request).await);
    assert!(
        replay(&request.fingerprint).is_none(),
        "of a running record"
    );
    let response = response(10);
    store
        .complete(&request.owner, &response, TTL)
        .await
        .unwrap();
    assert_eq!(replay(&request.fingerprint), Some(response));
    assert!(replay(&other).is_none(), "for another request");
    clock.advance(TTL);
    assert!(
        replay(&request.fingerprint).is_none(),
        "of an expired record"
    );
}

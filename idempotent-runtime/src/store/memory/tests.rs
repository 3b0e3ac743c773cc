use bytes::Bytes;
use http::HeaderMap;

use super::*;
use crate::clock::ManualClock;
use crate::fingerprint::Fingerprint;
use crate::record::Token;
use crate::store::Store;

const LEASE: Duration = Duration::from_secs(30);
const TTL: Duration = Duration::from_secs(60);

fn request(n: u64) -> ClaimRequest {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&n.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
    key[8..16].copy_from_slice(&n.to_be_bytes());
    ClaimRequest {
        owner: Owner {
            key: RecordKey::from_bytes(key),
            token: Token::random().unwrap(),
        },
        fingerprint: Fingerprint::from_bytes([1; 32]),
        lease: LEASE,
        ttl: TTL,
        take_over: None,
    }
}

fn response(bytes: usize) -> Arc<StoredResponse> {
    let body = Some(Bytes::from(vec![b'x'; bytes]));
    Arc::new(StoredResponse {
        status: 200,
        headers: HeaderMap::new(),
        body,
    })
}

fn store() -> (MemoryStore, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::new());
    (MemoryStore::builder().clock(clock.clone()).build(), clock)
}

async fn acquired(store: &MemoryStore, request: &ClaimRequest) -> bool {
    matches!(
        store.claim(request).await,
        Ok(Claim::Acquired { attempt: 1, .. })
    )
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
            .complete(&request.owner, &response(1000))
            .await
            .unwrap();
    }
    let whole = CompactResponse::from(&*response(1000)).size_bytes();
    assert_eq!(store.size_bytes(), 100 * Entry::BASE_BYTES + 50 * whole);
    for request in &requests[40..60] {
        store.release(&request.owner).await.unwrap();
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
        let completion = store.complete(&request.owner, &response(10)).await.unwrap();
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
    let one = request(1);
    assert!(acquired(&store, &one).await);
    store.complete(&one.owner, &response(20_000)).await.unwrap();
    assert_eq!(
        store.claim(&request(2)).await.unwrap_err().kind(),
        StoreErrorKind::Full
    );
    assert!(matches!(store.claim(&one).await, Ok(Claim::Completed(_))));
    store.remove(&one.owner.key).await.unwrap();
    assert!(acquired(&store, &request(2)).await);
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
                        .filter(|request| store.try_claim(request, now).is_ok())
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
        let renewal = Renewal {
            owner: request.owner,
            lease: LEASE,
        };
        assert!(store.renew(&[renewal]).await.unwrap().is_empty());
        assert_eq!(store.purge_expired(10).await.unwrap(), 0);
    }
    clock.advance(LEASE - Duration::from_millis(1));
    assert_eq!(store.purge_expired(10).await.unwrap(), 0);
    clock.advance(Duration::from_secs(1));
    assert_eq!(store.purge_expired(10).await.unwrap(), 1);
    assert!(store.is_empty());
}

#[tokio::test]
async fn purge_takes_no_more_than_its_limit() {
    let (store, clock) = store();
    for n in 0..10 {
        assert!(acquired(&store, &request(n)).await);
    }
    clock.advance(TTL);
    assert_eq!(store.purge_expired(3).await.unwrap(), 3);
    assert_eq!(store.purge_expired(100).await.unwrap(), 7);
    assert_eq!((store.len(), store.size_bytes()), (0, 0));
}

#[tokio::test]
async fn a_record_has_one_place_in_the_queue_and_none_once_it_is_gone() {
    let (store, clock) = store();
    for n in 0..1000 {
        let request = request(n);
        assert!(acquired(&store, &request).await);
        store.release(&request.owner).await.unwrap();
    }
    assert_eq!(store.expiries.len(), 0, "released");

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
        assert!(matches!(taken, Ok(Claim::Acquired { attempt: 2, .. })));
        let renewal = Renewal {
            owner: take_over.owner,
            lease: 2 * TTL,
        };
        assert!(store.renew(&[renewal]).await.unwrap().is_empty());
        assert_eq!(store.expiries.len(), 1);
        clock.advance(2 * TTL);
        last = request(1);
        let anew = store.try_claim(&last, store.now());
        assert!(matches!(anew, Ok(Claim::Acquired { attempt: 1, .. })));
        assert_eq!(store.expiries.len(), 1);
    }
    assert_eq!((store.len(), store.expiries.len()), (1, 1));
    assert!(store.remove(&last.owner.key).await.unwrap());
    assert_eq!((store.len(), store.expiries.len()), (0, 0));
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
            ttl: TTL / 2,
            ..request(1000 + n)
        };
        assert!(acquired(&store, &request).await);
        store.release(&request.owner).await.unwrap();
    }
    let long_lived = ClaimRequest {
        ttl: 100 * TTL,
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
        .complete(&request.owner, &Arc::new(cut))
        .await
        .unwrap();
    assert!(upload.is_unique(), "the store shares the upload");
    let Ok(Claim::Completed(stored)) = store.claim(&request).await else {
        panic!("not completed");
    };
    assert_eq!(stored.body.as_deref(), Some(&b"xxxxxxxxxx"[..]));
}

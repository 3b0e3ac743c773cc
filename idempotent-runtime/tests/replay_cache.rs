//! The replay cache, in front of a store that counts what it is asked.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "in the helpers too, which clippy does not take for tests"
)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::{HeaderMap, StatusCode};
use idempotent_runtime::store::memory::MemoryStore;
use idempotent_runtime::store::{
    Acquired, CachedStore, Claim, ClaimRequest, Completion, Release, ReplayCache, Store,
    StoreError, StoreErrorKind,
};
use idempotent_runtime::{
    Clock, Fingerprint, ManualClock, Owner, RecordKey, StoredResponse, Token,
};

use remote::{Calls, RemoteStore};

#[path = "support/remote.rs"]
mod remote;
#[path = "replay_cache/unavailable.rs"]
mod unavailable;

type Request = ClaimRequest<'static>;

const MILLISECOND: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const LEASE: Duration = Duration::from_secs(30);
const TTL: Duration = Duration::from_secs(60);
const MAX_AGE: Duration = Duration::from_secs(10);

/// A cache in front of a store, and the time of both.
struct Bed {
    store: Arc<CachedStore>,
    remote: RemoteStore,
    clock: Arc<ManualClock>,
}

impl Bed {
    fn new() -> Self {
        Self::with(ReplayCache::new())
    }

    fn with(cache: ReplayCache) -> Self {
        let clock = Arc::new(ManualClock::new());
        let memory = MemoryStore::builder().clock(clock.clone()).build();
        let remote = RemoteStore::new(memory);
        let store = cache.clock(clock.clone()).in_front_of(remote.clone());
        Self {
            store: Arc::new(store),
            remote,
            clock,
        }
    }

    async fn claim(&self, request: &Request) -> Claim {
        let cached = self.cached(request);
        let claim = self.store.claim(&rival(request)).await.unwrap();
        // What is cached is what the claim comes to, whatever happened before.
        if let Some(cached) = cached {
            let Claim::Completed(response) = &claim else {
                panic!("{cached:?} is cached, and a claim is answered {claim:?}");
            };
            assert_eq!(cached, *response);
        }
        claim
    }

    fn cached(&self, request: &Request) -> Option<Arc<StoredResponse>> {
        self.store.replay(&request.owner.key, &request.fingerprint)
    }

    /// A new record.
    async fn completed(&self, body: &str) -> Request {
        let request = request();
        self.complete(&request, body).await;
        request
    }

    /// Claims a free key, and completes it.
    async fn complete(&self, request: &Request, body: &str) {
        let request = rival(request);
        assert_first(&self.store.claim(&request).await.unwrap());
        let completion = self
            .store
            .complete(&request.owner, &response(body), TTL)
            .await;
        assert_eq!(completion.unwrap(), Completion::Stored);
    }

    /// A record that is answered from the cache from now on.
    async fn hot(&self, body: &str) -> Request {
        let request = self.completed(body).await;
        self.heat(&request, body).await;
        request
    }

    async fn heat(&self, request: &Request, body: &str) {
        for _ in 0..2 {
            assert_replay(&self.claim(request).await, body);
        }
        self.remote.take_calls();
        assert!(self.cached(request).is_some(), "it is not cached");
        assert_replay(&self.claim(request).await, body);
        assert_eq!(self.remote.take_calls(), NONE);
    }
}

const NONE: Calls = Calls { claims: 0, gets: 0 };
const CLAIM: Calls = Calls { claims: 1, gets: 0 };
const GET: Calls = Calls { claims: 0, gets: 1 };
const GET_AND_CLAIM: Calls = Calls { claims: 1, gets: 1 };

/// Another key each time.
fn request() -> Request {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let [first, rest @ ..] = COUNT.fetch_add(1, Ordering::Relaxed).to_le_bytes();
    let mut key = [first; 32];
    key.iter_mut().zip(rest).for_each(|(to, from)| *to = from);
    rival(&Request {
        owner: Owner {
            key: RecordKey::from_bytes(key),
            token: Token::from_bytes([0; 16]),
        },
        fingerprint: Fingerprint::from_bytes([1; 32]),
        operation: "payments.create",
        label: None,
        lease: LEASE,
        retention: TTL,
        progress: &[],
        take_over: None,
    })
}

/// The same by another caller.
fn rival(of: &Request) -> Request {
    let token = Token::random().unwrap();
    Request {
        owner: Owner { token, ..of.owner },
        ..*of
    }
}

fn other_request(of: &Request) -> Request {
    Request {
        fingerprint: Fingerprint::from_bytes([2; 32]),
        ..*of
    }
}

fn response(body: &str) -> Arc<StoredResponse> {
    let body = body.to_owned();
    Arc::new(StoredResponse::new(StatusCode::OK, HeaderMap::new(), body))
}

#[track_caller]
fn assert_first(claim: &Claim) {
    assert!(
        matches!(claim, Claim::Acquired(Acquired { attempt: 1, .. })),
        "{claim:?}"
    );
}

#[track_caller]
fn assert_replay(claim: &Claim, body: &str) {
    match claim {
        Claim::Completed(got) => assert_eq!(*got, response(body)),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_replay_is_one_round_trip_at_most_and_a_hot_one_none() {
    let bed = Bed::new();
    let request = bed.completed("paid").await;
    assert_eq!(bed.remote.take_calls(), CLAIM, "the first request");
    for expected in [CLAIM, GET, NONE, NONE, NONE] {
        assert_replay(&bed.claim(&request).await, "paid");
        assert_eq!(bed.remote.take_calls(), expected);
    }
}

#[tokio::test]
async fn hot_replays_share_one_body() {
    let bed = Bed::new();
    let request = bed.hot("paid").await;
    let (one, other) = (bed.claim(&request).await, bed.claim(&request).await);
    let (Claim::Completed(one), Claim::Completed(other)) = (one, other) else {
        panic!("no replay");
    };
    let body = |response: &StoredResponse| response.body.as_ref().unwrap().as_ptr();
    assert_eq!(body(&one), body(&other));
}

#[tokio::test]
async fn another_request_is_a_mismatch_and_asks_nobody() {
    let bed = Bed::new();
    let request = bed.hot("paid").await;
    for _ in 0..3 {
        let claim = bed.claim(&other_request(&request)).await;
        assert!(matches!(claim, Claim::Mismatch), "{claim:?}");
    }
    assert_eq!(bed.remote.take_calls(), NONE);
    assert_replay(&bed.claim(&request).await, "paid");
}

#[tokio::test]
async fn another_request_is_a_mismatch_at_every_replay() {
    let bed = Bed::new();
    let request = bed.completed("paid").await;
    for _ in 0..4 {
        let claim = bed.claim(&other_request(&request)).await;
        assert!(matches!(claim, Claim::Mismatch), "{claim:?}");
        assert_replay(&bed.claim(&request).await, "paid");
    }
}

/// Its life is counted from its completion, whenever it was read.
#[tokio::test]
async fn nothing_is_replayed_after_its_expiry() {
    let bed = Bed::new();
    let request = bed.completed("paid").await;
    bed.clock.advance(TTL - 5 * SECOND);
    bed.heat(&request, "paid").await;
    bed.clock.advance(5 * SECOND - MILLISECOND);
    assert_replay(&bed.claim(&request).await, "paid");
    assert_eq!(bed.remote.take_calls(), NONE, "alive for a millisecond");
    bed.clock.advance(MILLISECOND);
    bed.complete(&request, "paid again").await;
    assert_eq!(bed.remote.take_calls(), CLAIM, "expired, and known to be");
    bed.heat(&request, "paid again").await;
}

/// A round trip takes its time, and that is no part of the record's life.
#[tokio::test]
async fn life_is_counted_from_before_the_question() {
    let bed = Bed::new();
    let request = bed.completed("paid").await;
    bed.clock.advance(TTL - 5 * SECOND);
    assert_replay(&bed.claim(&request).await, "paid");
    bed.remote.hold_replies();
    let (store, late) = (Arc::clone(&bed.store), rival(&request));
    let reading = tokio::spawn(async move { store.claim(&late).await.unwrap() });
    bed.remote.held().await;
    bed.clock.advance(4 * SECOND);
    bed.remote.let_go();
    assert_replay(&reading.await.unwrap(), "paid");
    bed.clock.advance(SECOND);
    assert_first(&bed.claim(&request).await);
}

#[tokio::test]
async fn a_hot_key_is_read_again_when_it_is_stale() {
    let bed = Bed::new();
    let request = bed.hot("paid").await;
    for _ in 0..3 {
        bed.clock.advance(MAX_AGE - MILLISECOND);
        assert_replay(&bed.claim(&request).await, "paid");
        assert_eq!(bed.remote.take_calls(), NONE);
        bed.clock.advance(MILLISECOND);
        assert_replay(&bed.claim(&request).await, "paid");
        assert_eq!(bed.remote.take_calls(), GET);
    }
}

#[tokio::test]
async fn removal_frees_the_key_at_once() {
    let bed = Bed::new();
    let request = bed.hot("paid").await;
    assert!(bed.store.remove(&request.owner.key).await.unwrap());
    bed.complete(&request, "paid again").await;
    assert_replay(&bed.claim(&request).await, "paid again");
}

#[tokio::test]
async fn removal_by_somebody_else_is_seen_when_the_record_is_stale() {
    let bed = Bed::new();
    let request = bed.hot("paid").await;
    assert!(bed.remote.remove(&request.owner.key).await.unwrap());
    bed.clock.advance(MAX_AGE - MILLISECOND);
    assert_replay(&bed.claim(&request).await, "paid");
    bed.clock.advance(MILLISECOND);
    bed.remote.take_calls();
    bed.complete(&request, "paid again").await;
    assert_eq!(bed.remote.take_calls(), GET_AND_CLAIM);
    bed.heat(&request, "paid again").await;
}

/// A read that was on its way during a removal has seen what is gone.
#[tokio::test]
async fn what_was_read_before_a_removal_is_not_kept() {
    let bed = Bed::new();
    let request = bed.completed("paid").await;
    assert_replay(&bed.claim(&request).await, "paid");
    bed.remote.hold_replies();
    let (store, early) = (Arc::clone(&bed.store), rival(&request));
    let reading = tokio::spawn(async move { store.claim(&early).await.unwrap() });
    bed.remote.held().await;
    assert!(bed.store.remove(&request.owner.key).await.unwrap());
    bed.remote.let_go();
    assert_replay(&reading.await.unwrap(), "paid");
    bed.complete(&request, "paid again").await;
    assert_replay(&bed.claim(&request).await, "paid again");
}

#[tokio::test]
async fn removal_of_which_nothing_was_heard_is_taken_for_one() {
    let bed = Bed::new();
    let request = bed.hot("paid").await;
    bed.remote.break_off_after(Some(StoreErrorKind::TimedOut));
    let error = bed.store.remove(&request.owner.key).await.unwrap_err();
    assert!(error.may_have_happened());
    bed.remote.break_off_after(None);
    assert_first(&bed.claim(&request).await);
}

#[tokio::test]
async fn removal_that_was_given_up_half_way_is_taken_for_one() {
    let bed = Bed::new();
    let request = bed.hot("paid").await;
    bed.remote.hold_replies();
    let (store, key) = (Arc::clone(&bed.store), request.owner.key);
    let removing = tokio::spawn(async move { store.remove(&key).await });
    bed.remote.held().await;
    removing.abort();
    assert!(removing.await.unwrap_err().is_cancelled());
    bed.remote.let_go();
    assert_first(&bed.claim(&request).await);
}

/// Only what is completed is answered from here: everything that can change is asked for.
#[tokio::test]
async fn what_runs_or_is_abandoned_or_taken_over_is_asked_for_every_time() {
    let bed = Bed::new();
    let request = bed.hot("paid").await;
    bed.clock.advance(TTL);
    let first = rival(&request);
    assert_first(&bed.store.claim(&first).await.unwrap());
    bed.remote.take_calls();
    for _ in 0..4 {
        let claim = bed.claim(&request).await;
        assert!(matches!(claim, Claim::InFlight { .. }), "{claim:?}");
        assert_eq!(bed.remote.take_calls(), CLAIM);
    }
    bed.clock.advance(LEASE);
    for _ in 0..4 {
        let claim = bed.claim(&request).await;
        assert!(matches!(claim, Claim::Abandoned { attempt: 1, .. }));
        assert_eq!(bed.remote.take_calls(), CLAIM);
    }
    let heir = Request {
        take_over: Some(1),
        ..rival(&request)
    };
    let claim = bed.store.claim(&heir).await.unwrap();
    assert!(matches!(
        claim,
        Claim::Acquired(Acquired { attempt: 2, .. })
    ));
    let late = bed
        .store
        .complete(&first.owner, &response("late"), TTL)
        .await;
    assert_eq!(late.unwrap(), Completion::Lost);
    let completion = bed
        .store
        .complete(&heir.owner, &response("heir"), TTL)
        .await;
    assert_eq!(completion.unwrap(), Completion::Stored);
    bed.heat(&request, "heir").await;
    // Who has lost its claim asks with its own token, and is told what is stored.
    assert_replay(&bed.store.claim(&first).await.unwrap(), "heir");
}

#[tokio::test]
async fn hot_replays_go_on_while_the_store_is_away() {
    let bed = Bed::new();
    let (hot, warm) = (bed.hot("hot").await, bed.completed("warm").await);
    assert_replay(&bed.claim(&warm).await, "warm");
    bed.remote
        .break_off_after(Some(StoreErrorKind::Unavailable));
    assert_replay(&bed.claim(&hot).await, "hot");
    let error = bed.store.claim(&rival(&warm)).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Unavailable);
    let error = bed.store.claim(&request()).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Unavailable);
    bed.remote.break_off_after(None);
    bed.remote.take_calls();
    assert_replay(&bed.claim(&warm).await, "warm");
    assert_eq!(bed.remote.take_calls(), GET, "an error is forgotten");
}

#[tokio::test]
async fn it_is_bounded_and_the_hottest_key_stays() {
    let max_bytes = 1024 * 1024;
    let bed = Bed::with(ReplayCache::new().max_bytes(max_bytes));
    let hottest = bed.hot("hottest").await;
    for _ in 0..5_000 {
        bed.hot(&"x".repeat(1000)).await;
        assert_replay(&bed.claim(&hottest).await, "hottest");
        assert_eq!(bed.remote.take_calls(), NONE);
        assert!(bed.store.size_bytes() <= max_bytes);
    }
    assert!(bed.store.size_bytes() > max_bytes / 3);
}

#[tokio::test]
async fn response_that_is_too_large_is_one_round_trip_each_time() {
    let bed = Bed::with(ReplayCache::new().max_bytes(64 * 1024));
    let body = "x".repeat(1024);
    let large = bed.completed(&body).await;
    let small = bed.hot("small").await;
    let before = bed.store.size_bytes();
    for _ in 0..5 {
        bed.remote.take_calls();
        assert_replay(&bed.claim(&large).await, &body);
        assert_eq!(bed.remote.take_calls().total(), 1);
    }
    assert!(bed.store.size_bytes() < before + 1024);
    assert_replay(&bed.claim(&small).await, "small");
    assert_eq!(bed.remote.take_calls(), NONE);
}

#[tokio::test]
async fn cache_without_room_or_age_is_none() {
    for (cache, expected) in [
        (ReplayCache::new().max_bytes(0), CLAIM),
        (ReplayCache::new().max_age(Duration::ZERO), GET),
    ] {
        let bed = Bed::with(cache);
        let request = bed.completed("paid").await;
        bed.claim(&request).await;
        for _ in 0..3 {
            bed.remote.take_calls();
            assert_replay(&bed.claim(&request).await, "paid");
            assert_eq!(bed.remote.take_calls(), expected);
        }
    }
}

#[tokio::test]
async fn everything_else_is_passed_on() {
    let bed = Bed::new();
    assert_eq!(bed.store.name(), "remote");
    let request = bed.hot("paid").await;
    // Times are the store's, even of what is cached.
    bed.clock.advance(SECOND);
    let record = bed.store.get(&request.owner.key).await.unwrap().unwrap();
    assert_eq!(bed.remote.take_calls(), GET);
    assert_eq!((record.age, record.expires_in), (SECOND, TTL - SECOND));
    let running = self::request();
    bed.store.claim(&running).await.unwrap();
    let subscription = bed.store.subscribe(&running.owner.key);
    assert!(subscription.is_reliable());
    let released = bed.store.release(&[running.owner]).await;
    assert!(matches!(released[..], [Ok(Release::Released)]));
    subscription.changed().await;
    bed.clock.advance(TTL);
    assert_eq!(bed.store.purge_expired(10).await.unwrap().records, 1);
}

/// Claims until the key is free.
async fn claim_at_last(store: &dyn Store, request: &Request) -> Request {
    loop {
        let request = rival(request);
        if let Claim::Acquired { .. } = store.claim(&request).await.unwrap() {
            return request;
        }
        tokio::task::yield_now().await;
    }
}

/// What is replayed; if there is nothing, nothing is left behind.
async fn look(store: &dyn Store, request: &Request) -> Option<u64> {
    let request = rival(request);
    match store.claim(&request).await.unwrap() {
        Claim::Completed(response) => {
            let body = response.body.clone().unwrap();
            Some(std::str::from_utf8(&body).unwrap().parse().unwrap())
        }
        Claim::Acquired { .. } => {
            store.release(&[request.owner]).await;
            None
        }
        _ => None,
    }
}

/// Replays and removals all at once: what was removed is not replayed to anybody who asks afterwards.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_answer_outlives_its_removal() {
    const LIVES: u64 = 2_000;
    let bed = Bed::new();
    let (store, request) = (Arc::clone(&bed.store), request());
    let oldest = Arc::new(AtomicU64::new(0));
    let readers: Vec<_> = (0..4)
        .map(|_| {
            let (store, oldest) = (Arc::clone(&store), Arc::clone(&oldest));
            tokio::spawn(async move {
                let mut replays = 0;
                loop {
                    let before = oldest.load(Ordering::Acquire);
                    if before == LIVES {
                        return replays;
                    }
                    if let Some(life) = look(&*store, &request).await {
                        assert!(life >= before, "life {life} after that of {before} began");
                        replays += 1;
                    }
                    tokio::task::yield_now().await;
                }
            })
        })
        .collect();
    for life in 0..LIVES {
        let claimed = claim_at_last(&*store, &request).await;
        let answer = response(&life.to_string());
        let completion = store.complete(&claimed.owner, &answer, TTL).await.unwrap();
        assert_eq!(completion, Completion::Stored);
        for _ in 0..3 {
            assert_eq!(look(&*store, &request).await, Some(life));
        }
        assert!(store.remove(&request.owner.key).await.unwrap());
        oldest.store(life + 1, Ordering::Release);
    }
    let mut replays = 0;
    for reader in readers {
        replays += reader.await.unwrap();
    }
    assert!(replays > 0);
}

/// A caller that pays the same at the same time, on a task of its own.
fn spawn_claim(bed: &Bed, request: &Request) -> tokio::task::JoinHandle<Result<Claim, StoreError>> {
    let (store, request) = (Arc::clone(&bed.store), rival(request));
    tokio::spawn(async move { store.claim(&request).await })
}

#[tokio::test]
async fn what_is_freed_through_one_handle_is_not_replayed_by_another() {
    let bed = Bed::new();
    let other = ReplayCache::new().clock(bed.clock.clone());
    let other = other.in_front_of(bed.remote.clone());
    let request = bed.hot("paid").await;
    for _ in 0..3 {
        assert_replay(&other.claim(&rival(&request)).await.unwrap(), "paid");
    }
    assert!(other.remove(&request.owner.key).await.unwrap());
    assert!(bed.cached(&request).is_none());
    bed.complete(&request, "paid again").await;
    for store in [&*bed.store, &other] {
        assert_replay(&store.claim(&rival(&request)).await.unwrap(), "paid again");
    }
    // And the other way round.
    bed.heat(&request, "paid again").await;
    assert_replay(&other.claim(&rival(&request)).await.unwrap(), "paid again");
    assert!(bed.store.remove(&request.owner.key).await.unwrap());
    let gone = other.replay(&request.owner.key, &request.fingerprint);
    assert!(gone.is_none());
}

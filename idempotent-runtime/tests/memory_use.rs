//! What the store in memory and the replay cache say that they occupy, and what the process does.
//!
//! One test, because it is the process that is measured.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "helpers of tests")]
#![cfg(target_os = "linux")]

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use idempotent_runtime::store::memory::MemoryStore;
use idempotent_runtime::store::{Claim, ClaimRequest, ReplayCache, Store};
use idempotent_runtime::{Fingerprint, ManualClock, Owner, RecordKey, StoredResponse, Token};

use remote::RemoteStore;

#[path = "support/remote.rs"]
#[expect(dead_code, reason = "this test loses no replies")]
mod remote;

const RECORDS: u64 = 40_000;
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// As many records as come in a second: a million a day.
const A_SECOND: u64 = 11;

fn resident_bytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib: usize = line
        .unwrap()
        .split_whitespace()
        .next()
        .unwrap()
        .parse()
        .unwrap();
    kib * 1024
}

fn request(number: u64) -> ClaimRequest<'static> {
    let mut key = [0; 32];
    for (part, factor) in key.chunks_mut(8).zip([1u64, 3, 5, 7]) {
        let bits = (number + 1)
            .wrapping_mul(0x9e37_79b9_7f4a_7c15)
            .wrapping_mul(factor);
        part.copy_from_slice(&bits.to_be_bytes());
    }
    ClaimRequest {
        owner: Owner {
            key: RecordKey::from_bytes(key),
            token: Token::random().unwrap(),
        },
        fingerprint: Fingerprint::from_bytes([1; 32]),
        operation: "payments.create",
        label: None,
        lease: DAY,
        retention: DAY,
        progress: &[],
        take_over: None,
    }
}

/// As hyper makes it: values and body are pieces of a large buffer.
fn response(headers: usize, body_bytes: usize) -> Arc<StoredResponse> {
    let buffer = Bytes::from(vec![b'x'; 16 * 1024]);
    let mut map = HeaderMap::new();
    for n in 0..headers {
        let name = HeaderName::try_from(format!("x-header-{n}")).unwrap();
        let value = HeaderValue::from_maybe_shared(buffer.slice(n..n + 20)).unwrap();
        map.append(name, value);
    }
    Arc::new(StoredResponse::new(
        StatusCode::OK,
        map,
        buffer.slice(0..body_bytes),
    ))
}

#[track_caller]
fn assert_close(what: &str, counted: usize, grown: usize) {
    let ratio = grown as f64 / counted as f64;
    println!("{what}: counted {counted}, grown by {grown}: {ratio:.2}");
    assert!(ratio < 1.25, "{what}: counted {counted}, grown by {grown}");
    assert!(ratio > 0.5, "{what}: counted {counted}, grown by {grown}");
}

async fn completed(store: &impl Store, number: u64, response: &Arc<StoredResponse>) {
    let request = request(number);
    let claim = store.claim(&request).await.unwrap();
    assert!(matches!(claim, Claim::Acquired { .. }));
    store.complete(&request.owner, response, DAY).await.unwrap();
}

#[tokio::test]
async fn what_is_counted_is_what_the_process_grows_by() {
    for (headers, body_bytes) in [(0, 0), (3, 200), (10, 30), (1, 4000)] {
        let clock = Arc::new(ManualClock::new());
        let store = MemoryStore::builder().max_bytes(usize::MAX);
        let store = store.clock(Arc::clone(&clock) as Arc<_>).build();
        let before = resident_bytes();
        for number in 0..RECORDS {
            if number % A_SECOND == 0 {
                clock.advance(Duration::from_secs(1));
            }
            completed(&store, number, &response(headers, body_bytes)).await;
        }
        let grown = resident_bytes().saturating_sub(before);
        let what = format!("memory store, {headers} headers and {body_bytes} bytes");
        assert_close(&what, store.size_bytes(), grown);
        // What was used is used again by the next: so that it grows as well.
        std::mem::forget(store);
    }

    let store = MemoryStore::new();
    let before = resident_bytes();
    for number in 0..RECORDS {
        let request = request(number);
        store.claim(&request).await.unwrap();
        let progress = Bytes::from(vec![7; 300]);
        store
            .save_progress(&request.owner, 0, &progress)
            .await
            .unwrap();
        std::mem::forget(store.subscribe(&request.owner.key));
    }
    // The waiters are requests, and are not counted.
    let waiters = RECORDS as usize * 150;
    let grown = resident_bytes().saturating_sub(before + waiters);
    assert_close(
        "memory store, progress and waiters",
        store.size_bytes(),
        grown,
    );
    std::mem::forget(store);

    for (headers, body_bytes) in [(0, 0), (3, 200), (10, 30), (1, 4000)] {
        let remote = RemoteStore::new(MemoryStore::builder().max_bytes(usize::MAX).build());
        for number in 0..RECORDS {
            completed(&remote, number, &response(headers, body_bytes)).await;
        }
        let cached = ReplayCache::new().max_bytes(1 << 30).in_front_of(remote);
        let before = resident_bytes();
        for _ in 0..2 {
            for number in 0..RECORDS {
                let claim = cached.claim(&request(number)).await.unwrap();
                assert!(matches!(claim, Claim::Completed(_)));
            }
        }
        let grown = resident_bytes().saturating_sub(before);
        let what = format!("replay cache, {headers} headers and {body_bytes} bytes");
        assert_close(&what, cached.size_bytes(), grown);
        std::mem::forget(cached);
    }
}

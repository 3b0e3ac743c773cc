//! Single steps, by criterion: `cargo bench --package idempotent-benches --ignore-rust-version`.
//!
//! Through what is public. Making a record key and a fingerprint is not; their cost is that of `SHA-256`
//! below, and in the whole requests, where a body of 64 KiB is little else.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a benchmark that cannot go on stops"
)]

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::routing::post;
use axum::{Json, Router};
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use futures_util::FutureExt as _;
use idempotent_runtime::store::memory::MemoryStore;
use idempotent_runtime::store::{Acquired, Claim, ClaimRequest, Completion, Store};
use idempotent_runtime::{
    Fingerprint, Idempotency, Key, KeySyntax, Owner, RecordKey, StoredResponse, Token, idempotent,
};
use sha2::{Digest as _, Sha256};
use tokio::runtime::Runtime;
use tower::ServiceExt as _;

const SIZES: [usize; 2] = [200, 64 * 1024];

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

const KEY: &str = "8e03978e-40d5-43dd-bc93-6894a57f9324";

fn response(bytes: usize) -> Arc<StoredResponse> {
    let mut headers = HeaderMap::new();
    let json = HeaderValue::from_static("application/json");
    headers.insert(header::CONTENT_TYPE, json);
    Arc::new(StoredResponse::new(
        StatusCode::CREATED,
        headers,
        vec![b'n'; bytes],
    ))
}

fn pure(criterion: &mut Criterion) {
    let quoted = format!("\"{KEY}\"");
    for (name, value) in [("bare", KEY), ("quoted", &quoted)] {
        criterion.bench_function(&format!("key, {name}"), |bencher| {
            bencher.iter(|| Key::parse(black_box(value.as_bytes()), KeySyntax::Lenient));
        });
    }
    criterion.bench_function("token", |bencher| bencher.iter(Token::random));
    for size in SIZES {
        let body = vec![b'n'; size];
        criterion.bench_with_input(BenchmarkId::new("SHA-256", size), &body, |bencher, body| {
            bencher.iter(|| Sha256::digest(black_box(body)));
        });
        let response = response(size);
        let encoded = response.encode();
        criterion.bench_function(&format!("encode/{size}"), |bencher| {
            bencher.iter(|| black_box(&response).encode());
        });
        criterion.bench_function(&format!("decode/{size}"), |bencher| {
            bencher.iter(|| StoredResponse::decode(black_box(&encoded)));
        });
    }
}

fn claim(number: u64) -> ClaimRequest<'static> {
    let digest: [u8; 32] = Sha256::digest(number.to_le_bytes()).into();
    ClaimRequest {
        owner: Owner {
            key: RecordKey::from_bytes(digest),
            token: Token::from_bytes([7; 16]),
        },
        fingerprint: Fingerprint::from_bytes([9; 32]),
        operation: "POST /payments",
        label: None,
        lease: Duration::from_secs(600),
        retention: Duration::from_secs(30 * 24 * 60 * 60),
        progress: &[],
        take_over: None,
    }
}

fn unbounded() -> Arc<MemoryStore> {
    let store = MemoryStore::builder()
        .max_records(usize::MAX)
        .max_bytes(usize::MAX);
    Arc::new(store.build())
}

/// What each of so many threads does at the same time: the time it takes them all, for one of one thread.
fn threads(count: u64, iterations: u64, step: impl Fn(u64) + Sync) -> Duration {
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for thread in 0..count {
            let step = &step;
            scope.spawn(move || {
                for at in 0..iterations {
                    step(at * count + thread);
                }
            });
        }
    });
    begun.elapsed()
}

/// The memory store, asked by one thread and by two. None of its operations ever waits, so that they need
/// no runtime.
fn memory(criterion: &mut Criterion) {
    let answer = response(200);
    let claimed = |store: &MemoryStore, request: &ClaimRequest<'_>| {
        let claim = store.claim(request).now_or_never();
        assert!(matches!(
            claim,
            Some(Ok(Claim::Acquired(Acquired { attempt: 1, .. })))
        ));
    };
    let completed = |store: &MemoryStore, request: &ClaimRequest<'_>| {
        let completion = store.complete(&request.owner, &answer, DAY).now_or_never();
        assert!(matches!(completion, Some(Ok(Completion::Stored))));
    };
    let mut group = criterion.benchmark_group("memory");
    for count in [1, 2] {
        group.bench_function(BenchmarkId::new("claim", count), |bencher| {
            bencher.iter_custom(|iterations| {
                let (store, requests) = (unbounded(), requests(count * iterations));
                threads(count, iterations, |at| {
                    claimed(&store, &requests[at as usize]);
                })
            });
        });
        group.bench_function(BenchmarkId::new("complete", count), |bencher| {
            bencher.iter_custom(|iterations| {
                let (store, requests) = (unbounded(), requests(count * iterations));
                requests.iter().for_each(|request| claimed(&store, request));
                threads(count, iterations, |at| {
                    completed(&store, &requests[at as usize]);
                })
            });
        });
        group.bench_function(BenchmarkId::new("replay", count), |bencher| {
            let (store, request) = (unbounded(), claim(0));
            claimed(&store, &request);
            completed(&store, &request);
            bencher.iter_custom(|iterations| {
                let again = ClaimRequest {
                    owner: Owner {
                        token: Token::from_bytes([8; 16]),
                        ..request.owner
                    },
                    ..request
                };
                threads(count, iterations, |_| {
                    let claim = store.claim(&again).now_or_never();
                    assert!(matches!(claim, Some(Ok(Claim::Completed(_)))));
                })
            });
        });
    }
}

fn requests(count: u64) -> Vec<ClaimRequest<'static>> {
    (0..count).map(claim).collect()
}

#[idempotent(required = false)]
async fn pay(body: Bytes) -> (StatusCode, Json<usize>) {
    (StatusCode::CREATED, Json(body.len()))
}

async fn pay_bare(body: Bytes) -> (StatusCode, Json<usize>) {
    (StatusCode::CREATED, Json(body.len()))
}

/// Whole requests without a network: what the attribute adds, all digests included.
fn requests_through_axum(criterion: &mut Criterion) {
    let runtime = Runtime::new().expect("a runtime");
    let store = unbounded() as Arc<dyn Store>;
    let protected: Router = Router::new()
        .route("/payments", post(pay))
        .with_state(Idempotency::new(store));
    let bare: Router = Router::new().route("/payments", post(pay_bare));
    let next = AtomicU64::new(1);
    let mut group = criterion.benchmark_group("request");
    for size in SIZES {
        let body = Bytes::from(vec![b'n'; size]);
        let request = |key: Option<u64>| {
            let mut request = Request::post("/payments");
            if let Some(number) = key {
                request = request.header("idempotency-key", format!("{KEY}-{number}"));
            }
            request.body(Body::from(body.clone())).expect("a request")
        };
        let answer = |router: &Router, request: Request| {
            let answer = runtime.block_on(router.clone().oneshot(request));
            assert_eq!(answer.expect("an answer").status(), StatusCode::CREATED);
        };
        group.bench_function(BenchmarkId::new("bare", size), |bencher| {
            bencher.iter(|| answer(&bare, request(None)));
        });
        group.bench_function(BenchmarkId::new("keyless", size), |bencher| {
            bencher.iter(|| answer(&protected, request(None)));
        });
        group.bench_function(BenchmarkId::new("first", size), |bencher| {
            bencher.iter(|| {
                let number = next.fetch_add(1, Ordering::Relaxed);
                answer(&protected, request(Some(number)));
            });
        });
        let again = next.fetch_add(1, Ordering::Relaxed);
        group.bench_function(BenchmarkId::new("replay", size), |bencher| {
            bencher.iter(|| answer(&protected, request(Some(again))));
        });
    }
}

criterion_group!(benches, pure, memory, requests_through_axum);
criterion_main!(benches);

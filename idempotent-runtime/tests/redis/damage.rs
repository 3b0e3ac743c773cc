//! What cannot be read in the server.

use std::error::Error as _;
use std::time::Duration;

use idempotent_runtime::Owner;
use idempotent_runtime::store::redis::RedisStore;
use idempotent_runtime::store::{ClaimRequest, Renewal, Store, StoreErrorKind};
use redis::aio::ConnectionLike;

use super::support::{Server, owner, response, response_bytes};
use super::{abandon, another, complete, name, release, renew, renewal, request, save};

async fn assert_corrupt(store: &impl Store, owner: Owner, what: &str) {
    let next = another(owner);
    let errors = [
        store
            .claim(&request(next))
            .await
            .map(|claim| format!("{claim:?}")),
        store
            .claim(&ClaimRequest {
                take_over: Some(1),
                ..request(next)
            })
            .await
            .map(|claim| format!("{claim:?}")),
        store
            .get(&owner.key)
            .await
            .map(|record| format!("{record:?}")),
    ];
    for error in errors {
        let error = error.expect_err(what);
        assert_eq!(error.kind(), StoreErrorKind::Corrupt, "{what}: {error:?}");
        assert!(error.source().is_some(), "{what}");
    }
}

/// As who runs, or has run.
async fn assert_corrupt_for_its_owner(store: &impl Store, owner: Owner, what: &str) {
    let errors = [
        complete(store, owner, &response(b"paid"))
            .await
            .unwrap_err(),
        release(store, owner).await.unwrap_err(),
        renew(store, renewal(owner)).await.unwrap_err(),
        abandon(store, owner).await.unwrap_err(),
        save(store, owner).await.unwrap_err(),
    ];
    for error in errors {
        assert_eq!(error.kind(), StoreErrorKind::Corrupt, "{what}: {error:?}");
    }
}

/// What is under the key, in a form that tells all values apart.
async fn dump(connection: &mut impl ConnectionLike, key: &str) -> Vec<u8> {
    let mut dump = redis::cmd("DUMP");
    dump.arg(key).query_async(connection).await.unwrap()
}

/// What is done to the bytes of a record whose lease has ended.
enum Damage {
    /// From there on they are others.
    At(usize, Vec<u8>),
    CutTo(usize),
    /// The key lives for ever.
    Persist,
}

impl Damage {
    async fn inflict(&self, connection: &mut impl ConnectionLike, key: &str) {
        let mut read = redis::pipe();
        read.get(key).pttl(key);
        let (mut record, left): (Vec<u8>, u64) = read.query_async(connection).await.unwrap();
        match self {
            Self::At(at, bytes) => record[*at..*at + bytes.len()].copy_from_slice(bytes),
            Self::CutTo(length) => record.truncate(*length),
            Self::Persist => {}
        }
        let mut set = redis::cmd("SET");
        set.arg(key).arg(record);
        if !matches!(self, Self::Persist) {
            set.arg("PX").arg(left);
        }
        set.exec_async(connection).await.unwrap();
    }
}

#[tokio::test]
async fn damaged_record_is_corrupt_and_never_absent() {
    let Some(server) = Server::start(&[]).await else {
        return;
    };
    let store = RedisStore::new(server.connection().await);
    let mut connection = server.connection().await;
    let (attempt, life, lease, state) = (49, 53, 61, 69);
    let number = |at, number: f64| Damage::At(at, number.to_be_bytes().into());
    for (what, damage, is_found_out_by_its_owner) in [
        ("no version", Damage::At(0, vec![0]), true),
        ("a text", Damage::At(0, b"{".into()), true),
        (
            "a state that there is not",
            Damage::At(state, b"p".into()),
            true,
        ),
        ("all cut off", Damage::CutTo(0), true),
        ("the fingerprint cut off", Damage::CutTo(32), true),
        ("the token cut off", Damage::CutTo(48), true),
        ("the numbers cut off", Damage::CutTo(68), true),
        ("the state cut off", Damage::CutTo(69), true),
        ("the lengths cut off", Damage::CutTo(73), true),
        ("the operation cut off", Damage::CutTo(80), false),
        (
            "an operation after the rest",
            Damage::At(70, vec![0xff; 2]),
            false,
        ),
        ("a rest in the head", Damage::At(72, vec![0, 73]), false),
        ("a rest after the end", Damage::At(72, vec![0xff; 2]), false),
        ("no attempt", Damage::At(attempt, vec![0; 4]), false),
        ("a life that is no number", number(life, f64::NAN), false),
        ("a lease after the life", number(lease, 1e12), false),
        ("an endless life", number(life, f64::INFINITY), false),
        ("a lease that is no number", number(lease, f64::NAN), false),
        ("a lease that never was", number(lease, -1.0), false),
        ("a lease for ever", number(lease, f64::INFINITY), false),
        ("no expiry", Damage::Persist, false),
    ] {
        let owner = owner();
        store.claim(&request(owner)).await.unwrap();
        // Out of its lease, so that a claim has to tell the attempt.
        let ended = Renewal {
            lease: Duration::ZERO,
            ..renewal(owner)
        };
        renew(&store, ended).await.unwrap();
        let key = name(&owner.key);
        damage.inflict(&mut connection, &key).await;
        let damaged = dump(&mut connection, &key).await;
        assert_corrupt(&store, owner, what).await;
        if is_found_out_by_its_owner {
            assert_corrupt_for_its_owner(&store, owner, what).await;
        }
        assert_eq!(dump(&mut connection, &key).await, damaged, "{what}");
        assert!(
            store.remove(&owner.key).await.unwrap(),
            "an operator can remove it"
        );
    }
}

#[tokio::test]
async fn foreign_value_is_corrupt() {
    let Some(server) = Server::start(&[]).await else {
        return;
    };
    let store = RedisStore::new(server.connection().await);
    let mut connection = server.connection().await;
    let long = "long".repeat(100);
    for foreign in [
        ["SET", "a"].as_slice(),
        &["SET", "42"],
        &["SET", &long],
        &["RPUSH", "a"],
        &["HSET", "a", "b"],
    ] {
        let owner = owner();
        let key = name(&owner.key);
        let mut write = redis::cmd(foreign[0]);
        write.arg(&key).arg(&foreign[1..]);
        write.exec_async(&mut connection).await.unwrap();
        let value = dump(&mut connection, &key).await;
        assert_corrupt(&store, owner, foreign[0]).await;
        assert_corrupt_for_its_owner(&store, owner, foreign[0]).await;
        assert_eq!(dump(&mut connection, &key).await, value, "{foreign:?}");
    }
}

#[tokio::test]
async fn response_that_cannot_be_decoded_is_corrupt() {
    let Some(server) = Server::start(&[]).await else {
        return;
    };
    let store = RedisStore::new(server.connection().await);
    let mut connection = server.connection().await;
    let start = 75 + request(owner()).operation.len();
    let length = start + response_bytes(b"paid").len();
    for (what, damage) in [
        ("newer version", Damage::At(start, vec![2])),
        ("cut off", Damage::CutTo(length - 1)),
        ("empty", Damage::CutTo(start)),
    ] {
        let owner = owner();
        store.claim(&request(owner)).await.unwrap();
        complete(&store, owner, &response(b"paid")).await.unwrap();
        let key = name(&owner.key);
        damage.inflict(&mut connection, &key).await;
        assert_corrupt(&store, owner, what).await;
    }
}

/// As in a rolling deploy to a release with another layout.
#[tokio::test]
async fn record_of_another_release_is_not_corrupt() {
    let Some(server) = Server::start(&[]).await else {
        return;
    };
    let store = RedisStore::new(server.connection().await);
    let mut connection = server.connection().await;
    for version in [1, 2, 31] {
        let owner = owner();
        store.claim(&request(owner)).await.unwrap();
        let key = name(&owner.key);
        let damage = Damage::At(0, vec![version]);
        damage.inflict(&mut connection, &key).await;
        let before = dump(&mut connection, &key).await;
        let next = request(another(owner));
        let errors = [
            store.claim(&next).await.unwrap_err(),
            store.get(&owner.key).await.unwrap_err(),
            complete(&store, owner, &response(b"paid"))
                .await
                .unwrap_err(),
            release(&store, owner).await.unwrap_err(),
            abandon(&store, owner).await.unwrap_err(),
            renew(&store, renewal(owner)).await.unwrap_err(),
            save(&store, owner).await.unwrap_err(),
        ];
        for error in errors {
            assert_eq!(error.kind(), StoreErrorKind::OtherRelease, "{error:?}");
            assert!(!error.may_have_happened());
        }
        assert_eq!(dump(&mut connection, &key).await, before);
    }
}

mod of_another_release {
    use std::sync::atomic::{AtomicU32, Ordering};

    use axum::Router;
    use axum::body::Body;
    use axum::routing::post;
    use idempotent_runtime::{Idempotency, OnStoreFailure, idempotent};
    use tower_service::Service as _;

    use super::*;

    static RUNS: AtomicU32 = AtomicU32::new(0);

    #[idempotent(name = "pay")]
    async fn pay() -> String {
        format!("run {}", RUNS.fetch_add(1, Ordering::SeqCst) + 1)
    }

    /// A record that is there, and that a newer release has written, is no store that cannot be asked.
    #[tokio::test]
    async fn its_record_is_no_licence_to_run_unprotected() {
        let Some(server) = Server::start(&[]).await else {
            return;
        };
        let store = RedisStore::new(server.connection().await);
        let mut connection = server.connection().await;
        let idempotency = Idempotency::builder(store)
            .replay_cache(None)
            .secret_check(false)
            .on_store_failure(OnStoreFailure::FailOpen)
            .build();
        let mut app = Router::new()
            .route("/pay", post(pay))
            .with_state(idempotency);
        let mut send = async || {
            let request = http::Request::post("/pay").header("idempotency-key", "k");
            app.call(request.body(Body::empty()).unwrap())
                .await
                .unwrap()
        };
        assert_eq!(send().await.status(), 200);
        // Another release reads and writes it.
        let keys: Vec<String> = server.ask("KEYS idempotent:*").await;
        assert_eq!(keys.len(), 1, "{keys:?}");
        Damage::At(0, vec![4])
            .inflict(&mut connection, &keys[0])
            .await;
        let retry = send().await;
        assert_eq!(
            RUNS.load(Ordering::SeqCst),
            1,
            "ran again: {} {:?}",
            retry.status(),
            retry.headers()
        );
    }
}

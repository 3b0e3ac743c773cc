//! What is in the server, and what cannot be read of it.

use std::error::Error as _;
use std::time::Duration;

use idempotent_runtime::store::redis::RedisStore;
use idempotent_runtime::store::{
    Claim, ClaimRequest, Completion, Progress, Release, Renewal, Store, StoreErrorKind,
};
use idempotent_runtime::{Owner, RecordState};

use super::support::{Server, owner, response, response_bytes};
use super::{LONG, another, name, request};

#[tokio::test]
async fn key_lives_as_long_as_its_record_and_never_shorter_than_the_lease() {
    let Some(server) = Server::start(&[]).await else {
        return;
    };
    let store = RedisStore::new(server.connection().await);
    let mut connection = server.connection().await;
    for (lease, ttl, renewal, seconds) in [
        (10, 100, None, 100),
        (100, 10, None, 100),
        (10, 100, Some(50), 100),
        (10, 100, Some(1000), 1000),
    ] {
        let owner = owner();
        let (lease, ttl) = (Duration::from_secs(lease), Duration::from_secs(ttl));
        store
            .claim(&ClaimRequest {
                lease,
                ttl,
                ..request(owner)
            })
            .await
            .unwrap();
        if let Some(lease) = renewal.map(Duration::from_secs) {
            assert_eq!(store.renew(&[Renewal { owner, lease }]).await.unwrap(), []);
        }
        let saved = store.save_progress(&owner, &b"half"[..].into()).await;
        assert_eq!(saved.unwrap(), Progress::Saved);
        store.complete(&owner, &response(b"paid")).await.unwrap();
        let key = name(&owner.key);
        let left: u64 = redis::cmd("PTTL")
            .arg(&key)
            .query_async(&mut connection)
            .await
            .unwrap();
        let expected = seconds * 1000;
        assert!(
            (expected - 9_000..=expected).contains(&left),
            "{left} of {expected}"
        );
        let expires_in = store.get(&owner.key).await.unwrap().unwrap().expires_in;
        assert!(expires_in.as_millis().abs_diff(u128::from(left)) < 1000);
    }
}

/// An expiry that the server has not carried out, as on a replica that was promoted, or after
/// `PERSIST`.
#[tokio::test]
async fn expired_is_absent_though_the_key_is_there() {
    let Some(server) = Server::start(&[]).await else {
        return;
    };
    let store = RedisStore::new(server.connection().await);
    let mut connection = server.connection().await;
    let owner = owner();
    store.claim(&request(owner)).await.unwrap();
    store.complete(&owner, &response(b"old")).await.unwrap();
    let key = name(&owner.key);
    let mut change = redis::pipe();
    change
        .cmd("PERSIST")
        .arg(&key)
        .cmd("HSET")
        .arg(&key)
        .arg("expires_at")
        .arg(1);
    change.exec_async(&mut connection).await.unwrap();
    assert!(store.get(&owner.key).await.unwrap().is_none());
    assert_eq!(
        store.complete(&owner, &response(b"new")).await.unwrap(),
        Completion::Lost
    );
    assert_eq!(store.release(&owner).await.unwrap(), Release::Lost);
    let lease = LONG;
    assert_eq!(
        store.renew(&[Renewal { owner, lease }]).await.unwrap(),
        [owner]
    );
    let next = another(owner);
    let claim = store.claim(&request(next)).await.unwrap();
    assert!(
        matches!(claim, Claim::Acquired { attempt: 1, .. }),
        "{claim:?}"
    );
    let old: bool = redis::cmd("HEXISTS")
        .arg(&key)
        .arg("response")
        .query_async(&mut connection)
        .await
        .unwrap();
    assert!(!old, "the new record has the old response");
}

#[tokio::test]
async fn lease_of_zero_ends_at_once_and_the_owner_may_still_write() {
    let Some(server) = Server::start(&[]).await else {
        return;
    };
    let store = RedisStore::new(server.connection().await);
    let owner = owner();
    store.claim(&request(owner)).await.unwrap();
    let lease = Duration::ZERO;
    assert_eq!(store.renew(&[Renewal { owner, lease }]).await.unwrap(), []);
    let record = store.get(&owner.key).await.unwrap().unwrap();
    assert!(matches!(record.state, RecordState::Abandoned), "{record:?}");
    let claim = store.claim(&request(another(owner))).await.unwrap();
    assert!(
        matches!(claim, Claim::Abandoned { attempt: 1, .. }),
        "{claim:?}"
    );
    assert_eq!(
        store.complete(&owner, &response(b"late")).await.unwrap(),
        Completion::Stored
    );
}

#[tokio::test]
async fn longest_times_are_taken() {
    let Some(server) = Server::start(&[]).await else {
        return;
    };
    let store = RedisStore::new(server.connection().await);
    let request = ClaimRequest {
        lease: Duration::MAX,
        ttl: Duration::MAX,
        ..request(owner())
    };
    store.claim(&request).await.unwrap();
    let claim = store
        .claim(&ClaimRequest {
            owner: another(request.owner),
            ..request
        })
        .await
        .unwrap();
    assert!(
        matches!(claim, Claim::InFlight { lease_left } if lease_left > LONG),
        "{claim:?}"
    );
}

async fn assert_corrupt(store: &impl Store, owner: Owner, what: &str) {
    let errors = [
        store
            .claim(&request(another(owner)))
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

#[tokio::test]
async fn damaged_record_is_corrupt_and_never_absent() {
    let Some(server) = Server::start(&[]).await else {
        return;
    };
    let store = RedisStore::new(server.connection().await);
    let mut connection = server.connection().await;
    for (field, value) in [
        ("state", Some("paused")),
        ("state", None),
        ("token", Some("short")),
        ("token", None),
        ("fingerprint", Some("short")),
        ("fingerprint", None),
        ("attempt", Some("-1")),
        ("attempt", Some("5000000000")),
        ("attempt", None),
        ("created_at", Some("nan")),
        ("created_at", None),
        ("lease_until", Some("1e3")),
        ("lease_until", None),
        ("expires_at", Some("99999999999999999999")),
        ("expires_at", None),
    ] {
        let owner = owner();
        store.claim(&request(owner)).await.unwrap();
        // Out of its lease, so that a claim has to tell the attempt.
        store
            .renew(&[Renewal {
                owner,
                lease: Duration::ZERO,
            }])
            .await
            .unwrap();
        let key = name(&owner.key);
        let damage = match value {
            Some(value) => redis::cmd("HSET")
                .arg(&key)
                .arg(field)
                .arg(value)
                .to_owned(),
            None => redis::cmd("HDEL").arg(&key).arg(field).to_owned(),
        };
        damage.exec_async(&mut connection).await.unwrap();
        let what = format!("{field} {value:?}");
        assert_corrupt(&store, owner, &what).await;
        if value != Some("5000000000") {
            let errors = [
                store
                    .complete(&owner, &response(b"paid"))
                    .await
                    .unwrap_err(),
                store.release(&owner).await.unwrap_err(),
                store
                    .renew(&[Renewal { owner, lease: LONG }])
                    .await
                    .unwrap_err(),
            ];
            for error in errors {
                assert_eq!(error.kind(), StoreErrorKind::Corrupt, "{what}");
            }
        }
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
    for foreign in [
        ["SET", "a"].as_slice(),
        &["RPUSH", "a"],
        &["HSET", "a", "b"],
    ] {
        let owner = owner();
        let mut write = redis::cmd(foreign[0]);
        write.arg(name(&owner.key)).arg(&foreign[1..]);
        write.exec_async(&mut connection).await.unwrap();
        assert_corrupt(&store, owner, foreign[0]).await;
    }
}

#[tokio::test]
async fn response_that_cannot_be_decoded_is_corrupt() {
    let Some(server) = Server::start(&[]).await else {
        return;
    };
    let store = RedisStore::new(server.connection().await);
    let mut connection = server.connection().await;
    let mut newer = response_bytes(b"paid");
    newer[0] = 2;
    for (what, bytes) in [
        ("newer version", newer),
        ("cut off", vec![1, 0xc9]),
        ("empty", vec![]),
    ] {
        let owner = owner();
        store.claim(&request(owner)).await.unwrap();
        store.complete(&owner, &response(b"paid")).await.unwrap();
        let mut write = redis::cmd("HSET");
        write.arg(name(&owner.key)).arg("response").arg(bytes);
        write.exec_async(&mut connection).await.unwrap();
        assert_corrupt(&store, owner, what).await;
    }
}

//! What is in the server.

use std::sync::Arc;
use std::time::Duration;

use idempotent_runtime::store::redis::RedisStore;
use idempotent_runtime::store::{
    Claim, ClaimRequest, Completion, Progress, Release, Renewal, Store,
};
use idempotent_runtime::{Owner, RecordState, StoredResponse};

use redis::aio::ConnectionLike;

use super::support::{Server, owner, response};
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

/// A completed record that has expired and that the server has not removed yet.
async fn expired(store: &impl Store, connection: &mut impl ConnectionLike) -> Owner {
    loop {
        let owner = owner();
        let request = ClaimRequest {
            lease: Duration::ZERO,
            ttl: Duration::from_millis(20),
            ..request(owner)
        };
        store.claim(&request).await.unwrap();
        store.complete(&owner, &response(b"old")).await.unwrap();
        tokio::time::sleep(Duration::from_millis(21)).await;
        let size = redis::cmd("DBSIZE");
        let size: u64 = size.query_async(connection).await.unwrap();
        if size > 0 {
            return owner;
        }
    }
}

#[tokio::test]
async fn expired_is_absent_though_the_key_is_there() {
    // So that it seldom removes what nobody asks for.
    let Some(server) = Server::start(&["--hz", "1"]).await else {
        return;
    };
    let store = RedisStore::new(server.connection().await);
    let mut connection = server.connection().await;
    let owner = expired(&store, &mut connection).await;
    assert!(store.get(&owner.key).await.unwrap().is_none());
    let owner = expired(&store, &mut connection).await;
    assert_eq!(
        store.complete(&owner, &response(b"new")).await.unwrap(),
        Completion::Lost
    );
    let owner = expired(&store, &mut connection).await;
    assert_eq!(store.release(&owner).await.unwrap(), Release::Lost);
    let owner = expired(&store, &mut connection).await;
    let lease = LONG;
    let renewals = [Renewal { owner, lease }];
    assert_eq!(store.renew(&renewals).await.unwrap(), [owner]);
    let owner = expired(&store, &mut connection).await;
    let saved = store.save_progress(&owner, &b"half"[..].into()).await;
    assert_eq!(saved.unwrap(), Progress::Lost);
    for take_over in [None, Some(1)] {
        let owner = expired(&store, &mut connection).await;
        let next = ClaimRequest {
            take_over,
            ..request(another(owner))
        };
        let claim = store.claim(&next).await.unwrap();
        assert!(
            matches!(claim, Claim::Acquired { attempt: 1, .. }),
            "{claim:?}"
        );
        let record = store.get(&owner.key).await.unwrap().unwrap();
        assert!(
            matches!(record.state, RecordState::Running { .. }),
            "the new record has the old response: {record:?}"
        );
        store.remove(&owner.key).await.unwrap();
    }
}

#[tokio::test]
async fn response_of_any_length_is_kept_whole_after_its_record() {
    let Some(server) = Server::start(&[]).await else {
        return;
    };
    let store = RedisStore::new(server.connection().await);
    let mut connection = server.connection().await;
    for length in [
        0,
        1,
        900,
        1000,
        1016,
        1017,
        1018,
        1019,
        1020,
        1024,
        5000,
        1 << 20,
    ] {
        let body = vec![b'x'; length];
        let response = StoredResponse::new(
            http::StatusCode::OK,
            http::HeaderMap::new(),
            bytes::Bytes::from(body),
        );
        let response = Arc::new(response);
        let owner = owner();
        store.claim(&request(owner)).await.unwrap();
        let saved = store.save_progress(&owner, &b"half"[..].into()).await;
        assert_eq!(saved.unwrap(), Progress::Saved);
        let key = name(&owner.key);
        let read = |mut connection: redis::aio::MultiplexedConnection| {
            let mut get = redis::cmd("GET");
            get.arg(&key);
            async move { get.query_async::<Vec<u8>>(&mut connection).await.unwrap() }
        };
        let before = read(connection.clone()).await;
        let completion = store.complete(&owner, &response).await.unwrap();
        assert_eq!(completion, Completion::Stored);
        let expected = [&before[..69], b"c", &response.encode()].concat();
        assert!(read(connection.clone()).await == expected, "{length}");
        let mut left = redis::cmd("TTL");
        let left: u64 = left.arg(&key).query_async(&mut connection).await.unwrap();
        assert!((100..=120).contains(&left), "{left}");
        let replay = store.claim(&request(another(owner))).await.unwrap();
        assert!(matches!(replay, Claim::Completed(replay) if replay == response));
    }
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
async fn longest_and_shortest_times_are_taken() {
    let Some(server) = Server::start(&[]).await else {
        return;
    };
    let store = RedisStore::new(server.connection().await);
    let shortest = ClaimRequest {
        lease: Duration::ZERO,
        ttl: Duration::ZERO,
        ..request(owner())
    };
    let claim = store.claim(&shortest).await.unwrap();
    assert!(
        matches!(claim, Claim::Acquired { attempt: 1, .. }),
        "{claim:?}"
    );
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

/// As an operator may have it: a record then neither ends sooner nor becomes younger than new.
#[tokio::test]
async fn record_whose_key_was_made_to_live_longer_is_read_all_the_same() {
    let Some(server) = Server::start(&[]).await else {
        return;
    };
    let store = RedisStore::new(server.connection().await);
    let mut connection = server.connection().await;
    let (running, completed) = (owner(), owner());
    for owner in [running, completed] {
        store.claim(&request(owner)).await.unwrap();
        let mut expire = redis::cmd("EXPIRE");
        expire.arg(name(&owner.key)).arg(100_000);
        expire.exec_async(&mut connection).await.unwrap();
    }
    let record = store.get(&running.key).await.unwrap().unwrap();
    assert_eq!(record.age, Duration::ZERO);
    let RecordState::Running { lease_left } = record.state else {
        panic!("{record:?}");
    };
    assert_eq!(lease_left, LONG);
    let renewal = |lease| {
        [Renewal {
            owner: running,
            lease,
        }]
    };
    assert_eq!(store.renew(&renewal(LONG)).await.unwrap(), []);
    assert_eq!(store.renew(&renewal(Duration::ZERO)).await.unwrap(), []);
    let heir = ClaimRequest {
        take_over: Some(1),
        ..request(another(running))
    };
    let claim = store.claim(&heir).await.unwrap();
    assert!(
        matches!(claim, Claim::Acquired { attempt: 2, .. }),
        "{claim:?}"
    );
    store
        .complete(&completed, &response(b"paid"))
        .await
        .unwrap();
    let record = store.get(&completed.key).await.unwrap().unwrap();
    assert!(record.expires_in > Duration::from_secs(90_000));
}

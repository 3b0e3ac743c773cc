//! What is in the server.

use std::sync::Arc;
use std::time::Duration;

use idempotent_runtime::store::redis::RedisStore;
use idempotent_runtime::store::{
    Acquired, Claim, ClaimRequest, Completion, Progress, Release, Renewal, Renewed, Store,
};
use idempotent_runtime::{Owner, RecordState, StoredResponse, Token};

use redis::aio::ConnectionLike;

use super::support::{Server, owner, response};
use super::{LONG, TTL, abandon, another, complete, name, release, renew, renewal, request, save};

#[tokio::test]
async fn key_lives_its_retention_longer_than_its_lease_and_its_ttl_after_completion() {
    let Some(server) = Server::start(&[]).await else {
        return;
    };
    let store = RedisStore::new(server.connection().await);
    let mut connection = server.connection().await;
    let secs = Duration::from_secs;
    for (lease, retention, renewed, claimed, then) in [
        (10, 100, None, 110, 110),
        (100, 0, None, 100, 100),
        (10, 100, Some((50, 200)), 110, 250),
        (100, 1000, Some((10, 20)), 1100, 30),
    ] {
        let owner = owner();
        let request = ClaimRequest {
            lease: secs(lease),
            retention: secs(retention),
            ..request(owner)
        };
        store.claim(&request).await.unwrap();
        lives(&store, &mut connection, owner, claimed).await;
        if let Some((lease, retention)) = renewed {
            let renewal = Renewal {
                owner,
                lease: secs(lease),
                retention: secs(retention),
            };
            assert_eq!(renew(&store, renewal).await.unwrap(), Renewed::Renewed);
        }
        assert_eq!(save(&store, owner).await.unwrap(), Progress::Saved);
        lives(&store, &mut connection, owner, then).await;
        let completion = store.complete(&owner, &response(b"paid"), secs(20)).await;
        assert_eq!(completion.unwrap(), Completion::Stored);
        lives(&store, &mut connection, owner, 20).await;
    }
}

/// The key and its record live that many seconds yet.
async fn lives(
    store: &impl Store,
    connection: &mut impl ConnectionLike,
    owner: Owner,
    seconds: u64,
) {
    let mut left = redis::cmd("PTTL");
    left.arg(name(&owner.key));
    let left: u64 = left.query_async(connection).await.unwrap();
    let expected = seconds * 1000;
    assert!(
        (expected - 9_000..=expected).contains(&left),
        "{left} of {expected}"
    );
    let record = store.get(&owner.key).await.unwrap().unwrap();
    assert!(record.expires_in.as_millis().abs_diff(u128::from(left)) < 1000);
    assert!(record.age < Duration::from_secs(9), "{record:?}");
}

/// A completed record that has expired and that the server has not removed yet.
async fn expired(store: &impl Store, connection: &mut impl ConnectionLike) -> Owner {
    loop {
        let owner = owner();
        store.claim(&request(owner)).await.unwrap();
        let ttl = Duration::from_millis(20);
        store
            .complete(&owner, &response(b"old"), ttl)
            .await
            .unwrap();
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
    // So that it seldom removes what no client asks for.
    let Some(server) = Server::start(&["--hz", "1"]).await else {
        return;
    };
    let store = RedisStore::new(server.connection().await);
    let mut connection = server.connection().await;
    let owner = expired(&store, &mut connection).await;
    assert!(store.get(&owner.key).await.unwrap().is_none());
    let owner = expired(&store, &mut connection).await;
    assert_eq!(
        complete(&store, owner, &response(b"new")).await.unwrap(),
        Completion::Lost
    );
    let owner = expired(&store, &mut connection).await;
    assert_eq!(release(&store, owner).await.unwrap(), Release::Lost);
    let owner = expired(&store, &mut connection).await;
    assert_eq!(renew(&store, renewal(owner)).await.unwrap(), Renewed::Lost);
    let owner = expired(&store, &mut connection).await;
    assert_eq!(abandon(&store, owner).await.unwrap(), Release::Lost);
    let owner = expired(&store, &mut connection).await;
    let saved = save(&store, owner).await;
    assert_eq!(saved.unwrap(), Progress::Lost);
    for take_over in [None, Some(1)] {
        let owner = expired(&store, &mut connection).await;
        let next = ClaimRequest {
            take_over,
            ..request(another(owner))
        };
        let claim = store.claim(&next).await.unwrap();
        assert!(
            matches!(claim, Claim::Acquired(Acquired { attempt: 1, .. })),
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
    let lengths = [0, 1, 900, 1016, 1017, 1018, 1019, 1020, 1024, 5000, 1 << 20];
    let of_operations = [0, 1, 63, 64, 65, 300];
    for (length, of_operation) in lengths
        .into_iter()
        .flat_map(|length| of_operations.map(|of_operation| (length, of_operation)))
    {
        let operation = "o".repeat(of_operation);
        let body = vec![b'x'; length];
        let response = StoredResponse::new(
            http::StatusCode::OK,
            http::HeaderMap::new(),
            bytes::Bytes::from(body),
        );
        let response = Arc::new(response);
        let owner = owner();
        let claim = ClaimRequest {
            operation: &operation,
            ..request(owner)
        };
        store.claim(&claim).await.unwrap();
        let saved = save(&store, owner).await;
        assert_eq!(saved.unwrap(), Progress::Saved);
        let key = name(&owner.key);
        let read = |mut connection: redis::aio::MultiplexedConnection| {
            let mut get = redis::cmd("GET");
            get.arg(&key);
            async move { get.query_async::<Vec<u8>>(&mut connection).await.unwrap() }
        };
        let before = read(connection.clone()).await;
        let completion = complete(&store, owner, &response).await.unwrap();
        assert_eq!(completion, Completion::Stored);
        let after = read(connection.clone()).await;
        assert_eq!(after[..53], before[..53], "version to attempt");
        assert_eq!(after[69], b'c');
        let start = usize::from(u16::from_be_bytes([after[72], after[73]]));
        assert!(after[start..] == response.encode(), "{length}");
        let record = store.get(&owner.key).await.unwrap().unwrap();
        assert_eq!(*record.operation, *operation, "{length}");
        assert!(matches!(record.state, RecordState::Completed(paid) if paid == response));
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
    let ended = Renewal {
        lease: Duration::ZERO,
        ..renewal(owner)
    };
    assert_eq!(renew(&store, ended).await.unwrap(), Renewed::Renewed);
    let record = store.get(&owner.key).await.unwrap().unwrap();
    assert!(matches!(record.state, RecordState::Abandoned), "{record:?}");
    let claim = store.claim(&request(another(owner))).await.unwrap();
    assert!(
        matches!(claim, Claim::Abandoned { attempt: 1, .. }),
        "{claim:?}"
    );
    assert_eq!(
        complete(&store, owner, &response(b"late")).await.unwrap(),
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
        retention: Duration::ZERO,
        ..request(owner())
    };
    let claim = store.claim(&shortest).await.unwrap();
    assert!(
        matches!(claim, Claim::Acquired(Acquired { attempt: 1, .. })),
        "{claim:?}"
    );
    let request = ClaimRequest {
        lease: Duration::MAX,
        retention: Duration::MAX,
        ..request(owner())
    };
    store.claim(&request).await.unwrap();
    let longest = Renewal {
        owner: request.owner,
        lease: Duration::MAX,
        retention: Duration::MAX,
    };
    assert_eq!(renew(&store, longest).await.unwrap(), Renewed::Renewed);
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
    for lease in [LONG, Duration::ZERO] {
        let renewal = Renewal {
            lease,
            ..renewal(running)
        };
        assert_eq!(renew(&store, renewal).await.unwrap(), Renewed::Renewed);
    }
    let heir = ClaimRequest {
        take_over: Some(1),
        ..request(another(running))
    };
    let claim = store.claim(&heir).await.unwrap();
    assert!(
        matches!(claim, Claim::Acquired(Acquired { attempt: 2, .. })),
        "{claim:?}"
    );
    complete(&store, completed, &response(b"paid"))
        .await
        .unwrap();
    let record = store.get(&completed.key).await.unwrap().unwrap();
    assert!(record.expires_in <= TTL, "its own TTL: {record:?}");
}

/// Late bytes, in any order, and offsets after the end.
#[tokio::test]
async fn progress_is_appended_and_what_is_stored_never_changes() {
    let Some(server) = Server::start(&[]).await else {
        return;
    };
    let store = RedisStore::new(server.connection().await);
    let owner = owner();
    store.claim(&request(owner)).await.unwrap();
    let long = "x".repeat(100_000);
    let mut expected = String::new();
    for (offset, bytes, result) in [
        (1, "late", Progress::Behind { stored_bytes: 0 }),
        (0, "", Progress::Saved),
        (0, "one", Progress::Saved),
        (4, "x", Progress::Behind { stored_bytes: 3 }),
        (3, "two", Progress::Saved),
        (0, "ONE", Progress::Saved),
        (2, "EtwoTHREE", Progress::Saved),
        (11, &long, Progress::Saved),
    ] {
        let bytes = bytes.to_owned();
        if result == Progress::Saved {
            let known = expected.len().saturating_sub(offset).min(bytes.len());
            expected.push_str(&bytes[known..]);
        }
        let saved = store.save_progress(&owner, offset, &bytes.into()).await;
        assert_eq!(saved.unwrap(), result, "{offset}");
        let record = store.get(&owner.key).await.unwrap().unwrap();
        assert!(record.progress == expected.as_bytes(), "{offset}");
    }
}

/// It belongs to no owner, so that a renewal, a completion or a question on its way changes nothing.
#[tokio::test]
async fn token_of_an_abandoned_record_is_nobodys_not_even_zeros() {
    let Some(server) = Server::start(&[]).await else {
        return;
    };
    let store = RedisStore::new(server.connection().await);
    let owner = owner();
    let zeros = Owner {
        token: Token::from_bytes([0; 16]),
        ..owner
    };
    store.claim(&request(owner)).await.unwrap();
    assert_eq!(save(&store, owner).await.unwrap(), Progress::Saved);
    assert_eq!(abandon(&store, owner).await.unwrap(), Release::Released);
    for owner in [owner, zeros] {
        let claim = store.claim(&request(owner)).await.unwrap();
        assert!(
            matches!(claim, Claim::Abandoned { attempt: 1, .. }),
            "{claim:?}"
        );
        assert_eq!(renew(&store, renewal(owner)).await.unwrap(), Renewed::Lost);
        assert_eq!(save(&store, owner).await.unwrap(), Progress::Lost);
        assert_eq!(release(&store, owner).await.unwrap(), Release::Lost);
        assert_eq!(abandon(&store, owner).await.unwrap(), Release::Lost);
        let completion = complete(&store, owner, &response(b"late")).await.unwrap();
        assert_eq!(completion, Completion::Lost);
    }
    let record = store.get(&owner.key).await.unwrap().unwrap();
    assert!(matches!(record.state, RecordState::Abandoned), "{record:?}");
    assert_eq!(record.progress, b"half"[..]);
    assert!(record.expires_in > LONG, "{record:?}");
    let heir = ClaimRequest {
        take_over: Some(1),
        ..request(zeros)
    };
    let claim = store.claim(&heir).await.unwrap();
    assert!(
        matches!(claim, Claim::Acquired(Acquired { attempt: 2, .. })),
        "{claim:?}"
    );
    let completion = complete(&store, zeros, &response(b"paid")).await.unwrap();
    assert_eq!(completion, Completion::Stored);
}

#[tokio::test]
async fn operation_of_any_length_is_read_back_as_far_as_it_fits() {
    let Some(server) = Server::start(&[]).await else {
        return;
    };
    let store = RedisStore::new(server.connection().await);
    for length in [0, 1, 1000, 32 * 1024, 32 * 1024 + 1, 100_000] {
        let operation = "\u{f6}".repeat(length / 2) + &"o".repeat(length % 2);
        let claim = ClaimRequest {
            operation: &operation,
            ..request(owner())
        };
        store.claim(&claim).await.unwrap();
        let record = store.get(&claim.owner.key).await.unwrap().unwrap();
        assert!(operation.starts_with(&*record.operation));
        assert_eq!(record.operation.len(), length.min(32 * 1024));
    }
}

/// The owner has ended its lease: no clock and no longer life of the key begins it again.
#[tokio::test]
async fn abandoned_record_whose_key_lives_longer_is_taken_over() {
    let Some(server) = Server::start(&[]).await else {
        return;
    };
    let store = RedisStore::new(server.connection().await);
    let mut connection = server.connection().await;
    let owner = owner();
    store.claim(&request(owner)).await.unwrap();
    assert_eq!(abandon(&store, owner).await.unwrap(), Release::Released);
    let keys: Vec<String> = redis::cmd("KEYS")
        .arg(format!("*{}", owner.key.to_hex()))
        .query_async(&mut connection)
        .await
        .unwrap();
    let [key] = &keys[..] else {
        panic!("{keys:?}");
    };
    let is_longer: bool = redis::cmd("PEXPIRE")
        .arg(key)
        .arg(10_000_000)
        .query_async(&mut connection)
        .await
        .unwrap();
    assert!(is_longer);
    let heir = another(owner);
    let found = store.claim(&request(heir)).await.unwrap();
    assert!(
        matches!(found, Claim::Abandoned { attempt: 1, .. }),
        "{found:?}"
    );
    let take_over = ClaimRequest {
        take_over: Some(1),
        ..request(heir)
    };
    let taken = store.claim(&take_over).await.unwrap();
    assert!(
        matches!(taken, Claim::Acquired(Acquired { attempt: 2, .. })),
        "{taken:?}"
    );
}

//! Servers that refuse, and servers that crash.

use idempotent_runtime::ErrorKind;
use idempotent_runtime::store::redis::RedisStore;
use idempotent_runtime::store::{
    Claim, Completion, Progress, Release, Renewed, Store, StoreErrorKind,
};

use super::support::{AS_USER, Server, owner, response, store_at, with_user};
use super::{LONG, another, complete, release, renew, renewal, request, save};
use crate::free_port::free_port;

#[tokio::test]
async fn server_over_its_memory_is_full_and_writes_nothing() {
    let Some(server) =
        Server::start(&["--maxmemory", "0", "--maxmemory-policy", "noeviction"]).await
    else {
        return;
    };
    let store = RedisStore::new(server.connection().await);
    let mut connection = server.connection().await;
    let (running, completed, new) = (owner(), owner(), owner());
    store.claim(&request(running)).await.unwrap();
    store.claim(&request(completed)).await.unwrap();
    complete(&store, completed, &response(b"paid"))
        .await
        .unwrap();
    let limit = |bytes: u64| {
        redis::cmd("CONFIG")
            .arg("SET")
            .arg("maxmemory")
            .arg(bytes)
            .to_owned()
    };
    limit(1).exec_async(&mut connection).await.unwrap();
    let error = store.claim(&request(new)).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Full, "{error:?}");
    let error = complete(&store, running, &response(b"paid"))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Full, "{error:?}");
    // Nor does a lease end because the server is full.
    let renewed = renew(&store, renewal(running)).await.unwrap();
    assert_eq!(renewed, Renewed::Renewed);
    let error = save(&store, running).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Full, "{error:?}");
    // What is there is told all the same.
    let replay = store.claim(&request(another(completed))).await.unwrap();
    assert!(matches!(replay, Claim::Completed(paid) if paid == response(b"paid")));
    let duplicate = store.claim(&request(another(running))).await.unwrap();
    assert!(matches!(duplicate, Claim::InFlight { .. }), "{duplicate:?}");
    limit(0).exec_async(&mut connection).await.unwrap();
    assert!(store.get(&new.key).await.unwrap().is_none());
    assert_eq!(
        complete(&store, running, &response(b"paid")).await.unwrap(),
        Completion::Stored
    );
}

/// As one whose replicas are away does, which is asked for where money is at stake.
#[tokio::test]
async fn server_that_takes_no_writes_tells_what_is_there() {
    let Some(server) = Server::start(&[]).await else {
        return;
    };
    let store = RedisStore::new(server.connection().await);
    let (running, completed) = (owner(), owner());
    store.claim(&request(running)).await.unwrap();
    store.claim(&request(completed)).await.unwrap();
    complete(&store, completed, &response(b"paid"))
        .await
        .unwrap();
    let mut replicas = redis::cmd("CONFIG");
    replicas.arg("SET").arg("min-replicas-to-write").arg(1);
    let mut connection = server.connection().await;
    replicas.exec_async(&mut connection).await.unwrap();
    let replay = store.claim(&request(another(completed))).await.unwrap();
    assert!(matches!(replay, Claim::Completed(paid) if paid == response(b"paid")));
    let duplicate = store.claim(&request(another(running))).await.unwrap();
    assert!(matches!(duplicate, Claim::InFlight { .. }), "{duplicate:?}");
    let error = store.claim(&request(owner())).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Refused, "{error:?}");
}

#[tokio::test]
async fn user_without_permission_is_rejected() {
    for (rules, may_claim) in [("~* +@all -set", false), ("~* +@all -evalsha", true)] {
        let Some(server) = Server::start(&with_user(rules)).await else {
            return;
        };
        let store = store_at(&format!("{}{AS_USER}", server.url())).await;
        let owner = owner();
        let error = match store.claim(&request(owner)).await {
            Ok(_) if may_claim => release(&store, owner).await.unwrap_err(),
            claim => claim.unwrap_err(),
        };
        assert_eq!(error.kind(), StoreErrorKind::Refused, "{error:?}");
        assert!(!error.may_have_happened());
    }
}

/// A notification may be lost: the completion that it tells of has happened.
#[tokio::test]
async fn user_who_may_not_publish_completes_all_the_same() {
    let documented = "+set +get +getrange +strlen +eval +evalsha +setrange +pttl +pexpire +del";
    let rules = format!("~idempotent:* resetchannels -@all {documented}");
    let Some(server) = Server::start(&with_user(&rules)).await else {
        return;
    };
    let url = format!("{}{AS_USER}", server.url());
    let store = RedisStore::connect(&url).await.unwrap();
    let (first, second) = (owner(), owner());
    for owner in [first, second] {
        store.claim(&request(owner)).await.unwrap();
        let renewed = renew(&store, renewal(owner)).await.unwrap();
        assert_eq!(renewed, Renewed::Renewed);
        let saved = save(&store, owner).await;
        assert_eq!(saved.unwrap(), Progress::Saved);
    }
    assert_eq!(
        complete(&store, first, &response(b"paid")).await.unwrap(),
        Completion::Stored
    );
    let replay = store.claim(&request(another(first))).await.unwrap();
    assert!(matches!(replay, Claim::Completed(_)), "{replay:?}");
    assert_eq!(release(&store, second).await.unwrap(), Release::Released);
    assert!(store.get(&first.key).await.unwrap().is_some());
    assert!(store.remove(&first.key).await.unwrap());
}

/// The rights of the guide, with that to go to the database.
#[tokio::test]
async fn another_database_than_the_first_needs_a_right_of_its_own() {
    for (select, may_connect) in [("", false), (" +select", true)] {
        let rules = format!("~idempotent:* resetchannels -@all +set +eval +evalsha{select}");
        let Some(server) = Server::start(&with_user(&rules)).await else {
            return;
        };
        let connected = RedisStore::connect(&format!("{}{AS_USER}&db=2", server.url())).await;
        assert_eq!(connected.is_ok(), may_connect, "{connected:?}");
    }
}

#[tokio::test]
async fn connect_says_what_failed_and_not_the_password() {
    let Some(server) = Server::start(&[]).await else {
        return;
    };
    let mut password = redis::cmd("CONFIG");
    password.arg("SET").arg("requirepass").arg("right");
    let mut connection = server.connection().await;
    password.exec_async(&mut connection).await.unwrap();
    let refused = format!("redis://:hunter2@127.0.0.1:{}", free_port());
    for (url, cause) in [
        (refused, "refused"),
        (
            "redis+unix:///nowhere/at/all?pass=hunter2".to_owned(),
            "No such file",
        ),
        (
            format!("{}?pass=hunter2", server.url()),
            "authentication failed",
        ),
        (server.url(), "NOAUTH"),
    ] {
        let error = RedisStore::connect(&url).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Store, "{error:?}");
        let text = format!("{error:?}");
        assert!(text.contains("the redis store: redis store "), "{text}");
        assert!(text.contains(cause), "{text}");
        assert!(!text.contains("hunter2"), "{text}");
    }
    let right = format!("{}?pass=right", server.url());
    RedisStore::connect(&right).await.unwrap();
}

#[tokio::test]
async fn store_on_a_client_of_the_application_works_and_gives_notifications() {
    let Some(server) = Server::start(&[]).await else {
        return;
    };
    let store = RedisStore::from_client(server.client()).await.unwrap();
    let owner = owner();
    store.claim(&request(owner)).await.unwrap();
    let connected = store.subscribe(&owner.key).changed();
    tokio::time::timeout(LONG, connected).await.unwrap();
    let woken = tokio::spawn(store.subscribe(&owner.key).changed());
    complete(&store, owner, &response(b"paid")).await.unwrap();
    tokio::time::timeout(LONG, woken).await.unwrap().unwrap();
}

#[tokio::test]
async fn killed_server_is_found_again_with_what_it_wrote_to_disk() {
    let Some(mut server) = Server::start(&["--appendonly", "yes", "--appendfsync", "always"]).await
    else {
        return;
    };
    let store = RedisStore::connect(&server.url()).await.unwrap();
    let (completed, running) = (owner(), owner());
    store.claim(&request(completed)).await.unwrap();
    store.claim(&request(running)).await.unwrap();
    complete(&store, completed, &response(b"paid"))
        .await
        .unwrap();
    server.kill();
    let error = store.claim(&request(completed)).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Unavailable, "{error:?}");
    server.restart().await;
    // The same store; the server's scripts are gone. It may fail once more with what it learned
    // while the server was away.
    let again = request(another(completed));
    let replay = retry(|| store.claim(&again)).await;
    assert!(matches!(replay, Claim::Completed(paid) if paid == response(b"paid")));
    let renewed = store.renew(&[completed, running].map(renewal)).await;
    let renewed: Vec<_> = renewed.into_iter().map(Result::unwrap).collect();
    assert_eq!(renewed, [Renewed::Lost, Renewed::Renewed]);
    assert_eq!(
        complete(&store, running, &response(b"late")).await.unwrap(),
        Completion::Stored
    );
}

async fn retry<T, E: std::fmt::Debug, F: Future<Output = Result<T, E>>>(call: impl Fn() -> F) -> T {
    let mut tries = 0;
    loop {
        match call().await {
            Ok(done) => return done,
            Err(error) => assert!(tries < 10, "{error:?}"),
        }
        tries += 1;
    }
}

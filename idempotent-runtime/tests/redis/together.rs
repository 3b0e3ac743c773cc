//! Many callers on one connection, whose commands go out together.

use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt, join_all};
use idempotent_runtime::Owner;
use idempotent_runtime::store::redis::RedisStore;
use idempotent_runtime::store::{Claim, Completion, Progress, Release, Store, StoreErrorKind};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::proxy::Proxy;
use super::support::{Server, owner, response};
use super::{LONG, another, complete, name, release, request, save};

const CALLERS: usize = 64;

fn owners() -> Vec<Owner> {
    (0..CALLERS).map(|_| owner()).collect()
}

async fn claim(store: &RedisStore, owner: Owner) -> Claim {
    store.claim(&request(owner)).await.unwrap()
}

/// Each future is asked once, in their order, so that what it asks the server for is on its way.
fn begin<T>(calls: &mut [BoxFuture<'_, T>]) {
    for call in calls {
        assert!(call.now_or_never().is_none(), "the server does not reply");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_of_many_callers_has_the_answer_to_its_own_key() {
    let Some(server) = Server::start(&[]).await else {
        return;
    };
    let store = RedisStore::connect(&server.url()).await.unwrap();
    let mut callers = JoinSet::new();
    for number in 0..8 * CALLERS {
        let store = store.clone();
        callers.spawn(async move {
            let (owner, paid) = (owner(), response(number.to_string().as_bytes()));
            let first = claim(&store, owner).await;
            assert!(matches!(first, Claim::Acquired(_)), "{first:?}");
            let duplicate = claim(&store, another(owner)).await;
            assert!(matches!(duplicate, Claim::InFlight { .. }), "{duplicate:?}");
            let completion = complete(&store, owner, &paid).await.unwrap();
            assert_eq!(completion, Completion::Stored);
            let replay = claim(&store, another(owner)).await;
            assert!(matches!(replay, Claim::Completed(stored) if stored == paid));
        });
    }
    callers.join_all().await;
}

#[tokio::test]
async fn error_of_one_is_no_other_callers() {
    let Some(server) = Server::start(&[]).await else {
        return;
    };
    let store = RedisStore::connect(&server.url()).await.unwrap();
    let owners = owners();
    for owner in owners.iter().step_by(2) {
        let list = format!("RPUSH {} x", name(&owner.key));
        server.ask::<i64>(&list).await;
    }
    let claims = owners
        .iter()
        .map(|owner| async { store.claim(&request(*owner)).await });
    for (number, claim) in join_all(claims).await.into_iter().enumerate() {
        match claim {
            Ok(claim) => assert!(number % 2 == 1 && matches!(claim, Claim::Acquired(_))),
            Err(error) => {
                assert!(number % 2 == 0, "{number} {error:?}");
                assert_eq!(error.kind(), StoreErrorKind::Corrupt, "{error:?}");
                assert!(!error.may_have_happened());
            }
        }
    }
}

#[tokio::test]
async fn scripts_that_the_server_forgets_fail_none_of_many() {
    let Some(server) = Server::start(&[]).await else {
        return;
    };
    let store = RedisStore::connect(&server.url()).await.unwrap();
    let owners = owners();
    join_all(owners.iter().map(|owner| claim(&store, *owner))).await;
    server.ask::<String>("SCRIPT FLUSH").await;
    let paid = response(b"paid");
    let completions = owners.iter().map(|owner| complete(&store, *owner, &paid));
    for completion in join_all(completions).await {
        assert_eq!(completion.unwrap(), Completion::Stored);
    }
}

/// As it is on a connection of one's own: nothing overtakes what the same caller has asked for before.
#[tokio::test]
async fn commands_are_done_in_the_order_in_which_they_were_asked_for() {
    let Some(server) = Server::start(&[]).await else {
        return;
    };
    let store = RedisStore::connect(&server.url()).await.unwrap();
    // The server knows the scripts.
    let first = owner();
    claim(&store, first).await;
    save(&store, first).await.unwrap();
    complete(&store, first, &response(b"paid")).await.unwrap();
    release(&store, first).await.unwrap();
    let paid = response(b"paid");
    let (store, paid) = (&store, &paid);
    let of_one = |owner| async move {
        let (claim, saved, completion, released) = tokio::join!(
            biased;
            claim(store, owner),
            save(store, owner),
            complete(store, owner, paid),
            release(store, owner),
        );
        assert!(matches!(claim, Claim::Acquired(_)), "{claim:?}");
        assert_eq!(saved.unwrap(), Progress::Saved);
        assert_eq!(completion.unwrap(), Completion::Stored);
        assert_eq!(released.unwrap(), Release::Lost);
    };
    join_all(owners().into_iter().map(of_one)).await;
}

#[tokio::test]
async fn callers_that_give_up_leave_the_others_their_answers() {
    let Some(server) = Server::start(&[]).await else {
        return;
    };
    let store = RedisStore::connect(&server.url()).await.unwrap();
    let owners = owners();
    server.stop();
    let claims = owners.iter().map(|owner| claim(&store, *owner).boxed());
    let mut claims: Vec<_> = claims.collect();
    begin(&mut claims);
    // Half of them before anything is written, and a quarter when it may be.
    claims.truncate(CALLERS / 2);
    tokio::task::yield_now().await;
    let waiting = claims.split_off(CALLERS / 4);
    drop(claims);
    server.go_on();
    for claim in timeout(LONG, join_all(waiting)).await.unwrap() {
        assert!(matches!(claim, Claim::Acquired(_)), "{claim:?}");
    }
    // What was asked for and given up may have been done, by the token that asked.
    for owner in owners {
        let again = claim(&store, owner).await;
        assert!(matches!(again, Claim::Acquired(_)), "{again:?}");
    }
}

/// Each is told that it may have been done, and can be repeated.
#[tokio::test]
async fn connection_that_is_lost_under_many_callers_is_lost_to_each_as_if_it_were_alone() {
    let Some((server, port)) = Server::start_on_port(&[]).await else {
        return;
    };
    let proxy = Proxy::start(port).await;
    let store = RedisStore::connect(&proxy.url()).await.unwrap();
    let (claimed, new) = (owners(), owners());
    join_all(claimed.iter().map(|owner| claim(&store, *owner))).await;
    server.stop();
    let requests: Vec<_> = new.iter().map(|owner| request(*owner)).collect();
    let mut claims: Vec<_> = requests.iter().map(|new| store.claim(new)).collect();
    begin(&mut claims);
    let releases = claimed.iter().map(|owner| release(&store, *owner).boxed());
    let mut releases: Vec<_> = releases.collect();
    begin(&mut releases);
    proxy.close();
    let released = timeout(LONG, join_all(releases)).await.unwrap();
    server.go_on();
    for released in released {
        let error = released.unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Unavailable, "{error:?}");
        assert!(error.may_have_happened(), "{error:?}");
    }
    for claimed in timeout(LONG, join_all(claims)).await.unwrap() {
        let error = claimed.unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Unavailable, "{error:?}");
        assert!(error.may_have_happened(), "{error:?}");
    }
    for owner in new {
        let again = claim(&store, owner).await;
        assert!(matches!(again, Claim::Acquired(_)), "{again:?}");
    }
}

/// The task that writes for all callers is one of the runtime that has connected.
#[tokio::test]
async fn runtime_that_has_connected_may_end_under_many_callers_of_another() {
    let Some(server) = Server::start(&[]).await else {
        return;
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let url = server.url();
    let connecting = runtime.spawn(async move { RedisStore::connect(&url).await });
    let store = connecting.await.unwrap().unwrap();
    let owners = owners();
    server.stop();
    let requests: Vec<_> = owners.iter().map(|owner| request(*owner)).collect();
    let mut claims: Vec<_> = requests.iter().map(|new| store.claim(new)).collect();
    begin(&mut claims);
    let ending = tokio::task::spawn_blocking(|| runtime.shutdown_timeout(Duration::from_secs(5)));
    ending.await.unwrap();
    server.go_on();
    for claimed in timeout(LONG, join_all(claims)).await.unwrap() {
        let error = claimed.unwrap_err();
        assert!(error.may_have_happened(), "{error:?}");
    }
    for owner in owners {
        let again = claim(&store, owner).await;
        assert!(matches!(again, Claim::Acquired(_)), "{again:?}");
    }
}

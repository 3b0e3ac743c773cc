//! Servers that are up and refuse: for a while, and nothing is lost by it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use http::{HeaderMap, StatusCode};
use idempotent_runtime::store::redis::RedisStore;
use idempotent_runtime::store::{Claim, Completion, Store, StoreErrorKind};
use idempotent_runtime::{Execution, Idempotency, OnAbandoned, Policy, StoredResponse};
use tokio::sync::Semaphore;

use super::proxy::Proxy;
use super::support::{AS_USER, Server, owner, response, with_user};
use super::{LONG, abandon, another, complete, recovers, request};

/// A request that finds it abandoned runs it again: a completion that was dropped would be a second charge.
static POLICY: Policy = Policy::new()
    .lease(Duration::from_secs(30))
    .on_abandoned(OnAbandoned::Retry);

/// An application that charges, and goes on when it is let.
#[derive(Clone)]
struct Till {
    charges: Arc<AtomicUsize>,
    charged: Arc<Semaphore>,
    may_end: Arc<Semaphore>,
}

impl Till {
    fn new() -> Self {
        Self {
            charges: Arc::default(),
            charged: Arc::new(Semaphore::new(0)),
            may_end: Arc::new(Semaphore::new(0)),
        }
    }

    async fn pay(&self, idempotency: &Idempotency) -> Result<Execution<usize>, String> {
        let till = self.clone();
        let charge = async move || {
            let number = till.charges.fetch_add(1, Ordering::SeqCst) + 1;
            till.charged.add_permits(1);
            till.may_end.acquire().await.unwrap().forget();
            Ok::<_, idempotent_runtime::ExecuteError>(number)
        };
        let paid = idempotency.execute(&POLICY, "pay", (), "key", &42, charge);
        paid.await.map_err(|error| error.to_string())
    }
}

/// The server refuses everything while the handler runs, and as it ends.
async fn one_effect_though(settings: &[&str], as_user: &str, refuse: &[&str], allow: &[&str]) {
    let Some(server) = Server::start(settings).await else {
        return;
    };
    let url = format!("{}{as_user}", server.url());
    let handle = async || {
        let store = RedisStore::connect(&url).await.unwrap();
        Idempotency::builder(store).replay_cache(None).build()
    };
    let (here, there) = (handle().await, handle().await);
    let till = Till::new();
    let running = {
        let (till, here) = (till.clone(), here.clone());
        tokio::spawn(async move { till.pay(&here).await })
    };
    till.charged.acquire().await.unwrap().forget();
    for command in refuse {
        let _: redis::Value = server.ask(command).await;
    }
    till.may_end.add_permits(1);
    // It is answered after the first completion, which was refused.
    let paid = tokio::time::timeout(LONG, running).await.unwrap().unwrap();
    assert!(
        matches!(paid, Ok(Execution::Executed(1))),
        "{refuse:?} {paid:?}"
    );
    // It is tried again and again, and never given up.
    let refused = errors(&server).await;
    let began = Instant::now();
    while errors(&server).await < refused + 6 {
        assert!(began.elapsed() < LONG, "{refuse:?}: nothing is tried");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(runs(&server).await, "{refuse:?}: it was not refused");
    for command in allow {
        let _: redis::Value = server.ask(command).await;
    }
    let began = Instant::now();
    loop {
        match till.pay(&there).await {
            Ok(Execution::Replayed(1)) => break,
            Ok(Execution::InFlight { .. }) | Err(_) => {}
            other => panic!("{refuse:?} {other:?}"),
        }
        assert!(began.elapsed() < Duration::from_secs(5), "{refuse:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(till.charges.load(Ordering::SeqCst), 1, "{refuse:?}");
}

/// How many errors the server has replied with.
async fn errors(server: &Server) -> u64 {
    let stats: String = server.ask("INFO errorstats").await;
    let counts = stats.lines().filter_map(|line| line.split_once(":count="));
    counts.map(|(_, count)| count.parse::<u64>().unwrap()).sum()
}

/// Whether a record says that it is running.
async fn runs(server: &Server) -> bool {
    for key in server.ask::<Vec<String>>("KEYS *").await {
        let state: String = server.ask(&format!("GETRANGE {key} 69 69")).await;
        if state == "r" {
            return true;
        }
    }
    false
}

#[tokio::test]
async fn completion_survives_a_time_without_replicas() {
    let [on, off] = ["1", "0"].map(|least| format!("CONFIG SET min-replicas-to-write {least}"));
    one_effect_though(&[], "", &[&on], &[&off]).await;
}

#[tokio::test]
async fn completion_survives_a_time_without_memory() {
    let [on, off] = ["1", "0"].map(|bytes| format!("CONFIG SET maxmemory {bytes}"));
    one_effect_though(&["--maxmemory-policy", "noeviction"], "", &[&on], &[&off]).await;
}

#[tokio::test]
async fn completion_survives_a_demotion() {
    let (on, off) = ("REPLICAOF 127.0.0.1 1", "REPLICAOF NO ONE");
    one_effect_though(&[], "", &[on], &[off]).await;
}

#[tokio::test]
async fn completion_survives_a_time_without_permission() {
    let user = with_user("~* &* +@all");
    let (on, off) = (
        "ACL SETUSER weak -set -evalsha",
        "ACL SETUSER weak +set +evalsha",
    );
    one_effect_though(&user, AS_USER, &[on], &[off]).await;
}

/// As it is when a snapshot could not be written.
#[tokio::test]
async fn completion_survives_a_full_disk_of_the_server() {
    let settings = [
        "--enable-protected-configs",
        "yes",
        "--save",
        "3600 1000000",
    ];
    let Some(server) = Server::start(&settings).await else {
        return;
    };
    let store = RedisStore::connect(&server.url()).await.unwrap();
    let running = owner();
    store.claim(&request(running)).await.unwrap();
    let gone = std::env::temp_dir().join(format!("idempotent-gone-{}", std::process::id()));
    std::fs::create_dir(&gone).unwrap();
    let elsewhere = format!("CONFIG SET dir {}", gone.display());
    let _: () = server.ask(&elsewhere).await;
    std::fs::remove_dir(&gone).unwrap();
    let _: redis::Value = server.ask("BGSAVE").await;
    let began = Instant::now();
    while !server
        .ask::<String>("INFO persistence")
        .await
        .contains("rdb_last_bgsave_status:err")
    {
        assert!(began.elapsed() < LONG, "it can be written");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let paid = response(b"paid");
    let errors = [
        store.claim(&request(owner())).await.unwrap_err(),
        complete(&store, running, &paid).await.unwrap_err(),
    ];
    for error in errors {
        assert_eq!(error.kind(), StoreErrorKind::Refused, "{error:?}");
        assert!(!error.may_have_happened());
    }
    let _: () = server
        .ask("CONFIG SET stop-writes-on-bgsave-error no")
        .await;
    let completion = complete(&store, running, &paid).await.unwrap();
    assert_eq!(completion, Completion::Stored);
}

/// Old and new password are both good for a while, and then only the new one, which this process does
/// not have: until an operator gives it back the old one.
#[tokio::test]
async fn wrong_password_is_refused_until_it_is_right_again() {
    let user = with_user("~* &* +@all");
    let Some((server, port)) = Server::start_on_port(&user).await else {
        return;
    };
    let proxy = Proxy::start(port).await;
    let url = proxy.url().replace("redis://", "redis://weak:weak@");
    let store = RedisStore::connect(&url).await.unwrap();
    let running = owner();
    store.claim(&request(running)).await.unwrap();
    let _: () = server.ask("ACL SETUSER weak <weak >strong").await;
    // Who is in stays in.
    store.claim(&request(owner())).await.unwrap();
    proxy.close();
    let paid = response(b"paid");
    // What was sent over the closed connection may have got there; from then on nothing does.
    let error = complete(&store, running, &paid).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Refused, "{error:?}");
    for _ in 0..3 {
        let error = complete(&store, running, &paid).await.unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Refused, "{error:?}");
        assert!(!error.may_have_happened());
        assert!(!format!("{error:?}").contains("weak:weak"));
    }
    let _: () = server.ask("ACL SETUSER weak >weak").await;
    let completion = recovers(|| complete(&store, running, &paid)).await;
    assert_eq!(completion, Completion::Stored);
}

#[tokio::test]
async fn server_in_somebodys_script_is_busy() {
    let Some(server) = Server::start(&["--busy-reply-threshold", "50"]).await else {
        return;
    };
    let store = RedisStore::connect(&server.url()).await.unwrap();
    let mut connection = server.connection().await;
    let script = tokio::spawn(async move {
        let mut endless = redis::cmd("EVAL");
        endless.arg("while true do end").arg(0);
        drop(endless.exec_async(&mut connection).await);
    });
    let began = Instant::now();
    let error = loop {
        match store.claim(&request(owner())).await {
            Ok(_) => assert!(began.elapsed() < LONG, "it never begins"),
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), StoreErrorKind::Busy, "{error:?}");
    assert!(!error.may_have_happened());
    let _: () = server.ask("SCRIPT KILL").await;
    script.await.unwrap();
    let fresh = request(owner());
    recovers(|| store.claim(&fresh)).await;
}

/// The server would close the connection that it arrives on, which all calls share.
#[tokio::test]
async fn value_that_the_server_does_not_take_is_too_large_and_costs_no_connection() {
    let Some((server, port)) = Server::start_on_port(&["--proto-max-bulk-len", "1mb"]).await else {
        return;
    };
    let proxy = Proxy::start(port).await;
    let store = RedisStore::connect(&proxy.url()).await.unwrap();
    let body = bytes::Bytes::from(vec![b'x'; 2 << 20]);
    let long = StoredResponse::new(http::StatusCode::OK, http::HeaderMap::new(), body.clone());
    let long = Arc::new(long);
    let running = owner();
    store.claim(&request(running)).await.unwrap();
    let error = complete(&store, running, &long).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::TooLarge, "{error:?}");
    let error = store.save_progress(&running, 0, &body).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::TooLarge, "{error:?}");
    // Nor may it grow to that bit by bit.
    let half = body.slice(..900 * 1024);
    store.save_progress(&running, 0, &half).await.unwrap();
    let error = store.save_progress(&running, half.len(), &half).await;
    assert_eq!(error.unwrap_err().kind(), StoreErrorKind::TooLarge);
    assert_eq!(proxy.accepted(), 1);

    let _: () = server.ask("CONFIG SET proto-max-bulk-len 512mb").await;
    let completion = complete(&store, running, &long).await.unwrap();
    assert_eq!(completion, Completion::Stored, "it may be raised");

    let _: () = server.ask("CONFIG SET proto-max-bulk-len 1mb").await;
    let lowered = owner();
    store.claim(&request(lowered)).await.unwrap();
    let error = complete(&store, lowered, &long).await.unwrap_err();
    assert_ne!(
        error.kind(),
        StoreErrorKind::TooLarge,
        "it is not known yet"
    );
    let kind = recovers(async || {
        let error = complete(&store, lowered, &long).await.unwrap_err();
        match error.kind() {
            StoreErrorKind::TooLarge => Ok(error.kind()),
            _ => Err(error),
        }
    });
    assert_eq!(kind.await, StoreErrorKind::TooLarge);
    let replay = store.claim(&request(another(running))).await.unwrap();
    assert!(matches!(replay, Claim::Completed(paid) if paid == long));
}

/// A right is looked at for each command of a script. A long response was left without its head, and a record taken over by an
/// attempt that knew nothing of it.
#[tokio::test]
async fn script_that_is_refused_in_its_middle_has_changed_nothing() {
    let Some(server) = Server::start(&with_user("~* &* +@all")).await else {
        return;
    };
    let url = format!("{}{AS_USER}", server.url());
    let store = RedisStore::connect(&url).await.unwrap();
    let long = StoredResponse::new(StatusCode::OK, HeaderMap::new(), vec![7; 4096]);
    let (running, long) = (owner(), Arc::new(long));
    store.claim(&request(running)).await.unwrap();
    for right in ["setrange", "set"] {
        let _: redis::Value = server.ask(&format!("ACL SETUSER weak -{right}")).await;
        let refused = complete(&store, running, &long).await.unwrap_err();
        assert_eq!(refused.kind(), StoreErrorKind::Refused, "{refused:?}");
        let _: redis::Value = server.ask(&format!("ACL SETUSER weak +{right}")).await;
        let record = store.get(&running.key).await.unwrap().unwrap();
        assert_eq!((record.attempt, &*record.progress), (1, &b""[..]));
    }
    let completed = complete(&store, running, &long).await.unwrap();
    assert_eq!(completed, Completion::Stored);

    let crashed = owner();
    store.claim(&request(crashed)).await.unwrap();
    abandon(&store, crashed).await.unwrap();
    let mut over = request(another(crashed));
    over.take_over = Some(1);
    for right in ["setrange", "pexpire"] {
        let _: redis::Value = server.ask(&format!("ACL SETUSER weak -{right}")).await;
        let refused = store.claim(&over).await.unwrap_err();
        assert_eq!(refused.kind(), StoreErrorKind::Refused, "{refused:?}");
        let _: redis::Value = server.ask(&format!("ACL SETUSER weak +{right}")).await;
        let record = store.get(&crashed.key).await.unwrap().unwrap();
        assert_eq!(record.attempt, 1, "without {right}");
    }
    let taken = store.claim(&over).await.unwrap();
    assert!(
        matches!(taken, Claim::Acquired(it) if it.attempt == 2),
        "{taken:?}"
    );
}

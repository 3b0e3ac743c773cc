//! What is tested of each SQL store in the same way: a bench names the store and its server, and
//! [`sql_store_tests!`] has the tests run on it.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use idempotent_runtime::store::conformance::{RecordLock, TestBed, Timing};
use idempotent_runtime::store::{Acquired, Claim, Store, StoreErrorKind};
use idempotent_runtime::{Error, ErrorKind, RecordKey};
use tokio::sync::Barrier;

use crate::claims::{TTL, answer, chain, claimed, request, rival};

/// What the SQL stores have besides the trait of all stores.
#[async_trait]
pub(crate) trait SqlStore: Store + Debug + Sized {
    /// What the type of the store is called.
    const NAME: &'static str;

    fn named(self, table: &str) -> Result<Self, Error>;

    async fn make_table(&self) -> Result<(), Error>;

    fn text_of_table(&self) -> String;
}

macro_rules! sql_store {
    ($store:ident) => {
        #[async_trait]
        impl $crate::sql::SqlStore for $store {
            const NAME: &'static str = stringify!($store);

            fn named(self, table: &str) -> Result<Self, Error> {
                self.with_table(table)
            }

            async fn make_table(&self) -> Result<(), Error> {
                self.migrate().await
            }

            fn text_of_table(&self) -> String {
                self.migrations()
            }
        }
    };
}

pub(crate) use sql_store;

/// A database to test on, and a table of its own in it.
#[async_trait]
pub(crate) trait Bench: Sized + Send + Sync + 'static {
    type Store: SqlStore;

    /// Gives a table of the next schema, whose name stands for `{table}`.
    const MAKE_NEWER: &'static str;
    /// The schema that the store reads; the newer one is the next.
    const SCHEMA: u32;

    /// Damages all records, one way after the other.
    const DAMAGES: &'static [&'static str];

    /// `None`, with a line that says so, when there is no server.
    async fn create() -> Option<Self>;

    /// A store with connections of its own, as another process would have it.
    fn another(&self) -> Self::Store;

    /// Runs statements in which `{table}` stands for the table.
    async fn run(&self, sql: &str);

    async fn remove(self);

    async fn migrated() -> Option<(Self, Self::Store)> {
        let bench = Self::create().await?;
        let store = bench.another();
        store.make_table().await.unwrap();
        Some((bench, store))
    }
}

/// Has these tests run on a bench.
macro_rules! sql_store_tests {
    ($bench:ty: $($name:ident),+ $(,)?) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            $crate::sql::$name::<$bench>().await;
        }
    )+};
}

pub(crate) use sql_store_tests;

pub(crate) async fn missing_table_is_refused_and_the_cause_names_migrate<B: Bench>() {
    let Some(bench) = B::create().await else {
        return;
    };
    let store = bench.another();
    let owner = request().owner;
    for error in [
        store.claim(&request()).await.unwrap_err(),
        store.complete(&owner, &answer(), TTL).await.unwrap_err(),
        store.release(&[owner]).await.remove(0).unwrap_err(),
        store.get(&owner.key).await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), StoreErrorKind::Refused);
        let (text, remedy) = (chain(&error), format!("call `{}::migrate`", B::Store::NAME));
        assert!(text.contains(&remedy), "{text}");
        assert!(text.contains(store.name()), "{text}");
    }
    bench.remove().await;
}

pub(crate) async fn migrating_again_keeps_the_records<B: Bench>() {
    let Some((bench, store)) = B::migrated().await else {
        return;
    };
    let request = claimed(&store).await;
    let completed = store.complete(&request.owner, &answer(), TTL).await;
    completed.unwrap();
    store.make_table().await.unwrap();
    let claim = store.claim(&rival(&request)).await.unwrap();
    assert!(matches!(claim, Claim::Completed(_)), "{claim:?}");
    bench.remove().await;
}

/// By a database administrator, without the crate.
pub(crate) async fn table_made_by_the_published_text_is_ours<B: Bench>() {
    let Some(bench) = B::create().await else {
        return;
    };
    bench.run(&bench.another().text_of_table()).await;
    // No migration, and one that finds the table there.
    claimed(&bench.another()).await;
    let store = bench.another();
    store.make_table().await.unwrap();
    claimed(&store).await;
    bench.remove().await;
}

pub(crate) async fn table_of_a_newer_release_is_refused<B: Bench>() {
    let Some((bench, store)) = B::migrated().await else {
        return;
    };
    drop(store);
    bench.run(B::MAKE_NEWER).await;
    let error = bench.another().make_table().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Store);
    let text = chain(&error);
    let (has, reads) = (B::SCHEMA + 1, B::SCHEMA);
    assert!(text.contains(&format!("has schema {has}")), "{text}");
    assert!(text.contains(&format!("reads schema {reads}")), "{text}");
    assert!(text.contains("use the release that made it"), "{text}");
    bench.remove().await;
}

pub(crate) async fn table_of_somebody_else_is_left_alone<B: Bench>() {
    let Some(bench) = B::create().await else {
        return;
    };
    bench.run("CREATE TABLE {table} (id INTEGER)").await;
    let error = bench.another().make_table().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Store);
    let text = chain(&error);
    assert!(
        text.contains("was not created by idempotent-runtime"),
        "{text}"
    );
    bench.run("INSERT INTO {table} (id) VALUES (1)").await;
    bench.remove().await;
}

pub(crate) async fn name_that_is_no_identifier_is_refused<B: Bench>() {
    let Some(bench) = B::create().await else {
        return;
    };
    let too_long = "t".repeat(49);
    for name in [
        "",
        "a b",
        "t\"; DROP TABLE x; --",
        "t`; DROP TABLE x; --",
        "public.t",
        &too_long,
    ] {
        let error = bench.another().named(name).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidName, "{name}");
    }
    bench.remove().await;
}

pub(crate) async fn record_that_cannot_be_read_is_corrupt_and_never_absent<B: Bench>() {
    let Some((bench, store)) = B::migrated().await else {
        return;
    };
    for damage in B::DAMAGES {
        let request = claimed(&store).await;
        let completed = store.complete(&request.owner, &answer(), TTL).await;
        completed.unwrap();
        bench.run(&format!("UPDATE {{table}} SET {damage}")).await;
        for error in [
            store.claim(&rival(&request)).await.unwrap_err(),
            store.claim(&request).await.unwrap_err(),
            store.get(&request.owner.key).await.unwrap_err(),
        ] {
            assert_eq!(error.kind(), StoreErrorKind::Corrupt, "{damage}");
            let text = chain(&error);
            assert!(text.contains(store.name()), "{text}");
        }
        assert!(store.remove(&request.owner.key).await.unwrap(), "{damage}");
    }
    bench.remove().await;
}

pub(crate) async fn completing_a_record_of_an_unknown_state_is_corrupt<B: Bench>() {
    let Some((bench, store)) = B::migrated().await else {
        return;
    };
    let request = claimed(&store).await;
    bench
        .run(&format!("UPDATE {{table}} SET {}", B::DAMAGES[0]))
        .await;
    let completion = store.complete(&request.owner, &answer(), TTL).await;
    assert_eq!(completion.unwrap_err().kind(), StoreErrorKind::Corrupt);
    bench.remove().await;
}

const PROCESSES: usize = 16;
const ROUNDS: usize = 25;

/// Each with a pool of its own, as processes have.
pub(crate) async fn one_of_sixteen_processes_acquires<B: Bench>() {
    let Some((bench, _)) = B::migrated().await else {
        return;
    };
    let stores: Vec<_> = (0..PROCESSES).map(|_| Arc::new(bench.another())).collect();
    for _ in 0..ROUNDS {
        let first = request();
        let start = Arc::new(Barrier::new(stores.len()));
        let claims = stores.iter().map(|store| {
            let (store, start, request) = (Arc::clone(store), Arc::clone(&start), rival(&first));
            tokio::spawn(async move {
                start.wait().await;
                store.claim(&request).await.unwrap()
            })
        });
        let mut acquired = 0;
        for claim in claims.collect::<Vec<_>>() {
            match claim.await.unwrap() {
                Claim::Acquired(Acquired { attempt: 1, .. }) => acquired += 1,
                Claim::InFlight { .. } => {}
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(acquired, 1);
    }
    drop(stores);
    bench.remove().await;
}

/// Locks records as another client does.
#[async_trait]
pub(crate) trait Locker: Sync {
    async fn lock(&self, key: &RecordKey) -> Box<dyn RecordLock>;
}

/// The kit's way to a store, in real time.
pub(crate) struct Bed<'a> {
    pub(crate) store: Arc<dyn Store>,
    /// `None` where records cannot be locked one by one.
    pub(crate) locker: Option<&'a dyn Locker>,
    pub(crate) lease: Duration,
}

#[async_trait]
impl TestBed for Bed<'_> {
    fn store(&self) -> Arc<dyn Store> {
        Arc::clone(&self.store)
    }

    async fn advance(&self, by: Duration) {
        tokio::time::sleep(by).await;
    }

    async fn lock_record(&self, key: &RecordKey) -> Option<Box<dyn RecordLock>> {
        match self.locker {
            Some(locker) => Some(locker.lock(key).await),
            None => None,
        }
    }

    fn timing(&self) -> Timing {
        Timing::real(self.lease)
    }
}

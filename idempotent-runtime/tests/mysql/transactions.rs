//! Transactions of handlers: what becomes of their connections and records.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{HeaderMap, StatusCode};
use idempotent_runtime::store::transaction::sealed::Of;
use idempotent_runtime::store::transaction::{Begin, Committed, Session, TransactionRequest};
use idempotent_runtime::store::{Claim, Store, StoreErrorKind};
use idempotent_runtime::{RecordKey, RecordState, StoredResponse};
use sqlx::mysql::MySqlConnectOptions;
use sqlx::{AssertSqlSafe, MySqlConnection, MySqlPool};
use tokio::time::timeout;

use crate::faults::LOG_IS_IMPOSSIBLE;
use crate::own_server::OwnServer;
use crate::proxy::{COMMIT, Proxy};
use crate::support::{PATIENCE, Scratch, TTL, answer, pool, request};

/// Longer than any of these takes.
pub(crate) const IDLE_LIMIT: Duration = Duration::from_secs(60);
pub(crate) const COMMIT_LIMIT: Duration = IDLE_LIMIT;

pub(crate) type Opened = Box<dyn Session<MySqlConnection>>;

/// A store on an application's pool, and the pool.
pub(crate) struct Shop {
    pub(crate) pool: MySqlPool,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) begin: Arc<dyn Begin<MySqlConnection>>,
}

impl Shop {
    pub(crate) fn new(scratch: &Scratch, options: &MySqlConnectOptions, connections: u32) -> Self {
        Self::on(scratch, pool(options, connections))
    }

    pub(crate) fn on(scratch: &Scratch, pool: MySqlPool) -> Self {
        let store = idempotent_runtime::store::mysql::MySqlStore::new(pool.clone());
        let store: Arc<dyn Store> = Arc::new(store.with_table(&scratch.table).unwrap());
        let transactor = store.transactor().unwrap();
        Self {
            pool,
            begin: MySqlConnection::of(transactor).unwrap(),
            store,
        }
    }

    pub(crate) async fn open(&self, request: &TransactionRequest) -> Opened {
        match self.begin.begin(Some(request), IDLE_LIMIT).await.unwrap() {
            Claim::Acquired(session) => session,
            settled => panic!("{settled:?}"),
        }
    }

    /// The response of the only record that there can be.
    pub(crate) async fn recorded(&self, key: &RecordKey) -> Option<Arc<StoredResponse>> {
        let record = self.store.get(key).await.unwrap()?;
        let least = TTL - Duration::from_secs(60);
        assert!(record.expires_in > least, "{record:?}");
        match record.state {
            RecordState::Completed(response) => Some(response),
            other => panic!("{other:?}"),
        }
    }

    /// Waits until all of its connections are back or closed.
    pub(crate) async fn settle(&self) {
        while self.pool.num_idle() != usize::try_from(self.pool.size()).unwrap() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    pub(crate) async fn connection(&self) -> u64 {
        let id = sqlx::query_scalar("SELECT CAST(CONNECTION_ID() AS UNSIGNED)");
        let id = id.fetch_one(&self.pool).await.unwrap();
        self.settle().await;
        id
    }
}

pub(crate) fn transaction() -> TransactionRequest {
    let claim = request();
    TransactionRequest {
        owner: claim.owner,
        aliases: Arc::default(),
        operation: claim.operation.into(),
        label: None,
        fingerprint: claim.fingerprint,
        ttl: TTL,
    }
}

pub(crate) async fn run(session: &mut Opened, sql: &str) {
    let statements = sqlx::raw_sql(AssertSqlSafe(sql.to_owned()));
    statements.execute(session.connection()).await.unwrap();
}

#[tokio::test]
async fn idle_connections_that_the_server_has_closed_cost_no_transaction() {
    let Some(scratch) = Scratch::migrated().await else {
        return;
    };
    let shop = Shop::new(&scratch, &scratch.options, 4);
    let open = async || {
        let mut sessions = Vec::new();
        for number in 0..4 {
            sessions.push(match number {
                3 => match shop.begin.begin(None, IDLE_LIMIT).await.unwrap() {
                    Claim::Acquired(session) => session,
                    settled => panic!("{settled:?}"),
                },
                _ => shop.open(&transaction()).await,
            });
        }
        for session in sessions {
            session.roll_back().await;
        }
        shop.settle().await;
    };
    open().await;
    for connection in scratch.connections().await {
        scratch.kill(connection).await;
    }
    open().await;
    scratch.clean_up().await;
}

/// The pool asks each without a limit, one after the other.
#[tokio::test]
async fn a_peer_that_goes_silent_twice_costs_no_transaction() {
    let Some(scratch) = Scratch::migrated().await else {
        return;
    };
    let proxy = Proxy::to(&scratch.options).await;
    let shop = Shop::new(&scratch, &proxy.options(&scratch.options), 6);
    for _ in 0..2 {
        let mut sessions = Vec::new();
        for _ in 0..6 {
            sessions.push(shop.open(&transaction()).await);
        }
        for session in sessions {
            session.roll_back().await;
        }
        shop.settle().await;
        proxy.freeze();
        let frozen = Instant::now();
        for _ in 0..6 {
            let request = transaction();
            let session = timeout(Duration::from_secs(2), shop.open(&request)).await;
            let committed = session
                .unwrap()
                .commit(&answer(), COMMIT_LIMIT)
                .await
                .unwrap();
            assert_eq!(committed, Committed::Stored);
        }
        assert!(frozen.elapsed() < Duration::from_secs(5));
        shop.settle().await;
    }
    scratch.clean_up().await;
}

/// The caller gives up, and the answer is whatever the record says. Neither the place in the pool nor the
/// key is held.
#[tokio::test]
async fn a_commit_whose_reply_does_not_come_holds_nothing() {
    let Some(scratch) = Scratch::migrated().await else {
        return;
    };
    let proxy = Proxy::to(&scratch.options).await;
    let shop = Shop::new(&scratch, &proxy.options(&scratch.options), 1);
    for _ in 0..2 {
        let request = transaction();
        let session = shop.open(&request).await;
        proxy.keep_reply_to(COMMIT);
        let committed = timeout(
            Duration::from_millis(200),
            session.commit(&answer(), COMMIT_LIMIT),
        )
        .await;
        assert!(committed.is_err(), "{committed:?}");
        let again = timeout(Duration::from_secs(2), async {
            loop {
                match shop.begin.begin(Some(&request), IDLE_LIMIT).await.unwrap() {
                    Claim::Completed(response) => break response,
                    // The server has not come that far.
                    Claim::InFlight { .. } => tokio::task::yield_now().await,
                    other => panic!("{other:?}"),
                }
            }
        });
        assert_eq!(again.await.unwrap(), answer());
        shop.settle().await;
    }
    scratch.clean_up().await;
}

/// The handler would be rolled back and run again, each time.
#[tokio::test]
async fn a_response_that_the_server_does_not_take_is_a_record_without_its_body() {
    let Some(server) = OwnServer::start(&["--max-allowed-packet=1M"]).await else {
        return;
    };
    let scratch = Scratch::on(&server.options()).await;
    scratch.store(1).migrate().await.unwrap();
    let shop = Shop::new(&scratch, &scratch.options, 1);
    let request = transaction();
    let session = shop.open(&request).await;
    let body = vec![7; 1024 * 1024];
    let large = StoredResponse::new(StatusCode::CREATED, HeaderMap::new(), body);
    let committed = session.commit(&large, COMMIT_LIMIT).await.unwrap();
    assert_eq!(committed, Committed::Stored);
    let recorded = shop.recorded(&request.owner.key).await.unwrap();
    assert_eq!((recorded.status, &recorded.body), (201, &None));
}

/// It was answered that nothing had happened.
#[tokio::test]
async fn a_commit_of_a_server_that_ends_because_of_its_log_may_have_happened() {
    let Some(scratch) = Scratch::migrated().await else {
        return;
    };
    let proxy = Proxy::to(&scratch.options).await;
    let shop = Shop::new(&scratch, &proxy.options(&scratch.options), 1);
    let request = transaction();
    let session = shop.open(&request).await;
    proxy.fail_reply_to(COMMIT, LOG_IS_IMPOSSIBLE);
    let error = session.commit(&answer(), COMMIT_LIMIT).await.unwrap_err();
    assert_eq!(shop.recorded(&request.owner.key).await, Some(answer()));
    assert!(error.may_have_happened(), "{error:?}");
    scratch.clean_up().await;
}

/// As some versions do with a response over a tenth of their redo log. It was rolled back and run again, each time.
#[tokio::test]
async fn a_response_that_the_engine_does_not_take_is_a_record_without_its_body() {
    let Some(scratch) = Scratch::migrated().await else {
        return;
    };
    let refuse = "CREATE TRIGGER {database}.refuse BEFORE UPDATE ON {table} FOR EACH ROW
        IF LENGTH(NEW.response) > 1000 THEN
            SIGNAL SQLSTATE '42000' SET MYSQL_ERRNO = 1118;
        END IF";
    scratch.execute(refuse).await;
    let shop = Shop::new(&scratch, &scratch.options, 1);
    let request = transaction();
    let session = shop.open(&request).await;
    let large = StoredResponse::new(StatusCode::CREATED, HeaderMap::new(), vec![7; 2000]);
    let committed = session.commit(&large, COMMIT_LIMIT).await.unwrap();
    assert_eq!(committed, Committed::Stored);
    let recorded = shop.recorded(&request.owner.key).await.unwrap();
    assert_eq!((recorded.status, &recorded.body), (201, &None));
    scratch.clean_up().await;
}

/// 503 for as long as the connections live that have said so, though the server has changed its mind.
#[tokio::test]
async fn read_only_connections_are_not_reused() {
    let Some(server) = OwnServer::start(&[]).await else {
        return;
    };
    let scratch = Scratch::on(&server.options()).await;
    scratch.store(1).migrate().await.unwrap();
    let grants = "CREATE USER application; \
        GRANT SELECT, INSERT, UPDATE, DELETE ON {database}.* TO application";
    scratch.execute(grants).await;
    let shop = Shop::new(
        &scratch,
        &scratch.options.clone().username("application"),
        3,
    );
    let held = [
        shop.open(&transaction()).await,
        shop.open(&transaction()).await,
        shop.open(&transaction()).await,
    ];
    for session in held {
        session.roll_back().await;
    }
    shop.settle().await;
    let before = scratch.connections().await;
    let running = transaction();
    let session = shop.open(&running).await;
    // Waits for no other session: the transaction has written, but holds no table's lock of a reader.
    scratch.execute("SET GLOBAL read_only = 1").await;
    let error = session.commit(&answer(), COMMIT_LIMIT).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Refused, "{error:?}");
    assert!(!error.may_have_happened());
    for _ in 0..2 {
        let started = Instant::now();
        let error = loop {
            assert!(started.elapsed() < PATIENCE, "it is in flight");
            match shop.begin.begin(Some(&transaction()), IDLE_LIMIT).await {
                Err(error) => break error,
                // The server has not noticed yet that the connection of the refused commit is closed.
                Ok(Claim::InFlight { .. }) => tokio::time::sleep(Duration::from_millis(10)).await,
                Ok(other) => panic!("{other:?}"),
            }
        };
        assert_eq!(error.kind(), StoreErrorKind::Refused, "{error:?}");
        assert!(!error.may_have_happened());
    }
    scratch.execute("SET GLOBAL read_only = 0").await;
    assert_eq!(shop.recorded(&running.owner.key).await, None);
    let session = shop.open(&running).await;
    assert_eq!(
        session.commit(&answer(), COMMIT_LIMIT).await.unwrap(),
        Committed::Stored
    );
    shop.settle().await;
    let after = scratch.connections().await;
    assert!(
        after.iter().all(|it| !before.contains(it)),
        "{before:?} {after:?}"
    );
}

#[tokio::test]
async fn a_transaction_writes_the_record_of_each_of_its_keys() {
    let Some(scratch) = Scratch::migrated().await else {
        return;
    };
    let shop = Shop::new(&scratch, &scratch.options, 2);
    let request = transaction();
    let aliases = [transaction().owner.key, transaction().owner.key];
    let both = TransactionRequest {
        aliases: aliases.into(),
        ..request.clone()
    };
    let session = shop.open(&both).await;
    for key in aliases {
        let mut other = transaction();
        other.owner.key = key;
        other.fingerprint = request.fingerprint;
        let begun = shop.begin.begin(Some(&other), IDLE_LIMIT).await.unwrap();
        assert!(matches!(begun, Claim::InFlight { .. }), "{begun:?}");
    }
    assert_eq!(
        session.commit(&answer(), COMMIT_LIMIT).await.unwrap(),
        Committed::Stored
    );
    for key in [request.owner.key, aliases[0], aliases[1]] {
        assert_eq!(shop.recorded(&key).await, Some(answer()));
    }
    // One that is found by an alias only settles it, and leaves no lock.
    let mut found = transaction();
    found.fingerprint = request.fingerprint;
    let key = found.owner.key;
    found.aliases = [aliases[1]].into();
    let begun = shop.begin.begin(Some(&found), IDLE_LIMIT).await.unwrap();
    assert!(
        matches!(&begun, Claim::Completed(stored) if *stored == answer()),
        "{begun:?}"
    );
    assert_eq!(shop.recorded(&key).await, None);
    found.aliases = Arc::default();
    shop.open(&found).await.roll_back().await;
    scratch.clean_up().await;
}

/// A claim sees the running record of a transaction only if the handler has committed it by itself, and
/// then it is unknown how that ends.
#[tokio::test]
async fn what_a_handler_has_committed_by_itself_outlives_its_ttl() {
    let Some(scratch) = Scratch::migrated().await else {
        return;
    };
    let shop = Shop::new(&scratch, &scratch.options, 1);
    let mut brief = transaction();
    brief.ttl = Duration::from_millis(1);
    let mut session = shop.open(&brief).await;
    run(&mut session, "COMMIT").await;
    // The process ends here.
    drop(session);
    let mut claim = request();
    claim.owner.key = brief.owner.key;
    claim.fingerprint = brief.fingerprint;
    tokio::time::sleep(Duration::from_millis(20)).await;
    let claim = shop.store.claim(&claim).await.unwrap();
    assert!(
        matches!(claim, Claim::Abandoned { attempt: 1, .. }),
        "{claim:?}"
    );
    scratch.clean_up().await;
}

/// The network swallows what there is between the lock on the key and the transaction.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lock_of_a_connection_that_is_gone_without_a_word_ends_with_its_limit() {
    let Some(scratch) = Scratch::migrated().await else {
        return;
    };
    let proxy = Proxy::to(&scratch.options).await;
    let shop = Shop::new(&scratch, &proxy.options(&scratch.options), 2);
    let request = transaction();
    proxy.keep_reply_to("GET_LOCK");
    let begin = shop.begin.begin(Some(&request), Duration::from_secs(1));
    let freeze = async {
        while !proxy.has_kept_a_reply() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        proxy.freeze();
    };
    let (begun, ()) = tokio::join!(timeout(Duration::from_secs(2), begin), freeze);
    assert!(begun.is_err());
    // From here on the network is as good as new.
    let free = async {
        loop {
            match shop.begin.begin(Some(&request), IDLE_LIMIT).await {
                Ok(Claim::Acquired(session)) => return session,
                Ok(Claim::InFlight { .. }) | Err(_) => {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                Ok(settled) => panic!("{settled:?}"),
            }
        }
    };
    let session = timeout(Duration::from_secs(60), free).await;
    session.expect("the key is free again").roll_back().await;
    shop.settle().await;
    // And the session's own limit is back.
    let limit = sqlx::query_scalar::<_, bool>("SELECT @@wait_timeout = @@global.wait_timeout");
    assert!(limit.fetch_one(&shop.pool).await.unwrap());
    scratch.clean_up().await;
}

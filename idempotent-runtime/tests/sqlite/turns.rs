//! Whose turn it is to write: the writer's, or a handler's transaction.

use std::sync::Arc;
use std::time::Duration;

use idempotent_runtime::store::sqlite::SqliteStore;
use idempotent_runtime::store::transaction::sealed::Of;
use idempotent_runtime::store::transaction::{Begin, Committed, Session, TransactionRequest};
use idempotent_runtime::store::{Claim, Completion, Renewed, Store, StoreErrorKind};
use idempotent_runtime::{RecordKey, RecordState};
use sqlx::SqliteConnection;
use tokio::time::timeout;

/// Of no account here.
const IDLE_LIMIT: Duration = Duration::from_secs(60);

use crate::support::{
    Directory, PATIENCE, TTL, begin, count, execute, key, renewal, request, request_of, response,
    rival,
};

/// Longer than any commit here takes.
const COMMIT_LIMIT: Duration = Duration::from_secs(60);

type Transactions = Arc<dyn Begin<SqliteConnection>>;
type Open = Box<dyn Session<SqliteConnection>>;

fn transactions(store: &SqliteStore) -> Transactions {
    SqliteConnection::of(store.transactor().unwrap()).unwrap()
}

fn of(key: RecordKey, aliases: &[RecordKey]) -> TransactionRequest {
    let request = request_of(key);
    TransactionRequest {
        owner: request.owner,
        aliases: aliases.into(),
        operation: request.operation.into(),
        label: None,
        fingerprint: request.fingerprint,
        ttl: TTL,
    }
}

async fn open(transactions: &Transactions) -> Open {
    match transactions
        .begin(Some(&of(key(), &[])), IDLE_LIMIT)
        .await
        .unwrap()
    {
        Claim::Acquired(session) => session,
        settled => panic!("{settled:?}"),
    }
}

async fn in_time<T>(call: impl Future<Output = T>) -> T {
    timeout(PATIENCE, call)
        .await
        .expect("it waits for ever for its turn")
}

/// The handlers that wait would have been first, in the order of arrival.
#[tokio::test]
async fn holders_of_claims_wait_for_one_handler_and_not_for_all_that_are_queued() {
    let directory = Directory::new();
    let store = directory.store().await;
    let held = request();
    store.claim(&held).await.unwrap();
    let transactions = transactions(&store);
    let first = open(&transactions).await;
    let request = of(key(), &[]);
    let waiting: Vec<_> = (0..5)
        .map(|_| begin(transactions.begin(Some(&request), IDLE_LIMIT)))
        .collect();
    let paid = response("paid");
    let completion = begin(store.complete(&held.owner, &paid, TTL));
    // The writer has asked for its turn by then: it answers nothing as long as the handler runs.
    let blocked = timeout(Duration::from_millis(200), store.remove(&key())).await;
    assert!(blocked.is_err());
    first.roll_back().await;
    assert_eq!(in_time(completion).await.unwrap(), Completion::Stored);
    drop(waiting);
}

#[tokio::test]
async fn session_that_is_dropped_with_a_statement_running_frees_the_turn_at_once() {
    let directory = Directory::new();
    let store = directory.store().await;
    let transactions = transactions(&store);
    let mut session = open(&transactions).await;
    let endless =
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n";
    let query = sqlx::query(endless).execute(session.connection());
    let cut_off = timeout(Duration::from_millis(50), query).await;
    assert!(cut_off.is_err(), "{cut_off:?}");
    drop(session);
    in_time(store.claim(&request())).await.unwrap();
    in_time(open(&transactions)).await.roll_back().await;
}

#[tokio::test]
async fn roll_back_does_not_wait_for_a_statement_that_was_cut_off() {
    let directory = Directory::new();
    let store = directory.store().await;
    let transactions = transactions(&store);
    for _ in 0..2 {
        let mut session = open(&transactions).await;
        let endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n";
        let query = sqlx::query(endless).execute(session.connection());
        let cut_off = timeout(Duration::from_millis(50), query).await;
        assert!(cut_off.is_err(), "{cut_off:?}");
        in_time(session.roll_back()).await;
    }
    // What is given back is as good as new.
    let mut session = in_time(open(&transactions)).await;
    let create = sqlx::query("CREATE TABLE payments (id INTEGER)").execute(session.connection());
    create.await.unwrap();
    let committed = session
        .commit(&response("paid"), COMMIT_LIMIT)
        .await
        .unwrap();
    assert_eq!(committed, Committed::Stored);
}

#[tokio::test]
async fn beginning_that_is_given_up_leaves_the_queue() {
    let directory = Directory::new();
    let store = directory.store().await;
    let transactions = transactions(&store);
    let first = open(&transactions).await;
    let request = of(key(), &[]);
    let given_up: Vec<_> = (0..5)
        .map(|_| begin(transactions.begin(Some(&request), IDLE_LIMIT)))
        .collect();
    drop(given_up);
    let next = of(key(), &[]);
    let next = begin(transactions.begin(Some(&next), IDLE_LIMIT));
    first.roll_back().await;
    let begun = in_time(next).await.unwrap();
    assert!(matches!(begun, Claim::Acquired(_)), "{begun:?}");
}

/// Its connection waits in SQLite, which cannot be interrupted; but not for long.
#[tokio::test]
async fn beginning_that_is_given_up_under_somebody_elses_lock_frees_the_turn() {
    let directory = Directory::new();
    let store = directory.store().await;
    let transactions = transactions(&store);
    open(&transactions).await.roll_back().await;
    let lock = directory.lock().await;
    let request = of(key(), &[]);
    for _ in 0..3 {
        let call = transactions.begin(Some(&request), IDLE_LIMIT);
        assert!(timeout(Duration::from_millis(20), call).await.is_err());
    }
    crate::support::unlock(lock).await;
    in_time(store.claim(&crate::support::request()))
        .await
        .unwrap();
}

#[tokio::test]
async fn lock_of_another_process_is_busy_to_renewals_and_they_succeed_after_it() {
    let directory = Directory::new();
    drop(directory.fresh_store().await);
    let store = SqliteStore::new(directory.pool_that_waits(Duration::from_millis(100)));
    let held = [request(), request()];
    for request in &held {
        store.claim(request).await.unwrap();
    }
    let renewals = held.map(|request| renewal(&request.owner));
    let lock = directory.lock().await;
    let results = store.renew(&renewals).await;
    assert_eq!(results.len(), 2);
    for result in results {
        let error = result.unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Busy, "{error:?}");
        assert!(!error.may_have_happened());
    }
    crate::support::unlock(lock).await;
    let results = store.renew(&renewals).await;
    assert!(matches!(
        results[..],
        [Ok(Renewed::Renewed), Ok(Renewed::Renewed)]
    ));
}

/// Of which one is refused by a trigger.
#[tokio::test]
async fn renewal_that_fails_shares_its_fate_with_no_other() {
    let directory = Directory::new();
    let store = directory.store().await;
    let held: Vec<_> = (0..9).map(|_| request()).collect();
    for request in &held {
        store.claim(request).await.unwrap();
    }
    let trigger = format!(
        "CREATE TRIGGER fault BEFORE UPDATE ON idempotency_records
         WHEN NEW.record_key = x'{}' BEGIN SELECT RAISE(FAIL, 'not this one'); END",
        crate::support::hex(held[4].owner.key.as_bytes())
    );
    execute(&mut directory.connection().await, trigger).await;
    let renewals: Vec<_> = held.iter().map(|it| renewal(&it.owner)).collect();
    let renewed = store.renew(&renewals).await;
    let owners: Vec<_> = held.iter().map(|it| it.owner).collect();
    let abandoned = store.abandon(&owners).await;
    for index in 0..9 {
        assert_eq!(renewed[index].is_ok(), index != 4, "{renewed:?}");
        assert_eq!(abandoned[index].is_ok(), index != 4, "{abandoned:?}");
    }
}

#[tokio::test]
async fn every_key_of_a_request_has_the_record_of_its_transaction() {
    let directory = Directory::new();
    let store = directory.store().await;
    let transactions = transactions(&store);
    let (current, previous) = (key(), [key(), key()]);
    let begun = transactions
        .begin(Some(&of(current, &previous)), IDLE_LIMIT)
        .await;
    let Claim::Acquired(session) = begun.unwrap() else {
        panic!("settled")
    };
    let paid = response("paid");
    assert_eq!(
        session.commit(&paid, COMMIT_LIMIT).await.unwrap(),
        Committed::Stored
    );
    for key in [current, previous[0], previous[1]] {
        let record = store.get(&key).await.unwrap().unwrap();
        assert!(matches!(&record.state, RecordState::Completed(it) if *it == paid));
        assert_eq!(&*record.operation, "POST /payments");
        let replay = transactions
            .begin(Some(&of(key, &[])), IDLE_LIMIT)
            .await
            .unwrap();
        let settled = matches!(replay, Claim::Completed(_));
        assert!(settled, "{replay:?}");
    }
    // A record by the previous key alone settles it too.
    let old = request();
    store.claim(&old).await.unwrap();
    let begun = transactions
        .begin(Some(&of(key(), &[old.owner.key])), IDLE_LIMIT)
        .await;
    let begun = begun.unwrap();
    assert!(matches!(begun, Claim::InFlight { .. }));
    let records = "SELECT count(*) FROM idempotency_records";
    assert_eq!(count(&mut directory.connection().await, records).await, 4);
}

/// What a handler does to its session is not the next one's.
#[tokio::test]
async fn temporary_table_of_a_handler_hides_no_records() {
    let directory = Directory::new();
    let store = directory.store().await;
    let transactions = transactions(&store);
    let mut session = open(&transactions).await;
    let hide = "CREATE TEMP TABLE idempotency_records (record_key, fingerprint, token, state)";
    let create = sqlx::query(hide).execute(session.connection());
    create.await.unwrap();
    let committed = session
        .commit(&response("paid"), COMMIT_LIMIT)
        .await
        .unwrap();
    assert_eq!(committed, Committed::Stored);
    let key = key();
    let Claim::Acquired(session) = transactions
        .begin(Some(&of(key, &[])), IDLE_LIMIT)
        .await
        .unwrap()
    else {
        panic!("settled")
    };
    let committed = session
        .commit(&response("paid"), COMMIT_LIMIT)
        .await
        .unwrap();
    assert_eq!(committed, Committed::Stored);
    let claim = store.claim(&rival(&request_of(key))).await.unwrap();
    assert!(matches!(claim, Claim::Completed(_)), "{claim:?}");
}

#[tokio::test]
async fn session_that_a_handler_has_changed_is_not_reused() {
    let directory = Directory::new();
    let store = directory.store().await;
    let transactions = transactions(&store);
    for change in [
        "PRAGMA locking_mode = EXCLUSIVE",
        "PRAGMA query_only = ON",
        "CREATE TEMP TRIGGER hide AFTER INSERT ON main.idempotency_records
            BEGIN DELETE FROM idempotency_records WHERE record_key = NEW.record_key; END",
        "ATTACH ':memory:' AS other",
    ] {
        for is_committed in [false, true] {
            let mut session = in_time(open(&transactions)).await;
            let changed = sqlx::raw_sql(change).execute(session.connection());
            changed.await.unwrap();
            if is_committed {
                // It may be refused, of a session that was made read-only.
                drop(session.commit(&response("paid"), COMMIT_LIMIT).await);
            } else {
                session.roll_back().await;
            }
        }
        // The writer, and the next handler, notice nothing.
        in_time(store.claim(&request())).await.unwrap();
        let session = in_time(open(&transactions)).await;
        let committed = session
            .commit(&response("paid"), COMMIT_LIMIT)
            .await
            .unwrap();
        assert_eq!(committed, Committed::Stored);
    }
}

/// What statements mean, to the next handler.
#[tokio::test]
async fn settings_of_a_handler_end_with_it() {
    let directory = Directory::new();
    let store = directory.store().await;
    let transactions = transactions(&store);
    for (change, setting) in [
        ("PRAGMA case_sensitive_like = ON", "SELECT 'a' LIKE 'A'"),
        ("PRAGMA max_page_count = 100", "PRAGMA max_page_count"),
        ("PRAGMA read_uncommitted = ON", "PRAGMA read_uncommitted"),
        ("PRAGMA trusted_schema = OFF", "PRAGMA trusted_schema"),
        (
            "PRAGMA legacy_alter_table = ON",
            "PRAGMA legacy_alter_table",
        ),
        (
            "PRAGMA reverse_unordered_selects = ON",
            "PRAGMA reverse_unordered_selects",
        ),
        ("PRAGMA count_changes = ON", "PRAGMA count_changes"),
        ("PRAGMA full_column_names = ON", "PRAGMA full_column_names"),
        (
            "PRAGMA short_column_names = OFF",
            "PRAGMA short_column_names",
        ),
    ] {
        let mut found = Vec::new();
        for statement in [setting, change, setting] {
            let mut session = in_time(open(&transactions)).await;
            let asked = sqlx::query_scalar::<_, i64>(statement);
            found.push(asked.fetch_optional(session.connection()).await.unwrap());
            session.roll_back().await;
        }
        assert_eq!(found.first(), found.last(), "{change}");
    }
}

/// A runtime ends with callers in the queue, and with a transaction open.
#[test]
fn callers_of_one_runtime_go_on_when_another_ends() {
    let runtime = || {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap()
    };
    let directory = Directory::new();
    let (ending, staying) = (runtime(), runtime());
    let store = Arc::new(ending.block_on(directory.store()));
    let transactions = transactions(&store);
    let (opened, is_open) = std::sync::mpsc::channel();
    let first = Arc::clone(&transactions);
    ending.spawn(async move {
        let session = open(&first).await;
        opened.send(()).unwrap();
        std::future::pending::<()>().await;
        drop(session);
    });
    is_open.recv().unwrap();
    let queued = |runtime: &tokio::runtime::Runtime| {
        let (store, transactions) = (Arc::clone(&store), Arc::clone(&transactions));
        runtime.spawn(async move {
            let transaction = async { open(&transactions).await.roll_back().await };
            let request = request();
            let (claim, ()) = tokio::join!(store.claim(&request), transaction);
            claim.is_ok()
        })
    };
    drop(queued(&ending));
    let call = queued(&staying);
    ending.shutdown_background();
    assert!(staying.block_on(in_time(call)).unwrap());
}

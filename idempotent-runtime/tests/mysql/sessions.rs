//! What the users of a pool leave in its sessions, and what its defaults are: neither has a part in what becomes of a
//! transaction.

use std::sync::Arc;
use std::time::{Duration, Instant};

use idempotent_runtime::store::transaction::{Committed, Session, TransactionRequest};
use idempotent_runtime::store::{Claim, ClaimRequest, Completion, Renewed};
use sqlx::{AssertSqlSafe, MySqlConnection};
use tokio::time::timeout;

use crate::locks::renewal;
use crate::own_server::OwnServer;
use crate::support::{PATIENCE, Scratch, TTL, answer, claimed, pool_with, request, rival};
use crate::transactions::Shop;

const IDLE_LIMIT: Duration = Duration::from_secs(60);
const COMMIT_LIMIT: Duration = IDLE_LIMIT;

/// A store on an application's pool of one connection.
struct Till(Shop);

impl Till {
    /// With these settings of its session.
    fn new(scratch: &Scratch, settings: &'static str) -> Self {
        Self(Shop::on(scratch, pool_with(&scratch.options, 1, settings)))
    }

    async fn begin(
        &self,
        request: &TransactionRequest,
    ) -> Claim<Box<dyn Session<MySqlConnection>>> {
        let begun = self.0.begin.begin(Some(request), IDLE_LIMIT).await.unwrap();
        self.settle(matches!(begun, Claim::Acquired(_))).await;
        begun
    }

    /// Runs a handler that sends this.
    async fn run(&self, handler: &str) -> TransactionRequest {
        let transaction = transaction(&request());
        let Claim::Acquired(mut session) = self.begin(&transaction).await else {
            panic!("it is the first");
        };
        let sql = sqlx::raw_sql(AssertSqlSafe(handler.to_owned()));
        sql.execute(session.connection()).await.unwrap();
        assert_eq!(
            session.commit(&answer(), COMMIT_LIMIT).await.unwrap(),
            Committed::Stored
        );
        self.settle(false).await;
        transaction
    }

    /// As another user of the pool.
    async fn execute(&self, sql: &str) {
        let sql = sqlx::raw_sql(AssertSqlSafe(sql.to_owned()));
        sql.execute(&self.0.pool).await.unwrap();
        self.settle(false).await;
    }

    async fn says(&self, what: &str) -> String {
        let select = format!("SELECT CAST({what} AS CHAR CHARACTER SET utf8mb4)");
        let said = sqlx::query_scalar(AssertSqlSafe(select));
        let said = said.fetch_one(&self.0.pool).await.unwrap();
        self.settle(false).await;
        said
    }

    /// Waits until the connection is back, unless it is in use.
    async fn settle(&self, is_in_use: bool) {
        let started = Instant::now();
        while !is_in_use && self.0.pool.num_idle() == 0 && self.0.pool.size() > 0 {
            assert!(started.elapsed() < PATIENCE, "it does not come back");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

fn transaction(claim: &ClaimRequest<'_>) -> TransactionRequest {
    TransactionRequest {
        owner: claim.owner,
        aliases: Arc::default(),
        operation: claim.operation.into(),
        label: None,
        fingerprint: claim.fingerprint,
        ttl: TTL,
    }
}

/// It was given back in a transaction: with a snapshot in which no later record was there, and with a lock under which its
/// owner could neither renew nor complete it.
#[tokio::test]
async fn a_look_leaves_nothing_open() {
    let Some(scratch) = Scratch::migrated().await else {
        return;
    };
    for isolation in [
        "SET autocommit = 0; SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED",
        "SET autocommit = 0; SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ",
        "SET autocommit = 0; SET SESSION TRANSACTION ISOLATION LEVEL SERIALIZABLE",
    ] {
        let till = Till::new(&scratch, isolation);
        let running = claimed(&*till.0.store).await;
        let begun = till.begin(&transaction(&rival(&running))).await;
        assert!(
            matches!(begun, Claim::InFlight { .. }),
            "{isolation}: {begun:?}"
        );
        assert_eq!(till.says("@@in_transaction").await, "0", "{isolation}");
        let renewed = till.0.store.renew(&[renewal(&running)]).await.remove(0);
        assert_eq!(renewed.unwrap(), Renewed::Renewed, "{isolation}");
        let completed = till.0.store.complete(&running.owner, &answer(), TTL).await;
        assert_eq!(completed.unwrap(), Completion::Stored, "{isolation}");
        let begun = till.begin(&transaction(&running)).await;
        assert!(matches!(begun, Claim::Completed(_)), "{isolation}");
        assert_eq!(till.says("@@in_transaction").await, "0", "{isolation}");
        assert_eq!(till.says("@@autocommit + 0").await, "0", "{isolation}");
        till.run("SELECT 1").await;
        assert_eq!(till.says("@@in_transaction").await, "0", "{isolation}");
        assert_eq!(till.says("@@autocommit + 0").await, "0", "{isolation}");
    }
    scratch.clean_up().await;
}

/// Its record is locked by the transaction, and a look that locks would wait for that, behind a lock that says so at once.
#[tokio::test]
async fn a_duplicate_of_a_running_transaction_waits_for_no_row() {
    let Some(scratch) = Scratch::migrated().await else {
        return;
    };
    let settings = "SET autocommit = 0, innodb_lock_wait_timeout = 50; \
        SET SESSION TRANSACTION ISOLATION LEVEL SERIALIZABLE";
    let (first, second) = (Till::new(&scratch, settings), Till::new(&scratch, settings));
    let request = request();
    let Claim::Acquired(session) = first.begin(&transaction(&request)).await else {
        panic!("it is the first");
    };
    let duplicate = transaction(&rival(&request));
    let begun = timeout(Duration::from_secs(20), second.begin(&duplicate)).await;
    let begun = begun.expect("it waits for no row");
    assert!(matches!(begun, Claim::InFlight { .. }), "{begun:?}");
    assert_eq!(second.says("@@autocommit + 0").await, "0");
    assert_eq!(
        session.commit(&answer(), COMMIT_LIMIT).await.unwrap(),
        Committed::Stored
    );
    let begun = second.begin(&duplicate).await;
    assert!(matches!(begun, Claim::Completed(_)), "{begun:?}");
    scratch.clean_up().await;
}

/// A record that was completed since then was in flight for as long as that connection lived.
#[tokio::test]
async fn a_snapshot_that_was_left_in_the_pool_answers_no_request() {
    let Some(scratch) = Scratch::migrated().await else {
        return;
    };
    let select = format!("SELECT COUNT(*) FROM {}", scratch.table);
    for (settings, left) in [
        ("SET autocommit = 0", select.clone()),
        ("SET autocommit = 1", format!("BEGIN; {select}")),
    ] {
        let till = Till::new(&scratch, settings);
        let running = claimed(&*till.0.store).await;
        till.execute(&left).await;
        let completed = till.0.store.complete(&running.owner, &answer(), TTL).await;
        assert_eq!(completed.unwrap(), Completion::Stored);
        let begun = till.begin(&transaction(&running)).await;
        assert!(matches!(begun, Claim::Completed(_)), "{settings}");
    }
    scratch.clean_up().await;
}

/// A record was written that had expired already, and its key was free for a second payment; one that lives was taken for
/// expired.
#[tokio::test]
async fn a_clock_that_was_left_in_the_pool_dates_no_record() {
    for settings in [&[][..], &["--sysdate-is-now"]] {
        let Some(server) = OwnServer::start(settings).await else {
            return;
        };
        let scratch = Scratch::on(&server.options()).await;
        scratch.store(1).migrate().await.unwrap();
        let till = Till::new(&scratch, "SELECT 1");
        for clock in ["1", "UNIX_TIMESTAMP() - 30", "UNIX_TIMESTAMP() + 864000"] {
            let set = format!("SET timestamp = {clock}");
            till.run(&set).await;
            let is_right = "ABS(TIMESTAMPDIFF(SECOND, UTC_TIMESTAMP(), (SELECT MAX(created_at) FROM records))) < 20";
            assert_eq!(till.says(is_right).await, "1", "{clock}: for its next user");
            till.execute(&set).await;
            let paid = till.run("SELECT 1").await;
            let record = till.0.store.get(&paid.owner.key).await.unwrap().unwrap();
            let away = record.expires_in.abs_diff(TTL);
            assert!(away < Duration::from_secs(20), "{clock}: {record:?}");
            till.execute(&set).await;
            let again = till.begin(&paid).await;
            assert!(matches!(again, Claim::Completed(_)), "{clock}");
        }
    }
}

/// The clock of a session is the server's there, and what says so again is refused.
#[tokio::test]
async fn a_server_that_lets_no_session_set_its_clock_has_transactions() {
    let Some(server) = OwnServer::start(&["--secure-timestamp=YES"]).await else {
        return;
    };
    let scratch = Scratch::on(&server.options()).await;
    scratch.store(1).migrate().await.unwrap();
    let till = Till::new(&scratch, "SELECT 1");
    let paid = till.run("SELECT 1").await;
    assert!(matches!(till.begin(&paid).await, Claim::Completed(_)));
}

/// A `COMMIT` that releases ended the connection, and one that chains left a transaction open.
#[tokio::test]
async fn a_transaction_ends_as_its_connection_began_whatever_the_completion_type() {
    let Some(scratch) = Scratch::migrated().await else {
        return;
    };
    for (settings, completion_type) in [
        ("SET completion_type = 'CHAIN'", "CHAIN"),
        ("SET completion_type = 'CHAIN', autocommit = 0", "CHAIN"),
        ("SET completion_type = 'RELEASE'", "RELEASE"),
        ("SET completion_type = 'RELEASE', autocommit = 0", "RELEASE"),
    ] {
        let till = Till::new(&scratch, settings);
        let before = till.says("CONNECTION_ID()").await;
        for handler in ["SELECT 1", "SET completion_type = 'CHAIN'"] {
            let paid = till.run(handler).await;
            assert!(matches!(till.begin(&paid).await, Claim::Completed(_)));
            let Claim::Acquired(session) = till.begin(&transaction(&request())).await else {
                panic!("it is the first");
            };
            session.roll_back().await;
            till.settle(false).await;
            assert_eq!(till.says("CONNECTION_ID()").await, before, "{settings}");
            assert_eq!(till.says("@@in_transaction").await, "0", "{settings}");
            let put_back = till.says("@@completion_type").await;
            assert_eq!(put_back, completion_type, "{settings}");
        }
    }
    scratch.clean_up().await;
}

/// It saw what another transaction had not committed: a duplicate of one that ran was told that its outcome is unknown, and one
/// of a commit that did not happen got its response.
#[tokio::test]
async fn what_is_not_committed_answers_no_request() {
    let Some(scratch) = Scratch::migrated().await else {
        return;
    };
    let settings = "SET SESSION TRANSACTION ISOLATION LEVEL READ UNCOMMITTED";
    let (first, second) = (Till::new(&scratch, settings), Till::new(&scratch, settings));
    let request = request();
    let Claim::Acquired(mut session) = first.begin(&transaction(&request)).await else {
        panic!("it is the first");
    };
    let duplicate = transaction(&rival(&request));
    let begun = second.begin(&duplicate).await;
    assert!(
        matches!(begun, Claim::InFlight { .. }),
        "running: {begun:?}"
    );
    // What `commit` sends in front of `COMMIT`.
    let record = format!(
        "UPDATE {} SET state = 2, response = X'00', expires_at = UTC_TIMESTAMP(6) + INTERVAL 1 HOUR",
        scratch.table
    );
    let record = sqlx::raw_sql(AssertSqlSafe(record));
    record.execute(session.connection()).await.unwrap();
    let begun = second.begin(&duplicate).await;
    assert!(
        matches!(begun, Claim::InFlight { .. }),
        "recorded: {begun:?}"
    );
    session.roll_back().await;
    first.settle(false).await;
    let Claim::Acquired(session) = second.begin(&duplicate).await else {
        panic!("the first was rolled back");
    };
    session.roll_back().await;
    scratch.clean_up().await;
}

/// A server's default, which the sessions of a pool have.
#[tokio::test]
async fn the_mode_of_a_session_is_no_matter() {
    let Some(scratch) = Scratch::migrated().await else {
        return;
    };
    for settings in [
        "SET sql_mode = 'ORACLE,EMPTY_STRING_IS_NULL', autocommit = 0",
        "SET sql_mode = 'ANSI_QUOTES,NO_BACKSLASH_ESCAPES,PAD_CHAR_TO_FULL_LENGTH,NO_UNSIGNED_SUBTRACTION'",
        "SET sql_mode = 'SIMULTANEOUS_ASSIGNMENT,TIME_ROUND_FRACTIONAL,HIGH_NOT_PRECEDENCE,IGNORE_SPACE'",
        "SET sql_mode = 'MAXDB', time_zone = '+05:45', sql_safe_updates = 1, sql_select_limit = 1",
    ] {
        let till = Till::new(&scratch, settings);
        let paid = till.run("SELECT 1").await;
        let record = till.0.store.get(&paid.owner.key).await.unwrap().unwrap();
        assert!(
            record.expires_in.abs_diff(TTL) < Duration::from_secs(20),
            "{settings}"
        );
        assert!(
            matches!(till.begin(&paid).await, Claim::Completed(_)),
            "{settings}"
        );
    }
    scratch.clean_up().await;
}

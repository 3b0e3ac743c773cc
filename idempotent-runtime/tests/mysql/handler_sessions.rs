//! Transactions whose handler changes its session, or goes on after the server has ended them.

use idempotent_runtime::store::Claim;
use idempotent_runtime::store::transaction::{Committed, Fate};

use crate::own_server::OwnServer;
use crate::support::{Scratch, answer};
use crate::transactions::{COMMIT_LIMIT, IDLE_LIMIT, Shop, run, transaction};

/// A connection that a handler has changed was the next one's, whose writes went elsewhere or were refused.
#[tokio::test]
async fn a_handler_that_changes_its_session_has_a_record_and_its_connection_is_closed() {
    let Some(scratch) = Scratch::migrated().await else {
        return;
    };
    scratch
        .execute("CREATE TABLE {database}.effects (id INT)")
        .await;
    let shop = Shop::new(&scratch, &scratch.options, 1);
    let insert = format!("INSERT INTO {}.effects VALUES (1)", scratch.database);
    for (change, is_closed) in [
        ("SELECT 1", false),
        ("USE information_schema", true),
        ("SET autocommit = 0", false),
        ("SET autocommit = 1", false),
        ("SET SESSION TRANSACTION READ ONLY", false),
        ("SET SESSION TRANSACTION ISOLATION LEVEL SERIALIZABLE", true),
        ("LOCK TABLES effects READ", false),
        ("SET sql_mode = 'ANSI_QUOTES,ORACLE'", true),
        ("SET time_zone = '+11:00'", true),
        ("SET NAMES latin1", true),
        ("SET timestamp = 1", false),
        ("SET sql_safe_updates = 1, sql_select_limit = 1", true),
        ("SET check_constraint_checks = 0", true),
        ("SET sql_big_selects = 0", true),
        ("SET max_statement_time = 30", false),
        ("SET idle_transaction_timeout = 30", true),
        ("SET net_write_timeout = 30", true),
        ("SET system_versioning_asof = '2020-01-01 00:00:00'", true),
        ("SET group_concat_max_len = 4", true),
        ("SET div_precision_increment = 0", true),
        ("SET auto_increment_increment = 2", true),
        ("SET default_week_format = 3", true),
        ("SET lc_time_names = 'de_DE'", true),
        ("SET sql_auto_is_null = 1", true),
        ("DO GET_LOCK('handler', 0)", false),
        ("SET completion_type = 'CHAIN'", false),
        ("COMMIT; START TRANSACTION READ ONLY; COMMIT", false),
    ] {
        let before = shop.connection().await;
        let request = transaction();
        let mut session = shop.open(&request).await;
        run(&mut session, &insert).await;
        run(&mut session, change).await;
        let committed = session.commit(&answer(), COMMIT_LIMIT).await.unwrap();
        assert_eq!(committed, Committed::Stored, "{change}");
        shop.settle().await;
        let stored = shop.recorded(&request.owner.key).await;
        assert_eq!(stored, Some(answer()), "{change}");
        assert_eq!(shop.connection().await != before, is_closed, "{change}");
        let free = scratch
            .rows("SELECT CAST(IS_FREE_LOCK('handler') AS SIGNED)")
            .await;
        assert_eq!(sqlx::Row::get::<i64, _>(&free[0], 0), 1, "{change}");
    }
    scratch.clean_up().await;
}

/// Of a server that takes back the whole transaction then.
#[tokio::test]
async fn what_follows_a_lock_wait_that_has_ended_the_transaction_is_not_committed() {
    let settings = [
        "--innodb-rollback-on-timeout",
        "--innodb-lock-wait-timeout=1",
    ];
    let Some(server) = OwnServer::start(&settings).await else {
        return;
    };
    let scratch = Scratch::on(&server.options()).await;
    scratch.store(1).migrate().await.unwrap();
    let create = "CREATE TABLE {database}.effects (id INT PRIMARY KEY) ENGINE = InnoDB; INSERT INTO {database}.effects VALUES (0)";
    scratch.execute(create).await;
    let shop = Shop::new(&scratch, &scratch.options, 1);
    let holding = scratch
        .hold("SELECT * FROM {database}.effects WHERE id = 0 FOR UPDATE")
        .await;
    for is_undone in [false, true] {
        let request = transaction();
        let mut session = shop.open(&request).await;
        run(&mut session, "INSERT INTO effects VALUES (1)").await;
        let waits = sqlx::raw_sql("UPDATE effects SET id = 2 WHERE id = 0");
        assert!(waits.execute(session.connection()).await.is_err());
        // The server lets it go on, in a transaction that the record is not in.
        drop(
            sqlx::raw_sql("INSERT INTO effects VALUES (3)")
                .execute(session.connection())
                .await,
        );
        if is_undone {
            session.undo(COMMIT_LIMIT).await.unwrap();
        }
        let committed = session.commit(&answer(), COMMIT_LIMIT).await.unwrap();
        assert_eq!(committed, Committed::Lost);
        let effects = scratch.rows("SELECT id FROM {database}.effects").await;
        assert_eq!(effects.len(), 1);
        assert_eq!(shop.recorded(&request.owner.key).await, None);
        shop.open(&request).await.roll_back().await;
        shop.settle().await;
    }
    holding.rollback().await.unwrap();
}

/// They stayed locked for as long as the connection was idle in the pool, and no other session could write to them.
#[tokio::test]
async fn a_handler_that_leaves_tables_locked_locks_out_no_other_session() {
    let Some(scratch) = Scratch::migrated().await else {
        return;
    };
    scratch
        .execute("CREATE TABLE {database}.effects (id INT)")
        .await;
    let shop = Shop::new(&scratch, &scratch.options, 1);
    let request = transaction();
    for request in [None, Some(&request)] {
        let before = shop.connection().await;
        let begun = shop.begin.begin(request, IDLE_LIMIT).await.unwrap();
        let Claim::Acquired(mut session) = begun else {
            panic!("{request:?}");
        };
        run(&mut session, "LOCK TABLES effects READ").await;
        match request {
            None => {
                let committed = session.commit(&answer(), COMMIT_LIMIT).await.unwrap();
                assert_eq!(committed, Committed::Unknown);
            }
            // Its answer is not to be stored.
            Some(_) => {
                assert_eq!(session.fate().await, Fate::Ended);
                session.abandon().await;
            }
        }
        shop.settle().await;
        let write = "SET lock_wait_timeout = 5; INSERT INTO {database}.effects VALUES (1);
            SET lock_wait_timeout = DEFAULT";
        scratch.execute(write).await;
        assert_eq!(shop.connection().await, before, "it is reused");
    }
    scratch.clean_up().await;
}

/// The account may write to the records by a role, which the handler gives up.
#[tokio::test]
async fn a_handler_that_changes_its_role_has_a_record() {
    let Some(server) = OwnServer::start(&[]).await else {
        return;
    };
    let scratch = Scratch::on(&server.options()).await;
    scratch.store(1).migrate().await.unwrap();
    let grants = "CREATE ROLE writer; CREATE ROLE `a``reader`; CREATE USER application; \
        GRANT SELECT, INSERT, UPDATE, DELETE ON {database}.* TO writer; \
        GRANT SELECT ON {database}.* TO `a``reader`; \
        GRANT writer TO application; GRANT `a``reader` TO application; \
        SET DEFAULT ROLE writer FOR application";
    scratch.execute(grants).await;
    let options = scratch.options.clone().username("application");
    let shop = Shop::new(&scratch, &options, 1);
    for change in ["SET ROLE NONE", "SET ROLE `a``reader`"] {
        let before = shop.connection().await;
        let request = transaction();
        let mut session = shop.open(&request).await;
        run(&mut session, change).await;
        let committed = session.commit(&answer(), COMMIT_LIMIT).await.unwrap();
        assert_eq!(committed, Committed::Stored, "{change}");
        shop.settle().await;
        let stored = shop.recorded(&request.owner.key).await;
        assert_eq!(stored, Some(answer()), "{change}");
        assert_eq!(shop.connection().await, before, "the role is back");
    }
}

//! Migrations, names, and what is said when there is no schema.

use std::sync::Arc;
use std::time::Instant;

use idempotent_runtime::ErrorKind;
use idempotent_runtime::store::postgres::PostgresStore;
use idempotent_runtime::store::{ListFilter, Store, StoreErrorKind};

use crate::free_port::free_port;
use crate::own_server::OwnServer;
use crate::sql::sql_store_tests;
use crate::support::{PATIENCE, Scratch, backend, chain, claimed, pool, request, rival, server};

sql_store_tests!(
    Scratch: missing_table_is_refused_and_the_cause_names_migrate,
    migrating_again_keeps_the_records,
    table_made_by_the_published_text_is_ours,
    table_of_a_newer_release_is_refused,
    table_of_somebody_else_is_left_alone,
    name_that_is_no_identifier_is_refused,
);

/// All of them are at it before the first may go on.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn eight_processes_migrate_at_once() {
    let Some(scratch) = Scratch::new().await else {
        return;
    };
    let mut gate = scratch.admin.begin().await.unwrap();
    let lock =
        "SELECT pg_advisory_xact_lock(hashtextextended('idempotent-runtime migrate ' || $1, 0))";
    sqlx::query(lock)
        .bind(&scratch.table)
        .execute(&mut *gate)
        .await
        .unwrap();
    let holder = backend(&mut *gate).await;
    let migrations: Vec<_> = (0..8)
        .map(|_| {
            let store = scratch.store(1);
            tokio::spawn(async move { store.migrate().await })
        })
        .collect();
    scratch.until_blocked_by(holder, 8).await;
    gate.rollback().await.unwrap();
    for migration in migrations {
        migration.await.unwrap().unwrap();
    }
    claimed(&scratch.store(1)).await;
    scratch.clean_up().await;
}

#[tokio::test]
async fn published_text_names_the_chosen_schema() {
    let Some(scratch) = Scratch::new().await else {
        return;
    };
    scratch.execute(r#"CREATE SCHEMA "{table}""#).await;
    let store = || scratch.store(1).with_schema(&scratch.table);
    scratch.execute(&store().migrations()).await;
    claimed(&store()).await;
    scratch.execute(r#"DROP SCHEMA "{table}" CASCADE"#).await;
    scratch.clean_up().await;
}

/// The one that operators list by, and that a completed record leaves.
#[tokio::test]
async fn what_is_not_completed_is_listed_along_its_index() {
    let Some(scratch) = Scratch::migrated().await else {
        return;
    };
    claimed(&scratch.store(1)).await;
    let plan = r#"SET enable_seqscan = off; SET enable_sort = off; EXPLAIN SELECT record_key FROM "{table}"
        WHERE state = 1 AND record_key > '' ORDER BY record_key LIMIT 1000"#;
    let rows = sqlx::raw_sql(sqlx::AssertSqlSafe(plan.replace("{table}", &scratch.table)))
        .fetch_all(&scratch.admin)
        .await
        .unwrap();
    let plan: Vec<String> = rows.iter().map(|row| sqlx::Row::get(row, 0)).collect();
    assert!(
        plan.iter().any(|line| line.contains("_uncompleted")),
        "{plan:?}"
    );
    scratch.clean_up().await;
}

#[tokio::test]
async fn table_that_was_dropped_without_its_functions_is_made_anew() {
    let Some(scratch) = Scratch::migrated().await else {
        return;
    };
    scratch.execute(r#"DROP TABLE "{table}""#).await;
    let store = scratch.store(1);
    store.migrate().await.unwrap();
    claimed(&store).await;
    scratch.clean_up().await;
}

#[tokio::test]
async fn schema_of_another_release_is_refused() {
    let Some(scratch) = Scratch::migrated().await else {
        return;
    };
    scratch
        .execute(r#"ALTER TABLE "{table}" ALTER schema_version SET DEFAULT 5"#)
        .await;
    let error = scratch.store(1).migrate().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Store);
    assert!(error.to_string().contains("has schema 5"), "{error}");
    assert!(error.to_string().contains("reads schema 4"), "{error}");
    let error = scratch.store(1).claim(&request()).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::OtherRelease);
    assert!(chain(&error).contains("has schema 5"), "{}", chain(&error));
    scratch.clean_up().await;
}

#[tokio::test]
async fn upper_case_in_a_name_is_kept() {
    let Some(mut scratch) = Scratch::new().await else {
        return;
    };
    // Unquoted, it would be folded to lower case.
    scratch.table = format!("Select_{}", &scratch.table[5..]);
    let store = scratch.store(1);
    store.migrate().await.unwrap();
    claimed(&store).await;
    store.purge_expired(1).await.unwrap();
    scratch.clean_up().await;
}

/// In a schema of its own, because the name of the table is the default one.
#[tokio::test]
async fn connect_migrates_the_default_table() {
    let Some(scratch) = Scratch::new().await else {
        return;
    };
    scratch.execute(r#"CREATE SCHEMA "{table}""#).await;
    let url = server().await.unwrap();
    let separator = if url.contains('?') { '&' } else { '?' };
    let url = format!("{url}{separator}options[search_path]={}", scratch.table);
    let store = idempotent_runtime::store::connect(&url).await.unwrap();
    assert_eq!(store.name(), "postgres");
    claimed(&store).await;
    let count = format!(
        r#"SELECT count(*) FROM "{}".idempotency_records"#,
        scratch.table
    );
    let records: i64 = sqlx::query_scalar(sqlx::AssertSqlSafe(count))
        .fetch_one(&scratch.admin)
        .await
        .unwrap();
    assert_eq!(records, 1);
    scratch.execute(r#"DROP SCHEMA "{table}" CASCADE"#).await;
}

#[tokio::test]
async fn connect_says_what_failed_and_not_the_password() {
    let url = format!("postgres://app:hunter2@127.0.0.1:{}/payments", free_port());
    let error = PostgresStore::connect(&url).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Store);
    let text = format!("{} {error:?}", chain(&error));
    assert!(
        text.starts_with("postgres store: cannot connect: postgres store is unavailable"),
        "{text}"
    );
    assert!(text.contains("Connection refused"), "{text}");
    assert!(!text.contains("hunter2"), "{text}");

    let error = PostgresStore::connect("postgres://app:hunter2@host:port/")
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidUrl);
    assert!(!format!("{} {error:?}", chain(&error)).contains("hunter2"));
}

/// On a server of its own, because the shared one may let in everybody.
#[tokio::test]
async fn connect_says_that_the_password_or_the_database_is_wrong() {
    let Some(server) = OwnServer::start() else {
        return;
    };
    let admin = pool(&server.options(), 1);
    sqlx::raw_sql("ALTER ROLE postgres PASSWORD 'right'")
        .execute(&admin)
        .await
        .unwrap();
    server.ask_for_passwords();
    let reload = sqlx::raw_sql("SELECT pg_reload_conf()").execute(&admin);
    reload.await.unwrap();
    let port = server.options().get_port();
    let url = |password: &str, database: &str| {
        format!("postgres://postgres:{password}@127.0.0.1:{port}/{database}?sslmode=disable")
    };
    // The server reads its settings anew in its own time.
    let started = Instant::now();
    let wrong = loop {
        match PostgresStore::connect(&url("hunter2", "postgres")).await {
            Err(error) => break error,
            Ok(_) => assert!(started.elapsed() < PATIENCE, "it asks for no password"),
        }
    };
    let missing = PostgresStore::connect(&url("right", "payments")).await;
    for (error, cause) in [
        (wrong, "password authentication failed"),
        (
            missing.unwrap_err(),
            r#"database "payments" does not exist"#,
        ),
    ] {
        assert_eq!(error.kind(), ErrorKind::Store);
        let text = format!("{} {error:?}", chain(&error));
        assert!(
            text.starts_with("postgres store: cannot connect: "),
            "{text}"
        );
        assert!(text.contains(cause), "{text}");
        assert!(
            !text.contains("hunter2") && !text.contains("right"),
            "{text}"
        );
    }
    PostgresStore::connect(&url("right", "postgres"))
        .await
        .unwrap();
}

#[tokio::test]
async fn debug_shows_no_password() {
    let Some(scratch) = Scratch::new().await else {
        return;
    };
    let options = scratch.options.clone().password("hunter2");
    let store = scratch.store_on(pool(&options, 1));
    let text = format!("{store:?}");
    assert!(
        text.contains(&scratch.table) && !text.contains("hunter2"),
        "{text}"
    );
}

/// More of them in a row than one call looks into: the table has no constraint on the length of a key.
#[tokio::test]
async fn rows_with_keys_of_another_length_do_not_stop_a_listing() {
    let Some(scratch) = Scratch::migrated().await else {
        return;
    };
    let store = scratch.store(1);
    let ours = request();
    store.claim(&ours).await.unwrap();
    let foreign = r#"INSERT INTO "{table}" SELECT (jsonb_populate_record(r, jsonb_build_object(
        'record_key', '\x' || repeat('00', 20) || lpad(to_hex(i), 16, '0')))).*
        FROM "{table}" AS r, generate_series(1, 12000) AS i"#;
    scratch.execute(foreign).await;
    let (mut seen, mut next) = (Vec::new(), None);
    for _ in 0..100 {
        let page = store.list(&ListFilter::new(), next.as_ref(), 10).await;
        let page = page.unwrap();
        seen.extend(page.records.iter().map(|record| record.key));
        next = page.next;
        if next.is_none() {
            break;
        }
    }
    assert!(next.is_none(), "it has no end");
    assert_eq!(seen, [ours.owner.key]);
    scratch.clean_up().await;
}

/// What a restore has not made yet, or could not make: each claim of one key was acquired.
#[tokio::test]
async fn table_without_its_primary_key_is_refused() {
    let Some(scratch) = Scratch::migrated().await else {
        return;
    };
    for without in [
        r#"ALTER TABLE "{table}" DROP CONSTRAINT "{table}_pkey""#,
        r#"ALTER TABLE "{table}" ADD CONSTRAINT "{table}_pkey" PRIMARY KEY (record_key, created_at)"#,
    ] {
        scratch.execute(without).await;
        let store = scratch.store(1);
        let first = request();
        let claims = [store.claim(&first).await, store.claim(&rival(&first)).await];
        assert!(claims.iter().all(Result::is_err), "{without}: {claims:?}");
        assert!(store.migrate().await.is_err(), "{without}");
    }
    scratch.clean_up().await;
}

/// The same behind the back of a process that has seen the table whole, as when it is restored.
#[tokio::test]
async fn table_that_loses_its_primary_key_takes_no_claims() {
    let Some(scratch) = Scratch::migrated().await else {
        return;
    };
    let store = Arc::new(scratch.store(1));
    claimed(&*store).await;
    let without = r#"ALTER TABLE "{table}" DROP CONSTRAINT "{table}_pkey""#;
    scratch.execute(without).await;
    let first = request();
    let claims = [first, first, rival(&first)].map(|request| {
        let store = Arc::clone(&store);
        tokio::spawn(async move { store.claim(&request).await })
    });
    for claim in claims {
        let claim = claim.await.unwrap();
        assert!(claim.is_err(), "{claim:?}");
    }
    scratch.clean_up().await;
}

/// Row-level security that lets a role insert and not select does the same.
#[tokio::test]
async fn claim_whose_record_is_kept_out_is_an_error() {
    let Some(scratch) = Scratch::migrated().await else {
        return;
    };
    scratch
        .execute(
            r#"CREATE FUNCTION "{table}_keep"() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
               CREATE TRIGGER keeps_out BEFORE INSERT ON "{table}" FOR EACH ROW EXECUTE FUNCTION "{table}_keep"()"#,
        )
        .await;
    let error = scratch.store(1).claim(&request()).await.unwrap_err();
    assert!(!error.may_have_happened(), "{error:?}");
    assert!(
        chain(&error).contains("row-level security or a trigger"),
        "{error:?}"
    );
    scratch
        .execute(r#"DROP FUNCTION "{table}_keep" CASCADE"#)
        .await;
    scratch.clean_up().await;
}

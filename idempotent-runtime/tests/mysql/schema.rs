//! Migrations, names, and what is said when something is not as it should be.

use idempotent_runtime::ErrorKind;
use idempotent_runtime::store::{self, Acquired, Claim, Store, StoreErrorKind};
use sqlx::mysql::MySqlConnectOptions;

use crate::free_port::free_port;
use crate::sql::sql_store_tests;
use crate::support::{Scratch, TTL, answer, chain, claimed, request, rival};

sql_store_tests!(
    Scratch: missing_table_is_refused_and_the_cause_names_migrate,
    migrating_again_keeps_the_records,
    table_made_by_the_published_text_is_ours,
    table_of_a_newer_release_is_refused,
    table_of_somebody_else_is_left_alone,
    name_that_is_no_identifier_is_refused,
);

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn eight_migrations_at_once_make_one_table() {
    let Some(scratch) = Scratch::new().await else {
        return;
    };
    let starts: Vec<_> = (0..8)
        .map(|_| {
            let store = scratch.store(1);
            tokio::spawn(async move { store.migrate().await })
        })
        .collect();
    for start in starts {
        start.await.unwrap().unwrap();
    }
    claimed(&scratch.store(1)).await;
    scratch.clean_up().await;
}

#[tokio::test]
async fn a_table_of_an_earlier_release_is_refused() {
    let Some(scratch) = Scratch::migrated().await else {
        return;
    };
    scratch
        .execute("ALTER TABLE {table} DROP COLUMN schema_version")
        .await;
    let error = scratch.store(1).migrate().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Store);
    let text = chain(&error);
    assert!(text.contains("of an earlier release"), "{text}");
    assert!(text.contains("use another table"), "{text}");
    assert!(text.contains("schema 3"), "{text}");
    scratch
        .execute("ALTER TABLE {table} DROP COLUMN operation")
        .await;
    let error = scratch.store(1).claim(&request()).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::OtherRelease);
    assert!(
        chain(&error).contains("the columns of this release"),
        "{error:?}"
    );
    scratch.clean_up().await;
}

/// The version was a comment, which a dump can leave out.
#[tokio::test]
async fn the_schema_version_survives_a_dump_without_comments() {
    let Some(scratch) = Scratch::migrated().await else {
        return;
    };
    let created = scratch.rows("SHOW CREATE TABLE {table}").await;
    let created: String = sqlx::Row::get(&created[0], 1);
    let (definition, _) = created.rsplit_once(" COMMENT=").unwrap();
    let definition = definition.replacen("`records`", "{table}", 1);
    scratch.execute("DROP TABLE {table}").await;
    scratch.execute(&definition).await;
    let store = scratch.store(1);
    store.migrate().await.unwrap();
    claimed(&store).await;
    scratch.clean_up().await;
}

#[tokio::test]
async fn records_of_two_tables_never_meet() {
    let Some(scratch) = Scratch::migrated().await else {
        return;
    };
    let store = scratch.store(1);
    let other_store = scratch.store(1).with_table("other").unwrap();
    other_store.migrate().await.unwrap();
    let request = claimed(&store).await;
    store
        .complete(&request.owner, &answer(), TTL)
        .await
        .unwrap();
    let claim = other_store.claim(&rival(&request)).await.unwrap();
    assert!(
        matches!(claim, Claim::Acquired(Acquired { attempt: 1, .. })),
        "{claim:?}"
    );
    assert!(other_store.remove(&request.owner.key).await.unwrap());
    assert!(store.get(&request.owner.key).await.unwrap().is_some());
    scratch.clean_up().await;
}

fn url(options: &MySqlConnectOptions, password: &str, port: u16, database: &str) -> String {
    let (user, host) = (options.get_username(), options.get_host());
    format!("mysql://{user}:{password}@{host}:{port}/{database}")
}

#[tokio::test]
async fn connect_says_what_failed_and_not_the_password() {
    let Some(scratch) = Scratch::new().await else {
        return;
    };
    let options = &scratch.options;
    let (port, database) = (options.get_port(), options.get_database().unwrap());
    for (url, cause) in [
        (url(options, "hunter2", free_port(), database), "refused"),
        (url(options, "hunter2", port, database), "Access denied"),
    ] {
        let error = store::connect(&url).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Store);
        let text = format!("{} {error:?}", chain(&error));
        assert!(text.starts_with("mysql store: no connection to "), "{text}");
        assert!(text.contains(cause), "{text}");
        assert!(!text.contains("hunter2"), "{text}");
    }
    for url in [
        "mysql://root:hunter2@127.0.0.1:3306",
        "mysql://root:hunter2@host:port/test",
    ] {
        let error = store::connect(url).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidUrl);
        let text = format!("{} {error:?}", chain(&error));
        assert!(text.starts_with("the mysql store's URL"), "{text}");
        assert!(!text.contains("hunter2"), "{text}");
    }
    scratch.clean_up().await;
}

#[tokio::test]
async fn debug_shows_no_password() {
    let Some(scratch) = Scratch::new().await else {
        return;
    };
    let options = scratch.options.clone().password("hunter2");
    let store = scratch.store_on(&options, 1);
    let text = format!("{store:?}");
    assert!(
        text.contains(&scratch.table) && !text.contains("hunter2"),
        "{text}"
    );
    scratch.clean_up().await;
}

/// A copy of the table, as by `CREATE TABLE ... SELECT`, has its columns and no key: each claim of one key was acquired.
#[tokio::test]
async fn a_table_without_its_primary_key_is_refused() {
    let Some(scratch) = Scratch::migrated().await else {
        return;
    };
    let running = scratch.store(1);
    scratch
        .execute("ALTER TABLE {table} DROP PRIMARY KEY")
        .await;
    let first = request();
    for claim in [first, rival(&first)] {
        let error = running.claim(&claim).await.unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Refused);
    }
    assert!(scratch.store(1).migrate().await.is_err());
    scratch
        .execute("ALTER TABLE {table} ADD PRIMARY KEY (record_key, created_at)")
        .await;
    assert!(scratch.store(1).migrate().await.is_err());
    scratch.clean_up().await;
}

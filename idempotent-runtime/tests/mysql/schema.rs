//! Migrations, names, and what is said when something is not as it should be.

use idempotent_runtime::ErrorKind;
use idempotent_runtime::store::mysql::MySqlStore;
use idempotent_runtime::store::{self, Claim, Store, StoreErrorKind};
use sqlx::mysql::{MySqlConnectOptions, MySqlPoolOptions};

use crate::support::{Scratch, answer, chain, claimed, request, rival};

#[tokio::test]
async fn a_missing_table_is_an_error_that_names_migrate() {
    let Some(scratch) = Scratch::new().await else {
        return;
    };
    let store = scratch.store(1);
    let owner = request().owner;
    for error in [
        store.claim(&request()).await.unwrap_err(),
        store.complete(&owner, &answer()).await.unwrap_err(),
        store.release(&owner).await.unwrap_err(),
        store.get(&owner.key).await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), StoreErrorKind::Rejected);
        let text = chain(&error);
        assert!(text.contains("mysql store"), "{text}");
        assert!(text.contains("call `MySqlStore::migrate`"), "{text}");
    }
}

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
async fn migrating_again_keeps_the_records() {
    let Some(scratch) = Scratch::migrated().await else {
        return;
    };
    let store = scratch.store(1);
    let request = claimed(&store).await;
    store.complete(&request.owner, &answer()).await.unwrap();
    store.migrate().await.unwrap();
    let claim = store.claim(&rival(&request)).await.unwrap();
    assert!(matches!(claim, Claim::Completed(_)), "{claim:?}");
    scratch.clean_up().await;
}

#[tokio::test]
async fn a_table_of_a_newer_release_is_refused() {
    let Some(scratch) = Scratch::migrated().await else {
        return;
    };
    scratch
        .execute("ALTER TABLE {table} COMMENT = 'idempotent-runtime schema 2'")
        .await;
    let error = scratch.store(1).migrate().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Store);
    let text = chain(&error);
    assert!(text.contains("has schema version 2"), "{text}");
    assert!(text.contains("reads version 1"), "{text}");
    scratch.clean_up().await;
}

#[tokio::test]
async fn a_table_of_somebody_else_is_left_alone() {
    let Some(scratch) = Scratch::new().await else {
        return;
    };
    scratch.execute("CREATE TABLE {table} (id INTEGER)").await;
    let error = scratch.store(1).migrate().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Store);
    let text = error.to_string();
    assert!(text.contains("is not idempotent-runtime's"), "{text}");
    scratch.clean_up().await;
}

#[tokio::test]
async fn a_name_that_is_no_identifier_is_refused() {
    let Some(scratch) = Scratch::new().await else {
        return;
    };
    for name in ["", "a b", "t`; DROP TABLE x; --", "test.t", &"t".repeat(49)] {
        let store = MySqlStore::new(scratch.pool(1));
        let error = store.with_table(name).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidName, "{name}");
    }
}

#[tokio::test]
async fn records_of_two_tables_never_meet() {
    let Some(scratch) = Scratch::migrated().await else {
        return;
    };
    let Some(other) = Scratch::migrated().await else {
        return;
    };
    let (store, other_store) = (scratch.store(1), other.store(1));
    let request = claimed(&store).await;
    store.complete(&request.owner, &answer()).await.unwrap();
    let claim = other_store.claim(&rival(&request)).await.unwrap();
    assert!(
        matches!(claim, Claim::Acquired { attempt: 1, .. }),
        "{claim:?}"
    );
    assert!(other_store.remove(&request.owner.key).await.unwrap());
    assert!(store.get(&request.owner.key).await.unwrap().is_some());
    scratch.clean_up().await;
    other.clean_up().await;
}

/// Nothing that it acknowledges would ever be stored.
#[tokio::test]
async fn a_pool_with_autocommit_off_is_refused() {
    let Some(scratch) = Scratch::migrated().await else {
        return;
    };
    let pool = MySqlPoolOptions::new()
        .max_connections(1)
        .after_connect(|connection, _| {
            Box::pin(async move {
                let off = sqlx::raw_sql("SET autocommit = 0").execute(connection);
                off.await.map(drop)
            })
        })
        .connect_lazy_with(scratch.options.clone());
    let error = scratch.store_on(pool).migrate().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Store);
    let text = error.to_string();
    assert!(text.starts_with("mysql store: "), "{text}");
    assert!(text.contains("`autocommit` off"), "{text}");
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
    // A port that was free a moment ago.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let free = listener.local_addr().unwrap().port();
    drop(listener);
    for (url, cause) in [
        (url(options, "hunter2", free, database), "refused"),
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
}

#[tokio::test]
async fn debug_shows_no_password() {
    let Some(scratch) = Scratch::new().await else {
        return;
    };
    let options = scratch.options.clone().password("hunter2");
    let store = scratch.store_on(crate::support::pool(&options, 1));
    let text = format!("{store:?}");
    assert!(
        text.contains(&scratch.table) && !text.contains("hunter2"),
        "{text}"
    );
}

//! What is wrong is found when the application starts, and not by the first payment.

use std::error::Error as _;
use std::sync::Arc;

use idempotent_runtime::store::memory::MemoryStore;
use idempotent_runtime::store::sqlite::SqliteStore;
use idempotent_runtime::{ErrorKind, Idempotency};
use sqlx::{MySqlConnection, PgConnection, SqliteConnection};

use crate::support::{Database, Scene, on_databases};

async fn the_wrong_connection_is_told_the_right_one<C: Database>(scene: &Scene<C>) {
    let idempotency = Idempotency::new(scene.store(1));
    let errors = [
        idempotency.transactions::<PgConnection>().await.err(),
        idempotency.transactions::<SqliteConnection>().await.err(),
        idempotency.transactions::<MySqlConnection>().await.err(),
    ];
    let wrong: Vec<_> = errors.iter().flatten().collect();
    assert_eq!(wrong.len(), 2);
    for (store, error) in ["postgres", "sqlite", "mysql"].into_iter().zip(&errors) {
        assert_eq!(error.is_none(), store == C::STORE);
        let Some(error) = error else { continue };
        assert_eq!(error.kind(), ErrorKind::NoTransactions);
        let (message, its) = (error.to_string(), format!("on the {} store", C::STORE));
        assert!(
            message.contains(&format!("of the {store} store")),
            "{error}"
        );
        assert!(message.contains(&its), "{error}");
    }
}
on_databases!(the_wrong_connection_is_told_the_right_one: PgConnection SqliteConnection MySqlConnection);

async fn a_missing_table_is_found<C: Database>(scene: &Scene<C>) {
    let store = C::store(&C::pool(&scene.url, 1), "nobody_has_made_this");
    let error = Idempotency::new(store)
        .transactions::<C>()
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Store, "{error:?}");
}
on_databases!(a_missing_table_is_found);

async fn a_missing_server_is_found<C: Database>(scene: &Scene<C>) {
    let pool = C::pool(&scene.url, 1);
    C::close(&pool).await;
    let store = C::store(&pool, &scene.tables.records);
    let error = Idempotency::new(store)
        .transactions::<C>()
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Store, "{error:?}");
}
on_databases!(a_missing_server_is_found: PgConnection DeadpoolTransaction MySqlConnection);

async fn trying_it_out_leaves_nothing<C: Database>(scene: &Scene<C>) {
    let idempotency = scene.builder(1).secret_check(false).build();
    let transactions = idempotency.transactions::<C>().await.unwrap();
    assert_eq!((scene.records().await, idempotency.pending()), (0, 0));
    drop(transactions);
}
on_databases!(trying_it_out_leaves_nothing);

#[tokio::test]
async fn the_memory_store_has_no_transactions() {
    let idempotency = Idempotency::new(Arc::new(MemoryStore::new()));
    let error = idempotency.transactions::<PgConnection>().await;
    let error = error.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoTransactions);
    let message = error.to_string();
    let names = ["postgres store", "memory store"];
    assert!(names.iter().all(|name| message.contains(name)), "{message}");
}

#[tokio::test]
async fn a_database_in_memory_has_no_transactions() {
    let store = SqliteStore::connect("sqlite::memory:").await.unwrap();
    let idempotency = Idempotency::new(store);
    let error = idempotency.transactions::<SqliteConnection>().await;
    let error = error.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Store);
    assert!(error.source().is_some());
    assert!(format!("{error:?}").contains("in memory"), "{error:?}");
}

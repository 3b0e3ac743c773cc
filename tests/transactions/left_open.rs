//! Other code of the application gives a connection back to the pool with a transaction still open. On PostgreSQL `BEGIN` was a
//! warning there, and what was left was committed with the next request's record.

use idempotent_runtime::Idempotency;
use idempotent_runtime::store::postgres::DeadpoolTransaction;
use sqlx::{AssertSqlSafe, PgConnection};

use crate::support::{Database, Scene};

const LEFT: &str = "BEGIN; INSERT INTO {payments} VALUES ('left', '')";

/// By the next request.
async fn assert_not_committed<C: Database>(scene: &Scene<C>, server: &crate::support::Server<C>) {
    let paid = server.post("/all", "key", "pay; answer 201").await;
    paid.assert_own(201);
    scene.assert_once("key").await;
    assert_eq!(scene.payments("left").await, 0);
}

#[tokio::test]
async fn what_is_left_open_in_a_pool_of_sqlx_is_not_committed() {
    let Some(scene) = Scene::<PgConnection>::new().await else {
        return;
    };
    let pool = PgConnection::pool(&scene.url, 1);
    let store = PgConnection::store(&pool, &scene.tables.records);
    let server = scene.serve(Idempotency::builder(store)).await;
    let left = scene.tables.put_into(LEFT);
    sqlx::raw_sql(AssertSqlSafe(left))
        .execute(&pool)
        .await
        .unwrap();
    assert_not_committed(&scene, &server).await;
    scene.clean_up().await;
}

#[tokio::test]
async fn what_is_left_open_in_a_pool_of_deadpool_is_not_committed() {
    let Some(scene) = Scene::<DeadpoolTransaction>::new().await else {
        return;
    };
    let pool = DeadpoolTransaction::pool(&scene.url, 1);
    let store = DeadpoolTransaction::store(&pool, &scene.tables.records);
    let server = scene.serve(Idempotency::builder(store)).await;
    let left = scene.tables.put_into(LEFT);
    let client = pool.deadpool.get().await.unwrap();
    client.batch_execute(&left).await.unwrap();
    drop(client);
    assert_not_committed(&scene, &server).await;
    scene.clean_up().await;
}

//! The same by tokio-postgres, on a pool of deadpool-postgres.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Extension, State};
use axum::routing::post;
use deadpool_postgres::{GenericClient, Manager, Pool};
use idempotent_runtime::store::Store;
use idempotent_runtime::store::postgres::{DeadpoolTransaction, PostgresStore};
use idempotent_runtime::{Idempotency, Transactions, idempotent};
use tokio_postgres::{Error, NoTls};

use super::insert::{Answer, Inserts, application, failed};
use super::load::Driver;
use crate::Failure;
use crate::till::{PaymentRequest, Till};

async fn insert(client: &impl GenericClient, request: &PaymentRequest) -> Result<(), Error> {
    let insert = "INSERT INTO payments (amount, order_id) VALUES ($1, $2)";
    let insert = client.prepare_cached(insert).await?;
    client
        .execute(&insert, &[&(request.amount as i64), &request.order_id])
        .await?;
    Ok(())
}

async fn alone(
    State(pool): State<Pool>,
    Extension(till): Extension<Till>,
    Json(request): Json<PaymentRequest>,
) -> Answer {
    let mut client = pool.get().await.map_err(failed)?;
    let tx = client.transaction().await.map_err(failed)?;
    insert(&tx, &request).await.map_err(failed)?;
    tx.commit().await.map_err(failed)?;
    Ok(till.pay(request))
}

#[idempotent(ttl_hours = 24)]
async fn with_record(
    #[tx] tx: &mut DeadpoolTransaction,
    Extension(till): Extension<Till>,
    Json(request): Json<PaymentRequest>,
) -> Answer {
    insert(&**tx, &request).await.map_err(failed)?;
    Ok(till.pay(request))
}

/// On the table that the other driver has made.
pub(super) async fn inserts(url: &str, connections: u32) -> Result<Inserts, Failure> {
    let manager = Manager::new(url.parse()?, NoTls);
    let pool = Pool::builder(manager)
        .max_size(connections.try_into()?)
        .build()?;
    let store = PostgresStore::connect(url).await?;
    let store: Arc<dyn Store> = Arc::new(store.with_deadpool(pool.clone()));
    let idempotency = Idempotency::new(Arc::clone(&store));
    let transactions: Transactions<DeadpoolTransaction> = idempotency.transactions().await?;
    Ok(Inserts {
        driver: Driver::TokioPostgres,
        alone: application(post(alone), pool),
        by_hand: None,
        with_record: application(post(with_record), transactions),
        store,
    })
}

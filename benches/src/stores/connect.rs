//! Stores as an application would make them.

use std::sync::Arc;

use idempotent_runtime::store::Store;
use idempotent_runtime::store::postgres::PostgresStore;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};

use crate::Failure;

/// As many connections as the ceiling has, so that the two can be compared.
pub(super) const CONNECTIONS: u32 = 16;

pub(crate) async fn store(name: &str, url: &str) -> Result<Arc<dyn Store>, Failure> {
    match name {
        "postgres" => postgres(url.parse()?).await,
        "redis-aof" => {
            keep_on_disk(url).await?;
            Ok(idempotent_runtime::store::connect(url).await?)
        }
        _ => Ok(idempotent_runtime::store::connect(url).await?),
    }
}

/// Another way to the same records that does not wait for the disk, to fill them in; `None` if there is
/// none.
pub(crate) async fn quick_filler(name: &str, url: &str) -> Result<Option<Arc<dyn Store>>, Failure> {
    if name != "postgres" {
        return Ok(None);
    }
    let options: PgConnectOptions = url.parse()?;
    let hasty = options.options([("synchronous_commit", "off")]);
    postgres(hasty).await.map(Some)
}

async fn postgres(options: PgConnectOptions) -> Result<Arc<dyn Store>, Failure> {
    let pool = PgPoolOptions::new()
        .max_connections(CONNECTIONS)
        .test_before_acquire(false)
        .connect_with(options)
        .await?;
    let store = PostgresStore::new(pool);
    store.migrate().await?;
    Ok(Arc::new(store))
}

/// Makes a Redis answer only after the disk has what was written.
async fn keep_on_disk(url: &str) -> Result<(), Failure> {
    let client = redis::Client::open(url)?;
    let mut connection = client.get_multiplexed_async_connection().await?;
    // A rewrite makes the file smaller, and its size is how what is written is counted.
    for (name, value) in [
        ("auto-aof-rewrite-percentage", "0"),
        ("appendfsync", "always"),
        ("appendonly", "yes"),
    ] {
        let mut set = redis::cmd("CONFIG");
        set.arg("SET").arg(name).arg(value);
        set.exec_async(&mut connection).await?;
    }
    // The file is written by a process of its own first.
    loop {
        let info: String = redis::cmd("INFO")
            .arg("persistence")
            .query_async(&mut connection)
            .await?;
        let is_written = ["aof_rewrite_in_progress:0", "aof_rewrite_scheduled:0"];
        if is_written.iter().all(|line| info.contains(line)) {
            return Ok(());
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

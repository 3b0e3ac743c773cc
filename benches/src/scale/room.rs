//! How much room records take, where they are.

use std::path::PathBuf;

use redis::aio::MultiplexedConnection;
use sqlx::{Connection as _, MySqlConnection, PgConnection, Row as _};

use crate::Failure;

pub(super) enum Room {
    Redis(MultiplexedConnection),
    Postgres(PgConnection),
    MySql(MySqlConnection),
    Sqlite(PathBuf),
}

impl Room {
    pub(super) async fn new(name: &str, url: &str) -> Result<Self, Failure> {
        Ok(match name {
            "redis" => {
                let client = redis::Client::open(url)?;
                Self::Redis(client.get_multiplexed_async_connection().await?)
            }
            "postgres" => Self::Postgres(PgConnection::connect(url).await?),
            "mysql" => Self::MySql(MySqlConnection::connect(url).await?),
            "sqlite" => Self::Sqlite(url.trim_start_matches("sqlite:").into()),
            _ => return Err(format!("it is not known how large `{name}` is").into()),
        })
    }

    pub(super) async fn bytes(&mut self) -> Result<f64, Failure> {
        match self {
            Self::Redis(connection) => {
                let info: String = redis::cmd("INFO")
                    .arg("memory")
                    .query_async(connection)
                    .await?;
                let used = info.split_once("used_memory:");
                let used = used.and_then(|(_, rest)| rest.lines().next()?.trim().parse().ok());
                Ok(used.ok_or("Redis does not say how large it is")?)
            }
            // The table with its index.
            Self::Postgres(connection) => {
                let sql = "SELECT pg_total_relation_size('idempotency_records')::float8";
                Ok(sqlx::query(sql).fetch_one(connection).await?.try_get(0)?)
            }
            // The file of the table, which is as large as it has ever been.
            Self::MySql(connection) => {
                let sql = "SELECT CAST(SUM(FILE_SIZE) AS DOUBLE) FROM information_schema.INNODB_SYS_TABLESPACES \
                           WHERE NAME LIKE '%/idempotency_records'";
                Ok(sqlx::query(sql).fetch_one(connection).await?.try_get(0)?)
            }
            Self::Sqlite(file) => Ok(std::fs::metadata(file)?.len() as f64),
        }
    }
}

/// What this process has in memory.
pub(super) fn resident_bytes() -> Result<u64, Failure> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    Ok(kib.ok_or("the system does not say how large this process is")? * 1024)
}

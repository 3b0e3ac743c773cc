//! What a server says that it has done.

use std::path::PathBuf;
use std::time::Duration;

use futures_util::future::join_all;
use idempotent_runtime::RecordKey;
use idempotent_runtime::store::Store;
use redis::aio::MultiplexedConnection;
use sqlx::{Connection as _, MySqlConnection, PgConnection, Row as _};

use crate::Failure;

/// Counted since the server was started; `None` where it counts no such thing.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Reading {
    /// Requests that it has answered.
    pub(super) round_trips: Option<f64>,
    /// Transactions that have written.
    pub(super) commits: Option<f64>,
    /// Bytes that went into its log, which is what a disk and a replica have to take.
    pub(super) log_bytes: Option<f64>,
}

pub(super) enum Meter {
    Redis(MultiplexedConnection),
    Postgres {
        connection: PgConnection,
        /// Round trips that were made for the sake of the meter.
        own: f64,
    },
    MySql {
        connection: MySqlConnection,
        own: f64,
    },
    Sqlite(PathBuf),
}

/// A server process of PostgreSQL tells what it has done at the end of a transaction, if it has not done
/// so for a second.
const POSTGRES_TELLS_AFTER: Duration = Duration::from_millis(1100);

/// So many look-ups at once go through all connections of the pool.
const LOOK_UPS: u8 = 64;

impl Reading {
    pub(super) fn since(self, earlier: Self) -> Self {
        let difference = self.with(earlier, |now, then| now - then);
        // A counter that has gone back was begun anew meanwhile, and counts nothing.
        let counted = |value: Option<f64>| value.filter(|value| *value >= 0.0);
        Self {
            round_trips: counted(difference.round_trips),
            commits: counted(difference.commits),
            log_bytes: counted(difference.log_bytes),
        }
    }

    pub(super) fn per(self, count: f64) -> Self {
        self.with(self, |value, _| value / count)
    }

    fn with(self, other: Self, of: impl Fn(f64, f64) -> f64) -> Self {
        let of = |own: Option<f64>, other: Option<f64>| Some(of(own?, other?));
        Self {
            round_trips: of(self.round_trips, other.round_trips),
            commits: of(self.commits, other.commits),
            log_bytes: of(self.log_bytes, other.log_bytes),
        }
    }
}

impl Meter {
    pub(super) async fn new(name: &str, url: &str) -> Result<Self, Failure> {
        Ok(match name {
            "redis" | "redis-aof" => {
                let client = redis::Client::open(url)?;
                Self::Redis(client.get_multiplexed_async_connection().await?)
            }
            "postgres" => Self::Postgres {
                connection: PgConnection::connect(url).await?,
                own: 0.0,
            },
            "mysql" => Self::MySql {
                connection: MySqlConnection::connect(url).await?,
                own: 0.0,
            },
            "sqlite" => Self::Sqlite(url.trim_start_matches("sqlite:").into()),
            _ => return Err(format!("nothing is counted for `{name}`").into()),
        })
    }

    pub(super) async fn read(&mut self, store: &dyn Store) -> Result<Reading, Failure> {
        match self {
            Self::Redis(connection) => redis_reading(connection).await,
            Self::Postgres { connection, own } => {
                tokio::time::sleep(POSTGRES_TELLS_AFTER).await;
                let keys = (0..LOOK_UPS).map(|byte| RecordKey::from_bytes([byte; 32]));
                let look_ups = keys.map(|key| async move { store.get(&key).await });
                for looked_up in join_all(look_ups).await {
                    looked_up?;
                }
                *own += f64::from(LOOK_UPS) + 1.0;
                postgres_reading(connection, *own).await
            }
            Self::MySql { connection, own } => {
                *own += 1.0;
                mysql_reading(connection, *own).await
            }
            Self::Sqlite(file) => sqlite_reading(file),
        }
    }
}

/// What is measured is one `SET` for each request, by itself or in a script; what else is asked is the
/// meter's. (The server counts the commands of clients and of scripts together.)
async fn redis_reading(connection: &mut MultiplexedConnection) -> Result<Reading, Failure> {
    let info: String = redis::cmd("INFO")
        .arg("everything")
        .query_async(connection)
        .await?;
    let calls = |name: &str| -> f64 {
        let rest = info.split_once(&format!("cmdstat_{name}:calls="));
        let number = rest.and_then(|(_, rest)| rest.split(',').next()?.parse().ok());
        number.unwrap_or(0.0)
    };
    let size = info.split_once("aof_current_size:");
    Ok(Reading {
        round_trips: Some(calls("set")),
        commits: None,
        log_bytes: size.and_then(|(_, rest)| rest.lines().next()?.trim().parse().ok()),
    })
}

/// Each statement outside a transaction is one, whether it writes or not.
async fn postgres_reading(connection: &mut PgConnection, own: f64) -> Result<Reading, Failure> {
    let sql = "SELECT sum(xact_commit + xact_rollback)::float8, \
        txid_snapshot_xmax(txid_current_snapshot())::float8, \
        (pg_current_wal_insert_lsn() - '0/0')::float8 \
        FROM pg_stat_database WHERE datname = current_database()";
    let row = sqlx::query(sql).fetch_one(connection).await?;
    Ok(Reading {
        round_trips: Some(row.try_get::<f64, _>(0)? - own),
        commits: Some(row.try_get(1)?),
        log_bytes: Some(row.try_get(2)?),
    })
}

async fn mysql_reading(connection: &mut MySqlConnection, own: f64) -> Result<Reading, Failure> {
    let sql = "SHOW GLOBAL STATUS WHERE Variable_name IN ('Questions', 'Innodb_os_log_written')";
    let mut reading = Reading::default();
    for row in sqlx::query(sql).fetch_all(connection).await? {
        let value: f64 = row.try_get::<String, _>(1)?.parse()?;
        match row.try_get::<String, _>(0)?.to_lowercase().as_str() {
            "questions" => reading.round_trips = Some(value - own),
            _ => reading.log_bytes = Some(value),
        }
    }
    Ok(reading)
}

/// SQLite counts transactions in the index of its log (`iChange` of the WAL-index header), and the
/// system counts what this process writes, which is to the file and to its log.
fn sqlite_reading(file: &std::path::Path) -> Result<Reading, Failure> {
    let mut index = file.as_os_str().to_owned();
    index.push("-shm");
    let header = std::fs::read(index)?;
    let changes = header.get(8..12).and_then(|bytes| bytes.try_into().ok());
    let io = std::fs::read_to_string("/proc/self/io")?;
    let written = io.lines().find_map(|line| line.strip_prefix("wchar: "));
    Ok(Reading {
        round_trips: None,
        commits: changes.map(u32::from_ne_bytes).map(f64::from),
        log_bytes: written.and_then(|bytes| bytes.parse().ok()),
    })
}

//! Databases for the tests of the SQLite store. It needs no server, so nothing is ever skipped.

use std::fs;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Duration;

use async_trait::async_trait;
use idempotent_runtime::store::sqlite::SqliteStore;
use idempotent_runtime::store::{ClaimRequest, Renewal};
use idempotent_runtime::{Error, Fingerprint, Owner, RecordKey, StoredResponse, Token};
use sqlx::sqlite::{SqliteConnectOptions, SqlitePool};
use sqlx::{AssertSqlSafe, Connection, Row, SqliteConnection};
use tokio::task::coop::{Unconstrained, unconstrained};

use crate::claims;
pub(crate) use crate::claims::{PATIENCE, TTL, rival};
use crate::sql::{Bench, sql_store};

/// A directory for one database, removed in the end.
pub(crate) struct Directory(PathBuf);

impl Directory {
    pub(crate) fn new() -> Self {
        let directory = std::env::temp_dir().join(format!("idempotent-sqlite-{}", random_hex()));
        fs::create_dir(&directory).unwrap();
        Self(directory)
    }

    pub(crate) fn file(&self) -> PathBuf {
        self.0.join("records.db")
    }

    pub(crate) fn url(&self) -> String {
        format!("sqlite:{}", self.file().display())
    }

    pub(crate) async fn store(&self) -> SqliteStore {
        SqliteStore::connect(&self.url()).await.unwrap()
    }

    pub(crate) async fn connection(&self) -> SqliteConnection {
        SqliteConnection::connect(&self.url()).await.unwrap()
    }

    pub(crate) async fn new_connection(&self) -> SqliteConnection {
        let url = format!("{}?mode=rwc", self.url());
        SqliteConnection::connect(&url).await.unwrap()
    }

    /// What an application has: a pool, which opens nothing by itself, with all patience.
    pub(crate) fn pool(&self) -> SqlitePool {
        self.pool_that_waits(Duration::from_secs(60))
    }

    pub(crate) fn pool_that_waits(&self, busy_timeout: Duration) -> SqlitePool {
        let options = SqliteConnectOptions::new().filename(self.file());
        SqlitePool::connect_lazy_with(options.create_if_missing(true).busy_timeout(busy_timeout))
    }

    /// A store on a migrated file that has not been called yet.
    pub(crate) async fn fresh_store(&self) -> SqliteStore {
        let store = SqliteStore::new(self.pool());
        store.migrate().await.unwrap();
        SqliteStore::new(self.pool())
    }

    /// Keeps everybody else from writing until it is given back by [`unlock`].
    pub(crate) async fn lock(&self) -> SqliteConnection {
        let mut connection = self.connection().await;
        execute(&mut connection, "BEGIN IMMEDIATE").await;
        connection
    }

    /// How many transactions are in the write-ahead log since it was begun: its frames that end one.
    pub(crate) fn commits(&self) -> usize {
        self.count_frames(|frame| frame[4..8] != [0; 4])
    }

    /// How many pages are in it.
    pub(crate) fn pages(&self) -> usize {
        self.count_frames(|_| true)
    }

    fn count_frames(&self, is_counted: impl Fn(&[u8]) -> bool) -> usize {
        let log = fs::read(self.0.join("records.db-wal")).unwrap_or_default();
        let Some((header, frames)) = log.split_at_checked(32) else {
            return 0;
        };
        let page = u32::from_be_bytes(header[8..12].try_into().unwrap()) as usize;
        // A frame with other salts than the header's is left over from an earlier round.
        frames
            .chunks_exact(24 + page)
            .take_while(|frame| frame[8..16] == header[16..24])
            .filter(|frame| is_counted(frame))
            .count()
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).ok();
    }
}

pub(crate) async fn unlock(mut connection: SqliteConnection) {
    execute(&mut connection, "ROLLBACK").await;
}

/// Calls, and goes on without an answer: a store that was not called before has let the operation in
/// by then, if there was room.
pub(crate) fn begin<F: Future>(call: F) -> Pin<Box<Unconstrained<F>>> {
    let mut call = Box::pin(unconstrained(call));
    let polled = call.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    assert!(
        polled.is_pending(),
        "answered though nothing can be written"
    );
    call
}

/// Runs one statement that the store itself never would.
pub(crate) async fn execute(connection: &mut SqliteConnection, statement: impl Into<String>) {
    let statement = sqlx::raw_sql(AssertSqlSafe(statement.into()));
    statement.execute(connection).await.unwrap();
}

pub(crate) async fn count(connection: &mut SqliteConnection, query: &'static str) -> i64 {
    let row = sqlx::query(query).fetch_one(connection).await.unwrap();
    row.get(0)
}

pub(crate) fn random() -> [u8; 16] {
    *Token::random().unwrap().as_bytes()
}

pub(crate) fn random_hex() -> String {
    hex(&random())
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A random one.
pub(crate) fn key() -> RecordKey {
    claims::request().owner.key
}

/// A claim with times that last.
pub(crate) fn request() -> ClaimRequest<'static> {
    request_of(key())
}

/// All of one key are the same request.
pub(crate) fn request_of(key: RecordKey) -> ClaimRequest<'static> {
    let request = claims::request();
    ClaimRequest {
        owner: Owner {
            key,
            ..request.owner
        },
        fingerprint: Fingerprint::from_bytes([7; 32]),
        ..request
    }
}

/// A renewal that lasts.
pub(crate) fn renewal(owner: &Owner) -> Renewal {
    Renewal {
        owner: *owner,
        lease: Duration::from_secs(600),
        retention: Duration::from_secs(3600),
    }
}

/// A 201 without headers and with this text, in the format that stores keep.
pub(crate) fn response(text: &str) -> Arc<StoredResponse> {
    let length = u8::try_from(text.len()).unwrap();
    assert!(
        length < 128,
        "a longer one has more than one byte of length"
    );
    // A map of two: 0 is the status, and 4 the body.
    let head: &[u8] = if length < 24 {
        &[0x40 + length]
    } else {
        &[0x58, length]
    };
    let encoded = [&[1, 0xa2, 0, 0x18, 201, 4], head, text.as_bytes()].concat();
    let response = StoredResponse::decode(&encoded).unwrap();
    assert_eq!(response.encode(), encoded);
    Arc::new(response)
}

sql_store!(SqliteStore);

#[async_trait]
impl Bench for Directory {
    type Store = SqliteStore;

    const SCHEMA: u32 = 3;
    const MAKE_NEWER: &'static str = "PRAGMA writable_schema = ON;
        UPDATE sqlite_schema SET sql = replace(sql, 'DEFAULT 3', 'DEFAULT 4') WHERE type = 'table';
        PRAGMA writable_schema = RESET";
    const DAMAGES: &'static [&'static str] = &[
        "state = 'melting'",
        "state = ''",
        "fingerprint = x'07'",
        "token = x''",
        "attempt = 0",
        "attempt = 4294967296",
        "response = NULL",
        "response = x''",
        // The format of a later release.
        "response = x'02c90100'",
        // Cut short, and followed by something.
        "response = substr(response, 1, length(response) - 1)",
        "response = CAST(response || x'00' AS BLOB)",
    ];

    async fn create() -> Option<Self> {
        Some(Self::new())
    }

    fn another(&self) -> SqliteStore {
        SqliteStore::new(self.pool())
    }

    async fn run(&self, sql: &str) {
        let sql = sql.replace("{table}", "idempotency_records");
        let unchecked = format!("PRAGMA ignore_check_constraints = ON; {sql}");
        execute(&mut self.new_connection().await, unchecked).await;
    }

    async fn remove(self) {}
}

//! The store's own connections: how they are made, and what their sessions are set to.

use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{ConnectOptions, Connection, PgConnection, PgPool};
use tokio::time::timeout;

use super::error::{code, store_error};
use crate::error::{Error, ErrorKind};
use crate::store::StoreError;
use crate::store::sql::try_out;

/// How long connecting may take, and how long a call waits for a connection.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a connection may have been idle to be used without asking whether it is still there.
const TRUSTED_IDLE: Duration = Duration::from_secs(1);

/// What a session of the store is set to, unless the connect options say otherwise: a call waits neither
/// for a lock nor for anything else for long, whether or not its caller is still there. (A group waits
/// for less.)
const LIMITS: [(&str, &str); 2] = [("lock_timeout", "500ms"), ("statement_timeout", "10s")];

/// What it is set to whatever they say: under a stricter level, calls about different records would
/// fail each other.
const ISOLATION: (&str, &str) = ("default_transaction_isolation", "read committed");

/// Connects with the options that the application's pool has at that time: they change when a password
/// does.
#[derive(Clone)]
pub(super) struct Connector {
    pool: PgPool,
    /// Whether there is something in between that takes no settings (`PgBouncer`).
    is_plain: Arc<AtomicBool>,
}

impl Connector {
    pub(super) fn new(pool: PgPool) -> Self {
        Self {
            pool,
            is_plain: Arc::default(),
        }
    }

    pub(super) fn pool(&self) -> &PgPool {
        &self.pool
    }

    /// As the application connects.
    pub(super) fn options(&self) -> PgConnectOptions {
        PgConnectOptions::clone(&self.pool.connect_options())
    }

    /// A connection for the store's operations.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; nothing was executed.
    pub(super) async fn connect(&self) -> Result<PgConnection, StoreError> {
        if !self.is_plain.load(Ordering::Relaxed) {
            let connected = limited(with_settings(self.options()).connect()).await;
            match connected {
                // protocol_violation: "unsupported startup parameter"
                Err(error) if code(&error).as_deref() == Some("08P01") => {
                    self.is_plain.store(true, Ordering::Relaxed);
                    tracing::warn!(
                        "postgres store: a pooler or proxy rejects the connection's settings; timeouts of locks and statements and the isolation level are those of the role"
                    );
                }
                connected => return connected.map_err(|error| store_error(error).not_executed()),
            }
        }
        self.connect_plainly().await
    }

    /// Whether a session can be set as the store wants it.
    pub(super) async fn takes_settings(&self) -> bool {
        let connected = self.connect().await;
        connected.is_ok() && !self.is_plain.load(Ordering::Relaxed)
    }

    /// A connection without any of the store's settings.
    ///
    /// # Errors
    ///
    /// As [`connect`](Self::connect).
    pub(super) async fn connect_plainly(&self) -> Result<PgConnection, StoreError> {
        let connected = limited(self.options().connect()).await;
        connected.map_err(|error| store_error(error).not_executed())
    }
}

fn with_settings(options: PgConnectOptions) -> PgConnectOptions {
    let chosen = options.get_options().unwrap_or_default().to_owned();
    let missing = LIMITS
        .into_iter()
        .filter(|(name, _)| !is_set(&chosen, name));
    options.options(missing).options([ISOLATION])
}

/// Whether these options name the setting: `-c name=value`, `-cname=value` or `--name=value`.
fn is_set(options: &str, name: &str) -> bool {
    let words = options.split_ascii_whitespace();
    words
        .filter_map(|word| word.split_once('=').map(|(set, _)| set))
        .map(|set| {
            set.strip_prefix("--")
                .or(set.strip_prefix("-c"))
                .unwrap_or(set)
        })
        .any(|set| set.replace('-', "_").eq_ignore_ascii_case(name))
}

async fn limited(
    connecting: impl Future<Output = sqlx::Result<PgConnection>>,
) -> sqlx::Result<PgConnection> {
    let connected = timeout(CONNECT_TIMEOUT, connecting).await;
    connected.unwrap_or(Err(sqlx::Error::PoolTimedOut))
}

/// What a URL says.
pub(super) fn parse(url: &str) -> Result<PgConnectOptions, Error> {
    let options = PgConnectOptions::from_str(url).map_err(|error| {
        let message = "postgres store: invalid URL: expected `postgres://user@host/database`";
        Error::new(ErrorKind::InvalidUrl, message).with_source(error)
    })?;
    Ok(match options.get_application_name() {
        Some(_) => options,
        None => options.application_name("idempotent-runtime"),
    })
}

/// Whether the server lets us in, and if not, why.
pub(super) async fn probe(options: &PgConnectOptions) -> Result<(), Error> {
    let tried = try_out(options, CONNECT_TIMEOUT, store_error).await;
    tried.map_err(|source| {
        Error::new(ErrorKind::Store, "postgres store: cannot connect").with_source(source)
    })
}

/// The pool for `#[tx]` of a store that is made from a URL.
pub(super) fn pool(options: PgConnectOptions) -> PgPool {
    PgPoolOptions::new()
        .max_connections(10)
        .acquire_timeout(CONNECT_TIMEOUT)
        .test_before_acquire(false)
        .before_acquire(|connection, metadata| {
            Box::pin(async move {
                if metadata.idle_for > TRUSTED_IDLE {
                    connection.ping().await?;
                }
                Ok(true)
            })
        })
        .connect_lazy_with(options)
}

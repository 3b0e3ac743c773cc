//! What a URL names, and the pool for transactions that is made of it.

use sqlx::MySqlPool;
use sqlx::mysql::{MySqlConnectOptions, MySqlPoolOptions};

use super::error::of_server;
use super::lane::CONNECT_TIMEOUT;
use super::statements::HANDLER_SESSION;
use crate::error::{Error, ErrorKind};
use crate::store::sql::try_out;

pub(super) fn parse(url: &str) -> Result<MySqlConnectOptions, Error> {
    let invalid = || {
        let message = "the mysql store's URL looks like `mysql://user:password@host/database`";
        Error::new(ErrorKind::InvalidUrl, message)
    };
    let options: MySqlConnectOptions = url
        .parse()
        .map_err(|error: sqlx::Error| invalid().with_source(error))?;
    match options.get_database() {
        Some(_) => Ok(options),
        None => Err(invalid()),
    }
}

/// Whether the server lets us in, and if not, why.
pub(super) async fn probe(options: &MySqlConnectOptions) -> Result<(), Error> {
    let tried = try_out(options, CONNECT_TIMEOUT, |error| of_server(error).error).await;
    tried.map_err(|source| {
        let (host, port) = (options.get_host(), options.get_port());
        let message = format!("mysql store: no connection to {host}:{port}");
        Error::new(ErrorKind::Store, message).with_source(source)
    })
}

pub(super) fn pool(options: MySqlConnectOptions) -> MySqlPool {
    MySqlPoolOptions::new()
        .acquire_timeout(CONNECT_TIMEOUT)
        .after_connect(|connection, _| {
            Box::pin(async move {
                let set = sqlx::raw_sql(HANDLER_SESSION).execute(connection);
                set.await.map(drop)
            })
        })
        .test_before_acquire(false)
        .connect_lazy_with(options)
}

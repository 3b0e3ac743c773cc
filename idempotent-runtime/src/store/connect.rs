use std::sync::Arc;

use super::Store;
use crate::error::{Error, ErrorKind};

/// The store that a URL names, connected and ready: an SQL store has migrated its table.
///
/// | URL | store | feature |
/// | --- | --- | --- |
/// | `memory:` | in-process | `memory` (default) |
/// | `redis://host:6379/0`, `rediss://...` | Redis, Valkey | `redis` |
/// | `postgres://user@host/database` | PostgreSQL | `postgres` |
/// | `sqlite:path`, `sqlite::memory:` | SQLite | `sqlite` |
/// | `mysql://user@host/database` | MySQL, MariaDB | `mysql` |
///
/// # Errors
///
/// [`Error`] says what is wrong with the URL, which cargo feature its store needs, or why the store
/// cannot be used. The message never contains more of the URL than its scheme, because a URL may
/// hold a password.
pub async fn connect(url: &str) -> Result<Arc<dyn Store>, Error> {
    let Some((scheme, _)) = url.split_once(':') else {
        let message = "store URL has no scheme: it looks like `memory:`";
        return Err(Error::new(ErrorKind::InvalidUrl, message));
    };
    match scheme {
        #[cfg(feature = "memory")]
        "memory" => Ok(Arc::new(super::memory::MemoryStore::connect(url)?)),
        #[cfg(feature = "redis")]
        "redis" | "rediss" => Ok(Arc::new(super::redis::RedisStore::connect(url).await?)),
        #[cfg(feature = "postgres")]
        "postgres" | "postgresql" => Ok(Arc::new(
            super::postgres::PostgresStore::connect(url).await?,
        )),
        #[cfg(feature = "sqlite")]
        "sqlite" => Ok(Arc::new(super::sqlite::SqliteStore::connect(url).await?)),
        #[cfg(feature = "mysql")]
        "mysql" | "mariadb" => Ok(Arc::new(super::mysql::MySqlStore::connect(url).await?)),
        _ => Err(unknown(scheme)),
    }
}

fn unknown(scheme: &str) -> Error {
    let feature = match scheme {
        "memory" | "redis" | "sqlite" | "mysql" | "postgres" => scheme,
        "rediss" => "redis",
        "postgresql" => "postgres",
        "mariadb" => "mysql",
        _ => {
            let message = format!(
                "unknown store scheme `{scheme}:`: there are `memory:`, `redis:`, `postgres:`, `sqlite:` and `mysql:`"
            );
            return Error::new(ErrorKind::UnknownScheme, message);
        }
    };
    let message = format!("`{scheme}:` needs the cargo feature `{feature}` of idempotent-runtime");
    Error::new(ErrorKind::FeatureDisabled, message)
}

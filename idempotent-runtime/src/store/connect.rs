use std::sync::Arc;

use super::Store;
use crate::error::{Error, ErrorKind};

/// Connects to the store that a URL names. The store is ready for use: a SQL store has migrated its table.
///
/// | URL | store | feature |
/// | --- | --- | --- |
/// | `memory:` | in-process | `memory` (default) |
/// | `redis://host:6379/0`, `rediss://...` | Redis, Valkey | `redis` |
/// | `redis+sentinel://host:26379,host:26379/service/0` | the same, at the address that Sentinel reports | `redis` |
/// | `postgres://user@host/database` | PostgreSQL | `postgres` |
/// | `sqlite:path`, `sqlite::memory:` | SQLite | `sqlite` |
/// | `mysql://user@host/database` | MySQL, MariaDB | `mysql` |
///
/// # Errors
///
/// [`Error`] says what is wrong with the URL, which cargo feature its store needs, or why the store cannot be used. The
/// message never contains more of the URL than its scheme, because the rest may contain a password.
pub async fn connect(url: &str) -> Result<Arc<dyn Store>, Error> {
    match scheme(url)? {
        #[cfg(feature = "memory")]
        Scheme::Memory => Ok(Arc::new(super::memory::MemoryStore::connect(url)?)),
        #[cfg(feature = "redis")]
        Scheme::Redis => Ok(Arc::new(super::redis::RedisStore::connect(url).await?)),
        #[cfg(feature = "postgres")]
        Scheme::Postgres => Ok(Arc::new(
            super::postgres::PostgresStore::connect(url).await?,
        )),
        #[cfg(feature = "sqlite")]
        Scheme::Sqlite => Ok(Arc::new(super::sqlite::SqliteStore::connect(url).await?)),
        #[cfg(feature = "mysql")]
        Scheme::MySql => Ok(Arc::new(super::mysql::MySqlStore::connect(url).await?)),
    }
}

/// The kinds of stores that this build has.
pub(super) enum Scheme {
    #[cfg(feature = "memory")]
    Memory,
    #[cfg(feature = "redis")]
    Redis,
    #[cfg(feature = "postgres")]
    Postgres,
    #[cfg(feature = "sqlite")]
    Sqlite,
    #[cfg(feature = "mysql")]
    MySql,
}

/// Which kind of store a URL names.
pub(super) fn scheme(url: &str) -> Result<Scheme, Error> {
    let Some((scheme, _)) = url.split_once(':') else {
        let message = "store URL has no scheme: expected a URL such as `memory:`";
        return Err(Error::new(ErrorKind::InvalidUrl, message));
    };
    match scheme {
        #[cfg(feature = "memory")]
        "memory" => Ok(Scheme::Memory),
        #[cfg(feature = "redis")]
        "redis" | "rediss" | "redis+unix" | "redis+sentinel" | "rediss+sentinel" => {
            Ok(Scheme::Redis)
        }
        #[cfg(feature = "postgres")]
        "postgres" | "postgresql" => Ok(Scheme::Postgres),
        #[cfg(feature = "sqlite")]
        "sqlite" => Ok(Scheme::Sqlite),
        #[cfg(feature = "mysql")]
        "mysql" | "mariadb" => Ok(Scheme::MySql),
        _ => Err(unknown(scheme)),
    }
}

fn unknown(scheme: &str) -> Error {
    let feature = match scheme {
        "memory" | "redis" | "sqlite" | "mysql" | "postgres" => scheme,
        "rediss" | "redis+unix" | "redis+sentinel" | "rediss+sentinel" => "redis",
        "postgresql" => "postgres",
        "mariadb" => "mysql",
        _ => {
            let message = format!(
                "unknown store scheme `{scheme}:`: expected `memory:`, `redis:`, `postgres:`, `sqlite:` or `mysql:`"
            );
            return Error::new(ErrorKind::UnknownScheme, message);
        }
    };
    let message = format!("`{scheme}:` needs the cargo feature `{feature}` of idempotent-runtime");
    Error::new(ErrorKind::FeatureDisabled, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn scheme_whose_feature_is_off_names_the_feature() {
        for (schemes, feature, is_on) in [
            (&["memory"][..], "memory", cfg!(feature = "memory")),
            (&["redis", "rediss"], "redis", cfg!(feature = "redis")),
            (
                &["postgres", "postgresql"],
                "postgres",
                cfg!(feature = "postgres"),
            ),
            (&["sqlite"], "sqlite", cfg!(feature = "sqlite")),
            (&["mysql", "mariadb"], "mysql", cfg!(feature = "mysql")),
        ] {
            for scheme in schemes {
                // A URL that every store rejects at once.
                let url = format!("{scheme}:\0hunter2?\0");
                let error = connect(&url).await.unwrap_err();
                let text = format!("{error:?}");
                assert!(!text.contains("hunter2"), "{text}");
                let names_it = text.contains(&format!("the cargo feature `{feature}`"));
                assert_eq!(names_it, !is_on, "{text}");
                if !is_on {
                    assert_eq!(error.kind(), ErrorKind::FeatureDisabled, "{text}");
                }
            }
        }
    }

    #[tokio::test]
    async fn what_is_no_stores_url_is_told_which_there_are() {
        let error = connect("mongodb://app:hunter2@localhost")
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::UnknownScheme);
        let text = format!("{error:?}");
        assert!(text.contains("`mongodb:`"), "{text}");
        assert!(text.contains("`postgres:`"), "{text}");
        assert!(!text.contains("hunter2"), "{text}");
        let error = connect("localhost").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidUrl);
    }
}

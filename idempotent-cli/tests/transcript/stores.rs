//! A store of one's own for each transcript.

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

use idempotent_runtime::store::Target;
use sqlx::{AssertSqlSafe, Connection as _, MySqlConnection, PgConnection};

/// The stores that outlive a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Sqlite,
    Redis,
    Postgres,
    MySql,
}

impl Kind {
    /// Where its server is named, and where it is if it is named nowhere.
    fn server(self) -> Option<(&'static str, &'static str)> {
        match self {
            Self::Sqlite => None,
            Self::Redis => Some(("IDEMPOTENT_TEST_REDIS_URL", "redis://127.0.0.1:6379")),
            Self::Postgres => Some((
                "IDEMPOTENT_TEST_POSTGRES_URL",
                "postgres://postgres@127.0.0.1:5432/test",
            )),
            Self::MySql => Some((
                "IDEMPOTENT_TEST_MYSQL_URL",
                "mysql://root@127.0.0.1:3306/test",
            )),
        }
    }
}

/// Where the records of one transcript are.
pub(crate) struct Place {
    kind: Kind,
    /// The server, where there is one.
    server: Option<String>,
    pub(crate) url: String,
    /// For files.
    pub(crate) folder: PathBuf,
    /// The name of a database of its own, or of a prefix.
    name: String,
}

impl Place {
    /// `None` where there is no such server, which is a failure where nothing may be skipped.
    pub(crate) async fn new(kind: Kind) -> Option<Self> {
        static PLACES: AtomicUsize = AtomicUsize::new(0);
        let number = PLACES.fetch_add(1, Ordering::Relaxed);
        let name = format!("idempotent_cli_{}_{number}", std::process::id());
        let server = match kind.server() {
            Some(server) => Some(found(server, kind).await?),
            None => None,
        };
        let folder = std::env::temp_dir().join(&name);
        std::fs::create_dir_all(&folder).expect("a folder");
        let url = match (&server, kind) {
            (None, _) => format!("sqlite:{}", folder.join("records.db").display()),
            (Some(server), Kind::Redis) => server.clone(),
            (Some(server), _) => {
                let create = format!("CREATE DATABASE {name}");
                execute(kind, server, &create)
                    .await
                    .expect("a new database");
                in_database(server, &name)
            }
        };
        Some(Self {
            kind,
            server,
            url,
            folder,
            name,
        })
    }

    /// On a server that others use too.
    pub(crate) fn prefix(&self) -> Option<String> {
        (self.kind == Kind::Redis).then(|| format!("{}:", self.name))
    }

    /// Nothing is left behind by a test that passes; by another one its database, to be looked at. (In Redis there is nothing else than what the tool has removed, and a check value that
    /// expires.)
    pub(crate) async fn remove(&self) {
        if let Some(server) = &self.server {
            let drop = match self.kind {
                Kind::Postgres => format!("DROP DATABASE {} WITH (FORCE)", self.name),
                Kind::MySql => format!("DROP DATABASE {}", self.name),
                Kind::Redis | Kind::Sqlite => return,
            };
            let dropped = execute(self.kind, server, &drop).await;
            dropped.expect("the database is dropped");
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

async fn found((variable, usual): (&str, &str), kind: Kind) -> Option<String> {
    if let Ok(url) = std::env::var(variable) {
        return Some(url);
    }
    let is_there = match kind {
        Kind::Redis => Target::new(usual).open().await.is_ok(),
        _ => execute(kind, usual, "SELECT 1").await.is_ok(),
    };
    if is_there {
        return Some(usual.to_owned());
    }
    let why = format!("{variable} is not set and there is no server at {usual}");
    let may_skip = std::env::var("CI").as_deref() != Ok("true");
    assert!(may_skip, "no test may be skipped here, but {why}");
    println!("skipped: {why}");
    None
}

async fn execute(kind: Kind, url: &str, statement: &str) -> sqlx::Result<()> {
    let statement = sqlx::raw_sql(AssertSqlSafe(statement.to_owned()));
    match kind {
        Kind::Postgres => {
            let mut connection = PgConnection::connect(url).await?;
            statement.execute(&mut connection).await?;
        }
        _ => {
            let mut connection = MySqlConnection::connect(url).await?;
            statement.execute(&mut connection).await?;
        }
    }
    Ok(())
}

fn in_database(url: &str, name: &str) -> String {
    let (base, parameters) = match url.split_once('?') {
        Some((base, parameters)) => (base, format!("?{parameters}")),
        None => (url, String::new()),
    };
    let (server, _) = base.rsplit_once('/').expect("a database");
    format!("{server}/{name}{parameters}")
}

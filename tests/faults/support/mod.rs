//! What the tests share: stores that can be killed, an application that can be killed, a ledger of
//! effects, clients that retry, and a network that fails where it is told to.

pub mod application;
pub mod books;
pub mod client;
pub mod crashing;
pub mod crashing_transactions;
#[path = "../../../xtask/src/free_port.rs"]
mod free_port;
pub mod ledger;
pub mod load;
pub mod proxy;
pub mod server;
pub mod service;
pub mod shop;
#[path = "../../../idempotent-runtime/tests/support/redis_proxy.rs"]
#[allow(dead_code, reason = "the tests of the store do more with it")]
pub mod switch;
pub mod workspace;

use std::path::PathBuf;

pub use application::{Application, Options};
pub use books::Books;
pub use client::Reply;
pub use crashing::Point;
pub use ledger::Ledger;
pub use server::{Server, shared};

/// How long a test waits for anything: generous, because it is only waited for when something is
/// wrong.
pub const BOUND: std::time::Duration = std::time::Duration::from_secs(60);

/// The stores that can be shared by processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Redis,
    Postgres,
    MariaDb,
    Sqlite,
    /// PostgreSQL, whose handlers in transactions write by tokio-postgres.
    Deadpool,
}

impl Kind {
    /// What there are servers of.
    pub fn server(self) -> Self {
        match self {
            Self::Deadpool => Self::Postgres,
            other => other,
        }
    }
}

/// One test's folder, ledger and store.
pub struct Scenario {
    pub folder: PathBuf,
    pub url: String,
    pub ledger: Ledger,
    kind: Kind,
}

impl Scenario {
    /// On the server that all tests of this kind share; `None` where that is not installed.
    pub fn new(kind: Kind, name: &str) -> Option<Self> {
        let folder = workspace::folder(&format!("{name}-{kind:?}"));
        let url = match kind {
            Kind::Sqlite => format!("sqlite:{}", folder.join("records").display()),
            _ => shared(kind)?.url("test"),
        };
        Some(Self::on(kind, folder, url))
    }

    /// In a database of its own on that server.
    pub fn in_database(kind: Kind, name: &str) -> Option<Self> {
        if kind == Kind::Sqlite {
            return Self::new(kind, name);
        }
        let server = shared(kind)?;
        let database = match kind {
            Kind::Deadpool => format!("{name}-deadpool"),
            _ => name.to_owned(),
        };
        let database = database.replace('-', "_");
        server.sql(&format!("CREATE DATABASE {database}"));
        let folder = workspace::folder(&format!("{name}-{kind:?}"));
        Some(Self::on(kind, folder, server.url(&database)))
    }

    /// On a server of its own.
    pub fn on_server(server: &Server, name: &str) -> Self {
        let folder = workspace::folder(&format!("{name}-{:?}", server.kind));
        Self::on(server.kind, folder, server.url("test"))
    }

    fn on(kind: Kind, folder: PathBuf, url: String) -> Self {
        Self {
            kind,
            ledger: Ledger::new(folder.join("ledger")),
            folder,
            url,
        }
    }

    /// Starts an application without faults.
    pub async fn application(&self) -> Application {
        self.application_with(Options::default()).await
    }

    pub async fn application_with(&self, options: Options) -> Application {
        Application::start(self, options).await
    }
}

/// Makes one test of a scenario for each of the named stores.
macro_rules! on_stores {
    ($scenario:ident: $($store:ident)+) => {
        mod $scenario {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                #[allow(non_snake_case, reason = "named as the store is")]
                async fn $store() {
                    super::$scenario(crate::support::Kind::$store).await;
                }
            )+
        }
    };
}
pub(crate) use on_stores;

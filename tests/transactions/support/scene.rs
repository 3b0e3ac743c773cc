//! Tables of one test's own, and what is in them.

use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;

use idempotent_runtime::store::Store;
use idempotent_runtime::{Idempotency, IdempotencyBuilder, Token};
use tokio::sync::Mutex;

use super::database::Database;
use super::server::Server;
use super::wire::Wire;

/// The names of a test's tables: of the records, of what handlers write once for each run, and of
/// what they change.
#[derive(Clone)]
pub struct Tables {
    pub records: String,
    payments: String,
    accounts: String,
}

/// One test's tables, in a database that others may use too.
pub struct Scene<C: Database> {
    pub url: String,
    pub tables: Tables,
    folder: Option<PathBuf>,
    /// Looks at what is committed.
    observer: Mutex<C::Observer>,
}

impl Tables {
    fn new(suffix: &str) -> Self {
        Self {
            records: format!("records_{suffix}"),
            payments: format!("payments_{suffix}"),
            accounts: format!("accounts_{suffix}"),
        }
    }

    /// A statement in which `{records}`, `{payments}` and `{accounts}` stand for the tables.
    pub fn put_into(&self, sql: &str) -> String {
        sql.replace("{records}", &self.records)
            .replace("{payments}", &self.payments)
            .replace("{accounts}", &self.accounts)
    }
}

impl<C: Database> Scene<C> {
    /// `None`, with a line that says so, when there is no server; in continuous integration that is
    /// a failure.
    pub async fn new() -> Option<Self> {
        if let Some((variable, default)) = C::SERVER {
            return Some(Self::at(server::<C>(variable, default).await?).await);
        }
        let folder = std::env::temp_dir().join(format!("idempotent-tx-{}", random()));
        std::fs::create_dir(&folder).expect("a folder");
        let url = format!("sqlite:{}?mode=rwc", folder.join("shop.db").display());
        let scene = Self::at(url).await;
        Some(Self {
            folder: Some(folder),
            ..scene
        })
    }

    pub async fn at(url: String) -> Self {
        let tables = Tables::new(&random());
        C::migrated(&C::pool(&url, 1), &tables.records).await;
        let observer = C::connect(&url).await.expect("a connection");
        let scene = Self {
            url,
            tables,
            folder: None,
            observer: Mutex::new(observer),
        };
        let text = "VARCHAR(64) NOT NULL";
        let payments = format!("CREATE TABLE {{payments}} (client_key {text}, record {text})");
        for statement in [
            &payments,
            "CREATE TABLE {accounts} (name VARCHAR(16) NOT NULL PRIMARY KEY, value BIGINT NOT NULL)",
            "INSERT INTO {accounts} VALUES ('taken', 0), ('a', 0), ('b', 0)",
        ] {
            scene.execute(statement).await;
        }
        scene
    }

    /// The URL of a server at the other end of a wire.
    pub async fn wired(&self) -> (String, Wire) {
        let (before, server) = self.url.rsplit_once(':').expect("a port");
        let (port, database) = server.split_once('/').expect("a database");
        let wire = Wire::to(port.parse().expect("a port")).await;
        (format!("{before}:{}/{database}", wire.port), wire)
    }

    /// The URL with a setting for all connections, on PostgreSQL.
    pub fn url_with(&self, setting: &str) -> String {
        let join = if self.url.contains('?') { '&' } else { '?' };
        let setting = setting.replace('\\', "%5C").replace(' ', "%20");
        format!("{}{join}options=-c%20{setting}", self.url)
    }

    /// A store with connections of its own, as another process would have it.
    pub fn store(&self, connections: u32) -> Arc<dyn Store> {
        C::store(&C::pool(&self.url, connections), &self.tables.records)
    }

    pub fn builder(&self, connections: u32) -> IdempotencyBuilder {
        Idempotency::builder(self.store(connections))
    }

    /// An application with default settings and a few connections.
    pub async fn server(&self) -> Server<C> {
        self.serve(self.builder(4)).await
    }

    pub async fn serve(&self, builder: IdempotencyBuilder) -> Server<C> {
        // The check writes a record too, and here records are counted.
        let idempotency = builder.secret_check(false).build();
        Server::start(idempotency, &self.tables).await
    }

    pub async fn execute(&self, sql: &str) {
        let sql = self.tables.put_into(sql);
        let mut observer = self.observer.lock().await;
        observer.execute(&sql).await.expect(&sql);
    }

    pub async fn number(&self, sql: &str) -> i64 {
        let sql = self.tables.put_into(sql);
        self.observer.lock().await.number(&sql).await
    }

    /// How often this key has been paid for.
    pub async fn payments(&self, key: &str) -> i64 {
        let count = format!("SELECT COUNT(*) FROM {{payments}} WHERE client_key = '{key}'");
        self.number(&count).await
    }

    /// Those of requests, and not the store's own.
    pub async fn records(&self) -> i64 {
        let count = "SELECT COUNT(*) FROM {records} WHERE operation NOT LIKE 'idempotent: %'";
        self.number(count).await
    }

    pub async fn account(&self, name: &str) -> i64 {
        let value = format!("SELECT value FROM {{accounts}} WHERE name = '{name}'");
        self.number(&value).await
    }

    /// Asserts how much of a test's only key is there: both its payment and its record, or neither.
    #[track_caller]
    pub fn assert_nothing(&self, key: &str) -> impl Future<Output = ()> {
        let caller = std::panic::Location::caller();
        async move {
            let there = (self.payments(key).await, self.records().await);
            assert_eq!(there, (0, 0), "payments and records of {key}, at {caller}");
        }
    }

    #[track_caller]
    pub fn assert_once(&self, key: &str) -> impl Future<Output = ()> {
        let caller = std::panic::Location::caller();
        async move {
            let there = (self.payments(key).await, self.records().await);
            assert_eq!(there, (1, 1), "payments and records of {key}, at {caller}");
        }
    }

    pub async fn clean_up(self) {
        for table in ["payments", "accounts", "records"] {
            self.execute(&format!("DROP TABLE {{{table}}}")).await;
        }
        if !C::REMOVE.is_empty() {
            self.execute(C::REMOVE).await;
        }
        if let Some(folder) = self.folder {
            drop(self.observer);
            drop(std::fs::remove_dir_all(folder));
        }
    }
}

fn random() -> String {
    let random = Token::random().expect("a random number");
    let bytes = random.as_bytes().iter();
    bytes.map(|byte| format!("{byte:02x}")).collect()
}

async fn server<C: Database>(variable: &str, default: &str) -> Option<String> {
    let named = std::env::var(variable).ok();
    let url = named.clone().unwrap_or_else(|| default.to_owned());
    let Err(error) = C::connect(&url).await else {
        return Some(url);
    };
    let in_ci = std::env::var("CI").is_ok_and(|ci| ci == "true");
    let may_skip = named.is_none() && !in_ci;
    assert!(may_skip, "no {} server, set {variable}: {error}", C::STORE);
    skip(&format!("no {} server, set {variable}", C::STORE));
    None
}

/// Not by a macro, whose output is kept from whom it is for when the test passes.
pub fn skip(why: &str) {
    let line = format!("skipped: {why}\n");
    drop(std::io::stderr().write_all(line.as_bytes()));
}

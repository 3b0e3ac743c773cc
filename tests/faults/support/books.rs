//! What is committed, as a database client sees it that has nothing to do with the application.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::{AssertSqlSafe, Connection, MySqlConnection, PgConnection, Row, SqliteConnection};

use super::shop::PAID;
use super::{Kind, Reply, Scenario};

const PAYMENTS: &str = "CREATE TABLE payments (client_key VARCHAR(64) NOT NULL, \
                        record VARCHAR(64) NOT NULL, line VARCHAR(200) NOT NULL)";

/// The rows that handlers have written, and the records beside them. Looked at on a new connection each
/// time: others may end those that are there.
pub struct Books {
    kind: Kind,
    url: String,
}

impl Books {
    /// Opens them, and makes the table of the payments.
    pub async fn open(kind: Kind, scenario: &Scenario) -> Self {
        let url = match kind {
            Kind::Sqlite => format!("{}?mode=rwc", scenario.url),
            _ => scenario.url.clone(),
        };
        let kind = kind.server();
        let books = Self { kind, url };
        books.texts(PAYMENTS).await;
        books
    }

    /// Asserts that a key is paid for once, as the answer says, and that the record is there.
    pub async fn assert_once(&self, key: &str, answer: &Reply) {
        let lines = format!("SELECT line FROM payments WHERE client_key = '{key}'");
        let lines = self.texts(&lines).await;
        assert_eq!((answer.status, lines.len()), (201, 1), "{key}: {answer:?}");
        assert_eq!(answer.body, format!("{PAID}{}", lines[0]), "{key}");
        self.assert_balanced().await;
    }

    /// Asserts the same of many keys, and that there is no other.
    pub async fn assert_once_each(&self, answers: &BTreeMap<String, Reply>) {
        let lines = self.texts("SELECT line FROM payments").await;
        let mut paid: Vec<_> = lines.iter().map(|line| format!("{PAID}{line}")).collect();
        let mut said: Vec<_> = answers.values().map(|reply| reply.body.clone()).collect();
        paid.sort_unstable();
        said.sort_unstable();
        assert_eq!(paid, said);
        self.assert_balanced().await;
    }

    /// Asserts that there is no row without a record, no record without a row, and of each one.
    async fn assert_balanced(&self) {
        let rows = self.texts("SELECT record FROM payments").await;
        let records = match self.kind {
            Kind::Postgres => "SELECT encode(record_key, 'hex') || state FROM idempotency_records",
            Kind::Sqlite => {
                "SELECT lower(hex(record_key)) || iif(state = 'completed', 2, 1) FROM idempotency_records"
            }
            _ => "SELECT CONCAT(LOWER(HEX(record_key)), state) FROM idempotency_records",
        };
        let records: BTreeSet<_> = self.texts(records).await.into_iter().collect();
        // 2 is a completed one.
        let with_rows: BTreeSet<_> = rows.iter().map(|record| format!("{record}2")).collect();
        assert_eq!(with_rows.len(), rows.len(), "two rows of one record");
        assert_eq!(records, with_rows);
    }

    async fn texts(&self, sql: &str) -> Vec<String> {
        match self.kind {
            Kind::Postgres => texts!(PgConnection, &self.url, sql),
            Kind::MariaDb => texts!(MySqlConnection, &self.url, sql),
            Kind::Sqlite => texts!(SqliteConnection, &self.url, sql),
            Kind::Redis | Kind::Deadpool => unreachable!("it has no books"),
        }
    }
}

/// The first column of all rows.
macro_rules! texts {
    ($connection:ty, $url:expr, $sql:expr) => {{
        let connection = <$connection>::connect($url).await;
        let mut connection = connection.expect("a connection");
        let rows = sqlx::raw_sql(AssertSqlSafe($sql.to_owned()));
        let rows = rows.fetch_all(&mut connection).await.expect($sql);
        rows.iter().map(|row| row.get_unchecked(0)).collect()
    }};
}
use texts;

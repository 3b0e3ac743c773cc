//! What an operator is told of a server, a table and a user's rights.

use std::io;
use std::sync::{Arc, LazyLock, Mutex};

use idempotent_runtime::store::postgres::PostgresStore;
use idempotent_runtime::store::{Finding, Severity, Store, Target};
use idempotent_runtime::{ErrorKind, RecordKey};

use tracing::Dispatch;
use tracing::subscriber::{DefaultGuard, NoSubscriber};

use crate::support::{Scratch, pool, server};

/// What is logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

/// Two subscribers that are never dropped: while a process has one only, `tracing` caches for all threads what it says of an event.
static OTHERS: LazyLock<[Dispatch; 2]> =
    LazyLock::new(|| [(), ()].map(|()| Dispatch::new(NoSubscriber::new())));

impl Log {
    fn begin() -> (Self, DefaultGuard) {
        LazyLock::force(&OTHERS);
        let log = Self::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt().with_ansi(false);
        let subscriber = subscriber.with_writer(move || writer.clone()).finish();
        (log, tracing::subscriber::set_default(subscriber))
    }

    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What is not good.
async fn told(store: &PostgresStore) -> Vec<(Severity, String)> {
    let mut findings = store.check().await.unwrap();
    findings.retain(|finding| finding.severity > Severity::Good && !is_of_clock(finding));
    let line = |finding: Finding| (finding.severity, finding.what.into_owned());
    findings.into_iter().map(line).collect()
}

/// The machine that the tests run on may be any.
fn is_of_clock(finding: &Finding) -> bool {
    finding.what.contains("clock")
}

#[tokio::test]
async fn check_tells_what_is_wrong_with_the_table() {
    let Some(scratch) = Scratch::migrated().await else {
        return;
    };
    let store = scratch.store(1);
    assert_eq!(told(&store).await, []);
    for (wrong, right, severity, what) in [
        (
            r#"ALTER TABLE "{table}" SET UNLOGGED"#,
            r#"ALTER TABLE "{table}" SET LOGGED"#,
            Severity::Danger,
            "the table is UNLOGGED",
        ),
        (
            r#"ALTER INDEX "{table}_uncompleted" RENAME TO "{table}_other""#,
            r#"ALTER INDEX "{table}_other" RENAME TO "{table}_uncompleted""#,
            Severity::Warning,
            "an index of the table is missing or invalid",
        ),
        (
            r#"ALTER FUNCTION "{table}_wait" RENAME TO "{table}_other""#,
            r#"ALTER FUNCTION "{table}_other" RENAME TO "{table}_wait""#,
            Severity::Danger,
            "a function or the procedure of the table is missing",
        ),
    ] {
        scratch.execute(wrong).await;
        assert_eq!(told(&store).await, [(severity, what.to_owned())]);
        scratch.execute(right).await;
    }
    assert_eq!(told(&store).await, []);
    scratch.clean_up().await;
}

#[tokio::test]
async fn check_tells_a_user_without_rights_and_a_role_that_does_not_wait_for_the_disk() {
    let Some(scratch) = Scratch::migrated().await else {
        return;
    };
    scratch
        .execute(
            r#"CREATE ROLE "{table}" LOGIN; GRANT SELECT, INSERT, UPDATE ON "{table}" TO "{table}";
               ALTER ROLE "{table}" SET synchronous_commit = off"#,
        )
        .await;
    let options = scratch.server.clone().username(&scratch.table);
    let store = scratch.store_on(pool(&options, 1));
    let expected = [
        "`synchronous_commit` is off",
        "this user may not do all that the store does",
    ]
    .map(|what| (Severity::Danger, what.to_owned()));
    assert_eq!(told(&store).await, expected);
    // A service is told when it starts, and not by its first request.
    let (log, guard) = Log::begin();
    store.migrate().await.unwrap();
    drop(guard);
    for (_, what) in &expected {
        assert!(log.text().contains(what), "{}", log.text());
    }
    scratch
        .execute(r#"GRANT DELETE ON "{table}" TO "{table}"; ALTER ROLE "{table}" RESET ALL"#)
        .await;
    assert_eq!(told(&store).await, []);
    scratch
        .execute(
            r#"ALTER TABLE "{table}" ENABLE ROW LEVEL SECURITY;
               CREATE POLICY all_of_them ON "{table}" FOR INSERT WITH CHECK (true)"#,
        )
        .await;
    let secured = "row-level security of the table applies to this user".to_owned();
    assert_eq!(told(&store).await, [(Severity::Danger, secured)]);
    scratch
        .execute(r#"DROP OWNED BY "{table}"; DROP ROLE "{table}""#)
        .await;
    scratch.clean_up().await;
}

#[tokio::test]
async fn check_tells_a_role_whose_transactions_are_read_only() {
    let Some(scratch) = Scratch::migrated().await else {
        return;
    };
    scratch
        .execute(
            r#"CREATE ROLE "{table}" LOGIN; GRANT SELECT, INSERT, UPDATE, DELETE ON "{table}" TO "{table}";
               ALTER ROLE "{table}" SET default_transaction_read_only = on"#,
        )
        .await;
    let options = scratch.server.clone().username(&scratch.table);
    let store = scratch.store_on(pool(&options, 1));
    let what = "`default_transaction_read_only` is on".to_owned();
    assert_eq!(told(&store).await, [(Severity::Danger, what)]);
    scratch.execute(r#"ALTER ROLE "{table}" RESET ALL"#).await;
    assert_eq!(told(&store).await, []);
    scratch
        .execute(r#"DROP OWNED BY "{table}"; DROP ROLE "{table}""#)
        .await;
    scratch.clean_up().await;
}

#[tokio::test]
async fn target_makes_nothing_unless_it_is_told_to() {
    let (Some(url), Some(scratch)) = (server().await, Scratch::new().await) else {
        return;
    };
    let target = Target::new(url).table(&scratch.table);
    for _ in 0..2 {
        let error = target.open().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotMigrated, "{error:?}");
    }
    let findings = target.check().await.unwrap();
    let last = findings.iter().max_by_key(|finding| finding.severity);
    assert!(
        last.unwrap().what.starts_with("there is no table"),
        "{findings:?}"
    );
    let statements = target.migrations().await.unwrap().unwrap();
    assert!(statements.contains(&scratch.table));
    target.migrate().await.unwrap();
    let store = target.open().await.unwrap();
    let no_key = RecordKey::from_bytes([0; 32]);
    assert!(store.get(&no_key).await.unwrap().is_none());
    let prefixed = target.prefix("a:").open().await.unwrap_err();
    assert_eq!(prefixed.kind(), ErrorKind::InvalidName);
    scratch.clean_up().await;
}

//! What an operator is told of a database, and that looking makes none.

use std::str::FromStr as _;

use idempotent_runtime::ErrorKind;
use idempotent_runtime::store::sqlite::SqliteStore;
use idempotent_runtime::store::{Severity, Target};
use sqlx::ConnectOptions as _;
use sqlx::sqlite::SqliteConnectOptions;

use crate::support::{Directory, execute};

async fn told(target: &Target) -> Vec<(Severity, String)> {
    let mut findings = target.check().await.unwrap();
    findings.retain(|finding| finding.severity > Severity::Good);
    let findings = findings.into_iter();
    findings
        .map(|finding| (finding.severity, finding.what.into_owned()))
        .collect()
}

#[tokio::test]
async fn looking_makes_no_file_and_no_table() {
    let directory = Directory::new();
    let target = Target::new(directory.url());
    for _ in 0..2 {
        let error = target.open().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotMigrated, "{error:?}");
        assert!(target.check().await.is_err());
    }
    let options = SqliteConnectOptions::from_str(&directory.url()).unwrap();
    let mut other = options.create_if_missing(true).connect().await.unwrap();
    execute(&mut other, "CREATE TABLE other (id)").await;
    let error = target.open().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotMigrated, "{error:?}");
    let told = told(&target).await;
    let missing = "there is no table `idempotency_records`".to_owned();
    assert!(told.contains(&(Severity::Danger, missing)), "{told:?}");
    target.migrate().await.unwrap();
    assert!(target.open().await.is_ok());
}

#[tokio::test]
async fn check_tells_another_mode_and_a_missing_index() {
    let directory = Directory::new();
    let target = Target::new(directory.url());
    drop(SqliteStore::connect(&directory.url()).await.unwrap());
    assert_eq!(told(&target).await, []);
    let index = "DROP INDEX idempotency_records_uncompleted";
    execute(&mut directory.connection().await, index).await;
    let expected = [(
        Severity::Warning,
        "an index of the table is missing".to_owned(),
    )];
    assert_eq!(told(&target).await, expected);
}

//! What an operator is told of a server, a table and a user's rights.

use idempotent_runtime::store::mysql::MySqlStore;
use idempotent_runtime::store::{Finding, Severity};

use crate::support::Scratch;

/// What is bad about it.
async fn told(store: &MySqlStore) -> Vec<String> {
    let mut findings = store.check().await.unwrap();
    findings.retain(|finding| finding.severity == Severity::Danger);
    let line = |finding: Finding| finding.what.into_owned();
    findings.into_iter().map(line).collect()
}

#[tokio::test]
async fn check_tells_what_is_wrong_with_the_table() {
    let Some(scratch) = Scratch::new().await else {
        return;
    };
    let store = scratch.store(1);
    let missing = "there is no table `records`, or this user may not see it";
    assert_eq!(told(&store).await, [missing]);
    store.migrate().await.unwrap();
    assert_eq!(told(&store).await, [""; 0]);
    for (wrong, right, what) in [
        (
            "ALTER TABLE {table} DROP INDEX records_state",
            "ALTER TABLE {table} ADD INDEX records_state (state)",
            "an index of the table is missing",
        ),
        (
            "ALTER TABLE {table} ENGINE = MyISAM",
            "ALTER TABLE {table} ENGINE = InnoDB",
            "its engine is MyISAM",
        ),
        (
            "ALTER TABLE {table} DROP PRIMARY KEY",
            "ALTER TABLE {table} ADD PRIMARY KEY (record_key)",
            "the table `records` has no primary key on `record_key` alone, as after half of a restore: two requests with one key would both run",
        ),
        (
            "ALTER TABLE {table} DROP PRIMARY KEY, ADD PRIMARY KEY (record_key, created_at)",
            "ALTER TABLE {table} DROP PRIMARY KEY, ADD PRIMARY KEY (record_key)",
            "the table `records` has no primary key on `record_key` alone, as after half of a restore: two requests with one key would both run",
        ),
    ] {
        scratch.execute(wrong).await;
        assert_eq!(told(&store).await, [what]);
        scratch.execute(right).await;
    }
    assert_eq!(told(&store).await, [""; 0]);
    scratch.clean_up().await;
}

#[tokio::test]
async fn check_tells_a_user_without_rights() {
    let Some(scratch) = Scratch::migrated().await else {
        return;
    };
    // A name has at most 32 characters on MySQL.
    let user = &scratch.database[..30];
    scratch
        .execute(&format!(
            "CREATE USER '{user}'@'%' IDENTIFIED BY 'a'; GRANT SELECT, INSERT, UPDATE ON {{table}} TO '{user}'@'%'"
        ))
        .await;
    let options = scratch.options.clone().username(user).password("a");
    let store = scratch.store_on(&options, 1);
    assert_eq!(
        told(&store).await,
        ["this user may not do all that the store does"]
    );
    scratch
        .execute(&format!("GRANT DELETE ON {{table}} TO '{user}'@'%'"))
        .await;
    assert_eq!(told(&store).await, [""; 0]);
    scratch.execute(&format!("DROP USER '{user}'@'%'")).await;
    scratch.clean_up().await;
}

//! A record that cannot be read is an error and never an absence.

use idempotent_runtime::store::{Store, StoreErrorKind};

use crate::support::{Directory, TTL, execute, request, response, rival};

const DAMAGES: &[&str] = &[
    "state = 'melting'",
    "state = ''",
    "request_hash = x'07'",
    "token = x''",
    "attempt = 0",
    "attempt = 4294967296",
    "response = NULL",
    "response = x''",
    // The format of a later release.
    "response = x'02c90100'",
    // Cut short, and followed by something.
    "response = substr(response, 1, length(response) - 1)",
    "response = CAST(response || x'00' AS BLOB)",
];

#[tokio::test]
async fn damaged_record_is_corrupt_to_everybody() {
    let directory = Directory::new();
    let store = directory.store().await;
    for damage in DAMAGES {
        let request = request();
        store.claim(&request).await.unwrap();
        store
            .complete(&request.owner, &response("paid"), TTL)
            .await
            .unwrap();
        let mut connection = directory.connection().await;
        let update = format!(
            "PRAGMA ignore_check_constraints = ON; UPDATE idempotency_records SET {damage}"
        );
        execute(&mut connection, update).await;
        // Through a connection that reads, and through the one that writes.
        let another = directory.fresh_store().await;
        for error in [
            store.get(&request.owner.key).await.unwrap_err(),
            store.claim(&rival(&request)).await.unwrap_err(),
            another.claim(&rival(&request)).await.unwrap_err(),
        ] {
            assert_eq!(error.kind(), StoreErrorKind::Corrupt, "{damage}: {error:?}");
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            assert!(cause.is_some_and(|cause| !cause.is_empty()), "{damage}");
        }
        // An operator can see to it.
        assert!(store.remove(&request.owner.key).await.unwrap());
    }
}

#[tokio::test]
async fn damaged_record_is_completed_by_nobody() {
    let directory = Directory::new();
    let store = directory.store().await;
    let request = request();
    store.claim(&request).await.unwrap();
    let damage = "UPDATE idempotency_records SET state = 'melting'";
    execute(&mut directory.connection().await, damage).await;
    let error = store
        .complete(&request.owner, &response("paid"), TTL)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Corrupt, "{error:?}");
}

/// The table itself refuses what no release writes.
#[tokio::test]
async fn table_checks_its_columns() {
    let directory = Directory::new();
    let store = directory.store().await;
    store.claim(&request()).await.unwrap();
    let mut connection = directory.connection().await;
    for damage in [
        "key = x'00'",
        "request_hash = x'00'",
        "token = x'00'",
        "attempt = 0",
        "expires_at = 'tomorrow'",
        "lease_until = NULL",
        "state = 'completed'",
    ] {
        let update = format!("UPDATE idempotency_records SET {damage}");
        let result = sqlx::raw_sql(sqlx::AssertSqlSafe(update))
            .execute(&mut connection)
            .await;
        assert!(result.is_err(), "{damage}");
    }
}

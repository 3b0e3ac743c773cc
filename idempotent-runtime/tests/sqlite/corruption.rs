//! A record that cannot be read is an error and never an absence.

use idempotent_runtime::store::{Store, StoreErrorKind};

use crate::sql::Bench as _;
use crate::support::{Directory, TTL, execute, request, response, rival};

#[tokio::test]
async fn damaged_record_is_corrupt_to_everybody() {
    let directory = Directory::new();
    let store = directory.store().await;
    for damage in Directory::DAMAGES {
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

/// The table itself refuses what no release writes.
#[tokio::test]
async fn table_checks_its_columns() {
    let directory = Directory::new();
    let store = directory.store().await;
    store.claim(&request()).await.unwrap();
    let mut connection = directory.connection().await;
    for damage in [
        "key = x'00'",
        "fingerprint = x'00'",
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

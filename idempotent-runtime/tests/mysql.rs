//! The MySQL store on a real server.

#![expect(
    clippy::unwrap_used,
    reason = "in the helpers too, which clippy does not take for tests"
)]

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use idempotent_runtime::store::conformance::{self, TestBed, Timing};
use idempotent_runtime::store::mysql::MySqlStore;
use idempotent_runtime::store::{Claim, ClaimRequest, Store, StoreErrorKind};
use idempotent_runtime::{ErrorKind, Fingerprint, Owner, RecordKey, Token};

use support::{Scratch, chain};

#[path = "support/mysql.rs"]
mod support;

struct Bed(Arc<dyn Store>);

#[async_trait]
impl TestBed for Bed {
    fn store(&self) -> Arc<dyn Store> {
        Arc::clone(&self.0)
    }

    async fn advance(&self, by: Duration) {
        tokio::time::sleep(by).await;
    }

    fn timing(&self) -> Timing {
        Timing::real(Duration::from_millis(400))
    }
}

fn request() -> ClaimRequest {
    let random = || *Token::random().unwrap().as_bytes();
    ClaimRequest {
        owner: Owner {
            key: RecordKey::from_bytes([random(), random()].concat().try_into().unwrap()),
            token: Token::random().unwrap(),
        },
        fingerprint: Fingerprint::from_bytes([7; 32]),
        lease: Duration::from_secs(600),
        ttl: Duration::from_secs(3600),
        take_over: None,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn mysql_store_is_conformant() {
    let Some(scratch) = Scratch::new().await else {
        return;
    };
    let store = scratch.store(16);
    store.migrate().await.unwrap();
    let report = conformance::run(&Bed(Arc::new(store))).await;
    scratch.clean_up().await;
    report.assert_conformant();
    assert!(report.cases().len() > 40, "{report}");
}

#[tokio::test]
async fn a_missing_table_is_an_error_that_names_migrate() {
    let Some(scratch) = Scratch::new().await else {
        return;
    };
    let error = scratch.store(1).claim(&request()).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Rejected);
    assert!(chain(&error).contains("migrate"), "{}", chain(&error));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn eight_migrations_at_once_make_one_table() {
    let Some(scratch) = Scratch::new().await else {
        return;
    };
    let starts: Vec<_> = (0..8)
        .map(|_| {
            let store = scratch.store(1);
            tokio::spawn(async move { store.migrate().await })
        })
        .collect();
    for start in starts {
        start.await.unwrap().unwrap();
    }
    let claim = scratch.store(1).claim(&request()).await.unwrap();
    assert!(
        matches!(claim, Claim::Acquired { attempt: 1, .. }),
        "{claim:?}"
    );
    scratch.clean_up().await;
}

#[tokio::test]
async fn a_table_of_a_newer_release_is_refused() {
    let Some(scratch) = Scratch::new().await else {
        return;
    };
    scratch.store(1).migrate().await.unwrap();
    scratch
        .execute("ALTER TABLE {table} COMMENT = 'idempotent-runtime schema 2'")
        .await;
    let error = scratch.store(1).migrate().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Store);
    scratch.clean_up().await;
}

#[tokio::test]
async fn a_row_that_cannot_be_read_is_never_taken_as_absent() {
    let Some(scratch) = Scratch::new().await else {
        return;
    };
    let store = scratch.store(1);
    store.migrate().await.unwrap();
    for damage in [
        "state = 9",
        "state = 2, response = NULL",
        "state = 2, response = 'x'",
        "token = ''",
    ] {
        let request = request();
        store.claim(&request).await.unwrap();
        scratch
            .execute(&format!("UPDATE {{table}} SET {damage}"))
            .await;
        let other = ClaimRequest {
            owner: Owner {
                token: Token::random().unwrap(),
                ..request.owner
            },
            ..request
        };
        // A token that was cut is filled up with zeros by the column, and so is somebody else's.
        match store.claim(&other).await {
            Err(error) => assert_eq!(error.kind(), StoreErrorKind::Corrupt, "{damage}"),
            Ok(claim) => assert!(
                matches!(claim, Claim::InFlight { .. }),
                "{damage}: {claim:?}"
            ),
        }
        scratch.execute("DELETE FROM {table}").await;
    }
    scratch.clean_up().await;
}

#[tokio::test]
async fn a_wrong_name_or_url_is_an_error_that_says_so() {
    let wrong = MySqlStore::connect("mysql://root@127.0.0.1:3306")
        .await
        .unwrap_err();
    assert_eq!(wrong.kind(), ErrorKind::InvalidUrl);
    let refused = MySqlStore::connect("mysql://root:secret@127.0.0.1:1/test")
        .await
        .unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Store);
    assert!(!chain(&refused).contains("secret"), "{}", chain(&refused));
}

//! A store that fails: the page says so, and nothing that is not known to be true.

use std::sync::Arc;

use axum::Router;
use http::StatusCode;
use idempotent_runtime::store::{Store, StoreErrorKind};
use idempotent_runtime::{Idempotency, admin};

use crate::faulty::{Fault, FaultyStore, Operation};
use crate::support::{Admin, Log, PREFIX, authorise};

/// A page on a store that can be made to fail, with an abandoned record.
async fn on_faulty() -> (Admin, FaultyStore, String) {
    let mut admin = Admin::new();
    let key = admin.abandon(1, "POST /pay", None).await.to_hex();
    let store = FaultyStore::new(Arc::clone(&admin.store) as Arc<dyn Store>);
    admin.idempotency = Idempotency::new(store.clone());
    let page = admin::router(admin.idempotency.clone(), authorise);
    admin.router = Router::new().nest(PREFIX, page);
    (admin, store, key)
}

#[tokio::test(start_paused = true)]
async fn a_record_that_cannot_be_had_is_said_to_be_just_that() {
    for (kind, said) in [
        (StoreErrorKind::Refused, "cannot be used at the moment"),
        (StoreErrorKind::Corrupt, "the record cannot be read"),
    ] {
        let (log, _guard) = Log::begin();
        let (admin, store, key) = on_faulty().await;
        store.script_times(100, Operation::Get, Fault::Refused(kind));
        let path = format!("/records/{key}");
        let page = admin.get(&path).await;
        assert_eq!(page.status, StatusCode::SERVICE_UNAVAILABLE);
        assert!(page.text.contains(said), "{}", page.text);
        let json = admin.get_json(&path).await;
        assert_eq!(json.headers["content-type"], "application/problem+json");
        let retry = [("decision", "retry"), ("seen", "1@1"), ("reason", "none")];
        let page = admin.submit(&format!("{path}/resolve"), &retry).await;
        assert_eq!(page.status, StatusCode::SERVICE_UNAVAILABLE);
        assert!(page.text.contains("Nothing was changed."), "{}", page.text);
        assert!(log.text().contains("could not be answered from the store"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_decision_without_a_reply_may_have_been_carried_out() {
    let (admin, store, key) = on_faulty().await;
    let lost = Fault::Refused(StoreErrorKind::Unavailable);
    store.script_times(1000, Operation::Claim, lost);
    let seen = admin.seen(key.parse().unwrap()).await;
    let retry = [("decision", "retry"), ("seen", &*seen), ("reason", "none")];
    let page = admin
        .submit(&format!("/records/{key}/resolve"), &retry)
        .await;
    assert_eq!(page.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(
        page.text.contains("may have been carried out"),
        "{}",
        page.text
    );
    store.unscript(Operation::Claim);
    let page = admin
        .submit(&format!("/records/{key}/resolve"), &retry)
        .await;
    assert_eq!(page.status, StatusCode::OK, "{}", page.text);
}

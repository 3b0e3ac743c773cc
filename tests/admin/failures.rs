//! A store that fails: the page says so, and nothing that is not known to be true.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use http::StatusCode;
use idempotent_runtime::store::{Store, StoreErrorKind};
use idempotent_runtime::{Idempotency, admin};

use crate::faulty::{Fault, FaultyStore, Operation};
use crate::logged::Log;
use crate::support::{Admin, PREFIX, authorise};

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
    for (kind, status, said) in [
        (
            StoreErrorKind::Refused,
            StatusCode::SERVICE_UNAVAILABLE,
            "cannot be used at the moment",
        ),
        (
            StoreErrorKind::Corrupt,
            StatusCode::INTERNAL_SERVER_ERROR,
            "<h1>A record that cannot be read</h1>",
        ),
        (
            StoreErrorKind::Unsupported,
            StatusCode::NOT_IMPLEMENTED,
            "<h1>Not possible with this store</h1>",
        ),
    ] {
        let (log, _guard) = Log::begin(tracing::Level::INFO);
        let (admin, store, key) = on_faulty().await;
        store.script_times(100, Operation::Get, Fault::Refused(kind));
        let path = format!("/records/{key}");
        let page = admin.get(&path).await;
        assert_eq!(page.status, status);
        assert!(page.text.contains(said), "{}", page.text);
        let json = admin.get_json(&path).await;
        assert_eq!(json.headers["content-type"], "application/problem+json");
        let retry = [("decision", "retry"), ("seen", "1@1"), ("reason", "none")];
        let page = admin.submit(&format!("{path}/resolve"), &retry).await;
        assert_eq!(page.status, status);
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
    // Looked at again: the store's clock has moved on, and that of the system, by which a form knows a record, stands still.
    let seen = admin.seen(key.parse().unwrap()).await;
    let retry = [("decision", "retry"), ("seen", &*seen), ("reason", "none")];
    let page = admin
        .submit(&format!("/records/{key}/resolve"), &retry)
        .await;
    assert_eq!(page.status, StatusCode::OK, "{}", page.text);
}

/// A Redis Cluster: the overview is where its operators come in.
#[tokio::test(start_paused = true)]
async fn a_store_that_lists_nothing_has_the_forms_that_find_a_record() {
    let (admin, store, key) = on_faulty().await;
    let unsupported = Fault::Refused(StoreErrorKind::Unsupported);
    store.script_times(100, Operation::List, unsupported);
    for path in ["", "/records"] {
        let page = admin.get(path).await;
        assert_eq!(page.status, StatusCode::NOT_IMPLEMENTED);
        assert!(page.text.contains("Not possible with this store"));
        for form in ["Client&#39;s key", "Record key"] {
            let is_there =
                page.text.contains(form) || page.text.contains(&form.replace("&#39;", "'"));
            assert!(is_there, "{form}: {}", page.text);
        }
    }
    let page = admin.get(&format!("/records?key={key}")).await;
    assert_eq!(page.status, StatusCode::SEE_OTHER);
}

#[tokio::test(start_paused = true)]
async fn a_state_that_cannot_be_counted_does_not_hide_the_others() {
    let (admin, store, _) = on_faulty().await;
    let refused = Fault::Refused(StoreErrorKind::Refused);
    store.script(Operation::List, Fault::Works);
    store.script_times(1, Operation::List, refused);
    let json = admin.get_json("").await.json();
    assert_eq!(json["totals"]["abandoned"]["count"], 1);
    assert_eq!(json["totals"]["abandoned"]["is_at_least"], false);
    assert_eq!(json["totals"]["in_flight"]["is_at_least"], true);
    assert_eq!(json["totals"]["completed"]["is_at_least"], false);
    store.script_times(3, Operation::List, refused);
    let page = admin.get("").await;
    assert_eq!(page.status, StatusCode::SERVICE_UNAVAILABLE);
}

#[tokio::test(start_paused = true)]
async fn a_listing_that_hangs_is_not_waited_for() {
    let (admin, store, _) = on_faulty().await;
    store.script(Operation::List, Fault::Works);
    store.script(Operation::List, Fault::Swallowed);
    let begun = tokio::time::Instant::now();
    let json = admin.get_json("").await.json();
    assert!(
        begun.elapsed() < Duration::from_secs(3),
        "{:?}",
        begun.elapsed()
    );
    assert_eq!(json["totals"]["abandoned"]["count"], 1);
    assert_eq!(json["totals"]["in_flight"]["is_at_least"], true);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_answers_nothing_in_time_is_not_said_to_be_empty() {
    let (admin, store, _) = on_faulty().await;
    store.script_times(100, Operation::List, Fault::Swallowed);
    let page = admin.get("").await;
    assert_eq!(page.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(
        page.text.contains("has not answered for 2 s"),
        "{}",
        page.text
    );
    assert!(!page.text.contains("no records"), "{}", page.text);
    let json = admin.get_json("").await;
    assert_eq!(json.status, StatusCode::SERVICE_UNAVAILABLE);
    store.unscript(Operation::List);
    // The one record is of a state that is not answered.
    store.script(Operation::List, Fault::Refused(StoreErrorKind::Unavailable));
    let page = admin.get("").await;
    assert_eq!(page.status, StatusCode::OK);
    assert!(page.text.contains("at least 0"), "{}", page.text);
    assert!(!page.text.contains("no records"), "{}", page.text);
}

#[tokio::test(start_paused = true)]
async fn a_record_that_cannot_be_read_can_be_forgotten() {
    let (log, _guard) = Log::begin(tracing::Level::INFO);
    let (admin, store, key) = on_faulty().await;
    store.script_times(100, Operation::Get, Fault::Refused(StoreErrorKind::Corrupt));
    let page = admin.get(&format!("/records/{key}")).await;
    assert!(page.text.contains("Forget this record"), "{}", page.text);
    assert!(page.text.contains("value=\"unreadable\""), "{}", page.text);
    let forget = [
        ("decision", "forget"),
        ("state", "unreadable"),
        ("reason", "damaged"),
        ("confirm", "yes"),
    ];
    let path = format!("/records/{key}/forget");
    let page = admin.submit(&path, &forget[..3]).await;
    assert_eq!(page.status, StatusCode::INTERNAL_SERVER_ERROR);
    assert!(page.text.contains("must be confirmed"), "{}", page.text);
    assert_eq!(admin.store.len(), 1);
    // It can be read again: what was decided was about something else.
    store.unscript(Operation::Get);
    let page = admin.submit(&path, &forget).await;
    assert_eq!(page.status, StatusCode::CONFLICT, "{}", page.text);
    store.script_times(100, Operation::Get, Fault::Refused(StoreErrorKind::Corrupt));
    let page = admin.submit(&path, &forget).await;
    assert_eq!(page.status, StatusCode::OK, "{}", page.text);
    assert!(page.text.contains("up to 10 s more"), "{}", page.text);
    assert_eq!(admin.store.len(), 0);
    let logged = log.text();
    assert!(logged.contains("an operator removed a record"), "{logged}");
    assert!(
        logged.contains(&format!("record={}", &key[..8])),
        "{logged}"
    );
    assert!(logged.contains("reason=\"damaged\""), "{logged}");
}

#[tokio::test(start_paused = true)]
async fn a_removal_that_is_refused_has_changed_nothing() {
    let (admin, store, key) = on_faulty().await;
    let refused = Fault::Refused(StoreErrorKind::Refused);
    store.script(Operation::Remove, refused);
    let seen = admin.seen(key.parse().unwrap()).await;
    let forget = [
        ("decision", "forget"),
        ("state", "abandoned"),
        ("seen", &*seen),
        ("reason", "a test of ours"),
        ("confirm", "yes"),
    ];
    let page = admin
        .submit(&format!("/records/{key}/forget"), &forget)
        .await;
    assert_eq!(page.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(page.text.contains("Nothing was changed."), "{}", page.text);
    assert_eq!(admin.store.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_removal_is_logged_when_its_reply_is_lost_and_when_its_operator_has_gone() {
    for fault in [Fault::ReplyLost, Fault::Waits] {
        let (log, _guard) = Log::begin(tracing::Level::INFO);
        let (admin, store, key) = on_faulty().await;
        store.script(Operation::Remove, fault);
        let seen = admin.seen(key.parse().unwrap()).await;
        let forget = [
            ("decision", "forget"),
            ("state", "abandoned"),
            ("seen", &*seen),
            ("reason", "a test of ours"),
            ("confirm", "yes"),
        ];
        let path = format!("/records/{key}/forget");
        let submitted = admin.submit(&path, &forget);
        let said = if fault == Fault::Waits {
            tokio::select! {
                _ = submitted => panic!("it has an answer"),
                () = store.waiting() => {}
            }
            store.proceed();
            "an operator removed a record"
        } else {
            assert_eq!(submitted.await.status, StatusCode::SERVICE_UNAVAILABLE);
            "may have been removed"
        };
        for _ in 0..1000 {
            if log.text().contains(said) {
                break;
            }
            tokio::task::yield_now().await;
        }
        let logged = log.text();
        assert!(logged.contains(said), "{logged}");
        assert!(
            logged.contains("by=\"anna\" reason=\"a test of ours\""),
            "{logged}"
        );
    }
}

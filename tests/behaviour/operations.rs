//! Operations: what a route may be changed into while its keys are alive.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::routing::{MethodRouter, post};
use idempotent_runtime::store::memory::MemoryStore;
use idempotent_runtime::{Idempotency, Locator, idempotent};

use crate::support::{App, Crashes, Local, Probe};

#[idempotent]
async fn pay(State(probe): State<Probe>) -> String {
    format!("run {}", probe.run())
}

#[idempotent(name = "charge-{eur}")]
async fn charge_eur(State(probe): State<Probe>) -> String {
    format!("EUR in run {}", probe.run())
}

#[idempotent(name = "charge-{usd}")]
async fn charge_usd(State(probe): State<Probe>) -> String {
    format!("USD in run {}", probe.run())
}

#[idempotent]
async fn stuck(State(probe): State<Probe>) -> String {
    format!("run {}", probe.run_gated().await)
}

fn at(route: &str, handler: MethodRouter<App>) -> Router<App> {
    Router::new().route(route, handler)
}

/// It ran again: the name of the parameter was part of the key.
#[tokio::test]
async fn live_keys_survive_that_a_path_parameter_is_renamed() {
    let renamed = [
        (
            "/orders/{id}/pay",
            "/orders/{order_id}/pay",
            "/orders/7/pay",
        ),
        ("/files/{*rest}", "/files/{*path}", "/files/a/b"),
        ("/{a}/{b}", "/{shop}/{order}", "/7/8"),
    ];
    for (before, after, path) in renamed {
        let store = Arc::new(MemoryStore::new());
        let old = Local::new(Arc::clone(&store), at(before, post(pay)));
        let nested = Router::new().nest("/v1", at(before, post(pay)));
        let new = Local::new(Arc::clone(&store), at(after, post(pay)).merge(nested));
        let first = old.post(path, "key").await;
        assert_eq!((first.status, first.text()), (200, "run 1"));
        new.post(path, "key").await.assert_replay_of(&first);
        assert_eq!(new.probe.runs(), 0);
        // Another path is another operation, whatever its parameters are called.
        let other = new.post(&format!("/v1{path}"), "key").await;
        assert_eq!((other.text(), other.is_replay()), ("run 1", false));
    }
}

#[tokio::test]
async fn operator_writes_a_route_as_the_router_has_it_or_had_it() {
    let local = Local::new(MemoryStore::new(), at("/orders/{id}/pay", post(pay)));
    assert_eq!(local.post("/orders/7/pay", "key").await.status, 200);
    for operation in [
        "POST /orders/{id}/pay",
        "POST /orders/{order_id}/pay",
        "POST /orders/{}/pay",
    ] {
        let identity = Locator::new(operation, "key");
        let found = local.idempotency.inspect(&identity).await;
        assert!(found.unwrap().is_some(), "{operation}");
    }
    let other = Locator::new("POST /orders/{*id}/pay", "key");
    assert!(local.idempotency.inspect(&other).await.unwrap().is_none());
}

/// What is in the braces of a name means something.
#[tokio::test]
async fn names_that_differ_in_their_braces_are_two_operations() {
    let routes = at("/eur", post(charge_eur)).route("/usd", post(charge_usd));
    let local = Local::new(MemoryStore::new(), routes);
    assert_eq!(local.post("/eur", "key").await.text(), "EUR in run 1");
    assert_eq!(local.post("/usd", "key").await.text(), "USD in run 2");
    for name in ["charge-{eur}", "charge-{usd}"] {
        let identity = Locator::new(name, "key");
        let found = local.idempotency.inspect(&identity).await;
        assert!(found.unwrap().is_some(), "{name}");
    }
}

#[tokio::test]
async fn recovery_is_told_of_an_operation_without_the_names_of_parameters() {
    let crashes = Crashes::new();
    let routes = || at("/orders/{id}/pay", post(stuck));
    let stopped = crashes.stop_at(routes(), "/orders/7/pay").await;
    let operation = Locator::new("POST /orders/{id}/pay", "key");
    let (sender, receiver) = tokio::sync::oneshot::channel();
    let idempotency: Idempotency = crashes.builder().build();
    let resolved = idempotency.resolve_with(&operation, |abandoned| {
        sender.send(abandoned.operation().to_owned()).unwrap();
        std::future::ready(idempotent_runtime::Recovery::Unknown)
    });
    resolved.await.unwrap();
    assert_eq!(receiver.await.unwrap(), "POST /orders/{}/pay");
    drop(stopped);
}

/// The operation that it has without a name.
#[idempotent(name = "POST /payments/{id}")]
async fn pay_by_name(State(probe): State<Probe>) -> String {
    format!("run {}", probe.run())
}

#[tokio::test]
async fn a_name_that_is_the_old_operation_keeps_its_keys_on_another_route() {
    let store = Arc::new(MemoryStore::new());
    let before = Local::new(Arc::clone(&store), at("/payments/{payment}", post(pay)));
    let after = Local::new(store, at("/v2/payments/{id}", post(pay_by_name)));
    assert_eq!(before.post("/payments/7", "key").await.text(), "run 1");
    // Its path is another one, so that it is not replayed; it does not run either.
    let retry = after.post("/v2/payments/7", "key").await;
    retry.assert_problem(422, "key-reused");
    let named = Local::new(
        Arc::new(MemoryStore::new()),
        at("/payments/{id}", post(pay_by_name)),
    );
    assert_eq!(named.post("/payments/7", "key").await.text(), "run 1");
    let operation = Locator::new("POST /payments/{payment}", "key");
    let found = named.idempotency.inspect(&operation).await.unwrap();
    assert!(found.is_some());
}

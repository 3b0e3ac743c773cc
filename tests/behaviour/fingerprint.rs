//! Same key, another request.

use std::collections::HashMap;
use std::sync::Arc;

use axum::extract::State;
use axum::routing::{post, put};
use axum::{Json, Router};
use http::HeaderName;
use idempotent_runtime::store::memory::MemoryStore;
use idempotent_runtime::{Idempotency, idempotent};
use serde::Deserialize;

use crate::support::{App, Probe, Server, reply, serve, serve_on, serve_with};

#[idempotent]
async fn pay(State(probe): State<Probe>, body: String) -> String {
    format!("{body} in run {}", probe.run())
}

#[idempotent]
async fn slow(State(probe): State<Probe>, body: String) -> String {
    format!("{body} in run {}", probe.run_gated().await)
}

#[idempotent(fingerprint = json)]
async fn by_json(State(probe): State<Probe>, body: String) -> String {
    format!("{} bytes in run {}", body.len(), probe.run())
}

#[derive(Deserialize)]
struct Payment {
    amount: u64,
    currency: String,
    #[serde(rename = "note")]
    _note: Option<String>,
}

#[idempotent(fingerprint = (payment.amount, &payment.currency))]
async fn by_fields(State(probe): State<Probe>, Json(payment): Json<Payment>) -> String {
    format!(
        "{} {} in run {}",
        payment.amount,
        payment.currency,
        probe.run()
    )
}

/// Each time in another order, and with numbers that are awkward to write out.
fn estimates() -> HashMap<u32, f64> {
    (0..50).map(|n| (n, 1e300)).collect()
}

#[idempotent(fingerprint = estimates())]
async fn by_map(State(probe): State<Probe>) -> String {
    probe.run().to_string()
}

#[idempotent(fingerprint_headers = ["X-Api-Version"])]
async fn by_version(State(probe): State<Probe>, body: String) -> String {
    format!("{body} in run {}", probe.run())
}

#[idempotent(fingerprint = body.len(), fingerprint_headers = ["x-api-version"])]
async fn by_version_and_length(State(probe): State<Probe>, body: String) -> String {
    format!("{body} in run {}", probe.run())
}

fn routes() -> Router<App> {
    Router::new()
        .route("/by_version", post(by_version))
        .route("/by_version_and_length", post(by_version_and_length))
        .route("/pay", post(pay))
        .route("/pay/again", post(pay))
        .route("/pay/{id}", put(pay))
        .route("/slow", post(slow))
        .route("/json", post(by_json))
        .route("/fields", post(by_fields))
        .route("/map", post(by_map))
}

fn json(server: &Server, path: &str, body: &str) -> reqwest::RequestBuilder {
    server
        .post(path, "key", body)
        .header("content-type", "application/json")
}

#[tokio::test]
async fn same_key_with_another_body_is_422() {
    let server = serve(routes()).await;
    let first = reply(server.post("/pay", "key", "10")).await;
    let other = reply(server.post("/pay", "key", "11")).await;
    other.assert_problem(422, "key-reused");
    assert_eq!(other.header("retry-after"), None);
    reply(server.post("/pay", "key", "10"))
        .await
        .assert_replay_of(&first);
    assert_eq!(server.probe.runs(), 1);
}

#[tokio::test]
async fn another_body_while_running_is_422_and_does_not_poison() {
    let server = serve(routes()).await;
    let running = server.spawn(server.post("/slow", "key", "10"));
    server.probe.started().await;
    reply(server.post("/slow", "key", "11"))
        .await
        .assert_problem(422, "key-reused");
    reply(server.post("/slow", "key", "10"))
        .await
        .assert_problem(409, "in-flight");
    server.probe.open();
    let first = running.await.unwrap();
    assert_eq!(first.text(), "10 in run 1");
    reply(server.post("/slow", "key", "10"))
        .await
        .assert_replay_of(&first);
    reply(server.post("/slow", "key", "11"))
        .await
        .assert_problem(422, "key-reused");
}

#[tokio::test]
async fn path_parameters_and_query_are_part_of_the_request() {
    let server = serve(routes()).await;
    let put = |path: &str| server.request(reqwest::Method::PUT, path, "key").body("10");
    assert_eq!(reply(put("/pay/1")).await.status, 200);
    reply(put("/pay/2")).await.assert_problem(422, "key-reused");
    reply(put("/pay/1?dry=1"))
        .await
        .assert_problem(422, "key-reused");
    assert!(reply(put("/pay/1")).await.is_replay());
}

#[tokio::test]
async fn the_key_on_another_route_does_not_meet() {
    let server = serve(routes()).await;
    assert_eq!(
        reply(server.post("/pay", "key", "10")).await.text(),
        "10 in run 1"
    );
    assert_eq!(
        reply(server.post("/pay/again", "key", "10")).await.text(),
        "10 in run 2"
    );
}

#[tokio::test]
async fn the_media_type_counts_and_its_parameters_do_not() {
    let server = serve(routes()).await;
    let typed = |media: &str| {
        server
            .post("/pay", "key", "10")
            .header("content-type", media)
    };
    let first = reply(typed("text/plain")).await;
    reply(typed("Text/Plain; charset=utf-8"))
        .await
        .assert_replay_of(&first);
    reply(typed("application/json"))
        .await
        .assert_problem(422, "key-reused");
    reply(server.post("/pay", "key", "10"))
        .await
        .assert_problem(422, "key-reused");
}

#[tokio::test]
async fn json_is_compared_by_value_when_asked() {
    let server = serve(routes()).await;
    let first = reply(json(&server, "/json", r#"{"amount": 10, "to": "é"}"#)).await;
    let spelled = reply(json(
        &server,
        "/json",
        "{\"to\":\"\\u00e9\",\n \"amount\":1.0e1}",
    ))
    .await;
    spelled.assert_replay_of(&first);
    let other = reply(json(&server, "/json", r#"{"amount": 11, "to": "é"}"#)).await;
    other.assert_problem(422, "key-reused");
}

#[tokio::test]
async fn big_integers_in_json_stay_apart() {
    let server = serve(routes()).await;
    reply(json(&server, "/json", r#"{"id":9007199254740993}"#)).await;
    let near = reply(json(&server, "/json", r#"{"id":9007199254740992}"#)).await;
    near.assert_problem(422, "key-reused");
}

#[tokio::test]
async fn what_is_no_json_is_compared_by_its_bytes() {
    let server = serve(routes()).await;
    let first = reply(server.post("/json", "key", "{oops")).await;
    reply(server.post("/json", "key", "{oops"))
        .await
        .assert_replay_of(&first);
    reply(server.post("/json", "key", "{oops "))
        .await
        .assert_problem(422, "key-reused");
}

#[tokio::test]
async fn chosen_fields_decide_when_asked() {
    let server = serve(routes()).await;
    let first = reply(json(
        &server,
        "/fields",
        r#"{"amount":10,"currency":"USD","note":"a"}"#,
    ))
    .await;
    let noted = reply(json(
        &server,
        "/fields",
        r#"{"amount":10,"currency":"USD","note":"b"}"#,
    ));
    noted.await.assert_replay_of(&first);
    let other = reply(json(
        &server,
        "/fields",
        r#"{"amount":100,"currency":"USD","note":"a"}"#,
    ));
    other.await.assert_problem(422, "key-reused");
}

#[tokio::test]
async fn the_order_of_a_map_does_not_matter() {
    let server = serve(routes()).await;
    let first = reply(server.post("/map", "key", "")).await;
    reply(server.post("/map", "key", ""))
        .await
        .assert_replay_of(&first);
}

/// Requests with one key and these values of `x-api-version`: which of them is answered like the first.
async fn like_the_first(server: &Server, path: &str, versions: [&[&str]; 5]) -> [bool; 5] {
    let mut like = [false; 5];
    for (like, values) in like.iter_mut().zip(versions) {
        let mut request = server.post(path, path, "10");
        for value in values {
            request = request.header("x-api-version", *value);
        }
        let reply = reply(request).await;
        *like = reply.status == 200;
        if !*like {
            reply.assert_problem(422, "key-reused");
        }
    }
    like
}

const VERSIONS: [&[&str]; 5] = [&["1"], &["2"], &[], &[""], &["1", "1"]];

#[tokio::test]
async fn headers_that_an_operation_names_are_a_part_of_the_request() {
    let server = serve(routes()).await;
    for path in ["/by_version", "/by_version_and_length"] {
        let like = like_the_first(&server, path, VERSIONS).await;
        assert_eq!(like, [true, false, false, false, false], "{path}");
    }
    let like = like_the_first(&server, "/pay", VERSIONS).await;
    assert_eq!(like, [true; 5], "nothing names the header");
    assert_eq!(server.probe.runs(), 3);
}

#[tokio::test]
async fn headers_that_the_handle_names_are_a_part_of_every_request() {
    let names = ["x-api-version", "accept"].map(HeaderName::from_static);
    let builder = Idempotency::builder(MemoryStore::new()).fingerprint_headers(names);
    let server = serve_with(builder, routes()).await;
    for path in ["/by_version", "/pay"] {
        let like = like_the_first(&server, path, VERSIONS).await;
        assert_eq!(like, [true, false, false, false, false], "{path}");
    }
}

/// Live keys survive that: it is the same set of names.
#[tokio::test]
async fn name_of_a_header_can_be_moved_between_operation_and_handle() {
    #[idempotent(name = "pay", fingerprint_headers = ["x-api-version"])]
    async fn before(State(probe): State<Probe>, body: String) -> String {
        format!("{body} in run {}", probe.run())
    }
    #[idempotent(name = "pay")]
    async fn after(State(probe): State<Probe>, body: String) -> String {
        format!("{body} in run {}", probe.run())
    }
    let store = Arc::new(MemoryStore::new());
    let before = serve_on(Arc::clone(&store), Router::new().route("/", post(before))).await;
    let names = [HeaderName::from_static("x-api-version")];
    let builder = Idempotency::builder(store).fingerprint_headers(names);
    let after = serve_with(builder, Router::new().route("/", post(after))).await;
    let send = |server: &Server| {
        let request = server.post("/", "key", "10");
        reply(request.header("x-api-version", "1"))
    };
    let first = send(&before).await;
    assert_eq!(first.status, 200);
    send(&after).await.assert_replay_of(&first);
}

/// Over HTTP/2 there is no such header, but a part of the request line: all hosts were one, and its first answer went to the others.
#[tokio::test]
async fn a_named_host_is_compared_over_http_2_too() {
    #[idempotent(fingerprint_headers = ["host"])]
    async fn by_host(State(probe): State<Probe>) -> String {
        probe.run().to_string()
    }
    let routes = Router::new().route("/", post(by_host));
    let server = serve(Router::new().nest("/nested", routes.clone()).merge(routes)).await;
    let client = || {
        let hosts = ["a.example.com", "b.example.com"];
        let client = reqwest::Client::builder();
        let resolved = hosts
            .iter()
            .fold(client, |client, host| client.resolve(host, server.address));
        resolved.no_proxy()
    };
    let versions = [client().http1_only(), client().http2_prior_knowledge()];
    let [http_1, http_2] = versions.map(|client| client.build().unwrap());
    for path in ["/", "/nested"] {
        let send = |client: &reqwest::Client, host: &str| {
            let url = format!("http://{host}:{}{path}", server.address.port());
            reply(client.post(url).header("idempotency-key", path))
        };
        let first = send(&http_2, "a.example.com").await;
        let other = send(&http_2, "b.example.com").await;
        other.assert_problem(422, "key-reused");
        for client in [&http_1, &http_2] {
            send(client, "a.example.com").await.assert_replay_of(&first);
        }
    }
}

//! What becomes of a decision, and that it is told as it is.

use std::time::Duration;

use axum::Router;
use axum::routing::post;
use http::{HeaderMap, Request, StatusCode};
use idempotent_runtime::store::{ClaimRequest, Store};
use idempotent_runtime::{
    ExecuteError, Execution, Fingerprint, Locator, Policy, RecordKey, RecordState, StoredResponse,
    idempotent,
};
use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::logged::Log;
use crate::support::{Admin, LEASE, RETENTION, Reply, owner, send};

const REPLAY: [(&str, &str); 5] = [
    ("decision", "replay"),
    ("status", "201"),
    ("content_type", "application/json"),
    ("body", "{\r\n  \"id\": 7\r\n}"),
    ("reason", "the bank's statement says: paid"),
];

const RETRY: [(&str, &str); 2] = [
    ("decision", "retry"),
    ("reason", "the bank has never heard of it"),
];

impl Admin {
    /// By the form of the record as it is now.
    async fn resolve(&self, key: RecordKey, fields: &[(&str, &str)]) -> Reply {
        let seen = self.seen(key).await;
        self.resolve_seen(key, &seen, fields).await
    }

    /// By the form of the record as it was.
    async fn resolve_seen(&self, key: RecordKey, seen: &str, fields: &[(&str, &str)]) -> Reply {
        let path = format!("/records/{}/resolve", key.to_hex());
        let fields = [&[("seen", seen)], fields].concat();
        self.submit(&path, &fields).await
    }

    async fn response(&self, key: RecordKey) -> StoredResponse {
        match self.state(key).await {
            Some(RecordState::Completed(response)) => (*response).clone(),
            other => panic!("{other:?}"),
        }
    }

    /// Another process takes the record over, and crashes.
    async fn take_over(&self, number: u64, attempt: u32) {
        let mut request = ClaimRequest::new(
            owner(number),
            Fingerprint::from_bytes([1; 32]),
            "POST /pay",
            LEASE,
            RETENTION,
        );
        request.take_over = Some(attempt);
        self.store.claim(&request).await.unwrap();
        let abandoned = self.store.abandon(&[request.owner]).await;
        assert!(abandoned.iter().all(Result::is_ok));
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_is_stored_with_who_decided_and_why() {
    let (log, _guard) = Log::begin(tracing::Level::INFO);
    let admin = Admin::new();
    let key = admin.abandon(1, "POST /pay", None).await;
    let reply = admin.resolve(key, &REPLAY).await;
    assert_eq!(reply.status, StatusCode::OK);
    assert!(
        reply
            .text
            .contains("Resolved: this is the answer from now on")
    );
    assert!(
        reply.text.contains("the bank&#39;s statement")
            || reply.text.contains("the bank's statement")
    );
    let stored = admin.response(key).await;
    assert_eq!(stored.status, 201);
    assert_eq!(stored.headers["content-type"], "application/json");
    assert_eq!(stored.body.as_deref(), Some(&b"{\n  \"id\": 7\n}"[..]));
    let audit = stored.audit().unwrap();
    assert_eq!((audit.by(), audit.reason()), ("anna", REPLAY[4].1));
    assert!(log.text().contains("an operator resolved an abandoned key"));
    assert!(!log.text().contains("\"id\""));
}

#[tokio::test(start_paused = true)]
async fn a_key_that_may_run_again_is_free() {
    let admin = Admin::new();
    let key = admin.abandon(1, "POST /pay", None).await;
    let reply = admin.resolve(key, &RETRY).await;
    assert_eq!(reply.status, StatusCode::OK);
    assert!(
        reply.text.contains("Resolved: it may run again"),
        "{}",
        reply.text
    );
    assert!(admin.state(key).await.is_none());
    // Once more.
    let reply = admin.resolve(key, &RETRY).await;
    assert_eq!(reply.status, StatusCode::NOT_FOUND);
    assert!(reply.text.contains("There is no such record"));
}

/// A handler that has crashed: the client's next retry gets the operator's answer.
#[tokio::test(start_paused = true)]
async fn the_clients_retry_gets_the_answer() {
    static BEGUN: Notify = Notify::const_new();
    #[idempotent(lease = "1s")]
    async fn pay(body: String) -> String {
        assert_eq!(body, "pay", "it does not run");
        BEGUN.notify_one();
        std::future::pending().await
    }
    let admin = Admin::new();
    let app: Router = Router::new()
        .route("/pay", post(pay))
        .with_state(admin.idempotency.clone());
    let request = || {
        let request = Request::post("/pay").header("idempotency-key", "key");
        request.body("pay".into()).unwrap()
    };
    // A runtime of its own, which ends: so does the handler.
    let (ended, crashed) = (tokio::sync::oneshot::channel(), app.clone());
    let crashing = request();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            tokio::select! {
                _ = send(&crashed, crashing) => {}
                () = BEGUN.notified() => {}
            }
        });
        let _ = ended.0.send(());
    });
    ended.1.await.unwrap();
    let mut found = None;
    for _ in 0..100 {
        let page = admin.get_json("/records?state=abandoned").await.json();
        found = page["records"][0]["key"].as_str().map(str::to_owned);
        if found.is_some() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let found = found.expect("it is abandoned after its lease");
    assert_eq!(send(&app, request()).await.status, StatusCode::CONFLICT);
    let reply = admin.resolve(found.parse().unwrap(), &REPLAY).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text);
    let retry = send(&app, request()).await;
    assert_eq!(
        (retry.status, &*retry.text),
        (StatusCode::CREATED, "{\n  \"id\": 7\n}")
    );
    assert_eq!(retry.headers["idempotent-replayed"], "true");
    assert_eq!(retry.headers["content-type"], "application/json");
}

#[tokio::test(start_paused = true)]
async fn a_record_that_is_running_is_not_touched() {
    let admin = Admin::new();
    let key = admin.claim(1, "POST /pay", None).await.key;
    for fields in [&REPLAY[..], &RETRY] {
        let reply = admin.resolve(key, fields).await;
        assert_eq!(reply.status, StatusCode::CONFLICT);
        assert!(reply.text.contains("Not resolved: an attempt is running"));
        assert!(reply.text.contains("30 s"), "{}", reply.text);
    }
    assert!(matches!(
        admin.state(key).await,
        Some(RecordState::Running { .. })
    ));
}

#[tokio::test(start_paused = true)]
async fn a_record_that_is_completed_is_not_touched() {
    let admin = Admin::new();
    let first = StoredResponse::new(StatusCode::ACCEPTED, HeaderMap::new(), "first");
    let key = admin.complete(1, "POST /pay", first.clone()).await;
    for fields in [&REPLAY[..], &RETRY] {
        let reply = admin.resolve(key, fields).await;
        assert_eq!(reply.status, StatusCode::CONFLICT);
        assert!(
            reply
                .text
                .contains("Not resolved: there is an answer already")
        );
        assert!(reply.text.contains("202"), "the answer that stands");
    }
    assert_eq!(admin.response(key).await, first);
}

#[tokio::test(start_paused = true)]
async fn a_decision_about_an_earlier_attempt_changes_nothing() {
    let admin = Admin::new();
    let key = admin.abandon(1, "POST /pay", None).await;
    let seen = admin.seen(key).await;
    admin.take_over(1, 1).await;
    assert!(admin.is_abandoned(key).await);
    for fields in [&REPLAY[..], &RETRY] {
        let reply = admin.resolve_seen(key, &seen, fields).await;
        assert_eq!(reply.status, StatusCode::CONFLICT);
        assert!(reply.text.contains("Not resolved: the record has changed"));
        assert!(
            reply.text.contains("value=\"2@"),
            "the form is about it now"
        );
    }
    assert!(admin.is_abandoned(key).await);
}

/// In real time: a record began when it did by the clock of the system.
#[tokio::test]
async fn a_form_of_a_record_that_was_freed_and_crashed_again_changes_nothing() {
    let admin = Admin::new();
    let key = admin.abandon(1, "POST /pay", None).await;
    let seen = admin.seen(key).await;
    let reply = admin.resolve_seen(key, &seen, &RETRY).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text);
    // The client's retry crashes too, at once: attempt 1, as before.
    admin.abandon(1, "POST /pay", None).await;
    for fields in [&REPLAY[..], &RETRY] {
        let reply = admin.resolve_seen(key, &seen, fields).await;
        assert_eq!(reply.status, StatusCode::CONFLICT, "{}", reply.text);
        assert!(reply.text.contains("Not resolved: the record has changed"));
    }
    assert!(admin.is_abandoned(key).await);
}

#[tokio::test(start_paused = true)]
async fn what_is_not_a_decision_is_shown_again_and_changes_nothing() {
    let admin = Admin::new();
    let key = admin.abandon(1, "POST /pay", None).await;
    let with = |name: &str, value: &'static str| {
        REPLAY.map(|(field, old)| {
            if field == name {
                (field, value)
            } else {
                (field, old)
            }
        })
    };
    for fields in [
        with("reason", "  "),
        with("decision", "unknown"),
        with("status", "99"),
        with("status", "100"),
        with("status", ""),
        with("status", "204"),
        with("content_type", "a\u{0}b"),
        with("content_type", "x y"),
        with("decision", "replay-value").map(|(name, value)| match name {
            "body" => (name, "{not json"),
            _ => (name, value),
        }),
        with("decision", "replay-value").map(|(name, value)| match name {
            "body" => (name, "12345678901234567890123"),
            _ => (name, value),
        }),
        with("decision", "replay-value").map(|(name, value)| match name {
            "body" => (name, r#"{"a":1,"a":2}"#),
            _ => (name, value),
        }),
    ] {
        let reply = admin.resolve(key, &fields).await;
        assert_eq!(reply.status, StatusCode::UNPROCESSABLE_ENTITY, "{fields:?}");
        assert!(
            reply.text.contains("Nothing was changed."),
            "{}",
            reply.text
        );
    }
    let reply = admin.resolve(key, &with("status", "99")).await;
    assert!(
        reply.text.contains("\"id\": 7") || reply.text.contains("&quot;id&quot;: 7"),
        "it is kept"
    );
    let reply = admin.resolve(key, &with("status", "many")).await;
    assert_eq!(reply.status, StatusCode::BAD_REQUEST);
    for seen in ["", "1", "-1@0", "1@now"] {
        let reply = admin.resolve_seen(key, seen, &RETRY).await;
        assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{seen}");
    }
    assert!(admin.is_abandoned(key).await);
    let path = format!("/records/{}/resolve", key.to_hex());
    let no_reason = json!({"decision": "retry", "seen": admin.seen(key).await});
    let reply = admin.post_json(&path, &no_reason).await;
    assert_eq!(reply.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(reply.headers["content-type"], "application/problem+json");
    let misspelt = json!({"decision": "retry", "seen": "1@1", "raeson": "x"});
    assert_eq!(
        admin.post_json(&path, &misspelt).await.status,
        StatusCode::BAD_REQUEST
    );
    assert!(admin.is_abandoned(key).await);
}

#[tokio::test(start_paused = true)]
async fn a_program_decides_by_json() {
    let admin = Admin::new();
    let key = admin.abandon(1, "POST /pay", None).await;
    let path = format!("/records/{}/resolve", key.to_hex());
    let decision = json!({
        "decision": "replay", "seen": admin.seen(key).await, "reason": "paid", "status": 201,
        "body": "a\r\nb",
    });
    let mut reply = admin.post_json(&path, &decision).await;
    let outcome = |reply: Reply| -> (u16, Value) { (reply.status.as_u16(), reply.json()) };
    let (status, json) = outcome(reply);
    assert_eq!((status, &json["outcome"]), (200, &json!("resolved")));
    assert_eq!(json["record"]["response"]["audit"]["by"], "anna");
    assert_eq!(
        admin.response(key).await.body.as_deref(),
        Some(&b"a\r\nb"[..])
    );

    reply = admin.post_json(&path, &decision).await;
    assert_eq!(outcome(reply).1["outcome"], "completed");
    let running = admin.claim(2, "POST /pay", None).await.key.to_hex();
    reply = admin
        .post_json(&format!("/records/{running}/resolve"), &decision)
        .await;
    assert_eq!(outcome(reply).1["outcome"], "running");
    let none = "0".repeat(64);
    reply = admin
        .post_json(&format!("/records/{none}/resolve"), &decision)
        .await;
    let (status, json) = outcome(reply);
    assert_eq!(
        (status, &json["outcome"], &json["record"]),
        (404, &json!("not-found"), &Value::Null)
    );
    let changed = admin.abandon(3, "POST /pay", None).await.to_hex();
    let earlier = json!({"decision": "retry", "seen": "7@1", "reason": "no"});
    reply = admin
        .post_json(&format!("/records/{changed}/resolve"), &earlier)
        .await;
    let (status, json) = outcome(reply);
    assert_eq!((status, &json["outcome"]), (409, &json!("changed")));
}

#[tokio::test(start_paused = true)]
async fn a_functions_value_is_returned_to_its_callers() {
    let admin = Admin::new();
    let idempotency = admin.idempotency.clone();
    let call = async move || -> Result<Execution<Vec<u64>>, ExecuteError> {
        let function = async || panic!("it crashes");
        idempotency
            .execute(&Policy::new(), "settle", (), "key", &(), function)
            .await
    };
    let crash = call.clone();
    tokio::spawn(async move { crash().await })
        .await
        .unwrap_err();
    let found = admin
        .idempotency
        .inspect(&Locator::by_text("settle", "key"))
        .await;
    let key = found.unwrap().unwrap().record_key;
    let fields = [
        ("decision", "replay-value"),
        ("body", "[1, 18446744073709551615]"),
        ("reason", "it is in the books"),
    ];
    let reply = admin.resolve(key, &fields).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text);
    assert_eq!(
        call().await.unwrap(),
        Execution::Replayed(vec![1, u64::MAX])
    );
}

#[tokio::test(start_paused = true)]
async fn a_value_for_an_operation_that_reads_like_a_route_has_to_be_confirmed() {
    let admin = Admin::new();
    let key = admin.abandon(1, "POST /pay", None).await;
    let said = "reads like the method and route of a handler";
    let fields = [
        ("decision", "replay-value"),
        ("body", "{\"id\": 7}"),
        ("reason", "it is in the books"),
    ];
    let reply = admin.resolve(key, &fields).await;
    assert_eq!(reply.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(reply.text.contains(said), "{}", reply.text);
    assert!(
        reply.text.contains("Nothing was changed."),
        "{}",
        reply.text
    );
    assert!(reply.text.contains("name=\"confirm\""), "{}", reply.text);
    let path = format!("/records/{}/resolve", key.to_hex());
    let mut decision = json!({
        "decision": "replay-value", "seen": admin.seen(key).await, "reason": "booked", "body": "7",
    });
    let reply = admin.post_json(&path, &decision).await;
    assert_eq!(reply.status, StatusCode::UNPROCESSABLE_ENTITY);
    let detail = reply.json()["detail"].as_str().unwrap().to_owned();
    assert!(
        detail.contains(said) && detail.contains("replay"),
        "{detail}"
    );
    assert!(admin.is_abandoned(key).await);
    decision["confirm"] = json!("yes");
    let reply = admin.post_json(&path, &decision).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text);
    assert_eq!(admin.response(key).await.status, 0);
}

/// What was typed about one attempt is not shown in the form of another.
#[tokio::test(start_paused = true)]
async fn a_mistake_about_an_earlier_attempt_is_not_shown_in_the_form_of_a_later_one() {
    let admin = Admin::new();
    let key = admin.abandon(1, "POST /pay", None).await;
    let seen = admin.seen(key).await;
    admin.take_over(1, 1).await;
    let mistaken = REPLAY.map(|(name, value)| match name {
        "status" => (name, "99"),
        _ => (name, value),
    });
    let reply = admin.resolve_seen(key, &seen, &mistaken).await;
    assert_eq!(reply.status, StatusCode::CONFLICT);
    assert!(reply.text.contains("Not resolved: the record has changed"));
    assert!(!reply.text.contains("statement says"), "{}", reply.text);
    assert!(reply.text.contains("value=\"2@"), "{}", reply.text);
    assert!(admin.is_abandoned(key).await);
}

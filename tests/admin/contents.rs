//! What is on the pages, and what is not: nothing secret, and no markup of anybody else.

use std::time::Duration;

use axum::extract::Extension;
use axum::routing::post;
use axum::{Router, body::Body};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode};
use idempotent_runtime::{
    Attempt, AuditLine, ExecuteError, Execution, Idempotency, Locator, Policy, StoredResponse,
    idempotent,
};

use crate::logged::Log;
use crate::support::{Admin, of_anna};

const CANARIES: [&str; 4] = ["canary-key", "canary-scope", "canary-body", "canary-header"];

#[idempotent(scope = scope, label = format!("order {}", 4711))]
async fn pay(
    Extension(scope): Extension<&'static str>,
    body: String,
) -> (StatusCode, HeaderMap, String) {
    let secret = HeaderValue::from_static("canary-header");
    let headers = HeaderMap::from_iter([(http::HeaderName::from_static("x-secret"), secret)]);
    (StatusCode::CREATED, headers, body)
}

/// A payment by a real request, and its record.
async fn paid(admin: &Admin) -> String {
    let app: Router = Router::new()
        .route("/pay", post(pay))
        .layer(Extension("canary-scope"))
        .with_state(admin.idempotency.clone());
    let request = Request::post("/pay").header("idempotency-key", "canary-key");
    let request = request.body("canary-body <b>&amp;".into()).unwrap();
    let reply = crate::support::send(&app, request).await;
    assert_eq!(reply.status, StatusCode::CREATED, "{}", reply.text);
    let payment = Locator::new("POST /pay", "canary-key").scope("canary-scope");
    let found = admin.idempotency.inspect(&payment).await.unwrap().unwrap();
    found.record_key.to_hex()
}

#[tokio::test]
async fn no_key_scope_or_body_is_on_a_page_unless_it_is_revealed() {
    let (log, _guard) = Log::begin(tracing::Level::INFO);
    let admin = Admin::new();
    let key = paid(&admin).await;
    let record = format!("/records/{key}");
    for path in [
        "",
        "/overview",
        "/records",
        "/records?label=order+4711",
        &record,
    ] {
        for reply in [admin.get(path).await, admin.get_json(path).await] {
            assert_eq!(reply.status, StatusCode::OK, "{path}");
            assert!(reply.text.contains("POST /pay"), "{path}");
            for canary in CANARIES {
                assert!(!reply.text.contains(canary), "{path} has {canary}");
            }
        }
    }
    let shown = admin.get(&record).await.text;
    for known in ["x-secret", "201", "20 bytes", "order 4711"] {
        assert!(shown.contains(known), "{known}: {shown}");
    }
    assert!(!log.text().contains("revealed"));

    let revealed = admin.submit(&format!("{record}/reveal"), &[]).await;
    assert!(
        revealed.text.contains("canary-body &lt;b&gt;&amp;amp;"),
        "{}",
        revealed.text
    );
    assert!(revealed.text.contains("x-secret: canary-header"));
    let logged = log.text();
    assert!(
        logged.contains("an operator revealed a stored response"),
        "{logged}"
    );
    assert!(logged.contains("by=\"anna\""), "{logged}");
    for canary in CANARIES {
        assert!(!logged.contains(canary), "{logged}");
    }
}

/// By the client's key, which is in no address, answer or log.
#[tokio::test]
async fn a_record_is_found_by_its_clients_key() {
    let (log, _guard) = Log::begin(tracing::Level::INFO);
    let admin = Admin::new();
    let record = paid(&admin).await;
    let fields = [
        ("operation", "POST /pay"),
        ("key", "canary-key"),
        ("scope", "\"canary-scope\""),
    ];
    let with = |name: &str, value: &'static str| {
        fields.map(|(field, old)| (field, if field == name { value } else { old }))
    };
    let found = admin.submit("/find", &fields).await;
    assert_eq!(found.status, StatusCode::SEE_OTHER);
    assert_eq!(
        found.headers["location"],
        format!("./records/{record}").as_str()
    );
    let json = serde_json::Map::from_iter(fields.map(|(name, it)| (name.to_owned(), it.into())));
    let found = admin.post_json("/find", &json.into()).await.json();
    assert_eq!(found["key"], record.as_str());
    for (fields, status) in [
        (with("key", "another-key"), StatusCode::NOT_FOUND),
        (with("scope", ""), StatusCode::NOT_FOUND),
        (with("operation", "POST /"), StatusCode::NOT_FOUND),
        (with("scope", "canary-scope"), StatusCode::BAD_REQUEST),
        (
            with("key", "canary-key, canary-key"),
            StatusCode::BAD_REQUEST,
        ),
        (with("key", ""), StatusCode::BAD_REQUEST),
    ] {
        let reply = admin.submit("/find", &fields).await;
        assert_eq!(reply.status, status, "{fields:?}");
        for canary in CANARIES {
            assert!(!reply.text.contains(canary), "{}", reply.text);
        }
    }
    assert!(!log.text().contains("canary"), "{}", log.text());

    crash(&admin.idempotency, "settle").await;
    for (kind, status) in [
        ("text", StatusCode::SEE_OTHER),
        ("header", StatusCode::SEE_OTHER),
        ("txet", StatusCode::BAD_REQUEST),
    ] {
        let fields = [("operation", "settle"), ("key", "key"), ("kind", kind)];
        let found = admin.submit("/find", &fields).await;
        assert_eq!(found.status, status, "{kind}");
    }
}

#[tokio::test]
async fn json_of_a_revealed_record_has_all_bytes() {
    let admin = Admin::new();
    let key = paid(&admin).await;
    let path = format!("/records/{key}/reveal");
    let reply = admin.post_json(&path, &serde_json::json!({})).await.json();
    assert_eq!(
        reply["response"]["body_base64"],
        "Y2FuYXJ5LWJvZHkgPGI+JmFtcDs="
    );
    assert_eq!(reply["response"]["status"], 201);
    let headers = reply["response"]["headers"].as_array().unwrap();
    assert!(headers.contains(&serde_json::json!(["x-secret", "canary-header"])));
}

const MARKUP: &str = r#"<script>alert("x")</script>'&"#;

/// A function that crashes behind a step.
async fn crash(idempotency: &Idempotency, operation: &str) {
    let idempotency = idempotency.clone();
    let operation = operation.to_owned();
    let crashed = tokio::spawn(async move {
        let function = async |attempt: Attempt| {
            let step = attempt.step(MARKUP, async { Ok::<_, ExecuteError>(1) });
            assert_ne!(step.await.unwrap(), 1, "it crashes");
            Ok::<_, ExecuteError>(1)
        };
        let call =
            idempotency.execute_attempt(&Policy::new(), &operation, (), "key", &(), function);
        let outcome: Result<Execution<i32>, ExecuteError> = call.await;
        outcome
    });
    crashed.await.unwrap_err();
}

#[tokio::test]
async fn markup_in_operations_labels_steps_and_reasons_is_text() {
    let admin = Admin::new();
    crash(&admin.idempotency, MARKUP).await;
    let label = admin.abandon(1, "POST /pay", Some(MARKUP)).await.to_hex();
    let step = Locator::by_text(MARKUP, "key");
    let step = admin.idempotency.inspect(&step).await.unwrap().unwrap();
    assert_eq!(step.steps().unwrap(), [MARKUP]);
    let step = step.record_key.to_hex();
    let response = StoredResponse::new(StatusCode::OK, HeaderMap::new(), MARKUP)
        .with_audit(AuditLine::new(MARKUP, MARKUP));
    let audit = admin.complete(2, "POST /pay", response).await.to_hex();

    let encoded: String = MARKUP.bytes().map(|byte| format!("%{byte:02x}")).collect();
    let pages = [
        "/overview".to_owned(),
        "/records".to_owned(),
        format!("/records?operation={encoded}&label={encoded}"),
        format!("/records?older_than={encoded}"),
        format!("/records?{encoded}={encoded}"),
        format!("/records/{encoded}"),
        format!("/records/{label}"),
        format!("/records/{step}"),
        format!("/records/{audit}"),
    ];
    let mut replies = vec![];
    for page in &pages {
        replies.push(admin.get(page).await);
    }
    let about = admin.seen(label.parse().unwrap()).await;
    let reveal = format!("/records/{audit}/reveal");
    replies.push(admin.submit(&reveal, &[]).await);
    let mistake = [
        ("decision", MARKUP),
        ("seen", &about),
        ("reason", MARKUP),
        ("body", MARKUP),
    ];
    let resolve = format!("/records/{label}/resolve");
    replies.push(admin.submit(&resolve, &mistake).await);
    let mistake = [
        ("decision", "replay"),
        ("seen", &about),
        ("reason", MARKUP),
        ("body", MARKUP),
    ];
    replies.push(admin.submit(&resolve, &mistake).await);
    replies.push(admin.submit(&resolve, &[("seen", MARKUP)]).await);
    replies.push(admin.submit(&resolve, &[(MARKUP, MARKUP)]).await);
    let mut seen = 0;
    for reply in replies {
        assert!(reply.text.contains("<h1>"), "{}", reply.text);
        assert!(!reply.text.contains("<script"), "{}", reply.text);
        assert!(!reply.text.contains("alert(\""), "{}", reply.text);
        seen += usize::from(
            reply
                .text
                .contains("&lt;script&gt;alert(&quot;x&quot;)&lt;/script&gt;"),
        );
    }
    assert!(seen >= 8, "{seen} pages show it");
}

/// An operator's name is as little trusted.
#[tokio::test]
async fn markup_in_a_name_is_text() {
    let admin = Admin::new();
    let mut request = of_anna(Method::GET, "/overview")
        .body(Body::empty())
        .unwrap();
    let name = HeaderValue::from_static(r#"<b onclick="x">"#);
    request.headers_mut().insert("x-operator", name);
    let reply = admin.send(request).await;
    assert!(reply.text.contains("&lt;b onclick=&quot;x&quot;&gt;"));
    assert!(!reply.text.contains("<b onclick"));
}

#[tokio::test(start_paused = true)]
async fn a_record_is_described_in_each_state() {
    let admin = Admin::new();
    let running = admin.claim(1, "POST /pay", None).await.key.to_hex();
    let abandoned = admin.abandon(2, "POST /pay", None).await.to_hex();
    let tombstone = StoredResponse::tombstone(StatusCode::OK, HeaderMap::new());
    let tombstone = admin.complete(3, "POST /pay", tombstone).await.to_hex();
    let value = StoredResponse::of_value(&serde_json::json!({"id": 7})).unwrap();
    let value = admin.complete(4, "settle", value).await.to_hex();
    tokio::time::sleep(Duration::from_secs(5)).await;

    let text = admin.get(&format!("/records/{running}")).await.text;
    assert!(
        text.contains("Lease ends in") && text.contains("25 s"),
        "{text}"
    );
    assert!(!text.contains("/resolve"), "{text}");
    let text = admin.get(&format!("/records/{abandoned}")).await.text;
    assert!(text.contains("/resolve") && text.contains("Finished steps"));
    let text = admin.get(&format!("/records/{tombstone}")).await.text;
    assert!(text.contains("not stored"), "{text}");
    let text = admin.get(&format!("/records/{value}")).await.text;
    assert!(
        text.contains("the result of a function") && text.contains("8 bytes"),
        "{text}"
    );
    let revealed = admin.submit(&format!("/records/{value}/reveal"), &[]).await;
    assert!(
        revealed.text.contains("{&quot;id&quot;:7}"),
        "{}",
        revealed.text
    );

    for (key, state) in [
        (running, "in-flight"),
        (abandoned, "abandoned"),
        (value, "completed"),
    ] {
        let json = admin.get_json(&format!("/records/{key}")).await.json();
        assert_eq!(json["state"], state);
        assert_eq!(json["age_ms"], 5_000);
        assert_eq!(json["attempt"], 1);
    }
}

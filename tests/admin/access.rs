//! Who may use the page, and which requests are an operator's own.

use axum::Router;
use axum::body::Body;
use http::request::Parts;
use http::{Method, Request, StatusCode};
use idempotent_runtime::{Idempotency, RecordState, admin};
use serde_json::json;

use crate::logged::Log;
use crate::support::{Admin, PREFIX, form, of_anna, send};

const METHODS: [Method; 8] = [
    Method::GET,
    Method::HEAD,
    Method::POST,
    Method::PUT,
    Method::PATCH,
    Method::DELETE,
    Method::OPTIONS,
    Method::TRACE,
];

fn paths(key: &str) -> Vec<String> {
    let mut paths = vec![
        String::new(),
        "/overview".into(),
        "/records".into(),
        "/records?state=abandoned".into(),
        format!("/records?key={key}"),
        "/no/such/page".into(),
        "/find".into(),
    ];
    for verb in ["", "/reveal", "/resolve", "/forget"] {
        paths.push(format!("/records/{key}{verb}"));
    }
    paths
}

#[tokio::test]
async fn nothing_is_reachable_without_permission() {
    let admin = Admin::new();
    let key = admin.abandon(1, "POST /pay", None).await.to_hex();
    for path in paths(&key) {
        for method in METHODS {
            for name in [None, Some(""), Some("  ")] {
                let mut request = Request::builder()
                    .method(&method)
                    .uri(format!("{PREFIX}{path}"))
                    .header("sec-fetch-site", "same-origin")
                    .header("content-type", "application/x-www-form-urlencoded");
                if let Some(name) = name {
                    request = request.header("x-operator", name);
                }
                let fields = form(&[
                    ("decision", "retry"),
                    ("seen", "1@1"),
                    ("reason", "because"),
                ]);
                let reply = admin.send(request.body(fields.into()).unwrap()).await;
                assert_eq!(reply.status, StatusCode::FORBIDDEN, "{method} {path}");
                assert!(!reply.text.contains("POST /pay"), "{method} {path}");
                assert!(!reply.text.contains(&key), "{method} {path}");
                assert_eq!(reply.headers["cache-control"], "no-store");
            }
        }
    }
    assert_eq!(admin.store.len(), 1);
}

#[tokio::test]
async fn every_response_has_the_headers_that_protect_it() {
    let admin = Admin::new();
    let key = admin.abandon(1, "POST /pay", None).await.to_hex();
    for path in paths(&key) {
        for method in METHODS {
            let request = of_anna(method.clone(), &path).body(Body::empty()).unwrap();
            let reply = admin.send(request).await;
            let policy = reply.headers["content-security-policy"].to_str().unwrap();
            assert!(policy.starts_with("default-src 'none'; style-src 'sha256-"));
            for directive in [
                "form-action 'self'",
                "frame-ancestors 'none'",
                "base-uri 'none'",
            ] {
                assert!(policy.contains(directive), "{policy}");
            }
            assert!(!policy.contains("script-src") && !policy.contains("unsafe"));
            for (name, value) in [
                ("cache-control", "no-store"),
                ("x-content-type-options", "nosniff"),
                ("referrer-policy", "same-origin"),
                ("cross-origin-resource-policy", "same-origin"),
            ] {
                assert_eq!(reply.headers[name], value, "{method} {path}");
            }
        }
    }
}

#[tokio::test]
async fn each_route_has_its_methods_only() {
    let admin = Admin::new();
    let key = admin.abandon(1, "POST /pay", None).await.to_hex();
    for path in paths(&key) {
        let is_page = !path.ends_with("/page");
        let is_action = ["/reveal", "/resolve", "/forget", "/find"]
            .iter()
            .any(|verb| path.ends_with(verb));
        for method in [Method::GET, Method::HEAD] {
            let request = of_anna(method.clone(), &path).body(Body::empty()).unwrap();
            let reply = admin.send(request).await;
            let is_shown = reply.status.is_success() || reply.status.is_redirection();
            assert_eq!(is_shown, is_page && !is_action, "{method} {path}");
            assert!(method == Method::GET || reply.text.is_empty(), "{path}");
        }
        for method in [Method::PUT, Method::DELETE, Method::PATCH, Method::OPTIONS] {
            let request = of_anna(method.clone(), &path).header("sec-fetch-site", "same-origin");
            let reply = admin.send(request.body(Body::empty()).unwrap()).await;
            assert!(reply.status.is_client_error(), "{method} {path}");
        }
    }
    assert_eq!(admin.store.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn another_site_cannot_decide() {
    let admin = Admin::new();
    let key = admin.abandon(1, "POST /pay", None).await;
    let seen = admin.seen(key).await;
    let json = json!({"decision": "retry", "seen": seen, "reason": "evil"}).to_string();
    let fields = form(&[
        ("decision", "retry"),
        ("seen", &seen),
        ("reason", "evil"),
        ("confirm", "yes"),
        ("state", "abandoned"),
    ]);
    let form_type = "application/x-www-form-urlencoded";
    let foreign: [&[(&str, &str)]; 8] = [
        &[("content-type", form_type)],
        &[("content-type", "text/plain")],
        &[],
        &[
            ("content-type", form_type),
            ("sec-fetch-site", "cross-site"),
        ],
        &[("content-type", form_type), ("sec-fetch-site", "same-site")],
        &[
            ("content-type", form_type),
            ("origin", "https://example.org"),
        ],
        &[("content-type", form_type), ("origin", "null")],
        &[
            ("content-type", "application/json"),
            ("origin", "https://example.org"),
        ],
    ];
    for headers in foreign {
        for verb in ["resolve", "forget", "reveal"] {
            for body in [&json, &fields] {
                let path = format!("/records/{}/{verb}", key.to_hex());
                let mut request = of_anna(Method::POST, &path);
                for (name, value) in headers {
                    request = request.header(*name, *value);
                }
                let reply = admin.send(request.body(body.clone().into()).unwrap()).await;
                assert_eq!(reply.status, StatusCode::FORBIDDEN, "{headers:?} {verb}");
                let said = "a program sends `Content-Type: application/json`";
                assert!(reply.text.contains(said), "{}", reply.text);
            }
        }
    }
    let locator = idempotent_runtime::Locator::by_record_key(key);
    let found = admin.idempotency.inspect(&locator).await.unwrap().unwrap();
    assert!(matches!(found.state, RecordState::Abandoned), "{found:?}");
    assert_eq!(found.attempt, 1);
}

#[tokio::test(start_paused = true)]
async fn an_origin_that_is_the_host_is_enough_over_plain_http() {
    let admin = Admin::new();
    let key = admin.abandon(1, "POST /pay", None).await;
    let seen = admin.seen(key).await;
    let request = of_anna(Method::POST, &format!("/records/{}/resolve", key.to_hex()))
        .header("origin", "http://pay.example.com")
        .header("content-type", "application/x-www-form-urlencoded");
    let fields = form(&[
        ("decision", "retry"),
        ("seen", &*seen),
        ("reason", "no trace of it"),
    ]);
    let reply = admin.send(request.body(fields.into()).unwrap()).await;
    assert_eq!(reply.status, StatusCode::OK);
    assert!(admin.store.is_empty());
}

/// The ways to say who may.
#[tokio::test]
async fn a_refusal_is_the_applications_response() {
    let idempotency = Idempotency::connect("memory:").await.unwrap();
    let challenge = [("www-authenticate", "Basic realm=\"ops\"")];
    let is_anna = |parts: &Parts| parts.headers.contains_key("x-operator");
    let by_result = move |parts: &Parts| match is_anna(parts) {
        true => Ok("anna"),
        false => Err((StatusCode::UNAUTHORIZED, challenge)),
    };
    let by_future = move |parts: &Parts| {
        let is_anna = is_anna(parts);
        Box::pin(async move {
            tokio::task::yield_now().await;
            if is_anna {
                Ok("anna")
            } else {
                Err(StatusCode::UNAUTHORIZED)
            }
        })
    };
    let routers: [Router; 2] = [
        Router::new().nest(PREFIX, admin::router(idempotency.clone(), by_result)),
        Router::new().nest(PREFIX, admin::router(idempotency, by_future)),
    ];
    for (at, router) in routers.iter().enumerate() {
        let request = Request::get(PREFIX).body(Body::empty()).unwrap();
        let reply = send(router, request).await;
        assert_eq!(reply.status, StatusCode::UNAUTHORIZED);
        assert_eq!(reply.headers.contains_key("www-authenticate"), at == 0);
        assert_eq!(reply.headers["cache-control"], "no-store");
        let request = of_anna(Method::GET, "/overview")
            .body(Body::empty())
            .unwrap();
        let reply = send(router, request).await;
        assert_eq!(reply.status, StatusCode::OK);
        assert!(reply.text.contains("anna"));
    }
}

#[tokio::test]
async fn a_forged_request_is_logged_with_the_name_it_came_under() {
    let (log, _guard) = Log::begin(tracing::Level::INFO);
    let admin = Admin::new();
    let key = admin.abandon(1, "POST /pay", None).await.to_hex();
    let request = of_anna(Method::POST, &format!("/records/{key}/forget"))
        .header("sec-fetch-site", "cross-site");
    admin.send(request.body(Body::empty()).unwrap()).await;
    assert!(log.text().contains("from another site"), "{}", log.text());
    assert!(log.text().contains("anna"));
}

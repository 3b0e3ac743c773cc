//! What an operation says of itself in OpenAPI, with utoipa and with aide.

use aide::axum::ApiRouter;
use aide::axum::routing::{post, post_with};
use aide::openapi::OpenApi;
use axum::Json;
use axum::body::Body;
use axum::extract::State;
use http::Request;
use idempotent_runtime::openapi::{self, IdempotencyKeyHeader, IdempotencyResponses, KeyHeader};
use idempotent_runtime::store::memory::MemoryStore;
use idempotent_runtime::testing::retry;
use idempotent_runtime::{Attempt, Idempotency, ProblemCode, idempotent};
use serde_json::{Value, json};

use crate::support::{App, Probe};

#[derive(serde::Deserialize, schemars::JsonSchema, utoipa::ToSchema)]
struct Order {
    amount: u64,
}

#[derive(utoipa::IntoResponses)]
#[expect(dead_code, reason = "they are only documented")]
enum OrderResponses {
    /// Ordered.
    #[response(status = 201)]
    Ordered(String),
    /// Another order has this number.
    #[response(status = 409)]
    Taken(String),
}

struct OrderKey;

impl KeyHeader for OrderKey {
    const NAME: &'static str = "X-Order-Key";
    const REQUIRED: bool = false;
}

#[utoipa::path(
    post,
    path = "/orders",
    params(IdempotencyKeyHeader),
    request_body = Order,
    responses(IdempotencyResponses<OrderResponses>),
)]
#[idempotent]
async fn order(State(probe): State<Probe>, Json(order): Json<Order>) -> String {
    format!("{} {}", probe.run(), order.amount)
}

#[utoipa::path(
    post,
    path = "/optional",
    params(IdempotencyKeyHeader<OrderKey>),
    responses((status = 200, body = String), IdempotencyResponses),
)]
#[idempotent(header = "X-Order-Key", required = false)]
async fn optional(attempt: Attempt) -> String {
    attempt.number().to_string()
}

#[idempotent(with = app.idempotency, name = "made", key = order.amount)]
async fn made(State(app): State<App>, Json(order): Json<Order>) -> String {
    format!("{} {}", app.probe.run(), order.amount)
}

#[derive(utoipa::OpenApi)]
#[openapi(paths(order, optional))]
struct Api;

/// Every status that a problem has by itself, with its codes.
fn assert_problems(operation: &Value) {
    for code in ProblemCode::ALL {
        let status = code.status().as_u16().to_string();
        let response = &operation["responses"][&status];
        let problem = &response["content"]["application/problem+json"]["schema"];
        let codes = &problem["properties"]["code"]["enum"];
        let is_listed = codes
            .as_array()
            .is_some_and(|it| it.contains(&json!(code.as_str())));
        let is_left_out = matches!(
            code,
            ProblemCode::ResponseNotRetained | ProblemCode::UnprotectedRoute
        );
        assert_eq!(is_listed, !is_left_out, "{code}: {operation:#}");
    }
    for status in ["409", "503"] {
        let headers = &operation["responses"][status]["headers"];
        assert_eq!(headers["Retry-After"]["schema"]["type"], "integer");
    }
}

fn parameters(operation: &Value) -> Vec<(String, bool)> {
    let parameters = operation["parameters"].as_array();
    let parameters = parameters.into_iter().flatten();
    let read = parameters.map(|it| {
        assert_eq!(it["in"], "header");
        let is_required = it.get("required").is_some_and(|it| it == true);
        (it["name"].as_str().unwrap().to_owned(), is_required)
    });
    read.collect()
}

#[test]
fn utoipa_documents_key_problems_and_replays() {
    let api = serde_json::to_value(<Api as utoipa::OpenApi>::openapi()).unwrap();
    let operation = &api["paths"]["/orders"]["post"];
    assert_problems(operation);
    assert_eq!(
        parameters(operation),
        [("Idempotency-Key".to_owned(), true)]
    );
    for status in ["201", "409", "500"] {
        let headers = &operation["responses"][status]["headers"];
        assert_eq!(headers["Idempotent-Replayed"]["schema"]["type"], "boolean");
    }
    // Either of the two.
    let taken = &operation["responses"]["409"];
    assert_eq!(taken["content"].as_object().unwrap().len(), 2);
    let description = taken["description"].as_str().unwrap();
    assert!(description.starts_with("Another order has this number. Request still"));
    let other = &api["paths"]["/optional"]["post"];
    assert_problems(other);
    assert_eq!(parameters(other), [("X-Order-Key".to_owned(), false)]);
}

/// The pattern of the parameter, against what the service accepts.
#[test]
fn pattern_of_the_key_is_what_is_accepted() {
    let api = serde_json::to_value(<Api as utoipa::OpenApi>::openapi()).unwrap();
    let schema = &api["paths"]["/orders"]["post"]["parameters"][0]["schema"];
    let pattern = schema["pattern"].as_str().unwrap();
    let classes = [(r"[!#-+\-.\/0-:<-~]", true), (r"[ !#-\[\]-~]", false)];
    for (class, is_bare) in classes {
        assert!(pattern.contains(class), "{pattern}");
        let accepted = |byte: u8| {
            let key = match is_bare {
                true => vec![b'a', byte, b'a'],
                false => vec![b'"', byte, b'"'],
            };
            idempotent_runtime::Key::parse(&key, idempotent_runtime::KeySyntax::Lenient).is_ok()
        };
        let described = |byte: u8| match is_bare {
            true => matches!(byte, b'!' | b'#'..=b'+' | b'-'..=b':' | b'<'..=b'~'),
            false => matches!(byte, b' ' | b'!' | b'#'..=b'[' | b']'..=b'~'),
        };
        for byte in 0..=255 {
            assert_eq!(accepted(byte), described(byte), "{byte} bare {is_bare}");
        }
    }
}

fn app() -> App {
    App {
        idempotency: Idempotency::new(MemoryStore::new()),
        probe: Probe::default(),
    }
}

#[tokio::test]
async fn aide_learns_it_from_the_handler_and_the_handler_is_protected() {
    aide::generate::on_error(|error| panic!("{error}"));
    let mut api = OpenApi::default();
    let app = ApiRouter::new()
        .api_route("/orders", post(order))
        .api_route(
            "/optional",
            post_with(optional, |operation| {
                let operation = openapi::key_header::<OrderKey>(operation);
                openapi::replayed(operation.response::<200, String>())
            }),
        )
        .api_route("/made", post_with(made, openapi::no_key_header))
        .finish_api(&mut api)
        .with_state(app());
    let api = serde_json::to_value(api).unwrap();
    let operation = |path| &api["paths"][path]["post"];
    let orders = operation("/orders");
    assert_problems(orders);
    assert_eq!(parameters(orders), [("Idempotency-Key".to_owned(), true)]);
    let body = &orders["requestBody"]["content"]["application/json"]["schema"];
    assert_eq!(body["$ref"], "#/components/schemas/Order");
    assert_problems(operation("/optional"));
    let optional = [("X-Order-Key".to_owned(), false)];
    assert_eq!(parameters(operation("/optional")), optional);
    let headers = &operation("/optional")["responses"]["200"]["headers"];
    assert_eq!(headers["Idempotent-Replayed"]["schema"]["type"], "boolean");
    assert_eq!(parameters(operation("/made")), []);
    // And it runs once.
    let request = |path| {
        let request = Request::post(path)
            .header("idempotency-key", "key")
            .header("content-type", "application/json");
        request.body(Body::from(r#"{"amount":7}"#)).unwrap()
    };
    retry(&app, request("/orders")).twice().assert_ran(1).await;
    retry(&app, request("/made")).twice().assert_ran(1).await;
}

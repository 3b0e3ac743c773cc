//! Requests that need no protection run in a transaction too, one without a record.

use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use reqwest::Method;

use crate::support::{Database, Reply, Scene, Server, on_databases, reply};

async fn without_a_key<C: Database>(server: &Server<C>, steps: &str) -> Reply {
    reply(server.keyless(Method::POST, "/optional", steps)).await
}

async fn without_a_key_the_row_is_committed_without_a_record<C: Database>(scene: &Scene<C>) {
    let server = scene.server().await;
    without_a_key(&server, "pay").await.assert_own(201);
    assert_eq!((scene.payments("").await, scene.records().await), (1, 0));
    let looked = reply(server.request("/optional", "key", "pay"));
    looked.await.assert_own(201);
    scene.assert_once("key").await;
}
on_databases!(without_a_key_the_row_is_committed_without_a_record);

async fn a_safe_method_passes_in_a_transaction<C: Database>(scene: &Scene<C>) {
    let server = scene.server().await;
    for passed in 1..=2 {
        let get = server.keyless(Method::GET, "/optional", "pay");
        let get = get.header("idempotency-key", "key");
        reply(get).await.assert_own(201);
        let there = (scene.payments("key").await, scene.records().await);
        assert_eq!(there, (passed, 0));
    }
}
on_databases!(a_safe_method_passes_in_a_transaction);

async fn without_a_key_errors_take_the_writes_back<C: Database>(scene: &Scene<C>) {
    let server = scene.server().await;
    for end in ["answer 402", "answer 500", "release 200", "panic"] {
        let answer = without_a_key(&server, &format!("pay; {end}")).await;
        assert_ne!(answer.status, 503, "{end}");
        scene.assert_nothing("").await;
    }
}
on_databases!(without_a_key_errors_take_the_writes_back);

/// COMMIT rolls such a transaction back, and says so without an error.
async fn a_success_that_was_not_committed_is_not_answered<C: Database>(scene: &Scene<C>) {
    let server = scene.server().await;
    let refused = "try INSERT INTO {accounts} VALUES ('taken', 1)";
    let answer = without_a_key(&server, &format!("pay; {refused}; answer 201")).await;
    answer.assert_refused();
    scene.assert_nothing("").await;
}
on_databases!(a_success_that_was_not_committed_is_not_answered: PgConnection DeadpoolTransaction);

/// The server has rolled back what was before: of what the handler writes there would be a half.
async fn no_half_is_committed_without_a_key<C: Database>(scene: &Scene<C>) {
    let server = scene.server().await;
    let half = "try INSERT INTO {payments} VALUES ('', '')";
    let answer = without_a_key(&server, &format!("pay; try ROLLBACK; try BEGIN; {half}")).await;
    match C::STORE {
        // It would be the same after a COMMIT.
        "mysql" => assert_eq!(answer.code(), Some("outcome-unknown")),
        _ => answer.assert_refused(),
    }
    scene.assert_nothing("").await;
}
on_databases!(no_half_is_committed_without_a_key: SqliteConnection MySqlConnection);

/// On SQLite a rollback that is dropped is still on its way when the handler is done.
async fn a_transaction_that_was_dropped_within_is_not_taken_for_open<C: Database>(
    scene: &Scene<C>,
) {
    let server = scene.server().await;
    for run in 1..=20 {
        let answer = without_a_key(&server, "pay; nested drop").await;
        answer.assert_own(201);
        assert_eq!(scene.payments("").await, run);
    }
}
on_databases!(a_transaction_that_was_dropped_within_is_not_taken_for_open);

/// It was answered 200 and nothing: the problem was left to be rendered, and then forgotten.
async fn problem_of_a_safe_method_is_rendered_by_the_application<C: Database>(scene: &Scene<C>) {
    let builder = scene.builder(2).render_problems(|problem| {
        let mut response = problem.default_response();
        let operation = problem.operation().unwrap_or("none").parse();
        response
            .headers_mut()
            .insert("x-operation", operation.expect("a value"));
        response
    });
    let server = scene.serve(builder).await;
    server.idempotency.shutdown(std::time::Duration::ZERO).await;
    let get = server.keyless(Method::GET, "/optional", "pay");
    let answer = reply(get).await;
    assert_eq!(answer.status, 503);
    assert_eq!(answer.headers["x-operation"], "GET /optional");
    assert!(!answer.body.is_empty());
}
on_databases!(problem_of_a_safe_method_is_rendered_by_the_application: SqliteConnection);

/// That the inner handler has done nothing does not say so of the outer one, whose writes would be taken back.
#[tokio::test]
async fn a_release_is_about_the_handler_that_says_it() {
    use idempotent_runtime::{Idempotency, Release, Transactions, idempotent};
    use tower::ServiceExt as _;

    #[derive(Clone, axum::extract::FromRef)]
    struct App {
        idempotency: Idempotency,
        transactions: Transactions<sqlx::SqliteConnection>,
        runs: std::sync::Arc<std::sync::atomic::AtomicUsize>,
    }

    #[idempotent(required = false)]
    async fn inner(#[tx] _tx: &mut sqlx::SqliteConnection) -> Release<http::StatusCode> {
        Release(http::StatusCode::BAD_GATEWAY)
    }

    #[idempotent]
    async fn outer(axum::extract::State(app): axum::extract::State<App>, path: String) -> Response {
        app.runs.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        let mut request = http::Request::post("/");
        if path == "keyed" {
            request = request.header("idempotency-key", "inner");
        }
        let router: axum::Router = axum::Router::new()
            .route("/", axum::routing::post(inner))
            .with_state(app);
        router
            .oneshot(request.body(Body::empty()).unwrap())
            .await
            .unwrap()
    }

    let scene = Scene::<sqlx::SqliteConnection>::new().await.unwrap();
    let idempotency = scene.builder(2).secret_check(false).build();
    let transactions = idempotency.transactions().await.unwrap();
    let app = App {
        idempotency,
        transactions,
        runs: Default::default(),
    };
    let router: axum::Router = axum::Router::new()
        .route("/", axum::routing::post(outer))
        .with_state(app.clone());
    for body in ["keyed", "keyless"] {
        for _ in 0..2 {
            let request = http::Request::post("/").header("idempotency-key", body);
            let request = request.body(Body::from(body)).unwrap();
            let response = router.clone().oneshot(request).await.unwrap();
            assert_eq!(response.status(), 502);
        }
    }
    assert_eq!(app.runs.load(std::sync::atomic::Ordering::SeqCst), 2);
    scene.clean_up().await;
}

async fn a_handler_without_a_key_that_has_committed_is_not_called_nothing<C: Database>(
    scene: &Scene<C>,
) {
    let builder = scene
        .builder(2)
        .transaction_timeout(Duration::from_millis(500));
    let server = scene.serve(builder).await;
    let answer = without_a_key(&server, "pay; sql COMMIT; gate never").await;
    assert_eq!(scene.payments("").await, 1);
    assert_ne!(
        answer.status, 503,
        "it was paid, and the answer is: {answer:?}"
    );
}
on_databases!(a_handler_without_a_key_that_has_committed_is_not_called_nothing: PgConnection DeadpoolTransaction MySqlConnection);

async fn a_handler_without_a_key_whose_last_statement_fails_is_not_called_nothing<C: Database>(
    scene: &Scene<C>,
) {
    let server = scene.serve(scene.builder(2)).await;
    for steps in [
        "pay; sql COMMIT; answer 201",
        "pay; sql COMMIT; sql BEGIN; answer 201",
        "pay; sql COMMIT; sql BEGIN; try SELECT 1 / 0 FROM nowhere; answer 201",
        "pay; sql COMMIT; try nonsense; answer 200",
    ] {
        let answer = without_a_key(&server, steps).await;
        assert_eq!(scene.payments("").await, 1, "{steps}");
        assert_ne!(
            answer.status, 503,
            "{steps}: it was paid, and the answer is: {answer:?}"
        );
        scene.execute("DELETE FROM {payments}").await;
    }
}
on_databases!(a_handler_without_a_key_whose_last_statement_fails_is_not_called_nothing: PgConnection DeadpoolTransaction MySqlConnection);

async fn a_handler_without_a_key_that_changes_the_schema_is_not_called_nothing<C: Database>(
    scene: &Scene<C>,
) {
    let server = scene.serve(scene.builder(2)).await;
    let steps = "pay; try CREATE TABLE {accounts}_of (id INT)";
    let answer = without_a_key(&server, steps).await;
    assert_eq!(scene.payments("").await, 1);
    assert_ne!(
        answer.status, 503,
        "it was paid, and the answer is: {answer:?}"
    );
}
on_databases!(a_handler_without_a_key_that_changes_the_schema_is_not_called_nothing: MySqlConnection);

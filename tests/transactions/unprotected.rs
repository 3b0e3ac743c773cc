//! Requests that need no protection run in a transaction too, one without a record.

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
    answer.assert_refused();
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

//! `Idempotency-Status`, if the handle says so: `stored` only after the commit.

use reqwest::Method;

use crate::support::{Database, Reply, Scene, on_databases, reply};

fn status_of(reply: &Reply) -> &str {
    let status = reply.headers["idempotency-status"].to_str().expect("ASCII");
    let status = status.strip_suffix("; lifetime=86400");
    status.expect("the lifetime of the operation")
}

async fn what_is_committed_is_stored_and_what_is_taken_back_is_not<C: Database>(scene: &Scene<C>) {
    let server = scene.serve(scene.builder(2).status_header(true)).await;
    for (steps, status) in [("pay", "stored"), ("pay", "replayed"), ("", "key-reused")] {
        let answer = server.post("/all", "key", steps).await;
        assert_eq!(status_of(&answer), status);
    }
    let released = server.post("/all", "another", "pay; release 200").await;
    assert_eq!(status_of(&released), "not-stored");
    let failed = server.post("/none", "another", "pay; answer 500").await;
    assert_eq!(status_of(&failed), "not-stored");
    let keyless = server.keyless(Method::POST, "/optional", "pay");
    assert_eq!(status_of(&reply(keyless).await), "unprotected");
    for steps in ["pay; answer 500", "pay; answer 402", "pay; release 200"] {
        let keyless = server.keyless(Method::POST, "/optional", steps);
        assert_eq!(status_of(&reply(keyless).await), "unprotected", "{steps}");
    }
}
on_databases!(what_is_committed_is_stored_and_what_is_taken_back_is_not);

//! A handler whose runtime stands still, as one does that a call at startup blocks on.

use std::sync::mpsc;
use std::time::Duration;

use axum::body::Body;
use http::Request;
use tokio::runtime::Builder;
use tokio::sync::oneshot;
use tower::ServiceExt as _;

use crate::support::{Database, Scene, on_databases};

/// The database has ended its transaction after a while. This process did not ask, and called the key in flight for as long as the
/// runtime stood still.
async fn a_handler_whose_runtime_stands_still_frees_its_key<C: Database>(scene: &Scene<C>) {
    let builder = scene
        .builder(4)
        .transaction_timeout(Duration::from_millis(500));
    let server = scene.serve(builder).await;
    let steps = "pay; once gate a";
    let (router, stage) = (server.router.clone(), server.stage.clone());
    let (stands, standing) = oneshot::channel();
    let (go_on, told) = mpsc::channel::<()>();
    let thread = std::thread::spawn(move || {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let request = Request::post("/all").header("idempotency-key", "key");
            tokio::spawn(router.oneshot(request.body(Body::from(steps)).unwrap()));
            stage.reached("a").await;
        });
        stands.send(()).unwrap();
        let _ = told.recv();
    });
    standing.await.unwrap();
    let again = server.settled("/all", "key", steps).await;
    again.assert_own(201);
    scene.assert_once("key").await;
    drop(go_on);
    thread.join().unwrap();
    let retry = server.post("/all", "key", steps).await;
    retry.assert_replay_of(&again);
    scene.assert_once("key").await;
}
on_databases!(a_handler_whose_runtime_stands_still_frees_its_key: PgConnection DeadpoolTransaction MySqlConnection);

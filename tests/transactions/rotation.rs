//! The secret is rotated while keys are in use.

use crate::support::{Database, Scene, on_databases};

/// Copies at all instances of a rotation that can meet, at the same time.
async fn a_rotation_pays_each_key_once<C: Database>(scene: &Scene<C>) {
    let old = scene.serve(scene.builder(4).secret("old")).await;
    let both = scene
        .serve(scene.builder(4).secret("new").previous_secrets(["old"]))
        .await;
    let new = scene.serve(scene.builder(4).secret("new")).await;
    for n in 0..40 {
        for (pair, (one, other)) in [(&old, &both), (&both, &new)].into_iter().enumerate() {
            let key = format!("key-{pair}-{n}");
            let sent = [one, other, one, other].map(|server| server.spawn("/all", &key, "pay"));
            for reply in sent {
                let reply = reply.await.unwrap();
                assert!(matches!(reply.status, 201 | 409 | 503), "{key}: {reply:?}");
            }
            for server in [one, other] {
                let settled = server.settled("/all", &key, "pay").await;
                assert_eq!(settled.status, 201, "{key}: {settled:?}");
            }
            assert_eq!(scene.payments(&key).await, 1, "{key}");
        }
    }
}
on_databases!(a_rotation_pays_each_key_once);

async fn a_rotated_handler_that_commits_by_itself_pays_once<C: Database>(scene: &Scene<C>) {
    let both = scene
        .serve(scene.builder(4).secret("new").previous_secrets(["old"]))
        .await;
    let old = scene.serve(scene.builder(4).secret("old")).await;
    let new = scene.serve(scene.builder(4).secret("new")).await;
    for (n, end) in [
        "answer 201",
        "answer 402",
        "answer 500",
        "panic",
        "release 200",
        "sql nonsense",
    ]
    .into_iter()
    .enumerate()
    {
        let steps = format!("pay; sql COMMIT; {end}");
        for (m, other) in [&old, &new].into_iter().enumerate() {
            let key = format!("key-{n}-{m}");
            let first = both.post("/all", &key, &steps).await;
            let again = other.post("/all", &key, &steps).await;
            assert_eq!(
                scene.payments(&key).await,
                1,
                "{steps} {m}: {first:?} {again:?}"
            );
        }
    }
}
on_databases!(a_rotated_handler_that_commits_by_itself_pays_once: PgConnection DeadpoolTransaction MySqlConnection);

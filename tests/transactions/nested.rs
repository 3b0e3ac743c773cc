//! Handlers that do with the connection what they should not, or more than one thinks of.

use crate::support::{Database, Scene, on_databases};

async fn a_transaction_within_is_part_of_the_whole<C: Database>(scene: &Scene<C>) {
    let server = scene.server().await;
    for (ending, payments) in [("commit", 2), ("rollback", 1), ("drop", 1)] {
        let steps = format!("pay; nested {ending}");
        let first = server.post("/all", ending, &steps).await;
        first.assert_own(201);
        assert_eq!(scene.payments(ending).await, payments, "{ending}");
        let again = server.post("/all", ending, &steps).await;
        again.assert_replay_of(&first);

        let undone = format!("{ending}-undone");
        let steps = format!("pay; nested {ending}; answer 402");
        let first = server.post("/all", &undone, &steps).await;
        first.assert_own(402);
        assert_eq!(scene.payments(&undone).await, 0, "{ending}");
        let again = server.post("/all", &undone, &steps).await;
        again.assert_replay_of(&first);
    }
}
on_databases!(a_transaction_within_is_part_of_the_whole);

async fn a_forgotten_transaction_within_commits_nothing<C: Database>(scene: &Scene<C>) {
    let server = scene.server().await;
    let steps = "pay; nested forget";
    server.post("/all", "key", steps).await.assert_refused();
    scene.assert_nothing("key").await;
    server.post("/all", "key", "pay").await.assert_own(201);
    scene.assert_once("key").await;
}
on_databases!(a_forgotten_transaction_within_commits_nothing: PgConnection SqliteConnection MySqlConnection);

//! The store is killed and comes back with what it has promised to keep.

use futures_util::future::join_all;

use crate::support::{Kind, Options, Scenario, Server, on_stores};

async fn what_was_acknowledged_survives_the_store(kind: Kind) {
    let Some(server) = Server::start(kind) else {
        return;
    };
    let scenario = Scenario::on_server(&server, "store-crash");
    let options = Options {
        gated: true,
        ..Options::default()
    };
    let application = scenario.application_with(options).await;

    for round in 1..=2 {
        let name = |what: &str| format!("{what}-{round}");
        let (done, gated, new) = (name("done"), name("gated"), name("new"));
        let first = application.settled("/steady", &done).await;
        assert_eq!(first.status, 201, "{first:?}");
        let running = application.spawn_post("/steady", &gated);
        application.gate_reached(&gated).await;

        server.kill();
        let refused = [&done, &new].map(|key| application.post("/steady", key));
        for refused in join_all(refused).await {
            let refused = refused.expect("an answer");
            refused.assert_code(503, "store-unavailable");
        }
        // It has run, so its client hears of it although it cannot be stored now.
        application.open_gate(&gated);
        let ran = running.await.unwrap().expect("an answer");
        assert_eq!((ran.status, ran.is_replay), (201, false), "{ran:?}");
        let effects = scenario.ledger.effects(&new);
        assert!(effects.is_empty(), "ran without a claim: {effects:?}");

        server.restart();
        let again = application.settled("/steady", &done).await;
        again.assert_replay_of(&first);
        scenario.ledger.assert_once(&done, &first.body);
        let stored_late = application.settled("/steady", &gated).await;
        stored_late.assert_replay_of(&ran);
        scenario.ledger.assert_once(&gated, &ran.body);
        let fresh = application.settled("/steady", &new).await;
        scenario.ledger.assert_once(&new, &fresh.body);
        // A process that was not there before sees the same.
        let newcomer = scenario.application().await;
        for (key, before) in [(&done, &first), (&gated, &ran), (&new, &fresh)] {
            newcomer
                .settled("/steady", key)
                .await
                .assert_replay_of(before);
        }
    }
}
on_stores!(what_was_acknowledged_survives_the_store: Redis Postgres MariaDb);

//! The network between application and store fails in the middle of an exchange.

use std::time::Duration;

use crate::support::load::retry_from_all;
use crate::support::proxy::{Fault, Proxy, Target};
use crate::support::server::url;
use crate::support::{Kind, Options, Scenario, on_stores, shared};

const FAULTS: [Fault; 8] = [
    Fault::Delay(Duration::from_millis(200)),
    // Longer than a store call may take: it is asked again, and then arrives all the same.
    Fault::Delay(Duration::from_millis(2500)),
    Fault::Close,
    Fault::Reset,
    Fault::CutRequest(20),
    Fault::LoseReply,
    Fault::CutReply(1),
    Fault::CutReply(9),
];

/// More than any ping, fewer than any claim that writes.
const A_CLAIM: usize = 80;

async fn one_effect_whatever_the_network_does_to_an_exchange(kind: Kind) {
    let Some((scenario, proxy)) = behind_a_proxy(kind, "network").await else {
        return;
    };
    let direct = scenario.application().await;
    let proxied = scenario.application_with(through(kind, &proxy)).await;
    for (number, fault) in FAULTS.into_iter().enumerate() {
        for what in ["claim", "complete"] {
            // So that statements are prepared, and only the exchange that is meant is struck.
            let warm = format!("warm-{what}-{number}");
            assert_eq!(proxied.settled("/steady", &warm).await.status, 201);

            let key = format!("{what}-{number}");
            let target = match what {
                "claim" => Target::NextOf(A_CLAIM),
                _ => Target::Containing(key.clone()),
            };
            let struck = proxy.struck();
            proxy.strike(target, fault);
            let first = proxied.settled("/steady", &key).await;
            let context = format!("{fault:?} at the {what}");
            assert_eq!(proxy.struck(), struck + 1, "{context}");
            assert_eq!(first.status, 201, "{context}: {first:?}");
            for application in [&proxied, &direct] {
                let again = application.settled("/steady", &key).await;
                again.assert_replay_of(&first);
            }
            scenario.ledger.assert_once(&key, &first.body);
        }
    }
}
on_stores!(one_effect_whatever_the_network_does_to_an_exchange: Redis Postgres MariaDb);

async fn one_effect_on_a_network_that_keeps_failing(kind: Kind) {
    let Some((scenario, proxy)) = behind_a_proxy(kind, "bad-network").await else {
        return;
    };
    let direct = scenario.application().await;
    let proxied = scenario.application_with(through(kind, &proxy)).await;
    proxy.strike_regularly(
        11,
        &[
            Fault::LoseReply,
            Fault::Reset,
            Fault::CutReply(3),
            Fault::Close,
            Fault::CutRequest(30),
            Fault::Delay(Duration::from_millis(100)),
        ],
    );
    let keys: Vec<_> = (0..200).map(|number| format!("bad-{number}")).collect();
    let answers = retry_from_all(&[&proxied], "/steady", &keys, 16, 2).await;
    // How many exchanges there are depends on how many commands go into one: at the least, what
    // sixteen clients ask at a time.
    assert!(proxy.struck() >= 3, "only {} faults", proxy.struck());
    proxy.heal();
    answers
        .assert_once_each(&scenario, &[&proxied, &direct])
        .await;
}
on_stores!(one_effect_on_a_network_that_keeps_failing: Redis Postgres MariaDb);

async fn behind_a_proxy(kind: Kind, name: &str) -> Option<(Scenario, Proxy)> {
    let scenario = Scenario::new(kind, name)?;
    let proxy = Proxy::start(shared(kind)?.port()).await;
    Some((scenario, proxy))
}

fn through(kind: Kind, proxy: &Proxy) -> Options {
    Options {
        url: Some(url(kind, proxy.port, "test")),
        ..Options::default()
    }
}

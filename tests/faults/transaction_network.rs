//! The network between application and database fails in the middle of a transaction, at any of its
//! exchanges. What the application hears of a commit may be nothing; the next request finds the truth.

use std::time::Duration;

use crate::support::proxy::{Fault, Proxy, Target};
use crate::support::server::url;
use crate::support::shop::PAID;
use crate::support::{Books, Kind, Options, Scenario, on_stores, shared};

const FAULTS: [Fault; 8] = [
    Fault::Delay(Duration::from_millis(200)),
    // Longer than a store call may take: it is given up, and arrives all the same.
    Fault::Delay(Duration::from_millis(2500)),
    Fault::Close,
    Fault::Reset,
    Fault::CutRequest(7),
    Fault::LoseReply,
    Fault::CutReply(1),
    Fault::CutReply(9),
];

/// How the exchanges of a transaction are told apart: by what only they contain.
fn exchanges(kind: Kind, key: &str) -> [(&'static str, Target); 5] {
    let (begin, lock) = match kind {
        Kind::Postgres | Kind::Deadpool => ("BEGIN", "_lock\"("),
        _ => ("START TRANSACTION", "SAVEPOINT"),
    };
    let containing = |part: &str| Target::Containing(part.to_owned());
    [
        ("begin", containing(begin)),
        ("lock", containing(lock)),
        ("row", containing(&format!("'{key}'"))),
        ("record", containing(&format!("{PAID}{key}"))),
        ("commit", Target::Commit),
    ]
}

async fn one_row_and_one_record_whatever_the_network_does_to_an_exchange(kind: Kind) {
    let Some(scenario) = Scenario::in_database(kind, "tx-network") else {
        return;
    };
    let books = Books::open(kind, &scenario).await;
    let proxy = Proxy::start(shared(kind).expect("a server").port()).await;
    let database = scenario.url.rsplit_once('/').expect("a database").1;
    let direct = scenario.application_with(shop(None)).await;
    let through = Some(url(kind, proxy.port, database));
    let proxied = scenario.application_with(shop(through)).await;
    for (number, fault) in FAULTS.into_iter().enumerate() {
        for (what, _) in exchanges(kind, "") {
            // So that statements are prepared, and only the exchange that is meant is struck.
            let warm = format!("warm-{what}-{number}");
            assert_eq!(proxied.settled("/pay", &warm).await.status, 201);

            let key = format!("{what}-{number}");
            let mut targets = exchanges(kind, &key).into_iter();
            let (_, target) = targets.find(|(other, _)| *other == what).expect("it");
            let struck = proxy.struck();
            proxy.strike(target, fault);
            let first = proxied.settled("/pay", &key).await;
            let context = format!("{fault:?} at the {what}");
            assert_eq!(proxy.struck(), struck + 1, "{context}");
            assert_eq!(first.status, 201, "{context}: {first:?}");
            for application in [&proxied, &direct] {
                let again = application.settled("/pay", &key).await;
                assert!(again.is_replay, "{context}: {again:?}");
                assert_eq!(again.body, first.body, "{context}");
            }
            books.assert_once(&key, &first).await;
        }
    }
}
on_stores!(one_row_and_one_record_whatever_the_network_does_to_an_exchange: Postgres Deadpool MariaDb);

fn shop(url: Option<String>) -> Options {
    Options {
        shop: true,
        url,
        ..Options::default()
    }
}

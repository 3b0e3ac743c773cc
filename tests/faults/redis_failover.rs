//! A Redis that fails over, falls silent, or refuses for a while, under applications that go on.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::support::load::retry_from_all;
use crate::support::switch::Proxy as Switch;
use crate::support::{Application, BOUND, Kind, Options, Scenario, Server};

/// How long it may take from the moment in which a fresh connection would work.
const RECOVERY: Duration = Duration::from_secs(5);

/// The existing connections carry nothing any more, and new ones work: twice in a row.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_effect_and_answers_within_seconds_though_connections_freeze() {
    let Some(server) = Server::start(Kind::Redis) else {
        return;
    };
    let scenario = Scenario::on_server(&server, "freeze");
    let switch = Switch::start(server.port()).await;
    let application = through(&scenario, &switch).await;
    let keys = names("frozen");
    let processes = [&application];
    let asking = retry_from_all(&processes, "/steady", &keys, 8, 2);
    let freezing = async {
        for number in 0..2 {
            let middle = &keys[keys.len() / 3 * (number + 1)];
            until("the load is under way", || {
                !scenario.ledger.effects(middle).is_empty()
            })
            .await;
            switch.freeze();
            settles(&application, &format!("fresh-{number}")).await;
        }
    };
    let (answers, ()) = tokio::join!(asking, freezing);
    answers.assert_once_each(&scenario, &[&application]).await;
    assert!(switch.accepted() < 20, "{}", switch.accepted());
}

/// The old primary becomes a replica and keeps its connections, and the address leads to the new one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_effect_and_answers_within_seconds_though_the_primary_is_demoted() {
    let (Some(one), Some(two)) = (Server::start(Kind::Redis), Server::start(Kind::Redis)) else {
        return;
    };
    say(&two, &format!("REPLICAOF 127.0.0.1 {}", one.port()));
    let scenario = Scenario::on_server(&one, "failover");
    let switch = Switch::start(one.port()).await;
    let application = through(&scenario, &switch).await;
    let keys = names("moved");
    let processes = [&application];
    let asking = retry_from_all(&processes, "/steady", &keys, 8, 2);
    let moving = async {
        for (number, [from, to]) in [[&one, &two], [&two, &one]].into_iter().enumerate() {
            until("the replica keeps up", || {
                say(to, "INFO replication").contains("master_link_status:up")
            })
            .await;
            let middle = &keys[keys.len() / 3 * (number + 1)];
            until("the load is under way", || {
                !scenario.ledger.effects(middle).is_empty()
            })
            .await;
            // In good order, so that nothing is lost by it; and not before the primary knows its replica.
            let fail_over = format!("FAILOVER TO 127.0.0.1 {}", to.port());
            until("the primary hands over", || say(from, &fail_over) == "+OK").await;
            until("the other one is the primary", || {
                say(to, "INFO replication").contains("role:master")
                    && say(from, "INFO replication").contains("role:slave")
            })
            .await;
            switch.lead_to(to.port());
            settles(&application, &format!("fresh-{number}")).await;
        }
    };
    let (answers, ()) = tokio::join!(asking, moving);
    answers.assert_once_each(&scenario, &[&application]).await;
}

/// It refuses while handlers end. What they answer is stored once it refuses no more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answer_is_stored_after_a_time_of_refusals() {
    let Some(server) = Server::start(Kind::Redis) else {
        return;
    };
    let scenario = Scenario::on_server(&server, "refusals");
    let options = Options {
        gated: true,
        ..Options::default()
    };
    let application = scenario.application_with(options).await;
    for (number, [refuse, allow]) in [
        [
            "CONFIG SET min-replicas-to-write 1",
            "CONFIG SET min-replicas-to-write 0",
        ],
        ["CONFIG SET maxmemory 1", "CONFIG SET maxmemory 0"],
        ["REPLICAOF 127.0.0.1 1", "REPLICAOF NO ONE"],
        ["ACL SETUSER default -set", "ACL SETUSER default +set"],
    ]
    .into_iter()
    .enumerate()
    {
        let key = format!("gated-{number}");
        let running = application.spawn_post("/steady", &key);
        application.gate_reached(&key).await;
        assert_eq!(say(&server, refuse), "+OK", "{refuse}");
        application.open_gate(&key);
        let ran = running.await.unwrap().expect("an answer");
        assert_eq!((ran.status, ran.is_replay), (201, false), "{refuse}");
        assert_eq!(say(&server, allow), "+OK", "{allow}");
        let allowed = Instant::now();
        let stored = application.settled("/steady", &key).await;
        assert!(allowed.elapsed() < RECOVERY, "{refuse}");
        stored.assert_replay_of(&ran);
        scenario.ledger.assert_once(&key, &ran.body);
    }
}

async fn through(scenario: &Scenario, switch: &Switch) -> Application {
    let options = Options {
        url: Some(switch.url()),
        ..Options::default()
    };
    scenario.application_with(options).await
}

fn names(what: &str) -> Vec<String> {
    (0..200).map(|number| format!("{what}-{number}")).collect()
}

/// A new key is answered soon.
async fn settles(application: &Application, key: &str) {
    let began = Instant::now();
    let reply = application.settled("/steady", key).await;
    assert_eq!(reply.status, 201, "{reply:?}");
    assert!(began.elapsed() < RECOVERY, "{key}: {:?}", began.elapsed());
}

async fn until(what: &str, mut happened: impl FnMut() -> bool) {
    let began = Instant::now();
    while !happened() {
        assert!(began.elapsed() < BOUND, "waited too long until {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// What the server replies to one command.
fn say(server: &Server, command: &str) -> String {
    let mut connection = TcpStream::connect(("127.0.0.1", server.port())).expect("a server");
    connection
        .write_all(format!("{command}\r\n").as_bytes())
        .expect("a server");
    let mut reply = String::new();
    let mut reading = BufReader::new(connection);
    reading.read_line(&mut reply).expect("a reply");
    if let Some(length) = reply.strip_prefix('$') {
        let mut text = vec![0; length.trim().parse().expect("a length")];
        reading.read_exact(&mut text).expect("a reply");
        return String::from_utf8_lossy(&text).into_owned();
    }
    reply.trim().to_owned()
}

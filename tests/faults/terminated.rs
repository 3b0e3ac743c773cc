//! An operator, or a failover, ends the application's connections again and again.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use futures_util::future::join_all;

use crate::support::application::wait_until;
use crate::support::load::Answers;
use crate::support::{Kind, Options, Scenario, Server, on_stores, shared};

const ROUNDS: usize = 30;
const CLIENTS: usize = 16;

async fn one_effect_while_connections_are_being_ended(kind: Kind) {
    let Some(server) = shared(kind) else { return };
    let scenario = Scenario::new(kind, "terminated").expect("a server");
    // A database of its own, because no other test is to lose connections.
    server.sql("CREATE DATABASE to_be_ended");
    let options = Options {
        url: Some(server.url("to_be_ended")),
        ..Options::default()
    };
    let application = scenario.application_with(options).await;

    let (done, is_over) = (AtomicUsize::new(0), AtomicBool::new(false));
    let client = async |number: usize| {
        let mut answers = Answers::default();
        for request in 0.. {
            if is_over.load(Ordering::Relaxed) {
                break;
            }
            let key = format!("terminated-{number}-{request}");
            answers.add(&key, application.settled("/steady", &key).await);
            done.fetch_add(1, Ordering::Relaxed);
        }
        answers
    };
    let terminator = async {
        let mut ended = 0;
        for _ in 0..ROUNDS {
            let so_far = done.load(Ordering::Relaxed);
            wait_until("work goes on", || done.load(Ordering::Relaxed) > so_far + 5).await;
            ended += tokio::task::block_in_place(|| end_connections(server));
        }
        is_over.store(true, Ordering::Relaxed);
        ended
    };
    let (answers, ended) = tokio::join!(join_all((0..CLIENTS).map(client)), terminator);
    assert!(ended >= ROUNDS, "only {ended} connections were ended");
    let answers = answers.into_iter().collect::<Answers>();
    answers.assert_once_each(&scenario, &[&application]).await;
}
on_stores!(one_effect_while_connections_are_being_ended: Postgres MariaDb);

/// Ends all connections to the database, and says how many there were.
fn end_connections(server: &Server) -> usize {
    if server.kind == Kind::Postgres {
        let terminate = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                         WHERE datname = 'to_be_ended'";
        return server.sql(terminate).len();
    }
    let list = "SELECT id FROM information_schema.processlist WHERE db = 'to_be_ended'";
    let ids = server.sql(list);
    let kills: Vec<_> = ids.iter().map(|id| format!("KILL {id};")).collect();
    // One that is gone already is as good as ended.
    let _ = server.try_sql(&kills.join(" "));
    ids.len()
}

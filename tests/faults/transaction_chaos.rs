//! Everything at once: many keys, many copies of each, and under all of them connections that are
//! ended, or on SQLite whole processes, again and again.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::join_all;
use sqlx::{AssertSqlSafe, Connection, MySqlConnection, PgConnection};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use crate::support::{
    Application, BOUND, Books, Kind, Options, Reply, Scenario, on_stores, shared,
};

const KEYS: usize = 400;
const COPIES: usize = 16;
const CLIENTS: usize = 64;
/// So many keys are sent at a time, each of them by several clients.
const AT_A_TIME: usize = 25;
const DELIVERIES: usize = KEYS * COPIES;

/// How many of a server's connections are ended.
const CONNECTIONS_ENDED: usize = 1000;
/// How many processes are killed. Fewer, because each has to be started first.
const PROCESSES_KILLED: usize = 300;

async fn each_key_is_paid_for_once_while_everything_dies(kind: Kind) {
    let Some(scenario) = Scenario::in_database(kind, "tx-chaos") else {
        return;
    };
    let books = Books::open(kind, &scenario).await;
    let start = || scenario.application_with(shop());
    let process = Mutex::new(Arc::new(start().await));
    let pace = Pace::new(match kind {
        Kind::Sqlite => PROCESSES_KILLED,
        _ => CONNECTIONS_ENDED,
    });
    let next = AtomicUsize::new(0);
    let client = async |_| {
        let mut answers = Vec::new();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= DELIVERIES {
                return answers;
            }
            pace.delivery(number).await;
            let key = key(number);
            let answer = final_answer(&process, &key).await;
            answers.push((key, answer));
            pace.delivered.send_modify(|delivered| *delivered += 1);
        }
    };
    let killer = async {
        let mut ender = Ender::new(kind, &scenario).await;
        while pace.kill().await {
            match &mut ender {
                Some(ender) => ender.end_one().await,
                None => {
                    at(&process).kill();
                    let successor = Arc::new(start().await);
                    *process.lock().unwrap() = successor;
                }
            }
            pace.killed.send_modify(|killed| *killed += 1);
        }
    };
    let (answers, ()) = tokio::join!(join_all((0..CLIENTS).map(client)), killer);

    let mut by_key = BTreeMap::<_, Vec<_>>::new();
    for (key, answer) in answers.into_iter().flatten() {
        by_key.entry(key).or_default().push(answer);
    }
    assert_eq!(by_key.len(), KEYS);
    let mut first_of = BTreeMap::new();
    for (key, answers) in by_key {
        assert_eq!(answers.len(), COPIES);
        for answer in &answers {
            assert_eq!(answer.status, 201, "{key}: {answer:?}");
            assert_eq!(answer.body, answers[0].body, "{key}");
        }
        let own = answers.iter().filter(|answer| !answer.is_replay).count();
        assert!(own <= 1, "{key} ran for {own} clients");
        first_of.insert(key, answers[0].clone());
    }
    books.assert_once_each(&first_of).await;
    for (key, answer) in &first_of {
        let again = at(&process).settled("/pay", key).await;
        again.assert_replay_of(answer);
    }
}
on_stores!(each_key_is_paid_for_once_while_everything_dies: Postgres Deadpool MariaDb Sqlite);

fn key(delivery: usize) -> String {
    let round = delivery / (AT_A_TIME * COPIES);
    format!("chaos-{}", round * AT_A_TIME + delivery % AT_A_TIME)
}

fn at(place: &Mutex<Arc<Application>>) -> Arc<Application> {
    Arc::clone(&place.lock().unwrap())
}

async fn final_answer(process: &Mutex<Arc<Application>>, key: &str) -> Reply {
    let answer = timeout(BOUND, async {
        loop {
            match at(process).post("/pay", key).await {
                Some(reply) if reply.is_final() => return reply,
                _ => sleep(Duration::from_millis(10)).await,
            }
        }
    });
    answer.await.expect("a final answer")
}

/// Keeps deliveries and kills in step, so that the last kill comes with the last delivery.
struct Pace {
    kills: usize,
    killed: watch::Sender<usize>,
    delivered: watch::Sender<usize>,
}

impl Pace {
    fn new(kills: usize) -> Self {
        Self {
            kills,
            killed: watch::Sender::default(),
            delivered: watch::Sender::default(),
        }
    }

    /// Waits until there were enough kills for this delivery.
    async fn delivery(&self, number: usize) {
        let due = number.saturating_sub(CLIENTS) * self.kills / DELIVERIES;
        until(&self.killed, due).await;
    }

    /// Waits until there were enough deliveries for the next kill; `false` when it was the last.
    async fn kill(&self) -> bool {
        let killed = *self.killed.borrow();
        let due = (killed * DELIVERIES / self.kills).saturating_sub(CLIENTS);
        until(&self.delivered, due).await;
        killed < self.kills
    }
}

async fn until(count: &watch::Sender<usize>, least: usize) {
    let mut count = count.subscribe();
    let reached = timeout(BOUND, count.wait_for(|count| *count >= least));
    reached.await.expect("the others get on").expect("a sender");
}

/// An operator who ends connections of the application's database.
enum Ender {
    /// With the name of the database.
    Postgres(PgConnection, String),
    MariaDb(MySqlConnection),
}

impl Ender {
    /// `None` where there is no server.
    async fn new(kind: Kind, scenario: &Scenario) -> Option<Self> {
        if kind == Kind::Sqlite {
            return None;
        }
        let url = shared(kind).expect("a server").url("test");
        Some(match kind {
            Kind::Postgres | Kind::Deadpool => {
                let database = scenario.url.rsplit_once('/').expect("a database").1;
                let connection = PgConnection::connect(&url).await.expect("a connection");
                Self::Postgres(connection, database.to_owned())
            }
            _ => Self::MariaDb(MySqlConnection::connect(&url).await.expect("a connection")),
        })
    }

    /// Ends one, rather one that is busy. There may be none: all have ended, and those who would open others
    /// wait for this.
    async fn end_one(&mut self) {
        let ending = async { while !self.try_end_one().await {} };
        drop(timeout(Duration::from_secs(1), ending).await);
    }

    async fn try_end_one(&mut self) -> bool {
        match self {
            Self::Postgres(connection, database) => {
                let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                           WHERE datname = $1 ORDER BY state = 'idle', random() LIMIT 1";
                let end = sqlx::query_scalar(end).bind(&*database);
                let ended = end.fetch_optional(connection).await;
                ended.expect("an answer").unwrap_or(false)
            }
            Self::MariaDb(connection) => {
                let one = "SELECT CAST(id AS SIGNED) FROM information_schema.processlist \
                           WHERE db = 'tx_chaos' ORDER BY RAND() LIMIT 1";
                let one: Option<i64> = sqlx::query_scalar(one)
                    .fetch_optional(&mut *connection)
                    .await
                    .expect("an answer");
                let Some(one) = one else { return false };
                let end = sqlx::raw_sql(AssertSqlSafe(format!("KILL {one}")));
                // It may be gone by itself meanwhile.
                end.execute(connection).await.is_ok()
            }
        }
    }
}

fn shop() -> Options {
    Options {
        shop: true,
        ..Options::default()
    }
}

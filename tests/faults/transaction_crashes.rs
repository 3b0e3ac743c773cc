//! A process is killed at each point of a transaction's life: the row and the record are both there
//! afterwards, or neither is, and a retry finds out.

use futures_util::future::join_all;

use crate::support::proxy::{Fault, Proxy, Target};
use crate::support::server::url;
use crate::support::{Application, Books, Kind, Options, Point, Scenario, on_stores, shared};

/// A process that was killed, and what it was doing.
struct Death {
    what: String,
    key: String,
    pid: u32,
    /// Whether its work counts.
    is_committed: bool,
}

impl Death {
    fn new(what: impl std::fmt::Debug, victim: &Application, is_committed: bool) -> Self {
        let what = format!("{what:?}");
        Self {
            key: what.replace(|letter: char| !letter.is_alphanumeric(), ""),
            what,
            pid: victim.pid(),
            is_committed,
        }
    }

    /// Asks the victim, which dies of it.
    async fn await_of(self, victim: &Application) -> Self {
        let reply = victim.post("/pay", &self.key).await;
        assert_eq!(reply, None, "an answer from a process killed {}", self.what);
        victim.death().await;
        self
    }
}

async fn a_killed_process_leaves_both_or_neither(kind: Kind) {
    let Some(scenario) = Scenario::in_database(kind, "tx-crash") else {
        return;
    };
    let books = Books::open(kind, &scenario).await;
    let mut deaths = Vec::new();
    for point in Point::IN_TRANSACTION {
        // What happens in a server's COMMIT is the network's to say.
        if point == Point::AtCommit && kind != Kind::Sqlite {
            deaths.extend(killed_at_commit(kind, &scenario).await);
            continue;
        }
        let options = Options {
            crash: Some(point),
            ..shop()
        };
        let victim = scenario.application_with(options).await;
        let death = Death::new(point, &victim, point == Point::AfterCommit);
        deaths.push(death.await_of(&victim).await);
    }
    let survivors = [
        scenario.application_with(shop()).await,
        scenario.application_with(shop()).await,
    ];
    for death in deaths {
        both_or_neither(&survivors, &books, &death).await;
    }
}
on_stores!(a_killed_process_leaves_both_or_neither: Postgres Deadpool MariaDb Sqlite);

/// Between the record and COMMIT, and between COMMIT and its reply.
async fn killed_at_commit(kind: Kind, scenario: &Scenario) -> Vec<Death> {
    let server = shared(kind).expect("a server");
    let proxy = Proxy::start(server.port()).await;
    let database = scenario.url.rsplit_once('/').expect("a database").1;
    let mut deaths = Vec::new();
    for (is_committed, fault) in [
        (false, Fault::KillBefore as fn(u32) -> Fault),
        (true, Fault::KillAfter),
    ] {
        let options = Options {
            url: Some(url(kind, proxy.port, database)),
            ..shop()
        };
        let victim = scenario.application_with(options).await;
        let death = Death::new(fault(0), &victim, is_committed);
        proxy.strike(Target::Commit, fault(victim.pid()));
        deaths.push(death.await_of(&victim).await);
    }
    deaths
}

async fn both_or_neither(survivors: &[Application; 2], books: &Books, death: &Death) {
    let Death { what, key, .. } = death;
    let copies = [0, 1, 0, 1].map(|one| survivors[one].settled("/pay", key));
    let replies = join_all(copies).await;
    let first = &replies[0];
    books.assert_once(key, first).await;
    for reply in &replies {
        assert!(reply.says_the_same_as(first), "{what}: {replies:?}");
    }
    let own = replies.iter().filter(|reply| !reply.is_replay).count();
    assert_eq!(own, usize::from(!death.is_committed), "{what}: {replies:?}");
    let victims = format!(" in process {}", death.pid);
    assert_eq!(first.body.ends_with(&victims), death.is_committed, "{what}");
}

fn shop() -> Options {
    Options {
        shop: true,
        ..Options::default()
    }
}

//! Behind `PgBouncer`, where it is installed: in session mode all works, though it takes none of the store's
//! settings.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use idempotent_runtime::store::{Claim, Completion, Severity, Store};
use sqlx::postgres::{PgConnectOptions, PgSslMode};
use sqlx::{Connection, PgConnection};

use crate::free_port::free_port;
use crate::support::{PATIENCE, Scratch, TTL, answer, claimed, pool, rival, skip};
use crate::till::Till;

struct Bouncer {
    child: Child,
    folder: PathBuf,
    options: PgConnectOptions,
}

impl Bouncer {
    async fn start(scratch: &Scratch, mode: &str) -> Option<Self> {
        let port = free_port();
        let folder = std::env::temp_dir().join(&scratch.table);
        std::fs::create_dir(&folder).unwrap();
        let ini = folder.join("pgbouncer.ini");
        let server = &scratch.server;
        let settings = format!(
            "[databases]\n* = host={} port={} user={}\n[pgbouncer]\nlisten_addr=127.0.0.1\nlisten_port={port}\n\
             unix_socket_dir=\nauth_type=any\npool_mode={mode}\nignore_startup_parameters=extra_float_digits\n",
            server.get_host(),
            server.get_port(),
            server.get_username(),
        );
        std::fs::write(&ini, settings).unwrap();
        // It does not run as root; started by root, it becomes the user that is named here.
        let started = Command::new("pgbouncer")
            .args(["-q", "-u", "nobody"])
            .arg(&ini)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let Ok(child) = started else {
            drop(std::fs::remove_dir_all(&folder));
            skip("no `pgbouncer`");
            return None;
        };
        let options = server.clone().host("127.0.0.1").port(port);
        let bouncer = Self {
            child,
            folder,
            options: options.ssl_mode(PgSslMode::Disable),
        };
        let started = Instant::now();
        while PgConnection::connect_with(&bouncer.options).await.is_err() {
            assert!(started.elapsed() < PATIENCE, "it does not start");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Some(bouncer)
    }
}

impl Drop for Bouncer {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
        drop(std::fs::remove_dir_all(&self.folder));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pgbouncer_that_refuses_the_settings_is_connected_to_without_them() {
    let Some(scratch) = Scratch::migrated().await else {
        return;
    };
    let Some(bouncer) = Bouncer::start(&scratch, "session").await else {
        return scratch.clean_up().await;
    };
    let refused = bouncer.options.clone().options([("lock_timeout", "1s")]);
    assert!(PgConnection::connect_with(&refused).await.is_err());
    let shared = pool(&bouncer.options, 2);
    let store = scratch.store_on(shared.clone());
    let claim = claimed(&store).await;
    let completed = store.complete(&claim.owner, &answer(), TTL).await.unwrap();
    assert_eq!(completed, Completion::Stored);
    let replay = store.claim(&rival(&claim)).await.unwrap();
    assert!(matches!(replay, Claim::Completed(_)), "{replay:?}");
    let till = Till::open(store, shared, PATIENCE).await;
    for key in ["one", "two"] {
        assert_eq!(till.post("/pay", key, "SELECT 1").await.status, 201);
        assert!(till.post("/pay", key, "SELECT 1").await.is_replay());
    }
    drop(bouncer);
    scratch.clean_up().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn check_sees_a_pooler_as_far_as_it_can_be_seen() {
    for (mode, severity, what) in [
        (
            "session",
            Severity::Note,
            "takes no settings of a connection",
        ),
        (
            "transaction",
            Severity::Warning,
            "a pooler in transaction mode",
        ),
        ("statement", Severity::Danger, "a pooler in statement mode"),
    ] {
        let Some(scratch) = Scratch::migrated().await else {
            return;
        };
        let Some(bouncer) = Bouncer::start(&scratch, mode).await else {
            return scratch.clean_up().await;
        };
        let store = scratch.store_on(pool(&bouncer.options, 2));
        let findings = store.check().await.unwrap();
        let found = findings.iter().find(|finding| finding.what.contains(what));
        assert_eq!(
            found.map(|it| it.severity),
            Some(severity),
            "{mode}: {findings:?}"
        );
        drop(bouncer);
        scratch.clean_up().await;
    }
}

//! A service with one operation, in a process of its own.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{FromRef, State};
use axum::routing::post;
use http::StatusCode;
use idempotent_runtime::store::Target;
use idempotent_runtime::{Attempt, Idempotency, StepError, idempotent};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::stores::Place;

pub(crate) const LEASE: Duration = Duration::from_secs(3);
pub(crate) const NAMESPACE: &str = "shop";
pub(crate) const SECRET: &str = "canary-secret";
pub(crate) const KEY: &str = "canary-key-8e03978e";
pub(crate) const SCOPE_CANARY: &str = "canary-tenant";
pub(crate) const BODY_CANARY: &str = "canary-charge";
pub(crate) const ORDER: &str = "order-4711";

/// How long anything may take that is no part of what is tested.
const PATIENCE: Duration = Duration::from_secs(60);

/// What the service is told by its environment.
mod variable {
    pub(crate) const STORE: &str = "TRANSCRIPT_STORE";
    pub(crate) const PREFIX: &str = "TRANSCRIPT_PREFIX";
    /// Where it writes its address, and that it is charging.
    pub(crate) const FOLDER: &str = "TRANSCRIPT_FOLDER";
}

#[derive(Clone, FromRef)]
struct App {
    idempotency: Idempotency,
    folder: PathBuf,
}

/// Charges, and does not come back: the bank's answer is never seen.
#[idempotent(
    name = "payments.create",
    lease = "3s",
    scope = (SCOPE_CANARY, 7),
    label = ORDER
)]
async fn pay(
    State(folder): State<PathBuf>,
    attempt: Attempt,
    body: String,
) -> Result<(StatusCode, String), StepError<String>> {
    let authorized = async { Ok::<_, String>(format!("{BODY_CANARY} {}", body.len())) };
    let authorized: String = attempt.step("authorize", authorized).await?;
    std::fs::write(folder.join("charging"), "").expect("a file");
    std::future::pending::<()>().await;
    Ok((StatusCode::CREATED, authorized))
}

/// Serves until its parent is gone; returns at once where nothing is asked of it.
pub(crate) fn serve() {
    let Ok(url) = std::env::var(variable::STORE) else {
        return;
    };
    let folder = PathBuf::from(std::env::var(variable::FOLDER).expect("a folder"));
    std::thread::spawn(|| {
        // The other end is held by the test: it ends when the test does.
        let _ = std::io::stdin().read(&mut [0]);
        std::process::exit(0);
    });
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime")
        .block_on(run(url, folder));
}

async fn run(url: String, folder: PathBuf) {
    let mut target = Target::new(url);
    if let Ok(prefix) = std::env::var(variable::PREFIX) {
        target = target.prefix(prefix);
    }
    let store = target.open().await.expect("a store");
    let idempotency = Idempotency::builder(store)
        .namespace(NAMESPACE)
        .secret(SECRET)
        .build();
    let app = App {
        idempotency,
        folder: folder.clone(),
    };
    let app = Router::new().route("/payments", post(pay)).with_state(app);
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    std::fs::write(folder.join("draft"), address).expect("a file");
    std::fs::rename(folder.join("draft"), folder.join("address")).expect("a file");
    axum::serve(listener, app).await.expect("a server");
}

/// A running service.
pub(crate) struct Service {
    process: Mutex<Child>,
    folder: PathBuf,
    address: String,
    client: reqwest::Client,
}

/// What a client got.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) is_replay: bool,
    pub(crate) body: String,
}

impl Service {
    pub(crate) async fn start(place: &Place) -> Self {
        let address = place.folder.join("address");
        let _ = std::fs::remove_file(&address);
        let mut command = Command::new(std::env::current_exe().expect("this program"));
        command
            .args(["--exact", "child_process", "--nocapture"])
            .env(variable::STORE, &place.url)
            .env(variable::FOLDER, &place.folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::inherit());
        if let Some(prefix) = place.prefix() {
            command.env(variable::PREFIX, prefix);
        }
        let process = Mutex::new(command.spawn().expect("a process"));
        wait_for(&address).await;
        Self {
            process,
            folder: place.folder.clone(),
            address: std::fs::read_to_string(address).expect("an address"),
            client: reqwest::Client::new(),
        }
    }

    /// `None` where there was no answer.
    pub(crate) async fn pay(&self, key: &str) -> Option<Reply> {
        pay_at(&self.client, &self.address, key).await
    }

    pub(crate) fn spawn_pay(&self, key: &'static str) -> JoinHandle<Option<Reply>> {
        let (client, address) = (self.client.clone(), self.address.clone());
        tokio::spawn(async move { pay_at(&client, &address, key).await })
    }

    /// Waits until the charge is on its way.
    pub(crate) async fn charging(&self) {
        wait_for(&self.folder.join("charging")).await;
    }

    /// As `kill -9` does.
    pub(crate) fn kill(&self) {
        let mut process = self.process.lock().expect("a process");
        process.kill().expect("a process");
        process.wait().expect("a process");
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        if let Ok(mut process) = self.process.lock() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

async fn pay_at(client: &reqwest::Client, address: &str, key: &str) -> Option<Reply> {
    let request = client.post(format!("http://{address}/payments"));
    let request = request.header("idempotency-key", key).body(BODY_CANARY);
    let answer = request.send().await.ok()?;
    Some(Reply {
        status: answer.status().as_u16(),
        is_replay: answer.headers().contains_key("idempotent-replayed"),
        body: answer.text().await.ok()?,
    })
}

async fn wait_for(file: &Path) {
    let started = Instant::now();
    while !file.exists() {
        assert!(started.elapsed() < PATIENCE, "no {}", file.display());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

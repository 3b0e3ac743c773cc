use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::service::{gate, variable};
use super::workspace::{signal, tail};
use super::{BOUND, Kind, Point, Scenario};

/// How an application is started.
#[derive(Clone, Debug, Default)]
pub struct Options {
    pub crash: Option<Point>,
    /// Whether handlers whose key contains `gated` wait at a gate after their effect.
    pub gated: bool,
    /// Whether its store calls may take as long as they like, so that none fails by being slow.
    pub patient: bool,
    /// Whether it has handlers that write in transactions.
    pub shop: bool,
    /// Instead of the default one.
    pub namespace: Option<&'static str>,
    /// As [`variable::SECRETS`] has them; `None` means no secrets.
    pub secrets: Option<&'static str>,
    /// Instead of the scenario's own.
    pub url: Option<String>,
}

/// An application in a process of its own.
pub struct Application {
    pub(super) client: reqwest::Client,
    pub(super) address: String,
    process: Mutex<Child>,
    gates: PathBuf,
    log: PathBuf,
}

impl Application {
    pub async fn start(scenario: &Scenario, options: Options) -> Self {
        static STARTED: AtomicUsize = AtomicUsize::new(0);
        let name = format!("app-{}", STARTED.fetch_add(1, Ordering::Relaxed));
        let file = |extension| scenario.folder.join(&name).with_extension(extension);
        let log = file("log");
        let output = File::create(&log).expect("a log");
        let mut command = Command::new(std::env::current_exe().expect("this program"));
        command
            .args(["--exact", "child_process", "--nocapture"])
            .env(
                variable::STORE,
                options.url.as_ref().unwrap_or(&scenario.url),
            )
            .env(variable::LEDGER, scenario.ledger.path())
            .env(variable::ADDRESS, file("address"))
            .stdin(Stdio::piped())
            .stdout(output.try_clone().expect("a log"))
            .stderr(output);
        if let Some(point) = options.crash {
            command.env(variable::CRASH, format!("{point:?}"));
        }
        if options.gated {
            command.env(variable::GATES, &scenario.folder);
        }
        if options.shop {
            command.env(variable::SHOP, "");
        }
        if scenario.kind == Kind::Deadpool {
            command.env(variable::DEADPOOL, "");
        }
        if let Some(namespace) = options.namespace {
            command.env(variable::NAMESPACE, namespace);
        }
        if let Some(secrets) = options.secrets {
            command.env(variable::SECRETS, secrets);
        }
        if options.patient {
            command.env(variable::PATIENT, "");
        }
        let mut application = Self {
            process: Mutex::new(command.spawn().expect("a process")),
            client: reqwest::Client::builder()
                .timeout(BOUND / 3)
                .build()
                .expect("a client"),
            address: String::new(),
            gates: scenario.folder.clone(),
            log,
        };
        let address = file("address");
        wait_until("an application listens", || {
            let end = application.process.lock().unwrap().try_wait();
            assert_eq!(end.expect("a process"), None, "the application has ended");
            address.exists()
        })
        .await;
        application.address = fs::read_to_string(address).expect("an address");
        application
    }

    /// Waits until the process has died by itself, and says when that was seen.
    pub async fn death(&self) -> Instant {
        wait_until("a process dies", || {
            let end = self.process.lock().unwrap().try_wait();
            end.expect("a process").is_some()
        })
        .await;
        Instant::now()
    }

    /// As `kill -9` does.
    pub fn kill(&self) {
        let mut process = self.process.lock().unwrap();
        process.kill().expect("a process");
        process.wait().expect("a process");
    }

    /// SIGSTOP: from its own point of view, time jumps.
    pub fn freeze(&self) {
        signal("STOP", self.pid());
    }

    pub fn thaw(&self) {
        signal("CONT", self.pid());
    }

    pub fn pid(&self) -> u32 {
        self.process.lock().unwrap().id()
    }

    /// Waits until the handler of this key stands at its gate.
    pub async fn gate_reached(&self, key: &str) {
        let [reached, _] = gate(&self.gates, key, self.pid());
        wait_until("a handler reaches its gate", || reached.exists()).await;
    }

    /// Lets the handler of this key go on.
    pub fn open_gate(&self, key: &str) {
        let [_, open] = gate(&self.gates, key, self.pid());
        fs::write(open, "").expect("a gate");
    }
}

impl Drop for Application {
    fn drop(&mut self) {
        let mut process = self.process.lock().unwrap();
        let _ = process.kill();
        let _ = process.wait();
        if std::thread::panicking() {
            eprintln!("--- an application's log ---\n{}", tail(&self.log));
        }
    }
}

/// Waits for an event.
pub async fn wait_until(what: &str, mut happened: impl FnMut() -> bool) {
    let started = Instant::now();
    while !happened() {
        assert!(started.elapsed() < BOUND, "waited too long until {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

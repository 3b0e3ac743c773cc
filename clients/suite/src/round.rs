//! One client, from its first intent to its last: the server, the network, the lives of the client, and what came of it.

use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use tokio::net::UnixStream;
use tokio::process::{Child, Command};
use tokio::sync::mpsc;

use crate::options::Run;
use crate::plan::Client;
use crate::proxy::{Kill, Kills, Proxy};
use crate::verdict::{self, Verdict};
use crate::{Result, complain};

/// The scripts in JavaScript.
const SCRIPTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/js");

/// How many intents a client pays at the same time.
const CONCURRENCY: usize = 64;

/// A round that lasts longer hangs.
const LONGEST: Duration = Duration::from_secs(900);

/// A server that is started accepts connections after this time, even on a busy machine.
const STARTING: Duration = Duration::from_secs(30);

pub(crate) struct Round<'a> {
    options: &'a Run,
    client: Client,
    intents: usize,
    folder: PathBuf,
}

impl<'a> Round<'a> {
    pub(crate) fn new(options: &'a Run, client: Client) -> Self {
        let is_page = client == Client::Page;
        Self {
            options,
            client,
            intents: if is_page {
                options.pages
            } else {
                options.intents
            },
            folder: options.folder.join(client.name()),
        }
    }

    pub(crate) async fn run(&self) -> Result<Verdict> {
        let begun = Instant::now();
        std::fs::create_dir_all(&self.folder)?;
        // The page is reloaded instead of killed.
        let client_kills = if self.client == Client::Page {
            0
        } else {
            self.kills()
        };
        let kills = Kills::new(
            self.options.seed,
            self.intents * 3 / 2,
            self.kills(),
            client_kills,
        );
        let (killer, mut due) = mpsc::unbounded_channel();
        let mut server = self.start_server().await?;
        let proxy = Proxy::start(self.options.seed, self.socket(), kills, killer).await?;
        let (mut server_kills, mut lives) = (0, 1);
        let mut client = self.start_client(proxy.port, 0)?;
        let deadline = tokio::time::sleep(LONGEST);
        tokio::pin!(deadline);
        loop {
            tokio::select! {
                kill = due.recv() => match kill {
                    Some(Kill::Server) => {
                        server.kill().await?;
                        server = self.start_server().await?;
                        server_kills += 1;
                    }
                    Some(Kill::Client) => {
                        client.kill().await?;
                        client = self.start_client(proxy.port, lives)?;
                        lives += 1;
                    }
                    None => return Err("the network has ended".into()),
                },
                status = client.wait() => {
                    self.check(status?)?;
                    break;
                }
                status = server.wait() => return Err(format!("the server has ended: {}", status?).into()),
                () = &mut deadline => return Err("the client does not end".into()),
            }
        }
        let took = begun.elapsed();
        proxy.drain().await;
        server.kill().await?;
        let mut verdict = verdict::of(self.client, self.intents, &self.folder, proxy.arrivals())?;
        verdict.took = took;
        (verdict.server_kills, verdict.client_kills) = (server_kills, lives - 1);
        Ok(verdict)
    }

    /// Of the server, and of the client.
    fn kills(&self) -> usize {
        (self.intents / 500).clamp(2, 20)
    }

    fn check(&self, status: ExitStatus) -> Result<()> {
        if status.success() {
            return Ok(());
        }
        Err(format!("{} has failed: {status}", self.client.name()).into())
    }

    fn socket(&self) -> PathBuf {
        self.folder.join("server.sock")
    }

    async fn start_server(&self) -> Result<Child> {
        let mut server = Command::new(std::env::current_exe()?);
        server.args(["serve", "--folder"]).arg(&self.folder);
        let server = spawn(server, &self.folder, "server.log")?;
        let deadline = Instant::now() + STARTING;
        while UnixStream::connect(self.socket()).await.is_err() {
            if Instant::now() > deadline {
                return Err("the server does not start".into());
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(server)
    }

    fn start_client(&self, port: u16, life: usize) -> Result<Child> {
        let mut client = self.program()?;
        client
            .args(["--client", self.client.name()])
            .args(["--url", &format!("http://127.0.0.1:{port}/payments")])
            .args(["--intents", &self.intents.to_string()])
            .args(["--concurrency", &CONCURRENCY.to_string()])
            .args(["--life", &life.to_string()])
            .arg("--journal")
            .arg(self.folder.join("journal.jsonl"));
        spawn(client, &self.folder, "client.log").inspect_err(|error| complain(&error.to_string()))
    }

    fn program(&self) -> Result<Command> {
        if self.client.is_rust() {
            let mut program = Command::new(std::env::current_exe()?);
            program.arg("pay");
            return Ok(program);
        }
        let node = self.options.node.as_ref().ok_or("there is no node")?;
        let mut program = Command::new(node);
        let script = if self.client == Client::Page {
            "page.js"
        } else {
            "till.js"
        };
        program.arg(Path::new(SCRIPTS).join(script));
        if let Some(chromium) = &self.options.chromium {
            program.env("SUITE_CHROMIUM", chromium);
        }
        Ok(program)
    }
}

/// Starts a process that does not outlive this one. What it says goes to a file.
fn spawn(mut command: Command, folder: &Path, log: &str) -> Result<Child> {
    let log = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(folder.join(log))?;
    command
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .kill_on_drop(true);
    Ok(command.spawn()?)
}

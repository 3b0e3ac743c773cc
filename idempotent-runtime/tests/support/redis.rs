//! Redis servers for tests: the shared one, and servers of a test's own.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use idempotent_runtime::store::redis::RedisStore;
use idempotent_runtime::{Fingerprint, Owner, RecordKey, StoredResponse, Token};

use crate::free_port::free_port;

/// Says why a test did nothing, unless nothing may be left out.
fn skip<T>(why: &str) -> Option<T> {
    assert!(
        std::env::var("CI").as_deref() != Ok("true"),
        "no test may be skipped here, but {why}"
    );
    println!("skipped: {why}");
    None
}

/// The URL of the server that tests share, if it is there.
pub(crate) async fn shared_url() -> Option<String> {
    const NAME: &str = "IDEMPOTENT_TEST_REDIS_URL";
    if let Ok(url) = std::env::var(NAME) {
        return Some(url);
    }
    let url = "redis://127.0.0.1:6379";
    match RedisStore::connect(url).await {
        Ok(_) => Some(url.to_owned()),
        Err(_) => skip(&format!("{NAME} is not set and there is no Redis at {url}")),
    }
}

/// A store on the shared server, with a prefix of its own. The kit removes what it writes, the other
/// tests have short-lived records.
pub(crate) async fn shared_store() -> Option<RedisStore> {
    let url = shared_url().await?;
    Some(store_at(&url).await)
}

pub(crate) async fn store_at(url: &str) -> RedisStore {
    let store = RedisStore::connect(url).await.expect("the server is there");
    store.with_prefix(&prefix()).expect("the prefix is good")
}

/// A prefix that no other store has.
pub(crate) fn prefix() -> String {
    let random = u64::from_be_bytes(random());
    format!("idempotent-test-{random:016x}:")
}

/// A server that belongs to one test. It listens on a socket in its own directory, so that no two
/// can meet on a port, and is gone with it.
pub(crate) struct Server {
    process: Child,
    directory: PathBuf,
    settings: Vec<String>,
}

impl Server {
    /// Starts one, unless the program is not installed. It keeps nothing on disk but for `settings`.
    pub(crate) async fn start(settings: &[&str]) -> Option<Self> {
        let name = format!("idempotent-{:016x}", u64::from_be_bytes(random()));
        let directory = std::env::temp_dir().join(name);
        std::fs::create_dir(&directory).expect("a directory of our own");
        let settings: Vec<_> = settings
            .iter()
            .map(|setting| (*setting).to_owned())
            .collect();
        let Some(process) = spawn(&directory, &settings) else {
            let _ = std::fs::remove_dir(&directory);
            return skip("there is no program `redis-server`");
        };
        let mut server = Self {
            process,
            directory,
            settings,
        };
        server.wait().await;
        Some(server)
    }

    /// Starts one that listens on a port too.
    pub(crate) async fn start_on_port(settings: &[&str]) -> Option<(Self, u16)> {
        let port = free_port();
        let named = port.to_string();
        let address = ["--bind", "127.0.0.1", "--port", &named];
        let server = Self::start(&[&address, settings].concat()).await?;
        Some((server, port))
    }

    /// What the server says to one command.
    pub(crate) async fn ask<T: redis::FromRedisValue>(&self, command: &str) -> T {
        let mut parts = command.split(' ');
        let mut command = redis::cmd(parts.next().expect("a command"));
        parts.for_each(|part| {
            command.arg(part);
        });
        // A server that becomes a replica closes the connections of its clients, and those that are only being made.
        for _ in 0..10 {
            let reply = match self.client().get_multiplexed_async_connection().await {
                Ok(mut connection) => command.query_async(&mut connection).await,
                Err(error) => Err(error),
            };
            match reply {
                Err(error) if error.is_io_error() => {}
                reply => return reply.expect("the server does it"),
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("the server closes each connection");
    }

    /// SIGSTOP: it neither replies nor closes anything.
    pub(crate) fn stop(&self) {
        self.signal("STOP");
    }

    /// SIGCONT: it goes on with what it was sent.
    pub(crate) fn go_on(&self) {
        self.signal("CONT");
    }

    fn signal(&self, name: &str) {
        let mut kill = Command::new("kill");
        kill.arg(format!("-{name}"))
            .arg(self.process.id().to_string());
        let sent = kill.status().expect("the program `kill`");
        assert!(sent.success(), "no signal");
    }

    pub(crate) fn url(&self) -> String {
        format!("redis+unix://{}", self.socket().display())
    }

    pub(crate) fn client(&self) -> redis::Client {
        redis::Client::open(self.url()).expect("the URL is good")
    }

    pub(crate) async fn connection(&self) -> redis::aio::MultiplexedConnection {
        let client = self.client();
        let connected = client.get_multiplexed_async_connection().await;
        connected.expect("the server is there")
    }

    /// Kills it, as a crash would.
    pub(crate) fn kill(&mut self) {
        self.process.kill().expect("it is ours");
        self.process.wait().expect("it was killed");
    }

    /// Starts it again, on the same directory.
    pub(crate) async fn restart(&mut self) {
        self.process = spawn(&self.directory, &self.settings).expect("it was there before");
        self.wait().await;
    }

    fn socket(&self) -> PathBuf {
        self.directory.join("socket")
    }

    /// Until it answers: it may have a file to load.
    async fn wait(&mut self) {
        let begin = Instant::now();
        loop {
            if let Ok(mut connection) = self.client().get_multiplexed_async_connection().await {
                let pong = redis::cmd("PING").exec_async(&mut connection).await;
                if pong.is_ok() {
                    return;
                }
            }
            let status = self.process.try_wait().expect("it is ours");
            assert!(status.is_none(), "redis-server has ended: {status:?}");
            assert!(
                begin.elapsed() < Duration::from_secs(30),
                "it never answers"
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

/// Sentinels with their own settings, each on its own port. They are gone with this.
pub(crate) struct Sentinel {
    process: Child,
    directory: PathBuf,
    pub(crate) port: u16,
}

impl Sentinel {
    /// Starts one that watches this server as `payments` and is a majority by itself; `None` where the
    /// program is not installed.
    pub(crate) fn start(watched: u16) -> Option<Self> {
        let name = format!("idempotent-{:016x}", u64::from_be_bytes(random()));
        let directory = std::env::temp_dir().join(name);
        std::fs::create_dir(&directory).expect("a directory of our own");
        let port = free_port();
        let settings = format!(
            "port {port}\nbind 127.0.0.1\ndir {}\n\
             sentinel monitor payments 127.0.0.1 {watched} 1\n\
             sentinel down-after-milliseconds payments 2000\n\
             sentinel failover-timeout payments 5000\n",
            directory.display()
        );
        let file = directory.join("sentinel.conf");
        std::fs::write(&file, settings).expect("a file of our own");
        let started = Command::new("redis-sentinel")
            .arg(&file)
            .stdout(Stdio::null())
            .spawn();
        let Ok(process) = started else {
            let _ = std::fs::remove_dir_all(&directory);
            return skip("there is no program `redis-sentinel`");
        };
        Some(Self {
            process,
            directory,
            port,
        })
    }

    /// What it says to one command, once it is there.
    pub(crate) async fn ask<T: redis::FromRedisValue>(&self, command: &str) -> Option<T> {
        let client = redis::Client::open(("127.0.0.1", self.port)).expect("an address");
        let mut connection = client.get_multiplexed_async_connection().await.ok()?;
        let mut asked = redis::cmd("SENTINEL");
        for part in command.split(' ') {
            asked.arg(part);
        }
        asked.query_async(&mut connection).await.ok()
    }
}

impl Drop for Sentinel {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

fn spawn(directory: &PathBuf, settings: &[String]) -> Option<Child> {
    Command::new("redis-server")
        .args(["--port", "0", "--save", "", "--appendonly", "no"])
        .arg("--dir")
        .arg(directory)
        .arg("--unixsocket")
        .arg(directory.join("socket"))
        .args(settings)
        .stdout(Stdio::null())
        .spawn()
        .ok()
}

/// What makes a URL log in as the user of [`with_user`].
pub(crate) const AS_USER: &str = "?user=weak&pass=weak";

/// The settings of a server that make a user with these rights.
pub(crate) fn with_user(rules: &str) -> Vec<&str> {
    let user = ["--user", "weak", "on", ">weak"];
    user.into_iter().chain(rules.split(' ')).collect()
}

pub(crate) fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    for chunk in bytes.chunks_mut(16) {
        let token = Token::random().expect("random bytes");
        chunk
            .iter_mut()
            .zip(token.as_bytes())
            .for_each(|(to, from)| *to = *from);
    }
    bytes
}

pub(crate) fn owner() -> Owner {
    Owner {
        key: RecordKey::from_bytes(random()),
        token: Token::from_bytes(random()),
    }
}

pub(crate) fn fingerprint() -> Fingerprint {
    Fingerprint::from_bytes([7; 32])
}

/// The bytes of a 201 with this body, as a store holds them.
pub(crate) fn response_bytes(body: &[u8]) -> Vec<u8> {
    let length = u8::try_from(body.len()).ok().filter(|length| *length < 24);
    // A map of two: 0 is the status, and 4 the body.
    let mut bytes = vec![1, 0xa2, 0, 0x18, 201, 4];
    bytes.push(0x40 + length.expect("a short body"));
    bytes.extend_from_slice(body);
    bytes
}

pub(crate) fn response(body: &[u8]) -> std::sync::Arc<StoredResponse> {
    StoredResponse::decode(&response_bytes(body))
        .expect("the bytes are good")
        .into()
}

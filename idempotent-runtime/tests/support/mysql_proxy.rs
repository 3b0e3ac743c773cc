//! A network between a store and its server: it counts what goes by, can go silent, and can keep a reply or put an error in its
//! place.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sqlx::mysql::MySqlConnectOptions;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// What a client says to run a text, to prepare, and to execute.
const QUERY: u8 = 0x03;
const PREPARE: u8 = 0x16;
const EXECUTE: u8 = 0x17;

/// A proxy for as long as it lives.
pub(crate) struct Proxy {
    port: u16,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    connections: AtomicUsize,
    queries: AtomicUsize,
    prepared: AtomicUsize,
    executed: AtomicUsize,
    /// Those that were made before are silent in both directions from then on: neither FIN nor RST.
    frozen_before: watch::Sender<usize>,
    /// The connection that sends this gets no reply from then on, or this error and is closed.
    replace_after: Mutex<Option<(&'static str, Instead)>>,
    has_been_replaced: AtomicBool,
    /// What contains this arrives so much later.
    delay: Mutex<Option<(&'static str, Duration)>>,
}

/// What a client gets instead of a reply.
#[derive(Clone, Copy, Debug)]
enum Instead {
    Silence,
    Error(u16),
}

/// The whole statement, from its command byte on: another can have the word in it.
pub(crate) const COMMIT: &str = "\u{3}COMMIT";

/// What was sent since the last time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sent {
    pub(crate) prepared: usize,
    pub(crate) executed: usize,
    pub(crate) queries: usize,
}

impl Proxy {
    /// In front of that server.
    pub(crate) async fn to(server: &MySqlConnectOptions) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::<State>::default();
        let upstream = (server.get_host().to_owned(), server.get_port());
        let shared = Arc::clone(&state);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let number = shared.connections.fetch_add(1, Ordering::SeqCst);
                let (state, upstream) = (Arc::clone(&shared), upstream.clone());
                tokio::spawn(async move {
                    let Ok(server) = TcpStream::connect(upstream).await else {
                        return;
                    };
                    relay(client, server, state, number).await;
                });
            }
        });
        Self { port, state }
    }

    /// How to connect through it.
    pub(crate) fn options(&self, server: &MySqlConnectOptions) -> MySqlConnectOptions {
        server.clone().host("127.0.0.1").port(self.port)
    }

    /// From now on the connections that there are say nothing and hear nothing. New ones work.
    pub(crate) fn freeze(&self) {
        let connections = self.connections();
        self.state.frozen_before.send_replace(connections);
    }

    /// How many connections were made so far.
    pub(crate) fn connections(&self) -> usize {
        self.state.connections.load(Ordering::SeqCst)
    }

    /// Keeps the reply to the next packet that contains this, and all that follow on its connection.
    pub(crate) fn keep_reply_to(&self, text: &'static str) {
        self.replace_reply_to(text, Instead::Silence);
    }

    /// Lets the server do what the next packet that contains this says, and answers with this error, as a server does that
    /// ends with it.
    pub(crate) fn fail_reply_to(&self, text: &'static str, number: u16) {
        self.replace_reply_to(text, Instead::Error(number));
    }

    fn replace_reply_to(&self, text: &'static str, instead: Instead) {
        self.state.has_been_replaced.store(false, Ordering::SeqCst);
        *self.state.replace_after.lock().unwrap() = Some((text, instead));
    }

    /// Lets the next packet that contains this arrive so much later.
    pub(crate) fn delay(&self, text: &'static str, by: Duration) {
        *self.state.delay.lock().unwrap() = Some((text, by));
    }

    /// Whether that packet has come.
    pub(crate) fn has_kept_a_reply(&self) -> bool {
        self.state.has_been_replaced.load(Ordering::SeqCst)
    }

    /// What was sent since the last call.
    pub(crate) fn take(&self) -> Sent {
        let take = |count: &AtomicUsize| count.swap(0, Ordering::SeqCst);
        Sent {
            prepared: take(&self.state.prepared),
            executed: take(&self.state.executed),
            queries: take(&self.state.queries),
        }
    }
}

impl State {
    /// What the reply is to be replaced by.
    fn see(&self, payload: &[u8]) -> Option<Instead> {
        let counter = match payload.first() {
            Some(&QUERY) => Some(&self.queries),
            Some(&PREPARE) => Some(&self.prepared),
            Some(&EXECUTE) => Some(&self.executed),
            _ => None,
        };
        if let Some(counter) = counter {
            counter.fetch_add(1, Ordering::SeqCst);
        }
        let mut replace_after = self.replace_after.lock().unwrap();
        let (_, instead) = replace_after.take_if(|(text, _)| contains(payload, text))?;
        self.has_been_replaced.store(true, Ordering::SeqCst);
        Some(instead)
    }
}

impl State {
    /// Takes the delay, if it is this packet's.
    fn delay_of(&self, payload: &[u8]) -> Option<Duration> {
        let mut delay = self.delay.lock().unwrap();
        let (_, by) = delay.take_if(|(text, _)| contains(payload, text))?;
        Some(by)
    }
}

fn contains(payload: &[u8], text: &str) -> bool {
    let text = text.as_bytes();
    payload.windows(text.len()).any(|window| window == text)
}

async fn relay(client: TcpStream, server: TcpStream, state: Arc<State>, number: usize) {
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let (replace, replaced) = watch::channel(None);
    let mut frozen = state.frozen_before.subscribe();
    let frozen = async move {
        let is_never = frozen.wait_for(|before| number < *before).await.is_err();
        if is_never {
            std::future::pending::<()>().await;
        }
    };
    let forth = forth(from_client, to_server, &state, &replace);
    let back = back(from_server, to_client, replaced);
    tokio::pin!(forth, back);
    tokio::select! {
        biased;
        // Both ends stay open, and nothing is read.
        () = frozen => std::future::pending().await,
        _ = &mut forth => {}
        _ = &mut back => {}
    }
}

/// Packet by packet.
async fn forth(
    mut client: OwnedReadHalf,
    mut server: OwnedWriteHalf,
    state: &State,
    replace: &watch::Sender<Option<Instead>>,
) -> std::io::Result<()> {
    loop {
        let mut header = [0; 4];
        client.read_exact(&mut header).await?;
        let [a, b, c, sequence] = header;
        let length = u32::from_le_bytes([a, b, c, 0]) as usize;
        let mut payload = vec![0; length];
        client.read_exact(&mut payload).await?;
        // The first packet of a command.
        if sequence == 0
            && let Some(instead) = state.see(&payload)
        {
            replace.send_replace(Some(instead));
        }
        if let Some(delay) = state.delay_of(&payload) {
            tokio::time::sleep(delay).await;
        }
        server.write_all(&header).await?;
        server.write_all(&payload).await?;
    }
}

async fn back(
    mut server: OwnedReadHalf,
    mut client: OwnedWriteHalf,
    replaced: watch::Receiver<Option<Instead>>,
) -> std::io::Result<()> {
    let mut replied = vec![0; 16 * 1024];
    loop {
        let count = server.read(&mut replied).await?;
        if count == 0 {
            return Ok(());
        }
        let instead = *replaced.borrow();
        match instead {
            None => client.write_all(&replied[..count]).await?,
            Some(Instead::Silence) => {}
            Some(Instead::Error(number)) => return client.write_all(&error(number)).await,
        }
    }
}

/// An error as the reply to a command.
fn error(number: u16) -> Vec<u8> {
    let said = b"#HY000said by a server that ends";
    let length = u8::try_from(3 + said.len()).unwrap();
    let [low, high] = number.to_le_bytes();
    [&[length, 0, 0, 1, 0xff, low, high], &said[..]].concat()
}

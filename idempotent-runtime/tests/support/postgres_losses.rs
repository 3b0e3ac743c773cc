//! A proxy that loses one reply, or keeps one question until it is told to let it arrive.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use sqlx::postgres::{PgConnectOptions, PgSslMode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};

/// What the server says when it is done with a request, outside of a transaction.
const READY: &[u8] = b"Z\0\0\0\x05I";

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Loss {
    /// The connection breaks when the server has replied.
    Reply,
    /// The same, and from then on there is no server.
    ReplyAndServer,
    /// The connection breaks, and the question arrives later.
    Question,
}

/// A proxy for as long as its test runs.
pub(crate) struct Losses {
    pub(crate) options: PgConnectOptions,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    next: Mutex<Option<(&'static str, Loss)>>,
    has_gone: watch::Sender<bool>,
    may_arrive: Notify,
    has_arrived: Notify,
}

impl Losses {
    pub(crate) async fn before(server: &PgConnectOptions) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let upstream = (server.get_host().to_owned(), server.get_port());
        let state = Arc::<State>::default();
        let shared = Arc::clone(&state);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let mut has_gone = shared.has_gone.subscribe();
                if *has_gone.borrow() {
                    continue;
                }
                let server = TcpStream::connect(upstream.clone()).await.unwrap();
                let state = Arc::clone(&shared);
                tokio::spawn(async move {
                    tokio::select! {
                        _ = relay(client, server, &state) => {}
                        _ = has_gone.wait_for(|has_gone| *has_gone) => {}
                    }
                });
            }
        });
        let options = server.clone().host("127.0.0.1").port(port);
        Self {
            options: options.ssl_mode(PgSslMode::Disable),
            state,
        }
    }

    /// The next statement whose text contains this has such a loss.
    pub(crate) fn of_next(&self, text: &'static str, loss: Loss) {
        *self.state.next.lock().unwrap() = Some((text, loss));
    }

    /// Whether there was such a statement.
    pub(crate) fn has_lost(&self) -> bool {
        self.state.next.lock().unwrap().is_none()
    }

    /// Returns when the server is done with the question that was lost.
    pub(crate) async fn let_question_arrive(&self) {
        self.state.may_arrive.notify_one();
        self.state.has_arrived.notified().await;
    }
}

impl State {
    fn loss_of(&self, statement: &str) -> Option<Loss> {
        let mut next = self.next.lock().unwrap();
        let (_, loss) = next.take_if(|(text, _)| statement.contains(*text))?;
        Some(loss)
    }
}

/// Forwards request by request; the start-up message has no type, all others one byte of it.
async fn relay(client: TcpStream, server: TcpStream, state: &Arc<State>) -> std::io::Result<()> {
    let (mut client, to_client) = client.into_split();
    let (from_server, mut server) = server.into_split();
    let stop = Arc::new(Notify::new());
    let back = tokio::spawn(back(from_server, to_client, Arc::clone(&stop)));
    let mut request = Vec::new();
    read_rest(&mut client, &mut request).await?;
    server.write_all(&request).await?;
    request.clear();
    let (mut prepared, mut loss) = (HashMap::new(), None);
    loop {
        let kind = client.read_u8().await?;
        let begin = request.len();
        request.push(kind);
        read_rest(&mut client, &mut request).await?;
        let mut names = request[begin + 5..].split(|byte| *byte == 0);
        match kind {
            b'P' => {
                let name = names.next().unwrap().to_vec();
                let text = String::from_utf8(names.next().unwrap().to_vec());
                prepared.insert(name, text.unwrap());
                continue;
            }
            b'B' => {
                let statement = prepared.get(names.nth(1).unwrap());
                loss = loss.or(statement.and_then(|text| state.loss_of(text)));
                continue;
            }
            b'D' | b'E' | b'C' => continue,
            _ => {}
        }
        let Some(loss) = loss else {
            server.write_all(&request).await?;
            request.clear();
            continue;
        };
        stop.notify_one();
        let (from_server, to_client) = back.await??;
        if loss == Loss::Question {
            drop((client, to_client));
            state.may_arrive.notified().await;
            send(&request, server, from_server).await?;
            state.has_arrived.notify_one();
            return Ok(());
        }
        send(&request, server, from_server).await?;
        if loss == Loss::ReplyAndServer {
            state.has_gone.send_replace(true);
        }
        return Ok(());
    }
}

/// A message behind its type.
async fn read_rest(from: &mut OwnedReadHalf, into: &mut Vec<u8>) -> std::io::Result<()> {
    let length = from.read_u32().await?;
    into.extend(length.to_be_bytes());
    let begin = into.len();
    into.resize(begin + length as usize - 4, 0);
    from.read_exact(&mut into[begin..]).await.map(|_| ())
}

/// Forwards replies until it is stopped.
async fn back(
    mut server: OwnedReadHalf,
    mut client: OwnedWriteHalf,
    stop: Arc<Notify>,
) -> std::io::Result<(OwnedReadHalf, OwnedWriteHalf)> {
    let mut bytes = vec![0; 16 * 1024];
    loop {
        let count = tokio::select! {
            count = server.read(&mut bytes) => count?,
            () = stop.notified() => return Ok((server, client)),
        };
        if count == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        client.write_all(&bytes[..count]).await?;
    }
}

/// Until the server is done with it.
async fn send(
    request: &[u8],
    mut to: OwnedWriteHalf,
    mut from: OwnedReadHalf,
) -> std::io::Result<()> {
    to.write_all(request).await?;
    let mut reply = Vec::new();
    while !reply.ends_with(READY) {
        if from.read_buf(&mut reply).await? == 0 {
            break;
        }
    }
    Ok(())
}

//! The network between a client and the server. It fails as the [plan](crate::plan) says, and it sees every try.

use std::io;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::task::TaskTracker;

use crate::arrivals::{Arrival, Arrivals};
use crate::plan::{Chance, Fault};
use crate::server::HOLD;
use crate::till::{LIFE, TIMEOUT};
use message::{Message, Wire};

mod gateway;
mod kills;
mod message;

pub(crate) use gateway::BUSY_UNTIL_SECS;
pub(crate) use kills::{Kill, Kills};

/// Longer than any client waits for an answer.
const HELD: Duration = Duration::from_secs(TIMEOUT.as_secs() * 3);

/// From a try that is to be the last of its process to the kill: the handler has begun, and has not ended.
const BEFORE_KILL: Duration = Duration::from_millis(60);

/// A network that runs.
#[derive(Debug)]
pub(crate) struct Proxy {
    pub(crate) port: u16,
    network: Arc<Network>,
    accepting: JoinHandle<()>,
}

#[derive(Debug)]
struct Network {
    seed: u64,
    /// The socket of the server.
    server: PathBuf,
    arrivals: Arrivals,
    kills: Kills,
    killer: mpsc::UnboundedSender<Kill>,
    /// Requests that are delivered although no client waits for them any more.
    late: TaskTracker,
}

impl Proxy {
    pub(crate) async fn start(
        seed: u64,
        server: PathBuf,
        kills: Kills,
        killer: mpsc::UnboundedSender<Kill>,
    ) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let port = listener.local_addr()?.port();
        let network = Arc::new(Network {
            seed,
            server,
            arrivals: Arrivals::default(),
            kills,
            killer,
            late: TaskTracker::new(),
        });
        let shared = Arc::clone(&network);
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let line = Line::new(Arc::clone(&shared), client);
                // A connection that ends with an error is one more fault.
                tokio::spawn(async move { line.serve().await.is_ok() });
            }
        });
        Ok(Self {
            port,
            network,
            accepting,
        })
    }

    pub(crate) fn arrivals(&self) -> &Arrivals {
        &self.network.arrivals
    }

    /// Returns when nothing is under way any more: what arrives late has arrived.
    pub(crate) async fn drain(&self) {
        self.accepting.abort();
        self.network.late.close();
        self.network.late.wait().await;
    }
}

/// A client's connection, and the one to the server that belongs to it.
struct Line {
    network: Arc<Network>,
    client: Wire<TcpStream>,
    server: Option<Wire<UnixStream>>,
}

/// What becomes of a connection.
enum Next {
    Open,
    Close,
    Reset,
}

/// Without a reply there is nothing to be answered: the client sees a connection that is closed.
type Reply = Option<Message>;

impl Line {
    fn new(network: Arc<Network>, client: TcpStream) -> Self {
        Self {
            network,
            client: Wire::new(client),
            server: None,
        }
    }

    async fn serve(mut self) -> io::Result<()> {
        while let Some(request) = self.client.read().await? {
            if request.header("access-control-request-headers").is_some() {
                self.network.arrivals.note_preflight();
            }
            let next = match arrival_of(&request) {
                Some(arrival) => self.transmit(request, &arrival).await?,
                // A browser asks first.
                None => match self.exchange(&request).await {
                    Some(reply) => self
                        .client
                        .write(&reply.bytes())
                        .await
                        .map(|()| Next::Open)?,
                    None => Next::Close,
                },
            };
            match next {
                Next::Open => {}
                Next::Close => break,
                Next::Reset => return self.client.stream.set_zero_linger(),
            }
        }
        Ok(())
    }

    async fn transmit(&mut self, request: Message, arrival: &Arrival) -> io::Result<Next> {
        let begun = Instant::now();
        let network = Arc::clone(&self.network);
        let number = network.arrivals.note(arrival);
        if let Some((kill, hold)) = network.kills.due(network.arrivals.tries()) {
            network.kill_soon(kill);
            let reply = self.exchange(&request.with_header(HOLD, hold)).await;
            return self.answer(arrival, begun, reply).await;
        }
        let Some(fault) = Fault::of(network.seed, &arrival.intent, number) else {
            let reply = self.exchange(&request).await;
            return self.answer(arrival, begun, reply).await;
        };
        network.arrivals.note_fault(fault);
        let mut chance = Chance::new(!network.seed, &arrival.intent, number);
        let later = Duration::from_millis(20 + chance.below(1500));
        match fault {
            Fault::Refused => Ok(Next::Close),
            Fault::RequestCut => {
                // The connection to the server is closed with this line.
                if let Some(server) = self.connect().await {
                    server.write(&request.half()).await?;
                }
                Ok(Next::Reset)
            }
            Fault::ReplyLost => {
                self.exchange(&request).await;
                Ok(Next::Close)
            }
            Fault::ReplyCut => match self.exchange(&request).await {
                Some(reply) => self.cut(&reply).await,
                None => Ok(Next::Close),
            },
            Fault::ReplyLate => {
                self.exchange(&request).await;
                let _ = tokio::time::timeout(HELD, self.client.closed()).await;
                Ok(Next::Close)
            }
            Fault::RequestLate => {
                network.deliver(request, later);
                Ok(Next::Close)
            }
            Fault::Duplicated => {
                let reply = self.exchange(&request).await;
                network.deliver(request, later);
                self.answer(arrival, begun, reply).await
            }
            Fault::Twice => {
                network.deliver(
                    request.clone().with_header(HOLD, "after=150"),
                    Duration::ZERO,
                );
                tokio::time::sleep(Duration::from_millis(30)).await;
                let reply = self.exchange(&request).await;
                self.answer(arrival, begun, reply).await
            }
            Fault::Conflict => self.answer(arrival, begun, Some(gateway::conflict())).await,
            Fault::Busy => self.answer(arrival, begun, Some(gateway::busy())).await,
            Fault::BusyUntil => {
                self.answer(arrival, begun, Some(gateway::busy_until()))
                    .await
            }
            Fault::BusyAfter => {
                self.exchange(&request).await;
                self.answer(arrival, begun, Some(gateway::busy())).await
            }
            Fault::BadGateway => {
                self.exchange(&request).await;
                self.answer(arrival, begun, Some(gateway::bad_gateway()))
                    .await
            }
        }
    }

    /// Passes the reply on. What it asks the client to wait is noted, unless the client may have given up by now.
    async fn answer(
        &mut self,
        arrival: &Arrival,
        begun: Instant,
        reply: Reply,
    ) -> io::Result<Next> {
        let Some(reply) = reply else {
            return Ok(Next::Close);
        };
        if let Some(retry_after) = gateway::retry_after(&reply)
            && begun.elapsed() < TIMEOUT / 2
        {
            self.network.arrivals.note_answer(arrival, retry_after);
        }
        self.client.write(&reply.bytes()).await?;
        Ok(Next::Open)
    }

    /// Half of the body arrives, and the connection is reset.
    async fn cut(&mut self, reply: &Message) -> io::Result<Next> {
        self.client.write(&reply.half()).await?;
        // A reset can overtake what was written.
        tokio::time::sleep(Duration::from_millis(5)).await;
        Ok(Next::Reset)
    }

    /// Sends the request to the server. `None` if it gives no whole reply, as when it is killed.
    async fn exchange(&mut self, request: &Message) -> Reply {
        let server = self.connect().await?;
        let reply = exchange(server, request).await;
        if reply.is_none() {
            self.server = None;
        }
        reply
    }

    async fn connect(&mut self) -> Option<&mut Wire<UnixStream>> {
        if self.server.is_none() {
            let stream = UnixStream::connect(&self.network.server).await.ok()?;
            self.server = Some(Wire::new(stream));
        }
        self.server.as_mut()
    }
}

impl Network {
    /// Delivers a request for which no client waits any more.
    fn deliver(&self, request: Message, later: Duration) {
        let server = self.server.clone();
        self.late.spawn(async move {
            tokio::time::sleep(later).await;
            let stream = UnixStream::connect(server).await.ok()?;
            exchange(&mut Wire::new(stream), &request).await
        });
    }

    fn kill_soon(&self, kill: Kill) {
        let killer = self.killer.clone();
        self.late.spawn(async move {
            tokio::time::sleep(BEFORE_KILL).await;
            let _ = killer.send(kill);
        });
    }
}

async fn exchange(server: &mut Wire<UnixStream>, request: &Message) -> Reply {
    server.write(&request.bytes()).await.ok()?;
    server.read().await.ok().flatten()
}

/// `None` for a request that is not a payment.
fn arrival_of(request: &Message) -> Option<Arrival> {
    let payment: serde_json::Value = serde_json::from_slice(request.body()).ok()?;
    let key = request.header("idempotency-key").unwrap_or_default();
    Some(Arrival {
        intent: payment.get("intent")?.as_str()?.to_owned(),
        key: key.trim_matches('"').to_owned(),
        life: request.header(LIFE).unwrap_or_default().to_owned(),
    })
}

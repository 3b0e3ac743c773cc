//! A network between application and store that fails at chosen moments.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::workspace::signal;

/// What the network does to one exchange of request and reply.
#[derive(Clone, Copy, Debug)]
pub enum Fault {
    /// The request arrives late.
    Delay(Duration),
    /// The request does not arrive: the connection is closed.
    Close,
    /// The request may arrive; the connection is reset.
    Reset,
    /// This many bytes of the request arrive, and the connection is closed.
    CutRequest(usize),
    /// The request is carried out, nothing of the reply arrives, and the connection is closed.
    LoseReply,
    /// This many bytes of the reply arrive, and the connection is closed.
    CutReply(usize),
    /// The client, which is this process, is killed: the request does not arrive.
    KillBefore(u32),
    /// The client is killed: the request is carried out.
    KillAfter(u32),
}

/// Which exchange it is done to.
#[derive(Clone, Debug)]
pub enum Target {
    /// The next one with at least this many bytes of request: a ping has fewer than a claim.
    NextOf(usize),
    /// The next one whose request contains this, as a completion contains its response.
    Containing(String),
    /// The next `COMMIT`: not the `READ COMMITTED` of a connection that is new.
    Commit,
}

pub struct Proxy {
    pub port: u16,
    plan: Arc<Mutex<Plan>>,
    accepting: JoinHandle<()>,
}

#[derive(Default)]
struct Plan {
    single: Option<(Target, Fault)>,
    /// A fault for every so manyth exchange, in turn.
    regular: Option<(usize, Vec<Fault>)>,
    exchanges: usize,
    struck: usize,
}

impl Proxy {
    /// In front of a server on this machine.
    pub async fn start(server: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        let plan = Arc::<Mutex<Plan>>::default();
        let shared = Arc::clone(&plan);
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(relay(client, server, Arc::clone(&shared)));
            }
        });
        Self {
            port,
            plan,
            accepting,
        }
    }

    /// One fault, at the next exchange that is meant.
    pub fn strike(&self, target: Target, fault: Fault) {
        self.plan.lock().unwrap().single = Some((target, fault));
    }

    /// A fault at every `nth` exchange, until [`heal`](Self::heal).
    pub fn strike_regularly(&self, nth: usize, faults: &[Fault]) {
        self.plan.lock().unwrap().regular = Some((nth, faults.to_vec()));
    }

    pub fn heal(&self) {
        let mut plan = self.plan.lock().unwrap();
        (plan.single, plan.regular) = (None, None);
    }

    /// How many exchanges were struck.
    pub fn struck(&self) -> usize {
        self.plan.lock().unwrap().struck
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Plan {
    fn fault_for(&mut self, request: &[u8], is_new: bool) -> Option<Fault> {
        let is_meant = match &self.single {
            Some((Target::NextOf(least), _)) => request.len() >= *least,
            Some((Target::Containing(text), _)) => contains(request, text.as_bytes()),
            Some((Target::Commit, _)) => is_commit(request),
            None => false,
        };
        self.exchanges += usize::from(is_new);
        let fault = match &self.regular {
            _ if is_meant => self.single.take().map(|(_, fault)| fault),
            Some((nth, faults)) if is_new && self.exchanges.is_multiple_of(*nth) => {
                Some(faults[self.exchanges / nth % faults.len()])
            }
            _ => None,
        };
        self.struck += usize::from(fault.is_some());
        fault
    }
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

/// Whether it has this statement: at its end, or, with PostgreSQL's zero, in front of what is sent together with it.
fn is_commit(request: &[u8]) -> bool {
    request.ends_with(b"COMMIT") || contains(request, b"COMMIT\0")
}

async fn relay(mut client: TcpStream, server: u16, plan: Arc<Mutex<Plan>>) {
    let Ok(mut server) = TcpStream::connect(SocketAddr::from(([127, 0, 0, 1], server))).await
    else {
        return;
    };
    let (mut asked, mut replied) = ([0; 16 * 1024], [0; 16 * 1024]);
    // What the client has sent since the server last spoke.
    let mut request = Vec::new();
    loop {
        tokio::select! {
            read = client.read(&mut asked) => {
                let Some(chunk) = some(&asked, read) else { return };
                let is_new = request.is_empty();
                request.extend_from_slice(chunk);
                let fault = plan.lock().unwrap().fault_for(&request, is_new);
                if let Some(fault) = fault
                    && break_exchange(fault, &mut client, &mut server, chunk).await.is_none()
                {
                    return;
                }
                if fault.is_none() && server.write_all(chunk).await.is_err() {
                    return;
                }
            }
            read = server.read(&mut replied) => {
                let Some(chunk) = some(&replied, read) else { return };
                request.clear();
                if client.write_all(chunk).await.is_err() {
                    return;
                }
            }
        }
    }
}

fn some(buffer: &[u8], read: std::io::Result<usize>) -> Option<&[u8]> {
    let count = read.ok().filter(|count| *count > 0)?;
    Some(&buffer[..count])
}

/// `None` when the connection is to end.
async fn break_exchange(
    fault: Fault,
    client: &mut TcpStream,
    server: &mut TcpStream,
    request: &[u8],
) -> Option<()> {
    match fault {
        Fault::Delay(delay) => {
            tokio::time::sleep(delay).await;
            return server.write_all(request).await.ok();
        }
        Fault::Close => {}
        Fault::KillBefore(pid) => signal("KILL", pid),
        Fault::Reset => {
            server.write_all(request).await.ok()?;
            client.set_zero_linger().ok()?;
        }
        Fault::CutRequest(count) => {
            let count = count.min(request.len());
            server.write_all(&request[..count]).await.ok()?;
        }
        Fault::LoseReply | Fault::CutReply(_) | Fault::KillAfter(_) => {
            server.write_all(request).await.ok()?;
            let mut reply = [0; 16 * 1024];
            let count = server.read(&mut reply).await.ok()?;
            match fault {
                Fault::CutReply(most) => {
                    client.write_all(&reply[..count.min(most)]).await.ok()?;
                }
                Fault::KillAfter(pid) => signal("KILL", pid),
                _ => {}
            }
        }
    }
    None
}

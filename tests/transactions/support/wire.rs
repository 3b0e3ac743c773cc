//! The network between an application and its database: it can be cut, it can keep replies, and it counts.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::timeout;

pub struct Wire {
    pub port: u16,
    is_cut: watch::Sender<bool>,
    seen: Arc<Seen>,
}

/// What went by, and what is to be done about it.
#[derive(Default)]
struct Seen {
    exchanges: AtomicUsize,
    /// A connection keeps its replies from this many messages behind one that contains that.
    to_keep: Mutex<Option<(String, usize)>>,
    /// Counts what was asked for: a connection that has not come so far then forgets it.
    turn: AtomicUsize,
    is_keeping: AtomicBool,
    /// What a server of PostgreSQL says when it is done with a statement, and what a client is told instead.
    to_replace: Mutex<Option<(&'static [u8], Vec<u8>)>>,
}

impl Wire {
    /// To a server on this machine.
    pub async fn to(server: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        let (is_cut, cut) = watch::channel(false);
        let breaks = is_cut.clone();
        let seen = Arc::<Seen>::default();
        let counted = Arc::clone(&seen);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (counted, mut cut) = (Arc::clone(&counted), cut.clone());
                let breaks = breaks.clone();
                tokio::spawn(async move {
                    tokio::select! {
                        biased;
                        _ = cut.wait_for(|is_cut| *is_cut) => {}
                        _ = relay(client, server, &counted, &breaks) => {}
                    }
                });
            }
        });
        Self { port, is_cut, seen }
    }

    /// The connection on which this is asked next gets no more replies, from `behind` messages later. What it asks is
    /// executed.
    pub fn keep_replies(&self, asked: &str, behind: usize) {
        self.let_go();
        *self.seen.to_keep.lock().unwrap() = Some((asked.to_owned(), behind));
    }

    /// Says whether that has happened. From here on it does not.
    pub fn let_go(&self) -> bool {
        self.seen.turn.fetch_add(1, Ordering::SeqCst);
        *self.seen.to_keep.lock().unwrap() = None;
        self.seen.is_keeping.swap(false, Ordering::SeqCst)
    }

    /// What a server of PostgreSQL does that cannot write its log: the next client that commits is told so, whatever has become of
    /// that, and then there is no server until the wire is mended.
    pub fn panic_at_commit(&self, code: &str) {
        let said = format!("SPANIC\0VPANIC\0C{code}\0Mcould not write the log\0\0");
        let length = u32::try_from(4 + said.len()).expect("a short message");
        let panic = [b"E", &length.to_be_bytes()[..], said.as_bytes()].concat();
        let committed = b"C\0\0\0\x0bCOMMIT\0";
        *self.seen.to_replace.lock().unwrap() = Some((committed, panic));
    }

    /// Ends all connections, and takes no new ones until it is mended. Nothing that is sent after this comes through.
    pub async fn cut(&self) {
        self.is_cut.send_replace(true);
        let ended = async {
            // The one left is the listener's.
            while self.is_cut.receiver_count() > 1 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        timeout(Duration::from_secs(10), ended)
            .await
            .expect("connections that end");
    }

    pub fn mend(&self) {
        self.is_cut.send_replace(false);
    }

    /// How often a client has asked and waited for the reply since the last call: round trips.
    pub fn take_exchanges(&self) -> usize {
        self.seen.exchanges.swap(0, Ordering::SeqCst)
    }
}

impl Seen {
    /// The reply with the error in it, if it is the one that is to be replaced.
    fn replaced(&self, reply: &[u8]) -> Option<Vec<u8>> {
        let mut to_replace = self.to_replace.lock().unwrap();
        let (done, instead) = to_replace.as_ref()?;
        let place = reply.windows(done.len()).position(|it| it == *done)?;
        let replaced = [&reply[..place], instead].concat();
        *to_replace = None;
        Some(replaced)
    }

    /// Whether the replies of this connection are kept from here on, to which this much is left.
    fn is_kept(&self, request: &[u8], left: &mut Option<(usize, usize)>) -> bool {
        let turn = self.turn.load(Ordering::SeqCst);
        let Some((_, count)) = left.as_mut().filter(|(of, _)| *of == turn) else {
            let mut to_keep = self.to_keep.lock().unwrap();
            let is_asked = |(asked, _): &mut (String, usize)| {
                request
                    .windows(asked.len())
                    .any(|it| it == asked.as_bytes())
            };
            *left = to_keep.take_if(is_asked).map(|(_, behind)| (turn, behind));
            return false;
        };
        *count = count.saturating_sub(1);
        let is_kept = *count == 0;
        self.is_keeping.fetch_or(is_kept, Ordering::SeqCst);
        is_kept
    }
}

async fn relay(
    mut client: TcpStream,
    server: u16,
    seen: &Seen,
    breaks: &watch::Sender<bool>,
) -> Option<()> {
    let mut server = TcpStream::connect(("127.0.0.1", server)).await.ok()?;
    let (mut asked, mut replied) = ([0; 16 * 1024], [0; 16 * 1024]);
    let mut is_asking = false;
    let (mut left, mut is_kept) = (None, false);
    loop {
        tokio::select! {
            read = client.read(&mut asked) => {
                let request = some(&asked, read)?;
                if !is_asking {
                    seen.exchanges.fetch_add(1, Ordering::SeqCst);
                }
                is_asking = true;
                is_kept |= seen.is_kept(request, &mut left);
                server.write_all(request).await.ok()?;
            }
            read = server.read(&mut replied) => {
                let reply = some(&replied, read)?;
                is_asking = false;
                if let Some(replaced) = seen.replaced(reply) {
                    client.write_all(&replaced).await.ok()?;
                    breaks.send_replace(true);
                    return None;
                }
                if !is_kept {
                    client.write_all(reply).await.ok()?;
                }
            }
        }
    }
}

fn some(buffer: &[u8], read: std::io::Result<usize>) -> Option<&[u8]> {
    let count = read.ok().filter(|count| *count > 0)?;
    Some(&buffer[..count])
}

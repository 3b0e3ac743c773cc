//! One connection, and whether its peer is silent.

use std::io;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ::redis::aio::MultiplexedConnection;
use ::redis::{Arg, Cmd, Pipeline, RedisError, RedisResult, Value};
use tokio::time::{Instant, sleep_until};

use super::wire::Wire;

/// How long the server may owe a reply without sending any. It replies in order, so one reply says that
/// it is there, whichever reply a call waits for.
///
/// Less than a store call may take by default, so that the call still has time for another connection.
const SILENCE: Duration = Duration::from_millis(1500);

/// How fast what was sent is expected to get there at the least, in bytes per second: a long response on
/// a slow network is not silence.
const SLOWEST: u64 = 1024 * 1024;

/// A timer that is later than this tells of a process that did not run.
const STANDSTILL: Duration = Duration::from_millis(500);

/// A connection that is shared by its calls.
pub(super) struct Link {
    wire: Wire,
    made_at: Instant,
    has_replied: AtomicBool,
    debt: Mutex<Debt>,
}

/// What the server owes.
#[derive(Debug, Default)]
struct Debt {
    /// Since when it has owed a reply and sent none.
    since: Option<Instant>,
    /// The calls that wait for a reply. Those that were given up do not, and are owed one all the same.
    waiting: usize,
    /// How many bytes were sent for which there is no reply.
    bytes: u64,
}

impl Debt {
    fn is_due_at(&self) -> Option<Instant> {
        let transfer = Duration::from_secs(self.bytes / SLOWEST);
        Some(self.since? + SILENCE + transfer)
    }
}

/// What is sent over a link.
#[derive(Clone, Copy)]
pub(super) enum LinkRequest<'a> {
    One(&'a Cmd),
    /// The replies to some of them.
    Many(&'a Pipeline, usize, usize),
}

/// As the request is.
pub(super) enum LinkReply {
    One(Value),
    Many(Vec<Value>),
}

impl LinkRequest<'_> {
    async fn send(self, mut connection: MultiplexedConnection) -> RedisResult<LinkReply> {
        match self {
            Self::One(cmd) => connection
                .send_packed_command(cmd)
                .await
                .map(LinkReply::One),
            Self::Many(pipeline, offset, count) => {
                let replies = connection.send_packed_commands(pipeline, offset, count);
                replies.await.map(LinkReply::Many)
            }
        }
    }

    fn size_bytes(self) -> u64 {
        let of_one = |cmd: &Cmd| -> usize {
            let length = |arg: Arg<&[u8]>| match arg {
                Arg::Simple(bytes) => bytes.len(),
                _ => 0,
            };
            cmd.args_iter().map(length).sum()
        };
        let size = match self {
            Self::One(cmd) => of_one(cmd),
            Self::Many(pipeline, ..) => pipeline.cmd_iter().map(of_one).sum(),
        };
        size as u64
    }
}

impl Link {
    pub(super) fn new(wire: Wire) -> Self {
        Self {
            wire,
            made_at: Instant::now(),
            has_replied: AtomicBool::new(false),
            debt: Mutex::default(),
        }
    }

    pub(super) fn age(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.made_at)
    }

    /// Whether it has ever worked.
    pub(super) fn has_replied(&self) -> bool {
        self.has_replied.load(Ordering::Relaxed)
    }

    /// Whether a reply is overdue.
    pub(super) fn is_silent(&self, now: Instant) -> bool {
        self.debt().is_due_at().is_some_and(|due| now >= due)
    }

    /// Sends it, and waits for the reply as long as the server is not silent.
    pub(super) async fn call(&self, request: LinkRequest<'_>) -> RedisResult<LinkReply> {
        let waiting = WaitingCall::new(self, request.size_bytes());
        let _call = self.wire.call();
        let mut reply = pin!(request.send(self.wire.connection()));
        loop {
            let due = self.debt().is_due_at();
            let due = due.unwrap_or_else(|| Instant::now() + SILENCE);
            tokio::select! {
                biased;
                reply = &mut reply => {
                    waiting.replied();
                    if reply.is_ok() {
                        self.has_replied.store(true, Ordering::Relaxed);
                    }
                    return reply;
                }
                () = sleep_until(due) => if self.is_silent_at(due) {
                    return Err(timed_out());
                },
            }
        }
    }

    /// Whether a reply that was due then is overdue now.
    fn is_silent_at(&self, due: Instant) -> bool {
        let now = Instant::now();
        if now > due + STANDSTILL {
            // It was this process that stood still, and the reply may be there: the server has its time
            // once more.
            let mut debt = self.debt();
            debt.since = debt.since.map(|_| now);
        }
        self.is_silent(now)
    }

    fn debt(&self) -> MutexGuard<'_, Debt> {
        self.debt.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A call that waits for its reply, until this is dropped.
struct WaitingCall<'a> {
    link: &'a Link,
    bytes: u64,
}

impl<'a> WaitingCall<'a> {
    fn new(link: &'a Link, bytes: u64) -> Self {
        let mut debt = link.debt();
        debt.since.get_or_insert_with(Instant::now);
        debt.waiting += 1;
        debt.bytes += bytes;
        Self { link, bytes }
    }

    fn replied(&self) {
        let mut debt = self.link.debt();
        if debt.waiting == 1 {
            // Those that were given up came before, or will come: no call waits for them.
            (debt.since, debt.bytes) = (None, 0);
        } else {
            debt.since = Some(Instant::now());
            debt.bytes = debt.bytes.saturating_sub(self.bytes);
        }
    }
}

impl Drop for WaitingCall<'_> {
    fn drop(&mut self) {
        self.link.debt().waiting -= 1;
    }
}

/// The server was silent for too long.
pub(super) fn timed_out() -> RedisError {
    io::Error::from(io::ErrorKind::TimedOut).into()
}

//! One connection, and whether its peer is silent.

use std::io;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ::redis::aio::MultiplexedConnection;
use ::redis::{Arg, Cmd, Pipeline, RedisError, RedisResult, Value};
use tokio::time::{Instant, sleep_until};

use super::debt::{Debt, Health, SILENCE};
use super::wire::Wire;

/// The same for a call over a connection of which only complete replies are seen: its reply may be a long one that is
/// arriving. Other calls have left it for another by then.
const UNSEEN_SILENCE: Duration = Duration::from_secs(10);

/// A timer that is later than this tells of a process that did not run.
const STANDSTILL: Duration = Duration::from_millis(500);

/// A connection that is shared by its calls.
pub(super) struct Link {
    wire: Wire,
    made_at: Instant,
    has_replied: AtomicBool,
    debt: Mutex<Debt>,
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
    async fn send(self, connection: &mut MultiplexedConnection) -> RedisResult<LinkReply> {
        match self {
            Self::One(cmd) => {
                let reply = connection.send_packed_command(cmd);
                reply.await.map(LinkReply::One)
            }
            Self::Many(pipeline, offset, count) => {
                let replies = connection.send_packed_commands(pipeline, offset, count);
                Box::pin(replies).await.map(LinkReply::Many)
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

    /// Whether another call may be sent over it.
    pub(super) fn health(&self, now: Instant) -> Health {
        self.debt().health(now, self.wire.carried())
    }

    /// Sends it, and waits for the reply as long as the server is not silent.
    pub(super) async fn call(&self, request: LinkRequest<'_>) -> RedisResult<LinkReply> {
        let waiting = WaitingCall::new(self, request.size_bytes());
        let _call = self.wire.call();
        let silence = match self.wire.shows_progress() {
            true => SILENCE,
            false => UNSEEN_SILENCE,
        };
        let mut connection = self.wire.connection();
        let mut reply = pin!(request.send(&mut connection));
        loop {
            let look = self.debt().next_look(silence);
            let look = look.unwrap_or_else(|| Instant::now() + silence);
            tokio::select! {
                biased;
                reply = &mut reply => {
                    waiting.replied();
                    if reply.is_ok() {
                        self.has_replied.store(true, Ordering::Relaxed);
                    }
                    return reply;
                }
                () = sleep_until(look) => if self.is_overdue_at(look, silence) {
                    return Err(timed_out());
                },
            }
        }
    }

    /// Looks, as was planned for then.
    fn is_overdue_at(&self, planned: Instant, silence: Duration) -> bool {
        let now = Instant::now();
        let mut debt = self.debt();
        debt.look(now, self.wire.carried());
        if now > planned + STANDSTILL {
            debt.forgive(now);
        }
        debt.is_overdue(now, silence)
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
        link.debt().add(bytes, Instant::now, link.wire.carried());
        Self { link, bytes }
    }

    fn replied(&self) {
        let link = self.link;
        let mut debt = link.debt();
        debt.pay(self.bytes, Instant::now, link.wire.carried());
    }
}

impl Drop for WaitingCall<'_> {
    fn drop(&mut self) {
        self.link.debt().end();
    }
}

/// The server was silent for too long.
pub(super) fn timed_out() -> RedisError {
    io::Error::from(io::ErrorKind::TimedOut).into()
}

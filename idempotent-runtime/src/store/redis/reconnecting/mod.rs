//! A connection that is replaced when its peer is gone, silent, or the wrong one.
//!
//! The driver's own [`ConnectionManager`](::redis::aio::ConnectionManager) replaces a connection that was
//! closed. One whose peer is silent it keeps, if the call that waits is given up before its own timeout,
//! and one whose server was demoted it keeps for ever.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use ::redis::aio::ConnectionLike;
use ::redis::{Cmd, ErrorKind, Pipeline, RedisFuture, RedisResult, Value};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};

use self::state::{CONNECT_LIMIT, ConnectAttempt, LinkState, Pace};
use super::error::unsent;
use super::link::{Link, LinkReply, LinkRequest, timed_out};
use super::servers::Servers;
use crate::prompt;

mod state;

/// A connection of this age has shown that its server was the right one.
const STEADY: Duration = Duration::from_secs(5);

/// What a server says that is no place to write to: another one is, or this one later. Nothing was done.
const ELSEWHERE: [&str; 4] = ["READONLY", "MASTERDOWN", "LOADING", "CLUSTERDOWN"];

/// The connection of a [`RedisStore`](super::RedisStore) that has made it itself. Clones share it.
///
/// It is replaced by a fresh one, through the same address or by asking the Sentinels again,
///
/// * when it was closed;
/// * when the server owes a reply and has sent nothing for 1.5 s (longer where much was sent: a second for
///   each mebibyte), whether or not a call still waits for it. A part of a reply is something, and so is room for more of
///   what is being sent;
/// * when a long reply, or what is being sent, occupies it: 64 KiB of it in 100 ms, and it is not complete. The calls that
///   wait for it keep it until then;
/// * when the server says that it is read-only, loading, or cut off from its primary. That call is
///   repeated over the fresh connection, once.
///
/// Over TLS only complete replies are seen. There the calls that wait keep a connection that is silent as described, for
/// 10 s at most: a long reply may be arriving. It is replaced for the others.
///
/// There is one attempt at a time, which takes at most 1.5 s, and which all calls wait for. Between the
/// beginnings of two there are at least 50 ms, and up to 400 ms the more of them fail. A call whose attempt
/// fails was not sent. A connection that was closed after it had worked is replaced without a pause.
#[derive(Clone)]
pub struct ReconnectingConnection(Arc<Reconnecting>);

struct Reconnecting {
    servers: Servers,
    state: Mutex<LinkState>,
}

/// What a reply says about its connection.
#[derive(Clone, Copy, PartialEq, Eq)]
enum LinkVerdict {
    Good,
    /// Nothing more will come from it.
    Dead,
    /// The server is no place to write to; it has done nothing of the request.
    Elsewhere,
    /// The same, but it has done a part of it.
    PartlyElsewhere,
}

impl ReconnectingConnection {
    /// Nothing is connected before the first call.
    pub(super) fn new(servers: Servers) -> Self {
        Self(Arc::new(Reconnecting {
            servers,
            state: Mutex::default(),
        }))
    }

    /// Connects, unless it is connected.
    pub(super) async fn connect(&self) -> RedisResult<()> {
        self.link().await.map(|_| ())
    }

    async fn exchange(&self, request: LinkRequest<'_>) -> RedisResult<LinkReply> {
        let link = self.link().await?;
        let reply = link.call(request).await;
        let verdict = verdict(&reply);
        if !self.replace(&link, verdict) || verdict != LinkVerdict::Elsewhere {
            return reply;
        }
        drop(link);
        Box::pin(self.exchange_once_more(request, reply)).await
    }

    /// Over a fresh connection, if there is one.
    async fn exchange_once_more(
        &self,
        request: LinkRequest<'_>,
        reply: RedisResult<LinkReply>,
    ) -> RedisResult<LinkReply> {
        let Ok(fresh) = self.link().await else {
            return reply;
        };
        let reply = fresh.call(request).await;
        self.replace(&fresh, verdict(&reply));
        reply
    }

    async fn link(&self) -> RedisResult<Arc<Link>> {
        match self.0.link_or_attempt()? {
            Ok(link) => Ok(link),
            // Boxed: most calls have a connection.
            Err(attempt) => Box::pin(connected(attempt)).await,
        }
    }

    /// Says whether another connection than this one can be had now.
    fn replace(&self, link: &Arc<Link>, verdict: LinkVerdict) -> bool {
        if verdict == LinkVerdict::Good {
            return false;
        }
        let now = Instant::now();
        let mut state = self.0.state();
        let is_current = state.link.as_ref().is_some_and(|it| Arc::ptr_eq(it, link));
        if !is_current {
            return true;
        }
        if link.age(now) >= STEADY {
            state.pace = Pace::default();
        }
        let may_begin = state.pace.may_begin(now);
        if verdict == LinkVerdict::Dead {
            state.drop_dead_link();
        } else if may_begin {
            state.drop_link();
        } else {
            // It can read, meanwhile.
            state.is_elsewhere = true;
        }
        may_begin
    }
}

impl Reconnecting {
    fn link_or_attempt(self: &Arc<Self>) -> RedisResult<Result<Arc<Link>, ConnectAttempt>> {
        let now = Instant::now();
        let mut state = self.state();
        if let Some(link) = state.usable(now) {
            return Ok(Ok(link));
        }
        if let Some(attempt) = state.running_attempt(now) {
            return Ok(Err(attempt));
        }
        let Ok(runtime) = Handle::try_current() else {
            let error = (ErrorKind::Client, "there is no tokio runtime");
            return Err(unsent(error.into()));
        };
        let begins_at = state.pace.begin(now);
        let (done, outcome) = watch::channel(None);
        let attempt = ConnectAttempt { begins_at, outcome };
        state.attempt = Some(attempt.clone());
        let (servers, shared) = (self.servers.clone(), Arc::downgrade(self));
        // A task of its own: a call that is given up sooner than this takes must not stop it, or such
        // calls would never have a connection. It ends by itself.
        prompt::spawn(&runtime, connect(begins_at, servers, shared, done));
        Ok(Err(attempt))
    }

    fn state(&self) -> MutexGuard<'_, LinkState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What becomes of an attempt to connect.
async fn connected(attempt: ConnectAttempt) -> RedisResult<Arc<Link>> {
    let mut outcome = attempt.outcome;
    match timeout(CONNECT_LIMIT * 2, outcome.wait_for(Option::is_some)).await {
        Ok(Ok(outcome)) => match &*outcome {
            Some(Ok(link)) => Ok(Arc::clone(link)),
            Some(Err(error)) => Err(unsent(error.clone())),
            None => Err(unsent(timed_out())),
        },
        // Its runtime has ended, or stands still.
        Ok(Err(_)) | Err(_) => Err(unsent(timed_out())),
    }
}

async fn connect(
    begins_at: Instant,
    servers: Servers,
    shared: Weak<Reconnecting>,
    done: watch::Sender<Option<RedisResult<Arc<Link>>>>,
) {
    sleep_until(begins_at).await;
    let connected = timeout(CONNECT_LIMIT, servers.connect()).await;
    let outcome = match connected {
        Ok(Ok(connection)) => Ok(Arc::new(Link::new(connection))),
        Ok(Err(error)) => Err(error),
        Err(_) => Err(timed_out()),
    };
    let Some(shared) = shared.upgrade() else {
        return;
    };
    if let Err(error) = &outcome {
        tracing::debug!(
            error = error as &dyn std::error::Error,
            "could not connect to redis"
        );
    }
    let mut state = shared.state();
    if let Ok(link) = &outcome {
        state.link = Some(Arc::clone(link));
    }
    let is_this = |attempt: &ConnectAttempt| attempt.outcome.same_channel(&done.subscribe());
    if state.attempt.as_ref().is_some_and(is_this) {
        state.attempt = None;
    }
    drop(state);
    done.send_replace(Some(outcome));
}

fn verdict(reply: &RedisResult<LinkReply>) -> LinkVerdict {
    match reply {
        Err(error) if error.code().is_some_and(|code| ELSEWHERE.contains(&code)) => {
            LinkVerdict::Elsewhere
        }
        Err(error) if error.is_io_error() || error.is_unrecoverable_error() => LinkVerdict::Dead,
        Err(_) => LinkVerdict::Good,
        Ok(LinkReply::One(value)) if is_elsewhere(value) => LinkVerdict::Elsewhere,
        Ok(LinkReply::One(_)) => LinkVerdict::Good,
        Ok(LinkReply::Many(values)) => {
            match values.iter().filter(|value| is_elsewhere(value)).count() {
                0 => LinkVerdict::Good,
                some if some < values.len() => LinkVerdict::PartlyElsewhere,
                _ => LinkVerdict::Elsewhere,
            }
        }
    }
}

fn is_elsewhere(value: &Value) -> bool {
    matches!(value, Value::ServerError(error) if ELSEWHERE.contains(&error.code()))
}

impl ConnectionLike for ReconnectingConnection {
    fn req_packed_command<'a>(&'a mut self, cmd: &'a Cmd) -> RedisFuture<'a, Value> {
        Box::pin(async move {
            match self.exchange(LinkRequest::One(cmd)).await? {
                LinkReply::One(value) => Ok(value),
                LinkReply::Many(values) => Ok(Value::Array(values)),
            }
        })
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        Box::pin(async move {
            match self
                .exchange(LinkRequest::Many(pipeline, offset, count))
                .await?
            {
                LinkReply::One(value) => Ok(vec![value]),
                LinkReply::Many(values) => Ok(values),
            }
        })
    }

    fn get_db(&self) -> i64 {
        self.0.servers.database()
    }
}

/// Never the servers, whose settings may hold a password.
impl fmt::Debug for ReconnectingConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReconnectingConnection")
            .finish_non_exhaustive()
    }
}

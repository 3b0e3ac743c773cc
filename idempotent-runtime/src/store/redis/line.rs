//! How the store asks: over a connection, and once more when that was closed.

use ::redis::aio::ConnectionLike;
use ::redis::{Cmd, Pipeline, RedisResult, Value};

use super::error::{CallError, is_broken};
use super::name::Name;
use super::scripts::{Script, UNKNOWN};

/// What the server has replied to one of several commands.
pub(super) type ScriptReply = Result<Value, CallError>;

/// What is asked over a connection. Clones share it.
#[derive(Clone)]
pub(super) struct Line<C> {
    connection: C,
    /// Whether one request is one try: what the last of several says is not all that there is to say.
    tries_once: bool,
    /// Whether what was sent over a closed connection is sent again over a fresh one. Each operation can
    /// be, by its token, but for those that tell what was there before.
    repeats: bool,
}

impl<C> Line<C> {
    /// Over a connection that may try several times by itself.
    pub(super) fn new(connection: C) -> Self {
        Self {
            connection,
            tries_once: false,
            repeats: true,
        }
    }

    /// Over one that does not.
    pub(super) fn that_tries_once(connection: C) -> Self {
        Self {
            tries_once: true,
            ..Self::new(connection)
        }
    }

    /// The same, for what must not be sent twice.
    pub(super) fn once(&self) -> Self
    where
        C: Clone,
    {
        Self {
            repeats: false,
            ..self.clone()
        }
    }

    fn failure(&self, error: ::redis::RedisError) -> CallError {
        match self.tries_once {
            true => CallError::of_one_try(error),
            false => CallError::of_several_tries(error),
        }
    }
}

impl<C: ConnectionLike + Clone + Send + Sync> Line<C> {
    pub(super) fn connection(&self) -> C {
        self.connection.clone()
    }

    pub(super) async fn query(&self, cmd: &Cmd) -> Result<Value, CallError> {
        let mut connection = self.connection.clone();
        match cmd.query_async(&mut connection).await {
            Err(error) if self.repeats && is_broken(&error) => {
                let again = cmd.query_async(&mut connection).await;
                again.map_err(|error| self.failure(error).maybe_executed())
            }
            reply => reply.map_err(|error| self.failure(error)),
        }
    }

    /// Runs a script in one round trip; in two on a server that does not know it yet.
    ///
    /// Not [`redis::Script`](::redis::Script), which then loads it and calls it by its digest once
    /// more: the server that is asked for the third time can be another one than the second.
    pub(super) async fn run(
        &self,
        script: &Script,
        name: &Name,
        args: &[&[u8]],
    ) -> Result<Value, CallError> {
        match self.query(&script.by_sha(name, args)).await {
            Err(failure) if failure.code() == Some(UNKNOWN) => {
                self.query(&script.by_code(name, args)).await
            }
            reply => reply,
        }
    }

    /// Sends several together, and has a reply for each of them, in their order.
    pub(super) async fn together(
        &self,
        pipeline: &Pipeline,
    ) -> Result<Vec<ScriptReply>, CallError> {
        let mut connection = self.connection.clone();
        let failed = |error| self.failure(error);
        match pipeline.query_async::<Replies>(&mut connection).await {
            Err(error) if self.repeats && is_broken(&error) => {
                let lost = |error| self.failure(error).maybe_executed();
                let again = pipeline.query_async::<Replies>(&mut connection).await;
                Ok(each(again.map_err(lost)?, lost))
            }
            replies => Ok(each(replies.map_err(failed)?, failed)),
        }
    }
}

type Replies = Vec<RedisResult<Value>>;

fn each(replies: Replies, failure: impl Fn(::redis::RedisError) -> CallError) -> Vec<ScriptReply> {
    let each = |reply: RedisResult<Value>| reply.map_err(&failure);
    replies.into_iter().map(each).collect()
}

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
    when_lost: WhenLost,
}

/// What becomes of what was sent over a connection that turned out to be closed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum WhenLost {
    /// It is sent again over a fresh one: each operation can be, by its token.
    Repeat,
    /// The same, and it is an error whatever the second reply is: for claims. What was sent may be done at any time,
    /// also after the claim was released, and would hold the key for no attempt. So the one who asks must
    /// know of it: the engine asks again with the same token, and keeps track of it.
    RepeatAndTell,
    /// It is an error: of an operation that tells what was there before.
    Tell,
}

impl<C> Line<C> {
    /// Over a connection that may try several times by itself.
    pub(super) fn new(connection: C) -> Self {
        Self {
            connection,
            tries_once: false,
            when_lost: WhenLost::Repeat,
        }
    }

    /// Over one that does not.
    pub(super) fn that_tries_once(connection: C) -> Self {
        Self {
            tries_once: true,
            ..Self::new(connection)
        }
    }

    /// Whether one request is one try.
    pub(super) fn tries_once(&self) -> bool {
        self.tries_once
    }

    /// The same, for what must not be sent twice.
    pub(super) fn once(&self) -> Self
    where
        C: Clone,
    {
        Self {
            when_lost: WhenLost::Tell,
            ..self.clone()
        }
    }

    /// The same, for claims.
    pub(super) fn for_claims(&self) -> Self
    where
        C: Clone,
    {
        Self {
            when_lost: WhenLost::RepeatAndTell,
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
            Err(error) if self.when_lost != WhenLost::Tell && is_broken(&error) => {
                let again: RedisResult<Value> = cmd.query_async(&mut connection).await;
                match self.when_lost {
                    WhenLost::RepeatAndTell => Err(self.failure(error).maybe_executed()),
                    _ => again.map_err(|error| self.failure(error).maybe_executed()),
                }
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
            Err(error) if self.when_lost == WhenLost::Repeat && is_broken(&error) => {
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

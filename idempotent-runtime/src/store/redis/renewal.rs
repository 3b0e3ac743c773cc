//! Renewals: together where the connection can, and apart where it cannot.

use ::redis::aio::ConnectionLike;
use ::redis::{Cmd, ErrorKind, Pipeline, RedisResult, ServerErrorKind, Value};
use tokio::task::JoinSet;

use super::name::Name;
use super::reply::{self, store_error};
use super::{NAME, script};
use crate::record::Token;
use crate::store::{StoreError, StoreErrorKind};

/// How many are under way at a time where they cannot go out together.
const AT_ONCE: usize = 64;

/// One renewal, as the script takes it.
pub(super) struct Call {
    pub(super) name: Name,
    pub(super) token: Token,
    pub(super) lease: String,
}

impl Call {
    fn args(&self) -> [&[u8]; 2] {
        [self.token.as_bytes(), self.lease.as_bytes()]
    }

    fn by_sha(&self) -> Cmd {
        script::RENEW.by_sha(&self.name, &self.args())
    }

    fn by_code(&self) -> Cmd {
        script::RENEW.by_code(&self.name, &self.args())
    }
}

/// Says of each, in their order, whether the claim is held.
pub(super) async fn run<C>(connection: &C, calls: Vec<Call>) -> Result<Vec<bool>, StoreError>
where
    C: ConnectionLike + Clone + Send + 'static,
{
    if calls.is_empty() {
        return Ok(Vec::new());
    }
    match together(&mut connection.clone(), &calls).await {
        // In a Cluster, for several of its servers. The client says so before it sends anything.
        Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::CrossSlot) => {
            apart(connection, calls).await
        }
        replies => replies
            .map_err(store_error)?
            .into_iter()
            .map(held)
            .collect(),
    }
}

type Reply = RedisResult<Value>;

/// In one round trip; in two on a server that does not know the script yet.
async fn together(connection: &mut impl ConnectionLike, calls: &[Call]) -> RedisResult<Vec<Reply>> {
    let replies = send(connection, calls.iter().map(Call::by_sha)).await?;
    if !replies.iter().any(is_unknown) {
        return Ok(replies);
    }
    // The first one, with its code, makes the script known to those after it.
    let known = calls.iter().skip(1).map(Call::by_sha);
    send(
        connection,
        calls.iter().take(1).map(Call::by_code).chain(known),
    )
    .await
}

async fn send(
    connection: &mut impl ConnectionLike,
    calls: impl Iterator<Item = Cmd>,
) -> RedisResult<Vec<Reply>> {
    let mut pipeline = Pipeline::with_capacity(calls.size_hint().0);
    calls.for_each(|call| {
        pipeline.add_command(call);
    });
    // One that fails does not take the replies of the others with it.
    pipeline.ignore_errors().query_async(connection).await
}

/// Side by side.
async fn apart<C>(connection: &C, calls: Vec<Call>) -> Result<Vec<bool>, StoreError>
where
    C: ConnectionLike + Clone + Send + 'static,
{
    let mut all = vec![false; calls.len()];
    let mut waiting = calls.into_iter().enumerate();
    let mut under_way = JoinSet::new();
    loop {
        for (at, call) in waiting.by_ref().take(AT_ONCE - under_way.len()) {
            let mut connection = connection.clone();
            under_way.spawn(async move {
                let args = call.args();
                (
                    at,
                    script::RENEW.run(&mut connection, &call.name, &args).await,
                )
            });
        }
        let Some(done) = under_way.join_next().await else {
            return Ok(all);
        };
        let (at, reply) = done.map_err(|error| {
            StoreError::new(NAME, StoreErrorKind::Unavailable).with_source(error)
        })?;
        if let Some(is_held) = all.get_mut(at) {
            *is_held = held(reply)?;
        }
    }
}

fn is_unknown(reply: &Reply) -> bool {
    matches!(reply, Err(error) if script::is_unknown(error))
}

fn held(reply: Reply) -> Result<bool, StoreError> {
    reply::is_held(&reply.map_err(store_error)?)
}

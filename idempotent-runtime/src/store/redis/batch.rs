//! The same operation on many records: together where the connection can, and apart where it cannot.

use ::redis::aio::ConnectionLike;
use ::redis::{Cmd, Pipeline};
use futures_util::StreamExt;
use futures_util::stream;

use super::error::CallError;
use super::line::{Line, ScriptReply};
use super::name::Name;
use super::scripts::{Script, UNKNOWN};
use crate::record::Token;

/// How many are under way at a time where they cannot go out together.
const AT_ONCE: usize = 64;

/// One of many, as its script takes it.
pub(super) struct ScriptCall {
    pub(super) script: &'static Script,
    pub(super) name: Name,
    pub(super) token: Token,
    /// The times of a renewal.
    pub(super) millis: Option<[String; 2]>,
    /// For a script that would tell waiters.
    pub(super) quiet: &'static [&'static [u8]],
}

impl ScriptCall {
    fn args(&self) -> Vec<&[u8]> {
        let millis = self.millis.iter().flatten().map(String::as_bytes);
        let token = [&self.token.as_bytes()[..]];
        let rest = self.quiet.iter().copied();
        token.into_iter().chain(millis).chain(rest).collect()
    }

    fn by_sha(&self) -> Cmd {
        self.script.by_sha(&self.name, &self.args())
    }

    fn by_code(&self) -> Cmd {
        self.script.by_code(&self.name, &self.args())
    }
}

/// A reply to each, in their order.
pub(super) async fn run<C>(line: &Line<C>, calls: Vec<ScriptCall>) -> Vec<ScriptReply>
where
    C: ConnectionLike + Clone + Send + Sync,
{
    if calls.is_empty() {
        return Vec::new();
    }
    match together(line, &calls).await {
        Ok(replies) => replies,
        // In a Cluster, for several of its servers. The client says so before it sends anything.
        Err(failure) if failure.code() == Some("CROSSSLOT") => apart(line, calls).await,
        Err(failure) => vec![Err(failure); calls.len()],
    }
}

/// In one round trip; in two on a server that does not know the script yet.
async fn together<C>(line: &Line<C>, calls: &[ScriptCall]) -> Result<Vec<ScriptReply>, CallError>
where
    C: ConnectionLike + Clone + Send + Sync,
{
    let mut replies = send(line, calls.iter().map(ScriptCall::by_sha)).await?;
    let unknown: Vec<(&ScriptCall, &mut ScriptReply)> = calls
        .iter()
        .zip(&mut replies)
        .filter(|(_, reply)| is_unknown(reply))
        .collect();
    if unknown.is_empty() {
        return Ok(replies);
    }
    // The first one, with its code, makes the script known to those after it.
    let again = unknown
        .iter()
        .enumerate()
        .map(|(number, (call, _))| match number {
            0 => call.by_code(),
            _ => call.by_sha(),
        });
    match send(line, again).await {
        Ok(second) => {
            for ((_, reply), second) in unknown.into_iter().zip(second) {
                *reply = second;
            }
        }
        // Not of those that are answered.
        Err(failure) => {
            for (_, reply) in unknown {
                *reply = Err(failure.clone());
            }
        }
    }
    Ok(replies)
}

async fn send<C>(
    line: &Line<C>,
    calls: impl Iterator<Item = Cmd>,
) -> Result<Vec<ScriptReply>, CallError>
where
    C: ConnectionLike + Clone + Send + Sync,
{
    let mut pipeline = Pipeline::with_capacity(calls.size_hint().0);
    calls.for_each(|call| {
        pipeline.add_command(call);
    });
    // One that fails does not take the replies of the others with it.
    line.together(pipeline.ignore_errors()).await
}

/// Side by side.
async fn apart<C>(line: &Line<C>, calls: Vec<ScriptCall>) -> Vec<ScriptReply>
where
    C: ConnectionLike + Clone + Send + Sync,
{
    let one = |call: ScriptCall| {
        let line = line.clone();
        async move { line.run(call.script, &call.name, &call.args()).await }
    };
    stream::iter(calls)
        .map(one)
        .buffered(AT_ONCE)
        .collect()
        .await
}

fn is_unknown(reply: &ScriptReply) -> bool {
    matches!(reply, Err(failure) if failure.code() == Some(UNKNOWN))
}

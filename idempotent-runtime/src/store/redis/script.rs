//! The scripts, and how they are run.

use std::sync::LazyLock;

use ::redis::aio::ConnectionLike;
use ::redis::{Cmd, ErrorKind, RedisError, RedisResult, ServerErrorKind, Value};

use super::name::Name;

/// A Lua script that works on one key.
pub(super) struct Script {
    code: &'static str,
    /// What `EVALSHA` names it by.
    sha: LazyLock<String>,
}

macro_rules! scripts {
    ($($name:ident: $($file:literal)+;)+) => {
        $(pub(super) static $name: Script = {
            const CODE: &str = concat!($(include_str!($file)),+);
            Script {
                code: CODE,
                sha: LazyLock::new(|| ::redis::Script::new(CODE).get_hash().to_owned()),
            }
        };)+
    };
}

scripts! {
    CLAIM: "claim.lua";
    TAKE_OVER: "take_over.lua";
    COMPLETE: "held.lua" "complete.lua";
    RELEASE: "held.lua" "release.lua";
    RENEW: "held.lua" "renew.lua";
    SAVE_PROGRESS: "held.lua" "save_progress.lua";
    GET: "get.lua";
    REMOVE: "remove.lua";
    WAIT: "wait.lua";
}

impl Script {
    /// The call of this script by its digest.
    pub(super) fn by_sha(&self, name: &Name, args: &[&[u8]]) -> Cmd {
        call("EVALSHA", &self.sha, name, args)
    }

    /// The call of this script with its code, which makes the server remember it.
    pub(super) fn by_code(&self, name: &Name, args: &[&[u8]]) -> Cmd {
        call("EVAL", self.code, name, args)
    }

    /// Runs it in one round trip; in two on a server that does not know it yet.
    ///
    /// Not [`redis::Script`](::redis::Script), which then loads it and calls it by its digest once
    /// more: the server that is asked for the third time can be another one than the second.
    pub(super) async fn run(
        &self,
        connection: &mut impl ConnectionLike,
        name: &Name,
        args: &[&[u8]],
    ) -> RedisResult<Value> {
        match self.by_sha(name, args).query_async(connection).await {
            Err(error) if is_unknown(&error) => {
                self.by_code(name, args).query_async(connection).await
            }
            reply => reply,
        }
    }
}

/// The server does not know the script, so it has done nothing.
pub(super) fn is_unknown(error: &RedisError) -> bool {
    error.kind() == ErrorKind::Server(ServerErrorKind::NoScript)
}

fn call(how: &str, script: &str, name: &Name, args: &[&[u8]]) -> Cmd {
    let first = [how.as_bytes(), script.as_bytes(), b"1", name.as_bytes()];
    let all = first.iter().chain(args);
    let length = all.clone().map(|arg| arg.len()).sum();
    let mut cmd = Cmd::with_capacity(first.len() + args.len(), length);
    for arg in all {
        cmd.arg(*arg);
    }
    cmd
}

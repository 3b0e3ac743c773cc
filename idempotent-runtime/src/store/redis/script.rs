//! The scripts, and how they are run.

use std::sync::LazyLock;

use ::redis::aio::ConnectionLike;
use ::redis::{Cmd, ErrorKind, RedisError, RedisResult, ServerErrorKind, Value};

/// A Lua script that works on one key.
pub(super) struct Script {
    code: &'static str,
    /// What `EVALSHA` names it by.
    sha: LazyLock<String>,
}

macro_rules! scripts {
    ($($name:ident: $file:literal),+ $(,)?) => {
        $(pub(super) static $name: Script = {
            const CODE: &str = concat!(include_str!("record.lua"), include_str!($file));
            Script {
                code: CODE,
                sha: LazyLock::new(|| ::redis::Script::new(CODE).get_hash().to_owned()),
            }
        };)+
    };
}

scripts! {
    CLAIM: "claim.lua",
    COMPLETE: "complete.lua",
    GET: "get.lua",
    RELEASE: "release.lua",
    REMOVE: "remove.lua",
    RENEW: "renew.lua",
    SAVE_PROGRESS: "save_progress.lua",
}

impl Script {
    /// The call of this script by its digest.
    pub(super) fn by_sha(&self, key: &str, args: &[&[u8]]) -> Cmd {
        call("EVALSHA", &self.sha, key, args)
    }

    /// The call of this script with its code, which makes the server remember it.
    pub(super) fn by_code(&self, key: &str, args: &[&[u8]]) -> Cmd {
        call("EVAL", self.code, key, args)
    }

    /// Runs it in one round trip; in two on a server that does not know it yet.
    ///
    /// Not [`redis::Script`](::redis::Script), which then loads it and calls it by its digest once
    /// more: the server that is asked for the third time can be another one than the second.
    pub(super) async fn run(
        &self,
        connection: &mut impl ConnectionLike,
        key: &str,
        args: &[&[u8]],
    ) -> RedisResult<Vec<Value>> {
        match self.by_sha(key, args).query_async(connection).await {
            Err(error) if is_unknown(&error) => {
                self.by_code(key, args).query_async(connection).await
            }
            reply => reply,
        }
    }
}

/// The server does not know the script, so it has done nothing.
pub(super) fn is_unknown(error: &RedisError) -> bool {
    error.kind() == ErrorKind::Server(ServerErrorKind::NoScript)
}

fn call(command: &str, script: &str, key: &str, args: &[&[u8]]) -> Cmd {
    let mut cmd = ::redis::cmd(command);
    cmd.arg(script).arg(1).arg(key);
    for arg in args {
        cmd.arg(*arg);
    }
    cmd
}

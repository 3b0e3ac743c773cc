//! The scripts, and how they are called.

use std::sync::LazyLock;

use ::redis::Cmd;

use super::name::Name;

/// The code of a server that does not know a script, and so has done nothing.
pub(super) const UNKNOWN: &str = "NOSCRIPT";

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
    CLAIM: "lua/claim.lua";
    TAKE_OVER: "lua/take_over.lua";
    COMPLETE: "lua/head.lua" "lua/held.lua" "lua/complete.lua";
    RELEASE: "lua/head.lua" "lua/held.lua" "lua/release.lua";
    ABANDON: "lua/head.lua" "lua/held.lua" "lua/abandon.lua";
    RENEW: "lua/head.lua" "lua/held.lua" "lua/renew.lua";
    GIVE_GRACE: "lua/head.lua" "lua/ended.lua" "lua/renew.lua";
    SAVE_PROGRESS: "lua/head.lua" "lua/held.lua" "lua/save_progress.lua";
    GET: "lua/get.lua";
    PEEK: "lua/peek.lua";
    REMOVE: "lua/remove.lua";
    WAIT: "lua/wait.lua";
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

//! Claims: by one of the server's own commands where that can tell, by a script where it cannot.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ::redis::Cmd;
use ::redis::aio::ConnectionLike;

use super::error::CallError;
use super::line::Line;
use super::name::Name;
use super::{reply, scripts, written};
use crate::store::{Claim, ClaimRequest, StoreError};

/// Whether the server has `SET` with both `NX` and `GET`: not before Redis 7.
///
/// With it the server does by itself what a first claim and a replay ask for, at half the price of
/// a script that does the same. What it cannot tell is the time.
#[derive(Clone, Default)]
pub(super) struct PlainSet(Arc<Seen>);

#[derive(Default)]
struct Seen {
    /// The server has carried it out.
    is_there: AtomicBool,
    is_missing: AtomicBool,
}

/// What the command has made of a claim.
enum Told {
    Claim(Claim),
    /// There is something to be told that depends on the time.
    Running,
    /// The server takes no writes now. It may have something to tell all the same.
    Refused(CallError),
    /// The server does not know the command, or so it seems.
    Unknown(CallError),
}

/// A claim on its way.
pub(super) struct ClaimCall<'a> {
    request: &'a ClaimRequest<'a>,
    name: Name,
    /// The record to be, and for how many milliseconds it lives.
    record: Vec<u8>,
    life: u64,
    /// For scripts that would tell waiters.
    quiet: &'static [&'static [u8]],
}

impl<'a> ClaimCall<'a> {
    pub(super) fn new(
        request: &'a ClaimRequest<'a>,
        name: Name,
        quiet: &'static [&'static [u8]],
    ) -> Self {
        let (record, life) = written::claimed(request);
        Self {
            request,
            name,
            record,
            life,
            quiet,
        }
    }

    pub(super) async fn run<C>(&self, line: &Line<C>, plain: &PlainSet) -> Result<Claim, StoreError>
    where
        C: ConnectionLike + Clone + Send + Sync,
    {
        let PlainSet(seen) = plain;
        if self.request.take_over.is_some() || seen.is_missing.load(Ordering::Relaxed) {
            return Box::pin(self.by_script(line)).await;
        }
        let told = self.by_command(line).await?;
        if let Told::Claim(_) | Told::Running = told {
            seen.is_there.store(true, Ordering::Relaxed);
        }
        match told {
            Told::Claim(claim) => Ok(claim),
            Told::Running => Box::pin(self.by_script(line)).await,
            Told::Refused(failure) => Box::pin(self.by_reading(line, failure)).await,
            // A server that knew it has not said so: this one may be older, or a proxy has lost it in the middle of the
            // command, which may arrive at any time. So the one who asks must know of it, whatever the script says.
            Told::Unknown(failure) if seen.is_there.load(Ordering::Relaxed) => {
                if Box::pin(self.by_script(line)).await.is_ok() {
                    seen.is_missing.store(true, Ordering::Relaxed);
                }
                Err(failure.maybe_executed().into())
            }
            Told::Unknown(_) => {
                let claim = Box::pin(self.by_script(line)).await?;
                seen.is_missing.store(true, Ordering::Relaxed);
                Ok(claim)
            }
        }
    }

    async fn by_command<C>(&self, line: &Line<C>) -> Result<Told, StoreError>
    where
        C: ConnectionLike + Clone + Send + Sync,
    {
        let (name, record) = (self.name.as_bytes(), &self.record[..]);
        let mut set = Cmd::with_capacity(7, name.len() + record.len() + 32);
        set.arg("SET").arg(name).arg(record);
        set.arg("NX").arg("GET").arg("PX").arg(self.life);
        match line.query(&set).await {
            Ok(reply) => {
                let claim = reply::plain_claim(&reply, self.request)?;
                Ok(claim.map_or(Told::Running, Told::Claim))
            }
            Err(failure) => match failure.code() {
                Some("OOM" | "MISCONF" | "NOREPLICAS" | "READONLY") => Ok(Told::Refused(failure)),
                Some("ERR") => Ok(Told::Unknown(failure)),
                _ => Err(failure.into()),
            },
        }
    }

    async fn by_script<C>(&self, line: &Line<C>) -> Result<Claim, StoreError>
    where
        C: ConnectionLike + Clone + Send + Sync,
    {
        let life = self.life.to_string();
        let args: [&[u8]; 2] = [&self.record, life.as_bytes()];
        let reply = match self.request.take_over {
            None => line.run(&scripts::CLAIM, &self.name, &args).await,
            Some(attempt) => {
                let lease = written::millis(self.request.lease).to_string();
                let attempt = attempt.to_string();
                let more = [lease.as_bytes(), attempt.as_bytes()];
                let args = [&args, &more, self.quiet].concat();
                line.run(&scripts::TAKE_OVER, &self.name, &args).await
            }
        };
        reply::claim(&reply?, self.request)
    }

    /// A server that takes no writes can replay. But a replica, which may be behind, is believed only
    /// what never changes.
    async fn by_reading<C>(&self, line: &Line<C>, refusal: CallError) -> Result<Claim, StoreError>
    where
        C: ConnectionLike + Clone + Send + Sync,
    {
        let is_replica = refusal.code() == Some("READONLY");
        match self.by_script(line).await {
            Ok(claim) if !is_replica || matches!(claim, Claim::Completed(_)) => Ok(claim),
            Ok(_) => Err(refusal.into()),
            Err(error) => Err(error),
        }
    }
}

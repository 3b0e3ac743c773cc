//! Claims: by one of the server's own commands where that can tell, by a script where it cannot.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ::redis::aio::ConnectionLike;
use ::redis::{Cmd, Value};

use super::name::Name;
use super::reply::{self, store_error};
use super::{script, stored};
use crate::store::{Claim, ClaimRequest, StoreError};

/// Whether the server has `SET` with both `NX` and `GET`: not before Redis 7.
///
/// With it the server does by itself what a first claim and a replay ask for, at half the price of
/// a script that does the same. What it cannot tell is the time.
#[derive(Clone, Default)]
pub(super) struct Plain {
    is_missing: Arc<AtomicBool>,
}

/// What the command has made of a claim.
enum Told {
    Claim(Claim),
    /// There is something to be told that depends on the time.
    Running,
    /// The server takes no writes now. It may have something to tell all the same.
    Refused,
    /// The server does not know the command, or so it seems.
    Unknown,
}

/// A claim on its way.
pub(super) struct Call<'a> {
    request: &'a ClaimRequest,
    name: Name,
    /// The record to be, and for how many milliseconds it lives.
    record: [u8; stored::HEAD],
    life: u64,
    /// For scripts that would tell those who wait.
    quiet: &'static [&'static [u8]],
}

impl<'a> Call<'a> {
    pub(super) fn new(
        request: &'a ClaimRequest,
        name: Name,
        quiet: &'static [&'static [u8]],
    ) -> Self {
        let (record, life) = stored::claimed(request);
        Self {
            request,
            name,
            record,
            life,
            quiet,
        }
    }

    pub(super) async fn run(
        &self,
        connection: &mut impl ConnectionLike,
        plain: &Plain,
    ) -> Result<Claim, StoreError> {
        if self.request.take_over.is_some() || plain.is_missing.load(Ordering::Relaxed) {
            return self.by_script(connection).await;
        }
        let told = self.by_command(connection).await?;
        if let Told::Claim(claim) = told {
            return Ok(claim);
        }
        let claim = self.by_script(connection).await?;
        if matches!(told, Told::Unknown) {
            plain.is_missing.store(true, Ordering::Relaxed);
        }
        Ok(claim)
    }

    async fn by_command(&self, connection: &mut impl ConnectionLike) -> Result<Told, StoreError> {
        let (name, record) = (self.name.as_bytes(), &self.record[..]);
        let mut set = Cmd::with_capacity(7, name.len() + record.len() + 32);
        set.arg("SET").arg(name).arg(record);
        set.arg("NX").arg("GET").arg("PX").arg(self.life);
        match set.query_async::<Value>(connection).await {
            Ok(reply) => {
                let claim = reply::plain_claim(&reply, self.request)?;
                Ok(claim.map_or(Told::Running, Told::Claim))
            }
            Err(error) => match error.code() {
                Some("OOM" | "MISCONF" | "NOREPLICAS") => Ok(Told::Refused),
                Some("ERR") => Ok(Told::Unknown),
                _ => Err(store_error(error)),
            },
        }
    }

    async fn by_script(&self, connection: &mut impl ConnectionLike) -> Result<Claim, StoreError> {
        let life = self.life.to_string();
        let args: [&[u8]; 2] = [&self.record, life.as_bytes()];
        let reply = match self.request.take_over {
            None => script::CLAIM.run(connection, &self.name, &args).await,
            Some(attempt) => {
                let lease = stored::millis(self.request.lease).to_string();
                let attempt = attempt.to_string();
                let more = [lease.as_bytes(), attempt.as_bytes()];
                let args = [&args, &more, self.quiet].concat();
                script::TAKE_OVER.run(connection, &self.name, &args).await
            }
        };
        reply::claim(&reply.map_err(store_error)?, self.request)
    }
}

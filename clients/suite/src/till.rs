//! The script that every client in Rust runs: pay each intent until it is answered. `js/till.js` is the same in JavaScript.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde::Serialize;

use crate::journal::{Answered, Journal};
use crate::options::Pay;
use crate::plan::Client;
use crate::{Result, client, complain, peer};

/// By which the network knows the lives of a client apart: a killed one has forgotten every `Retry-After`.
pub(crate) const LIFE: &str = "suite-life";

/// Between two calls for one intent.
pub(crate) const PAUSE: Duration = Duration::from_millis(50);

/// Of each try. No answer takes so long, except one that is held.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(4);

/// The tries of one call, and the bounds of its back-off. Short, so that ten thousand intents end in minutes.
pub(crate) const ATTEMPTS: u32 = 6;
pub(crate) const BASE: Duration = Duration::from_millis(20);
pub(crate) const CAP: Duration = Duration::from_millis(500);

#[derive(Debug, Serialize)]
pub(crate) struct Payment {
    pub(crate) intent: String,
    pub(crate) amount: u64,
}

impl Payment {
    pub(crate) fn new(number: usize) -> Self {
        Self {
            intent: format!("order-{number:05}"),
            amount: amount_of(number),
        }
    }
}

/// Different, so that no intent can be taken for another.
pub(crate) fn amount_of(number: usize) -> u64 {
    100 + number as u64
}

/// What a call has ended with.
pub(crate) enum Called {
    Answered(Answered),
    /// The next call is no sooner than this.
    Again(Duration),
}

/// Calls until every intent is answered.
pub(crate) async fn pay(options: &Pay) -> Result<ExitCode> {
    let journal = Arc::new(Journal::open(&options.journal)?);
    let payer = Arc::new(Payer::new(options)?);
    let next = Arc::new(AtomicUsize::new(0));
    let mut workers = tokio::task::JoinSet::new();
    for _ in 0..options.concurrency {
        let (journal, payer, next) = (Arc::clone(&journal), Arc::clone(&payer), Arc::clone(&next));
        let intents = options.intents;
        workers.spawn(async move {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= intents {
                    return Result::Ok(());
                }
                pay_one(&journal, &payer, number).await?;
            }
        });
    }
    while let Some(ended) = workers.join_next().await {
        if let Err(error) = ended? {
            complain(&format!("{}: {error}", options.client.name()));
            return Ok(ExitCode::FAILURE);
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn pay_one(journal: &Journal, payer: &Payer, number: usize) -> Result<()> {
    let payment = Payment::new(number);
    if journal.is_answered(&payment.intent) {
        return Ok(());
    }
    loop {
        match payer.call(journal, &payment).await? {
            Called::Answered(answered) => return journal.answer(&payment.intent, answered),
            Called::Again(pause) => tokio::time::sleep(pause.max(PAUSE)).await,
        }
    }
}

enum Payer {
    Ours(client::Payer),
    ReqwestRetry(peer::Payer),
}

impl Payer {
    fn new(options: &Pay) -> Result<Self> {
        match options.client {
            Client::Rust => client::Payer::new(options).map(Self::Ours),
            Client::ReqwestRetry => peer::Payer::new(options).map(Self::ReqwestRetry),
            other => Err(format!("{} is not written in Rust", other.name()).into()),
        }
    }

    async fn call(&self, journal: &Journal, payment: &Payment) -> Result<Called> {
        match self {
            Self::Ours(payer) => payer.call(journal, payment).await,
            Self::ReqwestRetry(payer) => payer.call(payment).await,
        }
    }
}

/// The number of the charge in a receipt.
pub(crate) fn charge_in(body: &[u8]) -> Option<u64> {
    let body: serde_json::Value = serde_json::from_slice(body).ok()?;
    body.get("charge")?.as_u64()
}

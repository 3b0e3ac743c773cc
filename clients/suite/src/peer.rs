//! The script with `reqwest-retry`: a new UUID at each call, which is what a program has that keeps no key.

use std::time::Duration;

use idempotent_client::Intent;
use reqwest_middleware::{ClientBuilder, ClientWithMiddleware};
use reqwest_retry::policies::ExponentialBackoff;
use reqwest_retry::{
    DefaultRetryableStrategy, RetryTransientMiddleware, Retryable, RetryableStrategy,
};

use crate::Result;
use crate::client::wait_of;
use crate::journal::Answered;
use crate::options::Pay;
use crate::till::{ATTEMPTS, BASE, CAP, Called, LIFE, Payment, TIMEOUT, charge_in};

pub(crate) struct Payer {
    client: ClientWithMiddleware,
    url: String,
    life: u64,
}

/// Retries all that `idempotent-client` retries, which is more than the default.
struct AlsoConflicts;

impl RetryableStrategy for AlsoConflicts {
    fn handle(
        &self,
        result: &std::result::Result<reqwest::Response, reqwest_middleware::Error>,
    ) -> Option<Retryable> {
        match result {
            Ok(response) if matches!(response.status().as_u16(), 409 | 425) => {
                Some(Retryable::Transient)
            }
            result => DefaultRetryableStrategy.handle(result),
        }
    }
}

impl Payer {
    pub(crate) fn new(options: &Pay) -> Result<Self> {
        let client = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(TIMEOUT)
            .build()?;
        let policy = ExponentialBackoff::builder()
            .retry_bounds(BASE, CAP)
            .build_with_max_retries(ATTEMPTS - 1);
        let retry = RetryTransientMiddleware::new_with_policy_and_strategy(policy, AlsoConflicts);
        Ok(Self {
            client: ClientBuilder::new(client).with(retry).build(),
            url: options.url.clone(),
            life: options.life,
        })
    }

    pub(crate) async fn call(&self, payment: &Payment) -> Result<Called> {
        let sent = self
            .client
            .post(&self.url)
            .header("idempotency-key", new_uuid())
            .header("content-type", "application/json")
            .header(LIFE, self.life)
            .body(serde_json::to_vec(payment)?)
            .send()
            .await;
        let Ok(response) = sent else {
            return Ok(Called::Again(Duration::ZERO));
        };
        let status = response.status();
        if !status.is_success() {
            return Ok(Called::Again(wait_of(response.headers())));
        }
        let Ok(body) = response.bytes().await else {
            return Ok(Called::Again(Duration::ZERO));
        };
        Ok(Called::Answered(Answered {
            status: status.as_u16(),
            charge: charge_in(&body),
        }))
    }
}

fn new_uuid() -> String {
    Intent::new().key().to_owned()
}

//! The script with `idempotent-client`: the intent is saved before the first send, and sent until it is answered.

use std::time::Duration;

use http::{HeaderName, HeaderValue};
use idempotent_client::{Error, IntentExt, Policy, Reason};

use crate::Result;
use crate::journal::{Answered, Journal};
use crate::options::Pay;
use crate::till::{ATTEMPTS, BASE, CAP, Called, LIFE, Payment, TIMEOUT, charge_in};

pub(crate) struct Payer {
    client: reqwest::Client,
    url: String,
    life: HeaderValue,
    policy: Policy,
}

impl Payer {
    pub(crate) fn new(options: &Pay) -> Result<Self> {
        Ok(Self {
            client: reqwest::Client::builder()
                .redirect(reqwest::redirect::Policy::none())
                .build()?,
            url: options.url.clone(),
            life: HeaderValue::from(options.life),
            policy: Policy::new()
                .attempts(ATTEMPTS)
                .base(BASE)
                .cap(CAP)
                .timeout(TIMEOUT),
        })
    }

    pub(crate) async fn call(&self, journal: &Journal, payment: &Payment) -> Result<Called> {
        let intent = journal.intent(&payment.intent)?;
        let sent = self
            .client
            .post(&self.url)
            .intent(&intent)
            .policy(self.policy.clone())
            .header(HeaderName::from_static(LIFE), self.life.clone())
            .json(payment)
            .send()
            .await;
        match sent {
            Ok(response) => {
                let status = response.status().as_u16();
                let charge = charge_in(&response.bytes().await?);
                Ok(Called::Answered(Answered { status, charge }))
            }
            // The tries of this call are used up. The next call has the same key.
            Err(Error::Undecided {
                reason: Reason::Attempts | Reason::Budget,
                answer,
                ..
            }) => {
                let headers = answer.as_ref().map(|answer| answer.headers());
                let wait = headers.map_or(Duration::ZERO, wait_of);
                Ok(Called::Again(wait))
            }
            Err(error) => Err(format!("{}: {error}", payment.intent).into()),
        }
    }
}

/// What the last answer of a call asks the script to wait. Seconds, or the difference of two dates of one server.
pub(crate) fn wait_of(headers: &http::HeaderMap) -> Duration {
    let Some(value) = headers.get(http::header::RETRY_AFTER) else {
        return Duration::ZERO;
    };
    let seconds = value.to_str().ok().and_then(|value| value.parse().ok());
    // A date of this suite is never further away.
    Duration::from_secs(seconds.unwrap_or(crate::proxy::BUSY_UNTIL_SECS))
}

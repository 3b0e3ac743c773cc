//! An operator, who looks at a record, looks up what has happened, and decides some time later.

use std::time::Duration;

use http::StatusCode;
use idempotent_runtime::{
    Error, Idempotency, Locator, RecordKey, RecordState, Recovery, Resolution, StoredResponse,
};
use tokio::time::sleep;

use crate::app::{App, answer_of, key_of, scope_of};
use crate::link::{Emission, Link};
use crate::plan::{Deed, IntentPlan, Millis, Surface};

/// Calls of operators are told from those of requests by their number.
pub const FIRST_OPERATOR: u64 = 1 << 40;

/// What an operator wants of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    Retry,
    /// The answer of this run is that of the request.
    Replay(usize),
}

/// What an operator was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    Resolved,
    /// Nothing was changed.
    Unchanged,
    /// An error: it may have been carried out.
    Uncertain,
}

/// What the world is told of an operator.
#[derive(Clone, Copy, Debug)]
pub enum Did {
    /// It has looked up what has happened, at that time.
    Decides(Millis, Decision),
    IsTold(Told),
}

pub struct Operator {
    pub number: u64,
    pub idempotency: Idempotency,
    pub app: App,
    pub link: Link,
    pub intent: usize,
    pub plan: IntentPlan,
}

impl Operator {
    fn tell(&self, did: Did) {
        self.link.emit(Emission::Operator(self.number, did));
    }

    fn locator(&self) -> Locator {
        let key = key_of(&self.plan, self.intent);
        let locator = match self.plan.surface {
            Surface::Http(route) => Locator::new(format!("POST /{route}"), key),
            Surface::Function => {
                let operation = format!("settle-{}-{}", self.plan.lease, self.plan.ttl);
                Locator::by_text(operation, key)
            }
        };
        locator.scope(&scope_of(&self.plan))
    }

    /// Does it, and tells the world.
    pub async fn act(self, deed: Deed, thinks: Millis) {
        let told = match deed {
            Deed::Forget => self.idempotency.forget(&self.locator()).await.map(|_| None),
            Deed::DecideWith => self.decide_with().await.map(Some),
            Deed::Decide | Deed::DecideSeen | Deed::DecideByRecordKey => {
                self.decide(deed, thinks).await
            }
        };
        let told = match told {
            Ok(Some(Resolution::Resolved)) => Told::Resolved,
            Ok(_) => Told::Unchanged,
            Err(_) => Told::Uncertain,
        };
        self.tell(Did::IsTold(told));
    }

    async fn decide(&self, deed: Deed, thinks: Millis) -> Result<Option<Resolution>, Error> {
        let asked_at = self.app.now();
        let Some(found) = self.idempotency.inspect(&self.locator()).await? else {
            return Ok(None);
        };
        if !matches!(found.state, RecordState::Abandoned) {
            return Ok(None);
        }
        // Another record of the request may be older than this one.
        let age = match found.handler_record_key() == found.record_key {
            true => found.age.as_millis() as Millis,
            false => Millis::MAX,
        };
        let recovery = self.look(found.handler_record_key(), asked_at.saturating_sub(age));
        sleep(Duration::from_millis(thinks)).await;
        let locator = match deed {
            Deed::DecideSeen => self.locator().seen(found.seen()),
            Deed::DecideByRecordKey => Locator::by_record_key(found.record_key),
            _ => self.locator(),
        };
        self.idempotency.resolve(&locator, recovery).await.map(Some)
    }

    async fn decide_with(&self) -> Result<Resolution, Error> {
        let decide = |abandoned: idempotent_runtime::Abandoned| {
            let age = abandoned.age().as_millis() as Millis;
            // The look at the record took time.
            let since = self.app.now().saturating_sub(age + 2 * 400);
            std::future::ready(self.look(abandoned.record_key(), since))
        };
        self.idempotency.resolve_with(&self.locator(), decide).await
    }

    /// What has happened, by what handlers have written beside their effects.
    fn look(&self, record: RecordKey, since: Millis) -> Recovery {
        let done = {
            let ledger = self.app.ledger().lock();
            let mut runs = ledger.runs.iter().enumerate().rev();
            let of_record =
                |run: &crate::ledger::Run| run.record == Some(record) && run.begun_at >= since;
            runs.find(|(_, run)| of_record(run) && !run.effects.is_empty())
                .map(|(number, run)| (number, run.clone()))
        };
        let at = self.app.now();
        let Some((number, run)) = done else {
            self.tell(Did::Decides(at, Decision::Retry));
            return Recovery::Retry;
        };
        // Of two effects one may be missing: nothing is to be done about that here.
        if run.effects.len() < 2 && self.plan.outcome == crate::plan::HandlerOutcome::Steps {
            return Recovery::Unknown;
        }
        let answer = answer_of(number, run.intent, run.variant, 0);
        let response = match self.plan.surface {
            Surface::Http(_) => {
                StoredResponse::new(StatusCode::CREATED, Default::default(), answer)
            }
            Surface::Function => match StoredResponse::of_value(&answer) {
                Ok(response) => response,
                Err(_) => return Recovery::Unknown,
            },
        };
        self.tell(Did::Decides(at, Decision::Replay(number)));
        Recovery::Replay(response)
    }
}

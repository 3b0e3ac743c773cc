//! A transaction that runs, as a shutdown and observers count it.

use std::sync::atomic::Ordering;

use crate::engine::tasks::TaskToken;
use crate::engine::{Described, Engine};
use crate::key::RecordKey;
use crate::observer::Event;

/// Is counted, and keeps [`Engine::shutdown`] waiting.
pub(super) struct Running {
    pub(super) engine: Engine,
    /// What it runs, as observers know it, once it has begun for a record.
    observed: Option<Described>,
    _token: TaskToken,
}

impl Running {
    pub(super) fn new(engine: &Engine, token: TaskToken) -> Self {
        engine.0.held.fetch_add(1, Ordering::AcqRel);
        Self {
            engine: engine.clone(),
            observed: None,
            _token: token,
        }
    }

    pub(super) fn begin(&mut self, described: &Described, record: RecordKey) {
        if self.engine.observers().is_none() {
            return;
        }
        self.observed = Some(described.clone());
        self.engine.observers().tell(|| Event::Claimed {
            operation: described.shown(),
            record,
            attempt: 1,
        });
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.engine.0.held.fetch_sub(1, Ordering::AcqRel);
        if let Some(described) = &self.observed {
            self.engine.observers().tell(|| Event::ClaimEnded {
                operation: described.shown(),
            });
        }
    }
}

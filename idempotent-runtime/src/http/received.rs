//! A request before it is decided about, and the handle that protects it.

use super::identify::{Original, usable};
use super::tested::Tested;
use crate::engine::Intent;
use crate::handle::problem::Problem;
use crate::handle::{Attempt, Idempotency, Inputs, Transactions};
use crate::policy::Policy;
use crate::store::transaction::TransactionConnection;

/// The handle that a request is protected by.
pub trait Handle: Send + 'static {
    /// The store and the settings.
    fn idempotency(&self) -> &Idempotency;
}

impl Handle for Idempotency {
    fn idempotency(&self) -> &Idempotency {
        self
    }
}

impl<C: TransactionConnection> Handle for Transactions<C> {
    fn idempotency(&self) -> &Idempotency {
        Transactions::idempotency(self)
    }
}

/// A request whose arguments are all extracted.
pub(super) struct Received<H> {
    pub(super) handle: H,
    pub(super) is_safe: bool,
    /// `None` when no argument has asked for it, or will.
    pub(super) attempt: Option<Attempt>,
    /// `None` where there is nothing to protect: the request is safe, or has no key and needs none.
    pub(super) intent: Result<Option<Intent>, Box<Problem>>,
    /// What it is identified by once more: by expressions over the arguments, or by another digest.
    pub(super) original: Option<Box<Original>>,
    pub(super) tested: Tested,
}

impl<H: Handle> Received<H> {
    /// Takes what the request is identified by.
    pub(super) fn take_intent(&mut self) -> Result<Option<Intent>, Box<Problem>> {
        std::mem::replace(&mut self.intent, Ok(None))
    }

    /// Identifies the request by expressions over its arguments as well.
    pub(super) fn identify(&mut self, policy: &Policy, inputs: Inputs) {
        let intent = match &mut self.original {
            Some(original) => original.identify(self.handle.idempotency(), policy, inputs),
            None if self.is_safe => return,
            // There is no key, and a mistake in an expression comes first.
            None => match usable(inputs.error.as_ref()) {
                Ok(()) => return,
                Err(problem) => Err(problem),
            },
        };
        self.intent = intent.map_err(Box::new);
    }
}

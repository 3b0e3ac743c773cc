//! What identifies one execution.

use std::sync::Arc;
use std::time::SystemTime;

use serde::Serialize;

use super::error::{ExecuteError, ExecuteErrorKind};
use crate::canonical::to_canonical;
use crate::engine::{Described, Intent};
use crate::fingerprint::Fingerprint;
use crate::handle::{Idempotency, Inputs};
use crate::key::{InvalidKey, Key};
use crate::observer::ObservedCall;
use crate::policy::{KeyAge, Policy};

/// Whether a function asks for its attempt, which costs a look at the store after a crash, and while a secret is rotated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AttemptUse {
    Ignored,
    Asked,
}

/// From what [`Idempotency::execute`] is told.
pub(super) fn of_call<S: Serialize, I: Serialize + ?Sized>(
    idempotency: &Idempotency,
    policy: &Policy,
    operation: &str,
    scope: &S,
    key: &str,
    input: &I,
) -> Result<Intent, ExecuteError> {
    let key = Key::from_text(key).map_err(invalid)?;
    let ttl = policy.ttl_or(idempotency.ttl());
    if policy.key_age == KeyAge::Ttl && key.is_from_the_future(ttl, SystemTime::now()) {
        return Err(invalid(InvalidKey::FromTheFuture));
    }
    let scope = Some(to_canonical(scope).map_err(unusable)?);
    let input = to_canonical(input).map_err(unusable)?;
    Ok(intent(
        idempotency,
        policy,
        operation,
        scope,
        None,
        key,
        &input,
    ))
}

/// From the expressions of the attribute.
pub(super) fn of_inputs(
    idempotency: &Idempotency,
    policy: &Policy,
    operation: &str,
    inputs: Inputs,
) -> Result<Intent, ExecuteError> {
    let input = inputs.fingerprint_or_arguments();
    if let Some(error) = inputs.error {
        return Err(unusable(error));
    }
    let key = match inputs.key {
        None => return Err(invalid(InvalidKey::Empty)),
        Some(json) if matches!(&*json, b"null" | br#""""#) => {
            return Err(invalid(InvalidKey::Empty));
        }
        Some(json) => Key::from_serialized(json),
    };
    Ok(intent(
        idempotency,
        policy,
        operation,
        inputs.scope,
        inputs.label,
        key,
        &input,
    ))
}

fn intent(
    idempotency: &Idempotency,
    policy: &Policy,
    operation: &str,
    scope: Option<Vec<u8>>,
    label: Option<Arc<str>>,
    key: Key,
    input: &[u8],
) -> Intent {
    let operation = policy.name.unwrap_or(operation);
    let keys = idempotency.record_keys();
    Intent {
        keys: keys.derive(operation, scope.as_deref(), &key),
        fingerprint: Fingerprint::of_input(input),
        operation: Described::new(operation, label),
        ttl: policy.ttl_or(idempotency.ttl()),
        key,
        scope,
    }
}

/// The call, if it is observed.
pub(super) fn observed(
    idempotency: &Idempotency,
    policy: &Policy,
    operation: &str,
) -> Option<ObservedCall> {
    let observers = idempotency.engine().observers();
    observers.watch(policy.name.unwrap_or(operation))
}

fn invalid(reason: InvalidKey) -> ExecuteError {
    ExecuteError::new(ExecuteErrorKind::InvalidKey).caused_by(reason)
}

fn unusable(error: serde_json::Error) -> ExecuteError {
    ExecuteError::new(ExecuteErrorKind::UnusableInput).caused_by(error)
}

//! What axum extracts of a handle.

use std::convert::Infallible;

use axum::extract::{FromRef, FromRequestParts};
use http::request::Parts;

use crate::handle::{Attempt, Idempotency, Transactions};
use crate::store::TransactionConnection;

impl<S: Send + Sync> FromRequestParts<S> for Attempt {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self::of(&mut parts.extensions))
    }
}

/// A state that is the transactions serves all idempotent handlers.
impl<C: TransactionConnection> FromRef<Transactions<C>> for Idempotency {
    fn from_ref(transactions: &Transactions<C>) -> Self {
        transactions.idempotency().clone()
    }
}

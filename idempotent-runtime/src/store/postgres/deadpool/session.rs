//! What a session was before its handler, and whether it is so still.

use tokio_postgres::{Error, Statement};

use super::lent::DeadpoolTransaction;
use crate::store::postgres::statements::SESSION;

/// Asked for when the transaction has ended: within it, what the handler has set for the session can be hidden by what it has
/// set for the transaction.
pub(super) struct SessionBefore {
    pub(super) settings: Vec<String>,
    is_same: Statement,
}

impl SessionBefore {
    /// With settings still to be put in. It is prepared before the handler runs: with what that may do, a connection that
    /// has forgotten its statements would not be noticed.
    pub(super) async fn prepared(lent: &DeadpoolTransaction) -> Result<Self, Error> {
        Ok(Self {
            settings: Vec::new(),
            is_same: lent.prepare_cached(&SESSION.is_same).await?,
        })
    }

    pub(super) async fn is_same(&self, lent: &DeadpoolTransaction) -> Result<bool, Error> {
        let row = lent.query_one(&self.is_same, &[&self.settings]).await?;
        row.try_get("is_same")
    }
}

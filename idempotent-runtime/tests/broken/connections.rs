//! What a call needs besides the row: one of a few connections.

use idempotent_runtime::Owner;
use idempotent_runtime::store::StoreError;
use tokio::sync::Semaphore;

use super::{Fault, MutexStore};

#[derive(Debug)]
pub(super) struct Connections(Semaphore);

impl Default for Connections {
    fn default() -> Self {
        Self(Semaphore::new(8))
    }
}

impl MutexStore {
    /// Uses a connection for a while. Only a fault waits with it, and a call that is dropped then keeps it.
    pub(super) async fn connect(&self) {
        if !self.has(Fault::GivenUpKeepsItsConnection) {
            return;
        }
        if let Ok(connection) = self.connections.0.acquire().await {
            connection.forget();
            tokio::task::yield_now().await;
            self.connections.0.add_permits(1);
        }
    }

    /// Takes the owner's token, and gives it back: the first and the last of three statements, and
    /// the call can be dropped between them.
    pub(super) async fn half_done(&self, owner: &Owner) -> Result<(), StoreError> {
        let index = self.index(&owner.key);
        let owned = |row: &super::Row| row.is_owned_by(owner, None);
        if !self.lock()?.get(&index).is_some_and(owned) {
            return Ok(());
        }
        let mut token = None;
        self.lock()?
            .entry(index)
            .and_modify(|row| token = row.take_token());
        tokio::task::yield_now().await;
        self.lock()?
            .entry(index)
            .and_modify(|row| row.give_token(token));
        Ok(())
    }
}

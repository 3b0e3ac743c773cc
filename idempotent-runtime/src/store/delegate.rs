//! A pointer to a store is a store.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use super::{
    Claim, ClaimRequest, Completion, ListCursor, ListFilter, Listing, Progress, Purged, Release,
    Renewal, Renewed, Store, StoreError, Subscription, Transactor,
};
use crate::key::RecordKey;
use crate::record::{Owner, Record, StoredResponse};

macro_rules! delegate {
    ($pointer:ident) => {
        #[deny(clippy::missing_trait_methods)]
        #[async_trait]
        impl<S: Store + ?Sized> Store for $pointer<S> {
            fn name(&self) -> &'static str {
                (**self).name()
            }
            async fn claim(&self, request: &ClaimRequest<'_>) -> Result<Claim, StoreError> {
                (**self).claim(request).await
            }
            async fn renew(&self, renewals: &[Renewal]) -> Vec<Result<Renewed, StoreError>> {
                (**self).renew(renewals).await
            }
            async fn save_progress(
                &self,
                owner: &Owner,
                offset: usize,
                bytes: &Bytes,
            ) -> Result<Progress, StoreError> {
                (**self).save_progress(owner, offset, bytes).await
            }
            async fn complete(
                &self,
                owner: &Owner,
                response: &Arc<StoredResponse>,
                ttl: Duration,
            ) -> Result<Completion, StoreError> {
                (**self).complete(owner, response, ttl).await
            }
            async fn release(&self, owners: &[Owner]) -> Vec<Result<Release, StoreError>> {
                (**self).release(owners).await
            }
            async fn abandon(&self, owners: &[Owner]) -> Vec<Result<Release, StoreError>> {
                (**self).abandon(owners).await
            }
            async fn give_grace(
                &self,
                key: &RecordKey,
                attempt: u32,
                grace: Duration,
                retention: Duration,
            ) -> Result<bool, StoreError> {
                (**self).give_grace(key, attempt, grace, retention).await
            }
            async fn get(&self, key: &RecordKey) -> Result<Option<Record>, StoreError> {
                (**self).get(key).await
            }
            async fn remove(&self, key: &RecordKey) -> Result<bool, StoreError> {
                (**self).remove(key).await
            }
            async fn purge_expired(&self, limit: usize) -> Result<Purged, StoreError> {
                (**self).purge_expired(limit).await
            }
            async fn list(
                &self,
                filter: &ListFilter,
                cursor: Option<&ListCursor>,
                limit: usize,
            ) -> Result<Listing, StoreError> {
                (**self).list(filter, cursor, limit).await
            }
            fn subscribe(&self, key: &RecordKey) -> Subscription {
                (**self).subscribe(key)
            }
            fn transactor(&self) -> Option<Transactor> {
                (**self).transactor()
            }
        }
    };
}

delegate!(Arc);
delegate!(Box);

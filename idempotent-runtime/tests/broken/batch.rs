//! Batches, and what becomes of their results.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use idempotent_runtime::store::{Release, Renewal, Renewed, StoreError, StoreErrorKind};
use idempotent_runtime::{Clock, Owner, RecordKey};

use super::{Fault, MutexStore};

impl MutexStore {
    pub(super) async fn renew_all(&self, renewals: &[Renewal]) -> Vec<Result<Renewed, StoreError>> {
        let mut results = Vec::new();
        for renewal in renewals {
            let mut renewal = *renewal;
            if self.has(Fault::RenewalsAreAsLongAsTheFirst)
                && let Some(first) = renewals.first()
            {
                (renewal.lease, renewal.retention) = (first.lease, first.retention);
            }
            results.push(match self.when_locked(&renewal.owner.key).await {
                Some(answer) => answer.map(|()| Renewed::Lost),
                None => self.renew_one(&renewal).await,
            });
        }
        let owners: Vec<_> = renewals.iter().map(|renewal| renewal.owner).collect();
        let fate = Fault::RenewalsShareTheirFate;
        self.batch(&owners, results, Renewed::Lost, fate)
    }

    async fn renew_one(&self, renewal: &Renewal) -> Result<Renewed, StoreError> {
        let now = self.clock.now();
        let index = self.index(&renewal.owner.key);
        if self.has(Fault::RenewalIsGetThenSet) {
            let row = self.lock()?.get(&index).cloned();
            tokio::task::yield_now().await;
            let held = |row: &super::Row| self.is_held(row, &renewal.owner, Fault::UnfencedRenewal);
            if let Some(mut row) = row.filter(held) {
                row.renew(renewal, now, self.fault);
                self.lock()?.insert(index, row);
                return Ok(Renewed::Renewed);
            }
            return Ok(Renewed::Lost);
        }
        let mut rows = self.lock()?;
        let row = rows.get_mut(&index);
        let row = row.filter(|row| self.is_held(row, &renewal.owner, Fault::UnfencedRenewal));
        let Some(row) = row else {
            return Ok(Renewed::Lost);
        };
        row.renew(renewal, now, self.fault);
        Ok(Renewed::Renewed)
    }

    pub(super) async fn release_all(&self, owners: &[Owner]) -> Vec<Result<Release, StoreError>> {
        let mut results = Vec::new();
        for owner in owners {
            results.push(match self.when_locked(&owner.key).await {
                Some(answer) => answer.map(|()| Release::Lost),
                None => self.release_one(owner).await,
            });
        }
        self.batch(
            owners,
            results,
            Release::Lost,
            Fault::ReleasesShareTheirFate,
        )
    }

    async fn release_one(&self, owner: &Owner) -> Result<Release, StoreError> {
        if self.has(Fault::GivenUpReleaseIsHalfDone) {
            self.half_done(owner).await?;
        }
        let mut rows = self.lock()?;
        let index = self.index(&owner.key);
        let held = rows.get(&index).is_some_and(|row| {
            self.is_held(row, owner, Fault::UnfencedRelease)
                || self.has(Fault::CompletedIsReleased)
                    && self.is_live(row, self.clock.now())
                    && row.is_owned_by(owner, self.fault)
        });
        if !held {
            return Ok(Release::Lost);
        }
        if self.has(Fault::ReleaseEndsTheLeaseOnly) {
            rows.entry(index)
                .and_modify(|row| row.lease_until = Duration::ZERO);
        } else if let Some(row) = rows.remove(&index) {
            self.forget(index, &row);
        }
        self.wake();
        Ok(Release::Released)
    }

    pub(super) async fn abandon_all(&self, owners: &[Owner]) -> Vec<Result<Release, StoreError>> {
        let mut results = Vec::new();
        for owner in owners {
            results.push(match self.when_locked(&owner.key).await {
                Some(answer) => answer.map(|()| Release::Lost),
                None => self.abandon_one(owner),
            });
        }
        self.batch(
            owners,
            results,
            Release::Lost,
            Fault::AbandoningsShareTheirFate,
        )
    }

    fn abandon_one(&self, owner: &Owner) -> Result<Release, StoreError> {
        let now = self.clock.now();
        let mut rows = self.lock()?;
        let index = self.index(&owner.key);
        let Some(row) = rows.get_mut(&index).filter(|row| {
            self.is_held(row, owner, Fault::UnfencedAbandoning)
                && !(self.has(Fault::AbandoningNeedsALease) && row.lease_until <= now)
        }) else {
            return Ok(Release::Lost);
        };
        row.abandon(now, self.fault);
        if self.has(Fault::AbandoningRemoves) {
            rows.remove(&index);
        }
        if !self.has(Fault::AbandoningWakesNobody) {
            self.wake();
        }
        Ok(Release::Released)
    }

    /// The results of a batch, with what `fate` or another fault makes of them.
    fn batch<T: Copy + PartialEq>(
        &self,
        owners: &[Owner],
        mut results: Vec<Result<T, StoreError>>,
        lost: T,
        fate: Fault,
    ) -> Vec<Result<T, StoreError>> {
        let keys = || owners.iter().map(|owner| owner.key);
        let is_lost = |result: &Result<T, _>| matches!(result, Ok(value) if *value == lost);
        let refused = |kind| Err(StoreError::new("mutex", kind));
        match self.fault {
            Some(fault) if fault == fate && results.iter().any(is_lost) => {
                results.fill(refused(StoreErrorKind::Refused));
            }
            Some(Fault::LockedFailsTheBatch) if results.iter().any(Result::is_err) => {
                results.fill(refused(StoreErrorKind::Busy));
            }
            Some(Fault::TwiceIsAFailure)
                if owners.iter().collect::<HashSet<_>>().len() < owners.len() =>
            {
                results.fill(refused(StoreErrorKind::Busy));
            }
            Some(Fault::ResultsInTheOrderOfKeys) => {
                let mut sorted: Vec<_> = keys().zip(results).collect();
                sorted.sort_by_key(|(key, _)| *key.as_bytes());
                results = sorted.into_iter().map(|(_, result)| result).collect();
            }
            Some(Fault::ResultsAreByKey) => {
                let by_key: HashMap<RecordKey, _> = keys().zip(results).collect();
                results = keys().filter_map(|key| by_key.get(&key).cloned()).collect();
            }
            Some(Fault::EmptyBatchHasAResult) if results.is_empty() => results.push(Ok(lost)),
            Some(Fault::BatchIsCut) => results.truncate(1000),
            _ => {}
        }
        results
    }
}

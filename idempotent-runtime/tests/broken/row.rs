//! One row, and what each operation makes of it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use idempotent_runtime::store::{Acquired, Claim, ClaimRequest, Completion, Progress, Renewal};
use idempotent_runtime::{Fingerprint, Owner, Record, RecordState, StoredResponse, Token};

use super::{Decision, Fault};

#[derive(Clone, Debug)]
pub(super) struct Row {
    fingerprint: Fingerprint,
    operation: Arc<str>,
    label: Option<Arc<str>>,
    /// Missing when its owner has abandoned it.
    token: Option<Token>,
    pub(super) attempt: u32,
    created_at: Duration,
    pub(super) lease_until: Duration,
    pub(super) expires_at: Duration,
    pub(super) response: Option<Arc<StoredResponse>>,
    pub(super) progress: Bytes,
}

impl Row {
    pub(super) fn first(request: &ClaimRequest<'_>, now: Duration, fault: Option<Fault>) -> Self {
        let mut operation = request.operation;
        if fault == Some(Fault::OperationIsCut) {
            let end = operation.char_indices().nth(64);
            operation = &operation[..end.map_or(operation.len(), |(end, _)| end)];
        }
        let expires_at = match fault {
            Some(Fault::RetentionCountsFromTheClaim) => now + request.lease.max(request.retention),
            Some(Fault::RetentionIsForEver) => Duration::MAX,
            Some(Fault::LifeIsCut) => {
                let most = Duration::from_millis(u32::MAX.into());
                now + (request.lease + request.retention).min(most)
            }
            _ => now + request.lease + request.retention,
        };
        Self {
            fingerprint: request.fingerprint,
            operation: operation.into(),
            label: request.label.map(Arc::from),
            token: Some(request.owner.token),
            attempt: 1,
            created_at: now,
            lease_until: now + request.lease,
            expires_at,
            response: None,
            progress: match fault {
                Some(Fault::FirstClaimDropsItsProgress) => Bytes::new(),
                _ => Bytes::copy_from_slice(request.progress),
            },
        }
    }

    pub(super) fn age(&self, now: Duration) -> Duration {
        now - self.created_at
    }

    pub(super) fn is_owned_by(&self, owner: &Owner, fault: Option<Fault>) -> bool {
        let Some(token) = self.token else {
            return false;
        };
        match fault {
            Some(Fault::TokenWithoutItsLastByte) => {
                token.as_bytes()[..15] == owner.token.as_bytes()[..15]
            }
            _ => token == owner.token,
        }
    }

    pub(super) fn fingerprint_differs(&self, other: &Fingerprint, fault: Option<Fault>) -> bool {
        match fault {
            Some(Fault::FingerprintWithoutItsLastByte) => {
                self.fingerprint.as_bytes()[..31] != other.as_bytes()[..31]
            }
            _ => self.fingerprint != *other,
        }
    }

    /// What a claim comes to, given that the row has not expired.
    pub(super) fn decide(
        &self,
        request: &ClaimRequest<'_>,
        now: Duration,
        fault: Option<Fault>,
    ) -> Decision {
        let (attempt, age) = (self.attempt, self.age(now));
        if let Some(response) = &self.response
            && !(fault == Some(Fault::LeaseEndsCompletion) && self.lease_until <= now)
        {
            return Decision::Answer(Claim::Completed(Arc::clone(response)));
        }
        if self.is_owned_by(&request.owner, fault) && !self.has_forgotten(request, now, fault) {
            return Decision::Answer(Claim::Acquired(Acquired { attempt, age }));
        }
        let names_it = match fault {
            Some(Fault::TakeOverOfAnyAttempt) => request.take_over.is_some(),
            _ => request.take_over == Some(attempt),
        };
        let live = self.lease_until > now;
        if live && !(names_it && fault == Some(Fault::TakeOverOfALiveLease)) {
            return Decision::Answer(Claim::InFlight {
                lease_left: self.lease_until - now,
            });
        }
        if fault == Some(Fault::StateBeforeFingerprint) && self.fingerprint != request.fingerprint {
            return Decision::Answer(Claim::Mismatch);
        }
        let is_unequal = self.token.is_some() || fault != Some(Fault::AbandonedIsNotTakenOver);
        if !names_it || !is_unequal {
            return Decision::Answer(Claim::Abandoned { attempt, age });
        }
        Decision::Write(self.taken_over(request, now, fault))
    }

    /// Whether it was given.
    pub(super) fn give_grace(
        &mut self,
        attempt: u32,
        (grace, retention): (Duration, Duration),
        now: Duration,
        fault: Option<Fault>,
    ) -> bool {
        let has = |other| fault == Some(other);
        let is_abandoned = (self.response.is_none() || has(Fault::GraceForTheCompleted))
            && (self.attempt == attempt || has(Fault::GraceForAnyAttempt))
            && (self.token.is_some() || has(Fault::GraceForWhoGaveUp))
            && (self.lease_until <= now || has(Fault::GraceForTheLiving));
        if !is_abandoned || has(Fault::GraceIsForgotten) {
            return is_abandoned;
        }
        self.lease_until = now + grace;
        if !has(Fault::GraceKeepsTheExpiry) {
            self.expires_at = now + grace + retention;
        }
        if has(Fault::GraceTakesTheToken) {
            self.token = None;
        }
        true
    }

    fn has_forgotten(
        &self,
        request: &ClaimRequest<'_>,
        now: Duration,
        fault: Option<Fault>,
    ) -> bool {
        match fault {
            Some(Fault::ClaimForgetsItsToken) => true,
            Some(Fault::ClaimForgetsItsTokenWithTheLease) => self.lease_until <= now,
            Some(Fault::TakeOverForgetsItsToken) => request.take_over.is_some(),
            _ => false,
        }
    }

    fn taken_over(&self, request: &ClaimRequest<'_>, now: Duration, fault: Option<Fault>) -> Self {
        let mut row = Self {
            attempt: self.attempt + 1,
            created_at: self.created_at,
            operation: Arc::clone(&self.operation),
            label: self.label.clone(),
            progress: self.progress.clone(),
            ..Self::first(request, now, fault)
        };
        match fault {
            Some(Fault::OperationIsTheLastOne) => row.operation = request.operation.into(),
            Some(Fault::TakeOverKeepsTheToken) => row.token = self.token,
            Some(Fault::TakeOverKeepsTheExpiry) => row.expires_at = self.expires_at,
            Some(Fault::TakeOverResetsTheAge) => row.created_at = now,
            Some(Fault::TakeOverDropsTheProgress) => row.progress = Bytes::new(),
            Some(Fault::TakeOverBeginsItsOwnProgress) if !request.progress.is_empty() => {
                row.progress = Bytes::copy_from_slice(request.progress);
            }
            _ => {}
        }
        row
    }

    pub(super) fn renew(&mut self, renewal: &Renewal, now: Duration, fault: Option<Fault>) {
        match fault {
            Some(Fault::RenewalDoesNothing) => return,
            Some(Fault::RenewalOfZeroIsNone) if renewal.lease.is_zero() => return,
            Some(Fault::RenewalNeedsALease) if self.lease_until <= now => return,
            _ => self.lease_until = now + renewal.lease,
        }
        if fault == Some(Fault::RenewalDropsTheProgress) {
            self.progress = Bytes::new();
        }
        match fault {
            Some(Fault::RenewalKeepsTheExpiry) => {}
            Some(Fault::RenewalForgetsTheRetention) => self.expires_at = self.lease_until,
            Some(Fault::RenewalDropsTheProgress) => self.progress = Bytes::new(),
            Some(Fault::RenewalNeverShortensTheLife) => {
                self.expires_at = self.expires_at.max(self.lease_until + renewal.retention);
            }
            _ => self.expires_at = self.lease_until + renewal.retention,
        }
    }

    /// What saving progress comes to, given that the owner may.
    pub(super) fn saved(
        &self,
        offset: usize,
        bytes: &Bytes,
        now: Duration,
        fault: Option<Fault>,
    ) -> (Progress, Option<Self>) {
        let stored_bytes = self.progress.len();
        let mut offset = offset;
        if offset > stored_bytes {
            let behind = |stored_bytes| (Progress::Behind { stored_bytes }, None);
            match fault {
                Some(Fault::BehindIsSaved) => return (Progress::Saved, None),
                Some(Fault::BehindIsAppended) => offset = stored_bytes,
                Some(Fault::BehindTellsTheOffset) => return behind(offset),
                _ => return behind(stored_bytes),
            }
        }
        let known = match fault {
            Some(Fault::LastProgressStays | Fault::ProgressIsOverwritten) => offset,
            Some(Fault::AppendIgnoresTheOffset) => {
                offset = stored_bytes;
                stored_bytes
            }
            _ => stored_bytes,
        };
        let new = bytes.get(known - offset..).unwrap_or_default();
        if fault == Some(Fault::ProgressIsForgotten) {
            return (Progress::Saved, None);
        }
        if new.is_empty() && fault == Some(Fault::LateProgressIsLost) {
            return (Progress::Lost, None);
        }
        let mut progress = self.progress.to_vec();
        match fault {
            Some(Fault::ProgressIsOverwritten) => {
                let end = stored_bytes.min(known + new.len());
                progress.splice(known..end, new.iter().copied());
            }
            Some(Fault::LastPieceStays) if !new.is_empty() => progress = new.to_vec(),
            _ => {
                progress.truncate(known);
                progress.extend_from_slice(new);
            }
        }
        let mut row = Self {
            progress: kept_progress(&progress.into(), fault),
            ..self.clone()
        };
        match fault {
            Some(Fault::ProgressRenewsTheLease) => row.lease_until = now + Duration::from_secs(9),
            Some(Fault::ProgressMovesTheExpiry) => row.expires_at = now + Duration::from_secs(9),
            _ => {}
        }
        (Progress::Saved, Some(row))
    }

    /// Ends the claim, given that the owner may.
    pub(super) fn abandon(&mut self, now: Duration, fault: Option<Fault>) {
        if fault != Some(Fault::AbandoningKeepsTheToken) {
            self.token = None;
        }
        if fault != Some(Fault::AbandoningKeepsTheLease) {
            self.lease_until = self.lease_until.min(now);
        }
        match fault {
            Some(Fault::AbandoningDropsTheProgress) => self.progress = Bytes::new(),
            Some(Fault::AbandoningMovesTheExpiry) => self.expires_at += Duration::from_secs(60),
            _ => {}
        }
    }

    /// Takes the token from its owner, and gives it back.
    pub(super) fn take_token(&mut self) -> Option<Token> {
        self.token.take()
    }

    pub(super) fn give_token(&mut self, token: Option<Token>) {
        self.token = token;
    }

    pub(super) fn operation(&self) -> &Arc<str> {
        &self.operation
    }

    pub(super) fn uncompleted(&self) -> Option<&Arc<str>> {
        self.response.is_none().then_some(&self.operation)
    }

    /// Completes it, given that the owner may.
    pub(super) fn complete(
        &mut self,
        response: &Arc<StoredResponse>,
        ttl: Duration,
        now: Duration,
        fault: Option<Fault>,
    ) -> Completion {
        if fault == Some(Fault::CompletionNeedsALease) && self.lease_until <= now {
            return Completion::Lost;
        }
        let again = self.response.is_some();
        if !again || fault == Some(Fault::SecondCompletionMovesTheExpiry) {
            self.expires_at = match fault {
                Some(Fault::CompletionKeepsTheExpiry) => self.expires_at,
                Some(Fault::TtlCountsFromTheClaim) => self.created_at + ttl,
                Some(Fault::TtlCountsFromTheLease) => self.lease_until + ttl,
                Some(Fault::CompletionKeepsTheLongerLife) => self.expires_at.max(now + ttl),
                _ => now + ttl,
            };
        }
        if !again || fault == Some(Fault::SecondCompletionOverwrites) {
            self.response = Some(kept(response, fault));
        }
        if fault != Some(Fault::CompletionKeepsTheProgress) {
            self.progress = Bytes::new();
        }
        match (again, fault) {
            (false, _) | (true, Some(Fault::SecondCompletionIsStored)) => Completion::Stored,
            (true, _) => Completion::AlreadyCompleted,
        }
    }

    pub(super) fn record(&self, now: Duration) -> Record {
        let state = match &self.response {
            Some(response) => RecordState::Completed(Arc::clone(response)),
            None if self.lease_until > now => RecordState::Running {
                lease_left: self.lease_until - now,
            },
            None => RecordState::Abandoned,
        };
        Record {
            fingerprint: self.fingerprint,
            operation: Arc::clone(&self.operation),
            label: self.label.clone(),
            attempt: self.attempt,
            age: self.age(now),
            expires_in: self.expires_at.saturating_sub(now),
            state,
            progress: self.progress.clone(),
        }
    }
}

/// The progress as it will come back.
fn kept_progress(progress: &Bytes, fault: Option<Fault>) -> Bytes {
    match fault {
        Some(Fault::ProgressIsText) => String::from_utf8_lossy(progress).into_owned().into(),
        Some(Fault::ProgressIsCut) => progress.slice(..progress.len().min(65_535)),
        _ => progress.clone(),
    }
}

/// The response as it will come back.
fn kept(response: &Arc<StoredResponse>, fault: Option<Fault>) -> Arc<StoredResponse> {
    let mut kept = StoredResponse::clone(response);
    match fault {
        Some(Fault::BodyIsText) => {
            let text = |body: Bytes| String::from_utf8_lossy(&body).into_owned().into();
            kept.body = kept.body.map(text);
        }
        Some(Fault::NoBodyIsAnEmptyBody) => kept.body = Some(kept.body.unwrap_or_default()),
        Some(Fault::HeadersAreAMap) => {
            let mut once = HeaderMap::new();
            for (name, value) in &response.headers {
                once.insert(name.clone(), value.clone());
            }
            kept.headers = once;
        }
        Some(Fault::HeadersAreSorted) => {
            let mut sorted: Vec<_> = response.headers.iter().collect();
            sorted.sort_by_key(|(name, _)| name.as_str());
            kept.headers = HeaderMap::new();
            for (name, value) in sorted {
                kept.headers.append(name.clone(), value.clone());
            }
        }
        _ => {}
    }
    Arc::new(kept)
}

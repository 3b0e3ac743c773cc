//! What a case works with: fresh keys, the store, and its time.

use std::fmt::Debug;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::bed::{Flow, RecordLock, TestBed, Timing};
use super::report::Rule;
use super::request::{CaseRequest, OPERATION, answer, rival};
use super::verdict::{Failure, Verdict, must_be};
use crate::fingerprint::Fingerprint;
use crate::key::RecordKey;
use crate::record::{Owner, Record, RecordState, StoredResponse, Token};
use crate::store::{Acquired, Claim, Completion, Release, Renewal, Renewed, Store, StoreError};

/// One run of one case.
pub(super) struct Lab<'a> {
    pub(super) store: Arc<dyn Store>,
    bed: &'a dyn TestBed,
    timing: Timing,
    used: Mutex<Used>,
}

#[derive(Default)]
struct Used {
    advanced: Duration,
    keys: Vec<RecordKey>,
}

impl<'a> Lab<'a> {
    pub(super) fn new(bed: &'a dyn TestBed, timing: Timing) -> Self {
        Self {
            store: bed.store(),
            bed,
            timing,
            used: Mutex::default(),
        }
    }

    /// A claim of a new key, with a lease and a retention that last.
    pub(super) fn request(&self) -> Result<CaseRequest, Failure> {
        let mut key = [0; 32];
        getrandom::fill(&mut key).map_err(std::io::Error::from)?;
        self.request_of(RecordKey::from_bytes(key))
    }

    /// An owner of nothing, with a key that was never used and never will be.
    pub(super) fn absent_owner(&self) -> Result<Owner, Failure> {
        let mut key = [0; 32];
        getrandom::fill(&mut key).map_err(std::io::Error::from)?;
        let (key, token) = (RecordKey::from_bytes(key), Token::random()?);
        Ok(Owner { key, token })
    }

    /// A claim of this key, which the caller has made random.
    pub(super) fn request_of(&self, key: RecordKey) -> Result<CaseRequest, Failure> {
        let mut fingerprint = [0; 32];
        getrandom::fill(&mut fingerprint).map_err(std::io::Error::from)?;
        self.with_used(|used| used.keys.push(key));
        Ok(CaseRequest {
            owner: Owner {
                key,
                token: Token::random()?,
            },
            fingerprint: Fingerprint::from_bytes(fingerprint),
            operation: OPERATION,
            label: None,
            lease: self.lasting(),
            retention: self.lasting() * 5,
            progress: &[],
            take_over: None,
        })
    }

    /// A claim by another owner that wants to take over this attempt, with times that last.
    pub(super) fn heir(&self, of: &CaseRequest, attempt: u32) -> Result<CaseRequest, Failure> {
        Ok(CaseRequest {
            take_over: Some(attempt),
            lease: self.lasting(),
            retention: self.lasting() * 5,
            progress: &[],
            ..rival(of)?
        })
    }

    /// A claim that will be abandoned once [`Lab::end_leases`] has been called.
    pub(super) fn brief_request(&self) -> Result<CaseRequest, Failure> {
        Ok(CaseRequest {
            lease: self.lease(),
            ..self.request()?
        })
    }

    /// A claim that expires once [`Lab::end_lives`] has been called.
    pub(super) fn mortal_request(&self) -> Result<CaseRequest, Failure> {
        Ok(CaseRequest {
            retention: self.ttl().saturating_sub(self.lease()),
            ..self.brief_request()?
        })
    }

    /// Claims; it must be the key's first claim.
    pub(super) async fn claimed(&self, request: CaseRequest) -> Result<CaseRequest, Failure> {
        self.claims_first(&request)
            .await
            .map_err(|failure| failure.against(Rule::AtomicClaim))?;
        Ok(request)
    }

    async fn claims_first(&self, request: &CaseRequest) -> Verdict {
        let claim = self.store.claim(request).await?;
        must_be!(
            "the first claim of a key",
            claim,
            Claim::Acquired(Acquired { attempt: 1, .. })
        );
        Ok(())
    }

    /// Claims, and lets the lease end.
    pub(super) async fn abandoned(&self) -> Result<CaseRequest, Failure> {
        let request = self.claimed(self.brief_request()?).await?;
        self.end_leases().await;
        self.must_be_abandoned(&request).await?;
        Ok(request)
    }

    /// The lease of this claim has ended, and its record must be there and say so.
    pub(super) async fn must_be_abandoned(&self, request: &CaseRequest) -> Verdict {
        let is_abandoned = self.is_abandoned(request).await;
        is_abandoned.map_err(|failure| failure.against(Rule::LeaseIsNotLife))
    }

    async fn is_abandoned(&self, request: &CaseRequest) -> Verdict {
        let record = self.store.get(&request.owner.key).await?;
        let state = record.map(|record| record.state);
        must_be!(
            "reading an abandoned claim",
            state,
            Some(RecordState::Abandoned)
        );
        Ok(())
    }

    /// A claim whose lease has ended, and the one that took it over.
    pub(super) async fn taken_over(&self) -> Result<(CaseRequest, CaseRequest), Failure> {
        let old = self.abandoned().await?;
        let new = self.heir(&old, 1)?;
        self.takes_over(&new)
            .await
            .map_err(|failure| failure.against(Rule::AtomicClaim))?;
        Ok((old, new))
    }

    async fn takes_over(&self, new: &CaseRequest) -> Verdict {
        let claim = self.store.claim(new).await?;
        must_be!(
            "taking over attempt 1",
            claim,
            Claim::Acquired(Acquired { attempt: 2, .. })
        );
        Ok(())
    }

    /// Completes a claim of that owner, with a TTL that lasts.
    pub(super) async fn completed(&self, owner: &Owner) -> Result<Arc<StoredResponse>, Failure> {
        let response = answer("the first answer");
        let completion = self.complete(owner, &response).await?;
        must_be!("completing an own claim", completion, Completion::Stored);
        Ok(response)
    }

    /// Asks to complete, with a TTL that lasts.
    pub(super) async fn complete(
        &self,
        owner: &Owner,
        response: &Arc<StoredResponse>,
    ) -> Result<Completion, StoreError> {
        let ttl = self.lasting() * 6;
        self.store.complete(owner, response, ttl).await
    }

    /// Renews one claim.
    pub(super) async fn renew(&self, renewal: Renewal) -> Result<Renewed, Failure> {
        one("renewing one claim", self.store.renew(&[renewal]).await)
    }

    /// Releases one claim.
    pub(super) async fn release(&self, owner: &Owner) -> Result<Release, Failure> {
        one("releasing one claim", self.store.release(&[*owner]).await)
    }

    /// Abandons one claim.
    pub(super) async fn abandon(&self, owner: &Owner) -> Result<Release, Failure> {
        one("abandoning one claim", self.store.abandon(&[*owner]).await)
    }

    /// The record, which must be there.
    pub(super) async fn record(&self, key: &RecordKey) -> Result<Record, Failure> {
        let absent = || Failure::unexpected("reading a live record", "Some(_)", &None::<Record>);
        self.store.get(key).await?.ok_or_else(absent)
    }

    pub(super) fn lease(&self) -> Duration {
        self.timing.lease()
    }

    pub(super) fn ttl(&self) -> Duration {
        self.timing.ttl()
    }

    /// A lease that does not end while a case runs, however slow the machine is.
    pub(super) fn lasting(&self) -> Duration {
        Duration::from_secs(10 * 60) + self.ttl() * 4
    }

    /// How far two clocks may differ over the length of a case.
    pub(super) fn tolerance(&self) -> Duration {
        self.lease() / 4
    }

    pub(super) async fn advance(&self, by: Duration) {
        self.bed.advance(by).await;
        self.with_used(|used| used.advanced += by);
    }

    /// Lets every lease end that is as long as [`Lab::lease`].
    pub(super) async fn end_leases(&self) {
        self.advance(self.lease() + self.tolerance()).await;
    }

    /// Lets every record expire whose TTL is [`Lab::ttl`].
    pub(super) async fn end_lives(&self) {
        self.advance(self.ttl() + self.tolerance()).await;
    }

    /// Locks a record as another session's transaction does, if the bed can.
    pub(super) async fn lock_record(&self, key: &RecordKey) -> Option<Box<dyn RecordLock>> {
        self.bed.lock_record(key).await
    }

    pub(super) fn stopwatch(&self) -> Stopwatch<'_> {
        Stopwatch {
            lab: self,
            started: Instant::now(),
            advanced: self.advanced(),
        }
    }

    /// Removes what the case has written. The case is judged already, so errors do not matter.
    pub(super) async fn clean_up(&self) {
        for key in self.with_used(|used| std::mem::take(&mut used.keys)) {
            drop(self.store.remove(&key).await);
        }
    }

    fn advanced(&self) -> Duration {
        self.with_used(|used| used.advanced)
    }

    fn with_used<T>(&self, f: impl FnOnce(&mut Used) -> T) -> T {
        f(&mut self.used.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The most time that the store can have seen pass since it was started.
pub(super) struct Stopwatch<'a> {
    lab: &'a Lab<'a>,
    started: Instant,
    advanced: Duration,
}

impl Stopwatch<'_> {
    pub(super) fn elapsed(&self) -> Duration {
        match self.lab.timing.flow {
            Flow::Real => self.started.elapsed(),
            Flow::Manual => self.lab.advanced().saturating_sub(self.advanced),
        }
    }

    /// Ends the case without a judgement unless less than `limit` has passed for certain: started
    /// before a claim and asked after a look at it, it tells whether the lease could have ended.
    pub(super) fn must_be_within(&self, limit: Duration) -> Verdict {
        if self.elapsed() < limit {
            Ok(())
        } else {
            Err(Failure::Inconclusive)
        }
    }
}

/// The result of a batch of one.
fn one<T: Debug>(what: &str, results: Vec<Result<T, StoreError>>) -> Result<T, Failure> {
    match <[_; 1]>::try_from(results) {
        Ok([result]) => Ok(result?),
        Err(results) => {
            let failure = Failure::unexpected(what, "one result", &results);
            Err(failure.against(Rule::SharedFate))
        }
    }
}

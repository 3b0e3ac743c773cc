//! Leases: one task a runtime renews all that run, in batches. No request has a timer of its own.
//!
//! Leases share no fate. They are renewed together only with leases of about the same length; a call
//! that hangs delays no other, because the task does not wait for it; each renewal has a result of its
//! own; and a batch that fails as a whole is halved until what is wrong is alone. A claim that the store
//! has forgotten is claimed again with the same token.
//!
//! The task lives on the runtime of the handlers whose leases it renews. An application has one
//! runtime as a rule; where it has several (one a worker thread, one a test), each has its own task,
//! because a runtime that stands still must not take the others' leases with it. What outlives its runtime, because it is
//! polled on another one (a response's stream, as a rule), is renewed there.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use tokio::runtime::Handle;
use tokio::time::Instant;

use self::lease::Lease;
use self::renewer::Renewer;
use super::calls::{Calls, lock};
use super::claim_terms::ClaimTerms;
use crate::prompt;
use crate::record::Token;

mod lease;
mod renewer;
mod table;

/// The claims of this process that are to be kept.
#[derive(Debug)]
pub(super) struct Leases {
    calls: Calls,
    renewers: Arc<Renewers>,
}

#[derive(Debug, Default)]
struct Renewers {
    /// One for each runtime: as a rule there is one, and never are there many.
    of_runtimes: Mutex<Vec<Arc<Renewer>>>,
    /// Those that have leases and no runtime: theirs has ended, and no other one was known.
    orphans: Mutex<Vec<Arc<Renewer>>>,
    /// Changed under the lock of the orphans.
    has_orphans: AtomicBool,
}

/// Keeps one lease for as long as it lives.
#[derive(Debug)]
pub(super) struct LeaseGuard {
    renewer: Arc<Renewer>,
    token: Token,
}

/// What is known of a lease. It keeps nothing, and may outlive the guard.
#[derive(Debug)]
pub(super) struct LeaseView {
    renewer: Arc<Renewer>,
    token: Token,
}

impl Leases {
    pub(super) fn new(calls: Calls) -> Self {
        Self {
            calls,
            renewers: Arc::default(),
        }
    }

    /// Keeps a claim that was asked for at `asked_at`, by the task of the runtime it runs on.
    pub(super) fn keep(&self, claim: ClaimTerms, asked_at: Instant, runtime: Handle) -> LeaseGuard {
        let renewer = self.renewer(runtime);
        let token = claim.owner.token;
        renewer.insert(Lease::new(claim, asked_at));
        LeaseGuard { renewer, token }
    }

    fn renewer(&self, runtime: Handle) -> Arc<Renewer> {
        let mut renewers = lock(&self.renewers.of_runtimes);
        let mut known = renewers.iter();
        if let Some(renewer) = known.find(|renewer| renewer.runtime().id() == runtime.id()) {
            return Arc::clone(renewer);
        }
        let renewer = Renewer::new(self.calls.clone(), runtime);
        let renewer = Arc::new(renewer);
        renewers.push(Arc::clone(&renewer));
        drop(renewers);
        serve(&self.renewers, Arc::clone(&renewer), renewer.runtime());
        renewer
    }

    /// Serves here what no runtime serves. While there is nothing of that kind, it costs next to nothing.
    pub(super) fn adopt(&self) {
        if !self.renewers.has_orphans.load(Ordering::Acquire) {
            return;
        }
        let Ok(runtime) = Handle::try_current() else {
            return;
        };
        let orphans = {
            let mut orphans = lock(&self.renewers.orphans);
            self.renewers.has_orphans.store(false, Ordering::Release);
            std::mem::take(&mut *orphans)
        };
        for renewer in orphans {
            serve(&self.renewers, renewer, &runtime);
        }
    }
}

/// Starts the task of a renewer, on its own runtime or in place of that. On one that has ended, it is dropped before this returns.
fn serve(renewers: &Arc<Renewers>, renewer: Arc<Renewer>, runtime: &Handle) {
    let renewer_runtime = renewer.runtime().id();
    let mut task = RunningTask {
        renewer,
        renewers: Arc::clone(renewers),
        may_move: renewer_runtime == runtime.id(),
    };
    let renewing = async move {
        task.may_move = true;
        task.renewer.run().await;
    };
    prompt::spawn(runtime, renewing);
}

impl Drop for Leases {
    fn drop(&mut self) {
        for renewer in lock(&self.renewers.of_runtimes).iter() {
            renewer.close();
        }
    }
}

impl LeaseGuard {
    /// Lets the lease end by itself.
    pub(super) fn stop(&self) {
        self.renewer.remove(&self.token);
    }

    /// As [`LeaseView::is_known_to_last`].
    pub(super) fn is_known_to_last(&self) -> bool {
        self.renewer.is_valid(&self.token)
    }

    /// By a question of that time, which was not the renewing task's. A lease that was given up for lost is kept again.
    pub(super) fn held_again(&self, claim: &ClaimTerms, asked_at: Instant) {
        if !self.renewer.was_renewed(&self.token, asked_at) {
            self.renewer.insert(Lease::new(claim.clone(), asked_at));
        }
    }

    pub(super) fn view(&self) -> LeaseView {
        LeaseView {
            renewer: Arc::clone(&self.renewer),
            token: self.token,
        }
    }

    /// The runtime on which the claim was made.
    pub(super) fn runtime(&self) -> &Handle {
        self.renewer.runtime()
    }
}

impl LeaseView {
    /// Of a lease that no task renews.
    #[cfg(all(test, feature = "memory"))]
    pub(super) fn unattended(leases: &Leases, claim: ClaimTerms, asked_at: Instant) -> Self {
        let (calls, token) = (leases.calls.clone(), claim.owner.token);
        let renewer = Arc::new(Renewer::new(calls, Handle::current()));
        renewer.insert(Lease::new(claim, asked_at));
        Self { renewer, token }
    }

    /// Whether it is known to last, by this process's monotonic clock: from the moment when it was last asked for with
    /// success, not from the answer. Not when the store has not known the claim since.
    pub(super) fn is_known_to_last(&self) -> bool {
        self.renewer.is_valid(&self.token)
    }

    /// The runtime on which the claim was made.
    pub(super) fn runtime(&self) -> &Handle {
        self.renewer.runtime()
    }

    /// By a question of that time, which was not the renewing task's. A lease that was given up for lost is kept again.
    pub(super) fn renewed(&self, asked_at: Instant) {
        self.renewer.was_renewed(&self.token, asked_at);
    }
}

impl Drop for LeaseGuard {
    fn drop(&mut self) {
        self.stop();
    }
}

/// When it ends, its runtime does, as a rule. The leases that are left go to another runtime.
struct RunningTask {
    renewer: Arc<Renewer>,
    renewers: Arc<Renewers>,
    /// Not from another runtime than its own on which it has not begun, and which may have ended as well: it would go on for ever.
    may_move: bool,
}

impl Drop for RunningTask {
    fn drop(&mut self) {
        let other = {
            let mut renewers = lock(&self.renewers.of_runtimes);
            renewers.retain(|renewer| !Arc::ptr_eq(renewer, &self.renewer));
            renewers.first().map(|renewer| renewer.runtime().clone())
        };
        if !self.renewer.is_left_with_leases() {
            return;
        }
        match other {
            Some(runtime) if self.may_move => {
                serve(&self.renewers, Arc::clone(&self.renewer), &runtime);
            }
            _ => {
                let mut orphans = lock(&self.renewers.orphans);
                orphans.push(Arc::clone(&self.renewer));
                self.renewers.has_orphans.store(true, Ordering::Release);
            }
        }
    }
}

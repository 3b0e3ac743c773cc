//! Subscriptions: a waiter for a notification that is never lost must get it.
//!
//! A store that gives none, or one that may be lost, is not judged: its waiters poll.

use std::time::Duration;

use super::case::cases;
use super::lab::Lab;
use super::verdict::{Failure, Verdict, must_be};
use crate::store::{Release, Subscription};

cases! {
    Documented:
        completion_wakes_those_who_wait,
        release_wakes_those_who_wait,
        abandoning_wakes_those_who_wait,
        change_between_subscribing_and_waiting_is_not_missed;
}

/// How long a notification may take: long, because it is waited for in full only when it is lost.
const PATIENCE: Duration = Duration::from_secs(30);

async fn must_wake(what: &str, subscription: Subscription) -> Verdict {
    let woken = tokio::time::timeout(PATIENCE, subscription.changed()).await;
    woken.map_err(|_| Failure::unexpected(what, "the waiter woken", &"nothing for 30 s"))
}

async fn completion_wakes_those_who_wait(lab: &Lab<'_>) -> Verdict {
    let request = lab.claimed(lab.request()?).await?;
    let subscription = lab.store.subscribe(&request.owner.key);
    if !subscription.is_reliable() {
        return Ok(());
    }
    let waiting = must_wake("completing what is waited for", subscription);
    let (woken, completed) = tokio::join!(waiting, lab.completed(&request.owner));
    completed?;
    woken
}

async fn release_wakes_those_who_wait(lab: &Lab<'_>) -> Verdict {
    let request = lab.claimed(lab.request()?).await?;
    let subscription = lab.store.subscribe(&request.owner.key);
    if !subscription.is_reliable() {
        return Ok(());
    }
    let waiting = must_wake("releasing what is waited for", subscription);
    let (woken, released) = tokio::join!(waiting, lab.release(&request.owner));
    must_be!("releasing what is waited for", released?, Release::Released);
    woken
}

async fn abandoning_wakes_those_who_wait(lab: &Lab<'_>) -> Verdict {
    let request = lab.claimed(lab.request()?).await?;
    let subscription = lab.store.subscribe(&request.owner.key);
    if !subscription.is_reliable() {
        return Ok(());
    }
    // Else they would wait for the end of a lease that has ended already.
    let what = "abandoning what is waited for";
    let waiting = must_wake(what, subscription);
    let (woken, abandoned) = tokio::join!(waiting, lab.abandon(&request.owner));
    must_be!(what, abandoned?, Release::Released);
    woken
}

async fn change_between_subscribing_and_waiting_is_not_missed(lab: &Lab<'_>) -> Verdict {
    let request = lab.claimed(lab.request()?).await?;
    let subscriptions = [(); 3].map(|()| lab.store.subscribe(&request.owner.key));
    lab.completed(&request.owner).await?;
    for subscription in subscriptions {
        if subscription.is_reliable() {
            must_wake("completing before the wait has begun", subscription).await?;
        }
    }
    Ok(())
}

//! Locks: a record that another session's transaction holds is busy, and no other waits for it.
//!
//! Only on a [`TestBed`](super::bed::TestBed) that can lock a record.

use std::fmt::Debug;
use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::bed::RecordLock;
use super::case::cases;
use super::lab::Lab;
use super::races::HOUR;
use super::report::Rule;
use super::request::{CaseRequest, answer, renewal, rival};
use super::verdict::{Failure, Verdict, must_be};
use crate::record::Owner;
use crate::store::{Claim, Completion, Release, Renewed, StoreError, StoreErrorKind};

cases! {
    SharedFate:
        locked_record_delays_no_other_renewal,
        locked_record_delays_no_other_release,
        locked_record_delays_no_other_abandoning,
        locked_record_is_busy_and_not_lost,
        locked_record_delays_no_other_key;
}

/// A batch with a locked record takes no longer: the time after which the engine gives up a call.
const AT_ONCE: Duration = Duration::from_secs(2);

/// How often a batch may take longer, because the machine was slow.
const TRIES: usize = 3;

/// How long a call of a locked record itself may wait for the lock.
const BRIEFLY: Duration = Duration::from_secs(10);

/// What a batch is made of: two live claims around a locked one, and an absent one at the end.
struct Scene {
    members: [CaseRequest; 4],
    lock: Box<dyn RecordLock>,
}

impl Scene {
    /// `None` where records cannot be locked.
    async fn new(lab: &Lab<'_>) -> Result<Option<Self>, Failure> {
        let first = lab.claimed(lab.request()?).await?;
        let locked = lab.claimed(lab.request()?).await?;
        let last = lab.claimed(lab.request()?).await?;
        let members = [first, locked, last, lab.request()?];
        let lock = lab.lock_record(&locked.owner.key).await;
        Ok(lock.map(|lock| Self { members, lock }))
    }

    fn owners(&self) -> [Owner; 4] {
        self.members.map(|request| request.owner)
    }
}

/// The results in the words of a case: `None` is busy.
fn or_busy<T>(result: Result<T, StoreError>) -> Result<Option<T>, StoreError> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == StoreErrorKind::Busy && !error.may_have_happened() => {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Asks for a batch, of which the second is locked and the last is lost. Once in three times at least
/// it must be answered at once.
async fn is_busy_alone<T, F>(
    lab: &Lab<'_>,
    what: &str,
    done: T,
    lost: T,
    ask: impl Fn([CaseRequest; 4]) -> F,
) -> Verdict
where
    T: Debug + PartialEq + Copy,
    F: Future<Output = Vec<Result<T, StoreError>>>,
{
    for _ in 0..TRIES {
        let Some(scene) = Scene::new(lab).await? else {
            return Ok(());
        };
        let asked = Instant::now();
        let results = timeout(BRIEFLY, ask(scene.members)).await;
        let took = asked.elapsed();
        scene.lock.unlock().await;
        let Ok(results) = results else {
            continue;
        };
        let results = results.into_iter().map(or_busy);
        let results = results.collect::<Result<Vec<_>, _>>()?;
        let expected = [Some(done), None, Some(done), Some(lost)];
        must_be!(what, results, results if results == expected);
        if took < AT_ONCE {
            return Ok(());
        }
    }
    let expected = "results at once";
    Err(Failure::unexpected(what, expected, &"none for two seconds"))
}

async fn locked_record_delays_no_other_renewal(lab: &Lab<'_>) -> Verdict {
    let what = "renewing four claims, the second locked and the last absent";
    let ask = |members: [CaseRequest; 4]| async move {
        let renewals = members.map(|request| renewal(&request));
        lab.store.renew(&renewals).await
    };
    is_busy_alone(lab, what, Renewed::Renewed, Renewed::Lost, ask).await
}

async fn locked_record_delays_no_other_release(lab: &Lab<'_>) -> Verdict {
    let what = "releasing four claims, the second locked and the last absent";
    let ask = |members: [CaseRequest; 4]| async move {
        let owners = members.map(|request| request.owner);
        lab.store.release(&owners).await
    };
    is_busy_alone(lab, what, Release::Released, Release::Lost, ask).await
}

async fn locked_record_delays_no_other_abandoning(lab: &Lab<'_>) -> Verdict {
    let what = "abandoning four claims, the second locked and the last absent";
    let ask = |members: [CaseRequest; 4]| async move {
        let owners = members.map(|request| request.owner);
        lab.store.abandon(&owners).await
    };
    is_busy_alone(lab, what, Release::Released, Release::Lost, ask).await
}

/// And once it is free, everything can be done that could not be done before.
async fn locked_record_is_busy_and_not_lost(lab: &Lab<'_>) -> Verdict {
    let Some(scene) = Scene::new(lab).await? else {
        return Ok(());
    };
    let [_, locked, _, _] = scene.members;
    let response = answer("the first answer");
    let complete = lab.store.complete(&locked.owner, &response, HOUR);
    let completed = timeout(BRIEFLY, complete).await;
    scene.lock.unlock().await;
    let waited = |_| Failure::unexpected("completing a locked record", "busy", &"nothing for 10 s");
    let completed = or_busy(completed.map_err(waited)?)?;
    must_be!("completing a locked record", completed, None);
    let renewed = lab.renew(renewal(&locked)).await?;
    must_be!("renewing it when it is free", renewed, Renewed::Renewed);
    let completion = lab.complete(&locked.owner, &response).await?;
    must_be!(
        "completing it when it is free",
        completion,
        Completion::Stored
    );
    let claim = lab.store.claim(&rival(&locked)?).await?;
    must_be!("claiming it after that", claim, Claim::Completed(got) if got == response);
    Ok(())
}

async fn locked_record_delays_no_other_key(lab: &Lab<'_>) -> Verdict {
    let Some(scene) = Scene::new(lab).await? else {
        return Ok(());
    };
    let [free, _, _, absent] = scene.members;
    let others = async {
        lab.claimed(absent).await?;
        lab.completed(&free.owner).await?;
        let claim = lab.store.claim(&rival(&free)?).await?;
        must_be!("claiming another key", claim, Claim::Completed(_));
        let release = lab.release(&absent.owner).await?;
        must_be!("releasing another key", release, Release::Released);
        Ok(())
    };
    let done = timeout(BRIEFLY, others).await;
    let owners = scene.owners();
    scene.lock.unlock().await;
    let what = "using other keys while one record is locked";
    let waited = |_| Failure::unexpected(what, "answers", &"nothing for 10 s");
    done.map_err(waited)?
        .map_err(|failure: Failure| failure.against(Rule::SharedFate))?;
    let [_, locked, _, _] = owners;
    lab.completed(&locked).await?;
    Ok(())
}

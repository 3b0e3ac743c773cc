//! Listing: each record that is there throughout is on one page, with what an operator wants to know. A store that
//! does not list is not judged.

use std::collections::HashSet;
use std::time::Duration;

use bytes::Bytes;

use super::case::cases;
use super::lab::Lab;
use super::request::{CaseRequest, OPERATION};
use super::verdict::{Failure, Verdict, must_be};
use crate::key::RecordKey;
use crate::store::{ListFilter, ListedRecord, RecordStatus, StoreErrorKind};

cases! {
    Documented:
        listing_tells_states_and_names,
        listing_has_each_record_once_while_others_come_and_go;
}

/// What an attempt has finished.
const PROGRESS: &[u8] = b"a step";

/// More pages than any listing of a test has.
const MOST_PAGES: usize = 100_000;

/// A store's other records need not be looked at: all of a case have a label of their own.
fn new_label(lab: &Lab<'_>) -> Result<&'static str, Failure> {
    let key = lab.absent_owner()?.key.to_hex();
    Ok(Box::leak(format!("größe {key:.20}").into_boxed_str()))
}

async fn is_unsupported(lab: &Lab<'_>) -> bool {
    let listed = lab.store.list(&ListFilter::new(), None, 1).await;
    listed.is_err_and(|error| error.kind() == StoreErrorKind::Unsupported)
}

async fn all(lab: &Lab<'_>, filter: &ListFilter) -> Result<Vec<ListedRecord>, Failure> {
    let (mut records, mut next) = (Vec::new(), None);
    for _ in 0..MOST_PAGES {
        let page = lab.store.list(filter, next.as_ref(), 100).await?;
        records.extend(page.records);
        next = page.next;
        if next.is_none() {
            break;
        }
    }
    must_be!("the next page after the last one", next, None);
    Ok(records)
}

async fn listing_tells_states_and_names(lab: &Lab<'_>) -> Verdict {
    if is_unsupported(lab).await {
        return Ok(());
    }
    let label = new_label(lab)?;
    let labelled = |request| CaseRequest {
        label: Some(label),
        ..request
    };
    let abandoned = lab.claimed(labelled(lab.brief_request()?)).await?;
    let taken_over = lab.claimed(labelled(lab.brief_request()?)).await?;
    let progress = Bytes::from_static(PROGRESS);
    lab.store
        .save_progress(&abandoned.owner, 0, &progress)
        .await?;
    lab.end_leases().await;
    lab.must_be_abandoned(&taken_over).await?;
    let heir = lab.heir(&taken_over, 1)?;
    lab.store.claim(&heir).await?;
    let completed = lab.claimed(labelled(lab.request()?)).await?;
    lab.completed(&completed.owner).await?;
    lab.claimed(lab.request()?).await?;
    let of_label = ListFilter::new().label(label);
    for (request, status, attempt) in [
        (&abandoned, RecordStatus::Abandoned, 1),
        (&taken_over, RecordStatus::InFlight, 2),
        (&completed, RecordStatus::Completed, 1),
    ] {
        for filter in [
            of_label.clone().status(status),
            of_label
                .clone()
                .status(status)
                .operation(OPERATION)
                .with_sizes(),
        ] {
            let records = all(lab, &filter).await?;
            must_be!("how many records of a state are listed", records.len(), 1);
            let Some(record) = records.first() else {
                return Ok(());
            };
            must_be!("the key of a listed record", record.key, key if key == request.owner.key);
            must_be!("its state", record.status, listed if listed == status);
            must_be!("its attempt", record.attempt, listed if listed == attempt);
            must_be!("its operation", &*record.operation, OPERATION);
            must_be!("its label", record.label.as_deref(), listed if listed == Some(label));
            let has_lease = !record.lease_left.is_zero();
            must_be!("whether it has a lease", has_lease, it if it == (status == RecordStatus::InFlight));
            let size = record.size_bytes;
            match status {
                _ if !filter.sizes => must_be!("a size that is not asked for", size, 0),
                RecordStatus::Abandoned => {
                    must_be!("the bytes of its progress", size, it if it == PROGRESS.len() as u64);
                }
                RecordStatus::InFlight => must_be!("the bytes of nothing", size, 0),
                RecordStatus::Completed => {
                    must_be!("the bytes of its response", size, it if it > 0);
                }
            }
            must_be!("its life", record.expires_in, left if !left.is_zero());
        }
    }
    let everything = all(lab, &of_label).await?;
    must_be!(
        "how many records of a label are listed",
        everything.len(),
        3
    );
    let old = of_label
        .clone()
        .older_than(Duration::from_secs(100 * 24 * 60 * 60));
    must_be!("records of a great age", all(lab, &old).await?.len(), 0);
    let other = of_label.operation("another");
    must_be!(
        "records of another operation",
        all(lab, &other).await?.len(),
        0
    );
    Ok(())
}

/// How many records are there throughout.
const RECORDS: usize = 23;

async fn listing_has_each_record_once_while_others_come_and_go(lab: &Lab<'_>) -> Verdict {
    if is_unsupported(lab).await {
        return Ok(());
    }
    let label = new_label(lab)?;
    let labelled = |request| CaseRequest {
        label: Some(label),
        ..request
    };
    let (mut staying, mut leaving) = (HashSet::new(), Vec::new());
    for _ in 0..RECORDS {
        staying.insert(lab.claimed(labelled(lab.request()?)).await?.owner.key);
        leaving.push(lab.claimed(labelled(lab.request()?)).await?.owner);
    }
    let filter = ListFilter::new().label(label);
    let (mut listed, mut next): (Vec<RecordKey>, _) = (Vec::new(), None);
    for _ in 0..MOST_PAGES {
        let page = lab.store.list(&filter, next.as_ref(), 4).await?;
        let keys = page.records.iter().map(|record| record.key);
        listed.extend(keys.filter(|key| staying.contains(key)));
        next = page.next;
        if next.is_none() {
            break;
        }
        if let Some(owner) = leaving.pop() {
            drop(lab.store.release(&[owner]).await);
            lab.claimed(labelled(lab.request()?)).await?;
        }
    }
    must_be!("the next page after the last one", next, None);
    let number = listed.len();
    let once: HashSet<_> = listed.into_iter().collect();
    must_be!("how many of 23 records are listed", once.len(), RECORDS);
    // Its server names a key again when it resizes its table.
    if lab.store.name() != "redis" {
        must_be!("how often these are listed in all", number, RECORDS);
    }
    Ok(())
}

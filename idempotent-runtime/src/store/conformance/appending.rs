//! Appending: progress grows by what follows what is there, and by nothing else.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::case::cases;
use super::lab::Lab;
use super::races::{insist, race};
use super::request::stranger;
use super::verdict::{Failure, Verdict, must_be, unchanged};
use crate::record::Owner;
use crate::store::{Progress, Store, StoreError};

cases! {
    Documented:
        progress_is_appended_in_pieces,
        overlap_is_appended_once,
        progress_behind_its_offset_is_not_written,
        heir_appends_to_what_it_found;
    Fencing:
        stranger_is_lost_and_not_behind;
    AtomicClaim:
        pieces_saved_at_once_make_the_whole;
}

async fn saves(lab: &Lab<'_>, owner: &Owner, offset: usize, bytes: &'static [u8]) -> Verdict {
    let bytes = Bytes::from_static(bytes);
    let answered = lab.store.save_progress(owner, offset, &bytes).await?;
    let what = format!("saving {} bytes from {offset} on", bytes.len());
    must_be!(&what, answered, Progress::Saved);
    Ok(())
}

async fn must_hold(lab: &Lab<'_>, owner: &Owner, progress: &[u8]) -> Verdict {
    let kept = lab.record(&owner.key).await?.progress;
    if kept == progress {
        return Ok(());
    }
    let expected = Bytes::copy_from_slice(progress);
    let what = "the progress after that";
    Err(Failure::unexpected(what, &format!("{expected:?}"), &kept))
}

/// Of this many bytes each.
const PIECE: usize = 4096;
const PIECES: usize = 64;

async fn progress_is_appended_in_pieces(lab: &Lab<'_>) -> Verdict {
    let owner = lab.claimed(lab.request()?).await?.owner;
    saves(lab, &owner, 0, b"step 1").await?;
    saves(lab, &owner, 6, b", step 2").await?;
    must_hold(lab, &owner, b"step 1, step 2").await?;
    saves(lab, &owner, 14, b"").await?;
    must_hold(lab, &owner, b"step 1, step 2").await?;

    let owner = lab.claimed(lab.request()?).await?.owner;
    let whole: Bytes = (0..=u8::MAX).cycle().take(PIECE * PIECES).collect();
    for n in 0..PIECES {
        let (offset, end) = (n * PIECE, (n + 1) * PIECE);
        let piece = whole.slice(offset..end);
        let answered = lab.store.save_progress(&owner, offset, &piece).await?;
        must_be!("saving one of 64 pieces", answered, Progress::Saved);
    }
    must_hold(lab, &owner, &whole).await
}

async fn overlap_is_appended_once(lab: &Lab<'_>) -> Verdict {
    let owner = lab.claimed(lab.request()?).await?.owner;
    saves(lab, &owner, 0, b"step 1, step 2").await?;
    // What is there never changes, and a late call adds what it has beyond that.
    saves(lab, &owner, 6, b", STEP 2, step 3").await?;
    must_hold(lab, &owner, b"step 1, step 2, step 3").await?;
    for (offset, late) in [
        (0, &b"step 1"[..]),
        (6, b", step 2"),
        (6, b", step 2, step 3"),
        (14, b", step 3"),
        (21, b"3"),
        (3, b""),
        (22, b""),
    ] {
        saves(lab, &owner, offset, late).await?;
        must_hold(lab, &owner, b"step 1, step 2, step 3").await?;
    }
    Ok(())
}

async fn progress_behind_its_offset_is_not_written(lab: &Lab<'_>) -> Verdict {
    let owner = lab.claimed(lab.request()?).await?.owner;
    let bytes = Bytes::from_static(b"step 3");
    let before = lab.record(&owner.key).await?;
    for offset in [1, 16] {
        let what = format!("saving from {offset} on when nothing is stored");
        let answered = lab.store.save_progress(&owner, offset, &bytes).await?;
        must_be!(&what, answered, Progress::Behind { stored_bytes: 0 });
        unchanged(&what, &before, lab.store.get(&owner.key).await?)?;
    }
    saves(lab, &owner, 0, b"step 1").await?;
    let before = lab.record(&owner.key).await?;
    for (offset, bytes) in [(7, bytes.clone()), (14, bytes.clone()), (7, Bytes::new())] {
        let what = format!("saving from {offset} on when 6 bytes are stored");
        let answered = lab.store.save_progress(&owner, offset, &bytes).await?;
        must_be!(&what, answered, Progress::Behind { stored_bytes: 6 });
        unchanged(&what, &before, lab.store.get(&owner.key).await?)?;
    }
    saves(lab, &owner, 6, b", step 2").await?;
    must_hold(lab, &owner, b"step 1, step 2").await
}

async fn heir_appends_to_what_it_found(lab: &Lab<'_>) -> Verdict {
    let old = lab.abandoned().await?;
    saves(lab, &old.owner, 0, b"step 1").await?;
    let new = lab.heir(&old, 1)?;
    lab.store.claim(&new).await?;
    saves(lab, &new.owner, 6, b", step 2").await?;
    must_hold(lab, &new.owner, b"step 1, step 2").await
}

/// Else its owner would save again, and again.
async fn stranger_is_lost_and_not_behind(lab: &Lab<'_>) -> Verdict {
    let owner = lab.claimed(lab.request()?).await?.owner;
    let completed = lab.claimed(lab.request()?).await?.owner;
    lab.completed(&completed).await?;
    let bytes = Bytes::from_static(b"step 2");
    for owner in [stranger(&owner)?, completed, lab.request()?.owner] {
        let answered = lab.store.save_progress(&owner, 6, &bytes).await?;
        let what = "saving from 6 on without the claim";
        must_be!(what, answered, Progress::Lost);
    }
    Ok(())
}

const SAVERS: usize = 16;
const RACES: usize = 20;

async fn pieces_saved_at_once_make_the_whole(lab: &Lab<'_>) -> Verdict {
    let whole = Bytes::from_static(b"one, two, three, four, five, six");
    for _ in 0..RACES {
        let owner = lab.claimed(lab.request()?).await?.owner;
        let savers = (0..SAVERS).rev();
        let savers = savers.map(|n| {
            piece(
                lab.store.clone(),
                owner,
                2 * n,
                whole.slice(2 * n..2 * n + 2),
            )
        });
        for answered in race(savers.collect()).await? {
            let what = "saving 16 pieces at once";
            must_be!(what, answered, Progress::Saved);
        }
        must_hold(lab, &owner, &whole).await?;
    }
    Ok(())
}

/// How often one saver may come before the one whose piece is before its own: at first at once, and
/// then each millisecond, so that no task is slow enough to make a right store fail.
const TOO_EARLY: usize = 10_000;
const AT_ONCE: usize = 100;

/// Saves a piece when its turn has come.
async fn piece(
    store: Arc<dyn Store>,
    owner: Owner,
    offset: usize,
    bytes: Bytes,
) -> Result<Progress, StoreError> {
    for time in 0..TOO_EARLY {
        match insist(|| store.save_progress(&owner, offset, &bytes)).await? {
            Progress::Behind { stored_bytes } if stored_bytes >= offset => break,
            Progress::Behind { .. } if time < AT_ONCE => tokio::task::yield_now().await,
            Progress::Behind { .. } => tokio::time::sleep(Duration::from_millis(1)).await,
            answered => return Ok(answered),
        }
    }
    Ok(Progress::Behind { stored_bytes: 0 })
}

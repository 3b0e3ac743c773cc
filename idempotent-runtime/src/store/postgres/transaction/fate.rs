//! What has become of a transaction whose connection does not say.

use std::pin::pin;
use std::time::Duration;

use futures_util::FutureExt as _;
use sqlx::Row as _;
use tokio::time::{sleep, timeout};

use crate::store::StoreError;
use crate::store::postgres::error::store_error;
use crate::store::postgres::records::Records;
use crate::store::postgres::row;
use crate::store::postgres::statements::{END_SESSION, FATE, IS_AT_WORK};
use crate::store::transaction::{ASK_FOR_FATE, Fate, SILENCE};

/// A transaction as its server names it. One that the handler has begun, after ending this one, has another number.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::store::postgres) struct Begun {
    /// When the server was started, in microseconds since 1970.
    pub(in crate::store::postgres) server: i64,
    pub(in crate::store::postgres) id: i64,
    pub(in crate::store::postgres) backend: i32,
}

/// What a connection that says nothing any more was sent, and has not replied to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store::postgres) enum Unanswered {
    /// It is lost, and what was not committed with it.
    Nothing,
    /// A statement that may be the handler's own `COMMIT`.
    Statement,
    /// The store's `COMMIT`, behind the record, which goes on without its client.
    Commit,
}

/// Of a transaction whose connection is silent, or lost; one without a record has no number to ask for. What was lost with its
/// connection, and was not committed by its handler, is rolled back: where that cannot be asked, it is taken for granted, unless
/// the transaction may be committed without its handler.
pub(in crate::store::postgres) async fn fate_without_connection(
    records: &Records,
    begun: Option<Begun>,
    unanswered: Unanswered,
) -> Fate {
    let Some(begun) = begun else {
        return Fate::Undone;
    };
    let is_ended = unanswered != Unanswered::Commit;
    match (fate_of(records, begun, is_ended).await, unanswered) {
        (Some(fate), _) => fate,
        (None, Unanswered::Nothing) => Fate::Undone,
        (None, Unanswered::Statement | Unanswered::Commit) => Fate::Undecided,
    }
}

/// The reply to what the handler has deferred. That is the handler's work, which may take longer than a call of the store's, but
/// a connection that says nothing while its server is not at work is silent: `None`.
pub(in crate::store::postgres) async fn while_at_work<T>(
    records: &Records,
    begun: Begun,
    limit: Duration,
    asked: impl Future<Output = T>,
) -> Option<T> {
    let mut asked = pin!(asked);
    loop {
        if let Ok(reply) = timeout(limit, &mut asked).await {
            return Some(reply);
        }
        if !is_at_work(records, begun).await {
            // It may have come meanwhile.
            return asked.now_or_never();
        }
    }
}

/// Whether the server has the transaction open still, as far as that can be asked.
pub(super) async fn is_in_progress(records: &Records, begun: Begun) -> bool {
    status(records, begun, false)
        .await
        .is_ok_and(|status| status == "in progress")
}

async fn is_at_work(records: &Records, begun: Begun) -> bool {
    let asking = async {
        let ask = || sqlx::query(IS_AT_WORK).bind(begun.id).bind(begun.backend);
        let row = row::one(records.lanes()?.work.rows(Some(SILENCE), ask).await?)?;
        row.try_get("is_at_work").map_err(store_error)
    };
    asking.await.unwrap_or(false)
}

/// Ends a session that is silent, if this role may.
pub(super) async fn end_session(records: &Records, begun: Begun) {
    let ended = async {
        let ask = || {
            sqlx::query(END_SESSION)
                .bind(begun.server)
                .bind(begun.backend)
        };
        records.lanes()?.work.rows(Some(SILENCE), ask).await
    };
    if let Err(error) = ended.await {
        tracing::warn!(
            error = &error as &dyn std::error::Error,
            "cannot end a session that no longer replies"
        );
    }
}

/// Asked by a connection of the store's until it is decided, for a while. `None` if that cannot be asked, or the server has been
/// started again.
async fn fate_of(records: &Records, begun: Begun, is_ended: bool) -> Option<Fate> {
    let mut pauses = ASK_FOR_FATE.into_iter();
    loop {
        match status(records, begun, is_ended).await {
            Ok(status) if status == "committed" => return Some(Fate::Ended),
            Ok(status) if status == "aborted" => return Some(Fate::Undone),
            Ok(status) if status == "elsewhere" => return None,
            Ok(_) => match pauses.next() {
                Some(pause) => sleep(pause).await,
                None => return Some(Fate::Undecided),
            },
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "cannot read whether a transaction was committed"
                );
                return None;
            }
        }
    }
}

async fn status(records: &Records, begun: Begun, is_ended: bool) -> Result<String, StoreError> {
    let ask = || {
        let asked = sqlx::query(FATE).bind(begun.server);
        asked.bind(begun.id).bind(begun.backend).bind(is_ended)
    };
    let row = row::one(records.lanes()?.work.rows(Some(SILENCE), ask).await?)?;
    let status: Option<String> = row.try_get("status").map_err(store_error)?;
    Ok(status.unwrap_or_default())
}

//! A claim or a completion, alone or as one of several.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use sqlx::postgres::PgRow;

use super::statements::{Query, Statements, statement};
use crate::fingerprint::Fingerprint;
use crate::record::{Owner, StoredResponse};
use crate::store::ClaimRequest;
use crate::store::sql::micros;

/// What goes in groups. Both may be repeated with the same token.
pub(super) enum Grouped<'a> {
    Claim(GroupedClaim<'a>),
    Complete(GroupedCompletion),
}

/// What became of it.
pub(super) enum Done {
    /// A plain statement has written it: the first claim is acquired, the completion stored.
    Written,
    /// What a function says.
    Told(PgRow),
}

/// What became of it, and whether an earlier question for it is still out.
pub(super) struct Answer {
    pub(super) done: Done,
    /// It was sent before without a reply: it may have been executed then, or may be later.
    pub(super) has_lost_question: bool,
}

pub(super) struct GroupedClaim<'a> {
    owner: Owner,
    fingerprint: Fingerprint,
    operation: Cow<'a, str>,
    label: Option<Cow<'a, str>>,
    lease_us: i64,
    retention_us: i64,
    progress: Option<Cow<'a, [u8]>>,
    take_over: Option<i32>,
}

pub(super) struct GroupedCompletion {
    owner: Owner,
    status: Option<i16>,
    response: Bytes,
    ttl_us: i64,
}

impl<'a> Grouped<'a> {
    pub(super) fn claim(request: &ClaimRequest<'a>) -> Self {
        Self::Claim(GroupedClaim {
            owner: request.owner,
            fingerprint: request.fingerprint,
            operation: text(request.operation),
            label: request.label.map(text),
            lease_us: micros(request.lease),
            retention_us: micros(request.retention),
            progress: request.first_progress().map(Cow::Borrowed),
            // No record has an attempt that the column cannot hold.
            take_over: request
                .take_over
                .and_then(|attempt| i32::try_from(attempt).ok()),
        })
    }

    pub(super) fn completion(owner: &Owner, response: &StoredResponse, ttl: Duration) -> Self {
        Self::Complete(GroupedCompletion {
            owner: *owner,
            status: i16::try_from(response.status).ok(),
            response: response.encode().into(),
            ttl_us: micros(ttl),
        })
    }

    /// One that does not borrow from its caller, who may go away.
    pub(super) fn to_owned(&self) -> Grouped<'static> {
        match self {
            Self::Claim(claim) => Grouped::Claim(GroupedClaim {
                operation: Cow::Owned(claim.operation.clone().into_owned()),
                label: claim.label.clone().map(|it| Cow::Owned(it.into_owned())),
                progress: claim.progress.clone().map(|it| Cow::Owned(it.into_owned())),
                ..*claim
            }),
            Self::Complete(completion) => Grouped::Complete(GroupedCompletion {
                response: completion.response.clone(),
                ..*completion
            }),
        }
    }

    pub(super) fn is_claim(&self) -> bool {
        matches!(self, Self::Claim(_))
    }

    /// The part of its size that varies.
    pub(super) fn size_bytes(&self) -> usize {
        match self {
            Self::Claim(claim) => claim.progress.as_ref().map_or(0, |it| it.len()),
            Self::Complete(completion) => completion.response.len(),
        }
    }

    /// The plain statement, which writes one row or nothing. When it is nothing, [`Self::query`] decides.
    ///
    /// `None` for a claim that takes over: there is a record.
    pub(super) fn plain<'s>(&self, sql: &'s Statements) -> Option<&'s Arc<str>> {
        match self {
            Self::Claim(claim) => claim.take_over.is_none().then_some(&sql.claim_new),
            Self::Complete(_) => Some(&sql.complete_running),
        }
    }

    /// The function of the database, whatever the record is.
    pub(super) fn query<'q>(&'q self, sql: &Statements) -> Query<'q> {
        match self {
            Self::Claim(claim) => self.bound_to(&sql.claim).bind(claim.take_over),
            Self::Complete(_) => self.bound_to(&sql.complete),
        }
    }

    /// What the plain statement and the function have in common.
    pub(super) fn bound_to<'q>(&'q self, sql: &Arc<str>) -> Query<'q> {
        match self {
            Self::Claim(claim) => statement(sql)
                .bind(&claim.owner.key.as_bytes()[..])
                .bind(&claim.fingerprint.as_bytes()[..])
                .bind(&claim.owner.token.as_bytes()[..])
                .bind(&*claim.operation)
                .bind(claim.label.as_deref())
                .bind(claim.lease_us)
                .bind(claim.retention_us)
                .bind(claim.progress.as_deref()),
            Self::Complete(completion) => statement(sql)
                .bind(&completion.owner.key.as_bytes()[..])
                .bind(&completion.owner.token.as_bytes()[..])
                .bind(completion.status)
                .bind(&completion.response[..])
                .bind(completion.ttl_us),
        }
    }
}

/// All of them by one statement. A row has its `place` among them.
pub(super) fn group_query<'q>(
    group: impl IntoIterator<Item = &'q Grouped<'static>>,
    sql: &Statements,
) -> Query<'q> {
    let mut items = Items::default();
    for operation in group {
        match operation {
            Grouped::Claim(claim) => items.push_claim(claim),
            Grouped::Complete(completion) => items.push_completion(completion),
        }
    }
    statement(&sql.group)
        .bind(items.keys)
        .bind(items.tokens)
        .bind(items.hashes)
        .bind(items.operations)
        .bind(items.labels)
        .bind(items.leases)
        .bind(items.lives)
        .bind(items.progresses)
        .bind(items.take_overs)
        .bind(items.statuses)
        .bind(items.responses)
}

/// A column each.
#[derive(Default)]
struct Items<'a> {
    keys: Vec<&'a [u8]>,
    tokens: Vec<&'a [u8]>,
    /// A completion has none.
    hashes: Vec<Option<&'a [u8]>>,
    operations: Vec<Option<&'a str>>,
    labels: Vec<Option<&'a str>>,
    leases: Vec<Option<i64>>,
    /// The retention of a claim, the TTL of a completion.
    lives: Vec<i64>,
    progresses: Vec<Option<&'a [u8]>>,
    take_overs: Vec<Option<i32>>,
    statuses: Vec<Option<i16>>,
    responses: Vec<Option<&'a [u8]>>,
}

impl<'a> Items<'a> {
    fn push_claim(&mut self, claim: &'a GroupedClaim<'_>) {
        self.push_owner(&claim.owner);
        self.hashes.push(Some(claim.fingerprint.as_bytes()));
        self.operations.push(Some(&claim.operation));
        self.labels.push(claim.label.as_deref());
        self.leases.push(Some(claim.lease_us));
        self.lives.push(claim.retention_us);
        self.progresses.push(claim.progress.as_deref());
        self.take_overs.push(claim.take_over);
        self.statuses.push(None);
        self.responses.push(None);
    }

    fn push_completion(&mut self, completion: &'a GroupedCompletion) {
        self.push_owner(&completion.owner);
        self.hashes.push(None);
        self.operations.push(None);
        self.labels.push(None);
        self.leases.push(None);
        self.lives.push(completion.ttl_us);
        self.progresses.push(None);
        self.take_overs.push(None);
        self.statuses.push(completion.status);
        self.responses.push(Some(&completion.response));
    }

    fn push_owner(&mut self, owner: &'a Owner) {
        self.keys.push(owner.key.as_bytes());
        self.tokens.push(owner.token.as_bytes());
    }
}

/// As a column of text can hold it: without the one character that it cannot.
pub(super) fn text(text: &str) -> Cow<'_, str> {
    if text.contains('\0') {
        Cow::Owned(text.replace('\0', "\u{fffd}"))
    } else {
        Cow::Borrowed(text)
    }
}

//! A claim or a completion, alone or as one of several.

use bytes::Bytes;
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, PgPool};

use super::groups::Sql;
use super::{micros, statement};
use crate::record::{Owner, StoredResponse};
use crate::store::ClaimRequest;

/// What goes in groups. Both may be repeated with the same token.
#[derive(Clone)]
pub(super) enum Operation {
    Claim(ClaimRequest),
    Complete {
        owner: Owner,
        status: Option<i16>,
        response: Bytes,
    },
}

impl Operation {
    pub(super) fn completion(owner: &Owner, response: &StoredResponse) -> Self {
        Self::Complete {
            owner: *owner,
            status: i16::try_from(response.status).ok(),
            response: response.encode().into(),
        }
    }

    /// The part of its size that varies.
    pub(super) fn size_bytes(&self) -> usize {
        match self {
            Self::Claim(_) => 0,
            Self::Complete { response, .. } => response.len(),
        }
    }

    /// By a statement of its own.
    pub(super) async fn send(&self, sql: &Sql, pool: &PgPool) -> sqlx::Result<PgRow> {
        let statement = match self {
            Self::Claim(request) => statement(&sql.claim)
                .bind(&request.owner.key.as_bytes()[..])
                .bind(&request.fingerprint.as_bytes()[..])
                .bind(&request.owner.token.as_bytes()[..])
                .bind(micros(request.lease))
                .bind(micros(request.ttl))
                .bind(take_over(request)),
            Self::Complete {
                owner,
                status,
                response,
            } => statement(&sql.complete)
                .bind(&owner.key.as_bytes()[..])
                .bind(&owner.token.as_bytes()[..])
                .bind(status)
                .bind(&response[..]),
        };
        statement.fetch_one(pool).await
    }

    fn owner(&self) -> &Owner {
        match self {
            Self::Claim(request) => &request.owner,
            Self::Complete { owner, .. } => owner,
        }
    }
}

/// All of them by one statement. A row has its `place` among them.
pub(super) async fn send_group(
    group: &[&Operation],
    sql: &Sql,
    connection: &mut PgConnection,
) -> sqlx::Result<Vec<PgRow>> {
    let mut items = Items::default();
    for operation in group {
        items.push(operation);
    }
    statement(&sql.group)
        .bind(items.keys)
        .bind(items.tokens)
        .bind(items.hashes)
        .bind(items.leases)
        .bind(items.ttls)
        .bind(items.take_overs)
        .bind(items.statuses)
        .bind(items.responses)
        .fetch_all(connection)
        .await
}

/// A column each.
#[derive(Default)]
struct Items<'a> {
    keys: Vec<&'a [u8]>,
    tokens: Vec<&'a [u8]>,
    /// A completion has none.
    hashes: Vec<Option<&'a [u8]>>,
    leases: Vec<Option<i64>>,
    ttls: Vec<Option<i64>>,
    take_overs: Vec<Option<i32>>,
    statuses: Vec<Option<i16>>,
    responses: Vec<Option<&'a [u8]>>,
}

impl<'a> Items<'a> {
    fn push(&mut self, operation: &'a Operation) {
        let (claim, completion) = match operation {
            Operation::Claim(request) => (Some(request), None),
            Operation::Complete {
                status, response, ..
            } => (None, Some((*status, &response[..]))),
        };
        let owner = operation.owner();
        self.keys.push(owner.key.as_bytes());
        self.tokens.push(owner.token.as_bytes());
        self.hashes
            .push(claim.map(|request| &request.fingerprint.as_bytes()[..]));
        self.leases.push(claim.map(|request| micros(request.lease)));
        self.ttls.push(claim.map(|request| micros(request.ttl)));
        self.take_overs.push(claim.and_then(take_over));
        self.statuses
            .push(completion.and_then(|(status, _)| status));
        self.responses
            .push(completion.map(|(_, response)| response));
    }
}

/// An attempt that the column cannot hold is nobody's.
fn take_over(request: &ClaimRequest) -> Option<i32> {
    request
        .take_over
        .and_then(|attempt| i32::try_from(attempt).ok())
}

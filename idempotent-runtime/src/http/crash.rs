//! An attempt that crashes because a test says so.

use axum::response::{IntoResponse, Response};
use http::StatusCode;

use super::capture::Handling;
use super::observed::{CrashPoint, Observed};
use super::tested::Tested;
use crate::engine::ClaimGuard;

/// Where this attempt crashes, if it does.
pub(super) fn point(tested: &Tested) -> Option<CrashPoint> {
    tested.observed.as_ref().and_then(Observed::crash_point)
}

/// Leaves the record as a process does that dies at this point, once its lease has ended.
pub(super) async fn crash<F>(
    mut held: Box<ClaimGuard>,
    tested: Tested,
    point: CrashPoint,
    handler: impl FnOnce() -> F,
) -> Response
where
    F: Future<Output: IntoResponse>,
{
    held.begin();
    if let CrashPoint::AfterHandler = point {
        tested.begin();
        Handling::new(handler).await;
    }
    held.abandon().await;
    if let Some(observed) = &tested.observed {
        observed.count_crash();
    }
    StatusCode::INTERNAL_SERVER_ERROR.into_response()
}

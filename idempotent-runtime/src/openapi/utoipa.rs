//! What `#[utoipa::path]` is told.

use std::collections::BTreeMap;
use std::marker::PhantomData;

use serde::de::DeserializeOwned;
use serde_json::Value;
use utoipa::openapi::path::{Parameter, ParameterIn};
use utoipa::openapi::{RefOr, Response};
use utoipa::{IntoParams, IntoResponses};

use super::facts::{DefaultKeyHeader, KeyHeader, REPLAYED, parameter, replay_marker, responses};

/// The parameter with the key: `params(IdempotencyKeyHeader)`.
#[derive(Clone, Copy, Debug)]
pub struct IdempotencyKeyHeader<N = DefaultKeyHeader>(PhantomData<N>);

impl<N: KeyHeader> IntoParams for IdempotencyKeyHeader<N> {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        read(parameter::<N>()).into_iter().collect()
    }
}

/// The problems of an operation: `responses(IdempotencyResponses)`, or `responses(IdempotencyResponses<R>)` with the handler's own
/// responses.
///
/// A response of `R` gets the header `Idempotent-Replayed`. Where it has the status of a problem, it gets the problem's media type and
/// headers too; what `R` says of the same media type stands.
#[derive(Clone, Copy, Debug)]
pub struct IdempotencyResponses<R = NoResponses>(PhantomData<R>);

/// No responses of the handler's own.
#[derive(Clone, Copy, Debug)]
pub struct NoResponses;

impl IntoResponses for NoResponses {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        BTreeMap::new()
    }
}

impl<R: IntoResponses> IntoResponses for IdempotencyResponses<R> {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        let mut all = R::responses();
        let inline = all.values_mut().filter_map(|response| match response {
            RefOr::T(response) => Some(response),
            RefOr::Ref(_) => None,
        });
        for response in inline {
            response
                .headers
                .extend(read(replay_marker()).map(|it| (REPLAYED.to_owned(), it)));
        }
        for (status, problem) in responses() {
            let Some(problem) = read::<Response>(problem) else {
                continue;
            };
            match all.get_mut(&status.to_string()) {
                Some(RefOr::T(own)) => merge(own, problem),
                // What is only referred to cannot be completed here.
                Some(RefOr::Ref(_)) => {}
                None => {
                    all.insert(status.to_string(), problem.into());
                }
            }
        }
        all
    }
}

fn merge(own: &mut Response, problem: Response) {
    own.description = format!(
        "{}. {}",
        own.description.trim_end_matches('.'),
        problem.description
    );
    for (name, header) in problem.headers {
        own.headers.entry(name).or_insert(header);
    }
    for (media_type, content) in problem.content {
        own.content.entry(media_type).or_insert(content);
    }
}

/// What this module says is what utoipa reads: a test compares it.
fn read<T: DeserializeOwned>(value: Value) -> Option<T> {
    serde_json::from_value(value).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::to_value;

    use super::*;

    #[test]
    fn utoipa_reads_all_that_is_said() {
        let read = IdempotencyKeyHeader::<DefaultKeyHeader>::into_params(|| None);
        assert_eq!(to_value(&read[0]).unwrap(), parameter::<DefaultKeyHeader>());
        let read = to_value(IdempotencyResponses::<NoResponses>::responses()).unwrap();
        assert_eq!(read, to_value(responses()).unwrap());
    }
}

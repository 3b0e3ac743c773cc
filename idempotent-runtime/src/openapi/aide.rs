//! What aide learns from a handler's arguments.

use std::collections::BTreeMap;

use aide::generate::GenContext;
use aide::openapi::{Operation, Parameter, ReferenceOr, Response};
use aide::operation::{OperationInput, add_parameters};
use aide::transform::TransformOperation;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::facts::{DefaultKeyHeader, KeyHeader, REPLAYED, parameter, replay_marker, responses};
use crate::handle::Attempt;
use crate::http::IdempotentRequest;

impl<T: OperationInput, E, H> OperationInput for IdempotentRequest<T, E, H> {
    fn operation_input(context: &mut GenContext, operation: &mut Operation) {
        T::operation_input(context, operation);
        add_parameters(context, operation, read(parameter::<DefaultKeyHeader>()));
    }

    fn inferred_early_responses(
        context: &mut GenContext,
        operation: &mut Operation,
    ) -> Vec<(Option<u16>, Response)> {
        let mut all = T::inferred_early_responses(context, operation);
        for (status, problem) in responses() {
            let Some(problem) = read::<Response>(problem) else {
                continue;
            };
            match all.iter_mut().find(|(own, _)| *own == Some(status)) {
                Some((_, own)) => merge(own, problem),
                None => all.push((Some(status), problem)),
            }
        }
        all
    }
}

/// It comes from the request's key, which is documented already.
impl OperationInput for Attempt {}

/// Says of the responses that the handler has documented that each of them can be a replay.
pub fn replayed(mut operation: TransformOperation<'_>) -> TransformOperation<'_> {
    let problems: BTreeMap<u16, Value> = responses();
    let responses = operation.inner_mut().responses.iter_mut();
    for (status, response) in responses.flat_map(|it| &mut it.responses) {
        let is_problem = problems
            .keys()
            .any(|problem| *status == aide::openapi::StatusCode::Code(*problem));
        if let ReferenceOr::Item(response) = response
            && !is_problem
            && let Some(marker) = read(replay_marker())
        {
            response
                .headers
                .insert(REPLAYED.to_owned(), ReferenceOr::Item(marker));
        }
    }
    operation
}

/// Documents another header than `Idempotency-Key`, or a key that is not required.
pub fn key_header<N: KeyHeader>(operation: TransformOperation<'_>) -> TransformOperation<'_> {
    let mut operation = no_key_header(operation);
    let header = read(parameter::<N>()).map(ReferenceOr::Item);
    operation.inner_mut().parameters.extend(header);
    operation
}

/// Documents no header, for an operation with `key = expr`.
pub fn no_key_header(mut operation: TransformOperation<'_>) -> TransformOperation<'_> {
    operation
        .inner_mut()
        .parameters
        .retain(|parameter| match parameter {
            ReferenceOr::Item(Parameter::Header { parameter_data, .. }) => {
                parameter_data.name != DefaultKeyHeader::NAME
            }
            _ => true,
        });
    operation
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

/// What this module says is what aide reads: a test compares it.
fn read<T: DeserializeOwned>(value: Value) -> Option<T> {
    serde_json::from_value(value).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::{json, to_value};

    use super::*;

    #[test]
    fn aide_reads_all_that_is_said() {
        let mut said = parameter::<DefaultKeyHeader>();
        let header: Parameter = read(said.clone()).unwrap();
        // The default, which it writes.
        said["style"] = json!("simple");
        assert_eq!(to_value(header).unwrap(), said);
        for (status, said) in responses() {
            let response: Response = read(said.clone()).unwrap();
            let mut read = to_value(response).unwrap();
            for header in read["headers"].as_object_mut().unwrap().values_mut() {
                header.as_object_mut().unwrap().remove("style");
            }
            assert_eq!(read, said, "{status}");
        }
    }
}

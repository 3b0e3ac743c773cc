//! gRPC answers are 200 whatever happened: their status is in `grpc-status`.

use http::StatusCode;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderName};

use crate::error::Answer;
use crate::outcome::Outcome;
use crate::retry_after::single;

mod web;

static GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");

/// The outcome of a gRPC answer; `None` if it is another kind of answer. `asked`: so is the request.
pub(crate) fn outcome<'a>(
    answer: &'a Answer,
    trailers: Option<&HeaderMap>,
    asked: bool,
) -> Option<Outcome<'a>> {
    if !answer.status().is_success() {
        return None;
    }
    let Some(kind) = kind(answer.headers()) else {
        // Such as the page of a gateway.
        return asked.then_some(Outcome::Lost);
    };
    let from_body = || web::status(kind, answer.body());
    let from_trailers = || single(trailers?, &GRPC_STATUS);
    let from_headers = || single(answer.headers(), &GRPC_STATUS);
    let grpc_status = from_body().or_else(from_trailers).or_else(from_headers);
    // Without a status the answer is not whole, or its kind is not known.
    let Some(status) = grpc_status.and_then(http_status) else {
        return Some(Outcome::Lost);
    };
    Some(Outcome::Answer {
        status,
        headers: answer.headers(),
        body: answer.body(),
    })
}

/// gRPC, or one of its relatives, such as gRPC-Web, which has its status in the body.
#[cfg(any(feature = "reqwest", feature = "tower"))]
pub(crate) fn is_of_grpc(headers: &HeaderMap) -> bool {
    kind(headers).is_some()
}

/// What follows `application/grpc`: nothing, `+proto`, `-web`, `-web-text`.
fn kind(headers: &HeaderMap) -> Option<&str> {
    single(headers, &CONTENT_TYPE)?.strip_prefix("application/grpc")
}

/// The mapping of `google/rpc/code.proto`. A code that is not known says as little as `UNKNOWN`.
fn http_status(grpc_status: &str) -> Option<StatusCode> {
    let code: u32 = grpc_status.parse().ok()?;
    Some(match code {
        0 => StatusCode::OK,
        3 | 9 | 11 => StatusCode::BAD_REQUEST,
        4 => StatusCode::GATEWAY_TIMEOUT,
        5 => StatusCode::NOT_FOUND,
        6 | 10 => StatusCode::CONFLICT,
        7 => StatusCode::FORBIDDEN,
        8 => StatusCode::TOO_MANY_REQUESTS,
        14 => StatusCode::SERVICE_UNAVAILABLE,
        16 => StatusCode::UNAUTHORIZED,
        // 1 CANCELLED, 2 UNKNOWN, 12 UNIMPLEMENTED, 13 INTERNAL, 15 DATA_LOSS: it may have taken effect.
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(content_type: &str, status: Option<&str>) -> Answer {
        let mut response = http::Response::builder().header("content-type", content_type);
        if let Some(status) = status {
            response = response.header("grpc-status", status);
        }
        response.body(bytes::Bytes::new()).unwrap()
    }

    fn judged(answer: &Answer, trailers: Option<&HeaderMap>) -> Option<u16> {
        match outcome(answer, trailers, false)? {
            Outcome::Answer { status, .. } => Some(status.as_u16()),
            _ => Some(0),
        }
    }

    #[test]
    fn status_is_that_of_the_trailers_or_of_the_headers() {
        assert_eq!(
            judged(&answer("application/grpc", Some("14")), None),
            Some(503)
        );
        assert_eq!(
            judged(&answer("application/grpc+proto", Some("0")), None),
            Some(200)
        );
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", "7".parse().unwrap());
        assert_eq!(
            judged(&answer("application/grpc", None), Some(&trailers)),
            Some(403)
        );
    }

    #[test]
    fn answer_without_a_status_is_not_whole() {
        assert_eq!(judged(&answer("application/grpc", None), None), Some(0));
        assert_eq!(
            judged(&answer("application/grpc", Some("x")), None),
            Some(0)
        );
    }

    #[test]
    fn other_answers_are_not_grpc() {
        assert_eq!(judged(&answer("application/json", Some("14")), None), None);
    }

    #[test]
    fn grpc_web_has_its_status_in_the_headers_or_in_the_last_frame() {
        let of_headers = answer("application/grpc-web+proto", Some("14"));
        assert_eq!(judged(&of_headers, None), Some(503));
        let mut of_body = answer("application/grpc-web", None);
        *of_body.body_mut() = bytes::Bytes::from_static(b"\x80\0\0\0\x0fgrpc-status:7\n");
        assert_eq!(judged(&of_body, None), Some(0), "a frame that is cut");
        *of_body.body_mut() = bytes::Bytes::from_static(b"\x80\0\0\0\x0fgrpc-status:7\r\n");
        assert_eq!(judged(&of_body, None), Some(403));
        assert_eq!(judged(&answer("application/grpc-web", None), None), Some(0));
        let text = answer("application/grpc-web-text", None);
        assert_eq!(judged(&text, None), Some(0), "not read, so lost");
    }

    #[test]
    fn success_of_another_kind_is_no_answer_to_a_grpc_call() {
        let page = answer("text/html", None);
        assert!(matches!(outcome(&page, None, true), Some(Outcome::Lost)));
        let unnamed = http::Response::new(bytes::Bytes::new());
        assert!(matches!(outcome(&unnamed, None, true), Some(Outcome::Lost)));
        let mut refused = answer("text/html", None);
        *refused.status_mut() = StatusCode::FORBIDDEN;
        assert!(outcome(&refused, None, true).is_none());
    }
}

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug, PartialEq)]
struct Request {
    method: String,
    target: String,
    content_type: Option<String>,
    content: (u8, Vec<u8>),
}

impl Request {
    fn fingerprint(&self) -> Fingerprint {
        let (kind, bytes) = &self.content;
        let content = match kind {
            0 => Content::Body(bytes),
            1 => Content::CanonicalJson(bytes),
            _ => Content::Fields(bytes),
        };
        let content_type = self.content_type.as_deref().map(str::as_bytes);
        Fingerprint::of_request(&self.method, &self.target, content_type, content)
    }
}

fn request() -> impl Strategy<Value = Request> {
    let content = (0u8..3, proptest::collection::vec(0u8..2, 0..3));
    (
        "[ab]{0,2}",
        "[ab]{0,2}",
        proptest::option::of("[ab]{0,2}"),
        content,
    )
        .prop_map(|(method, target, content_type, content)| Request {
            method,
            target,
            content_type,
            content,
        })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4096, failure_persistence: None, ..Default::default() })]

    #[test]
    fn fingerprints_are_equal_exactly_when_the_requests_are(a in request(), b in request()) {
        prop_assert_eq!(a == b, a.fingerprint() == b.fingerprint());
    }
}

#[test]
fn parameters_and_case_of_the_media_type_do_not_count() {
    let of = |media: &str| {
        let content_type = Some(media.as_bytes());
        Fingerprint::of_request("POST", "/", content_type, Content::Body(b"{}"))
    };
    assert_eq!(
        of("application/json"),
        of("Application/JSON ; charset=utf-8")
    );
    assert_ne!(of("application/json"), of("application/merge-patch+json"));
}

#[test]
fn ten_and_0usd_are_not_a_hundred_and_usd() {
    let of = |method, target| Fingerprint::of_request(method, target, None, Content::Body(b""));
    assert_ne!(of("10", "0USD"), of("100", "USD"));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4096, failure_persistence: None, ..Default::default() })]

    #[test]
    fn no_request_has_the_fingerprint_of_an_input(request in request(), input in proptest::collection::vec(0u8..2, 0..3)) {
        prop_assert_ne!(request.fingerprint(), Fingerprint::of_input(&input));
    }

    #[test]
    fn inputs_are_equal_exactly_when_their_bytes_are(a in "[ab]{0,3}", b in "[ab]{0,3}") {
        let of = |text: &str| Fingerprint::of_input(text.as_bytes());
        prop_assert_eq!(a == b, of(&a) == of(&b));
    }
}

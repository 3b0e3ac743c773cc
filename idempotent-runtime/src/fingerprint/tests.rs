use proptest::prelude::*;

use super::*;

/// The fingerprint of a request without headers that count.
fn of_request(
    digest: Digest,
    method: &str,
    path_and_query: &str,
    content_type: Option<&[u8]>,
    content: Content<'_>,
) -> Fingerprint {
    let request = super::Request {
        method,
        path_and_query,
        content_type,
        headers: None,
        content,
    };
    Fingerprint::of_request(digest, &request)
}

#[derive(Clone, Debug, PartialEq)]
struct Request {
    method: String,
    target: String,
    content_type: Option<String>,
    content: (u8, Vec<u8>),
}

const DIGESTS: &[Digest] = &[
    Digest::Sha256,
    #[cfg(feature = "blake3")]
    Digest::Blake3,
];

impl Request {
    fn fingerprint(&self, digest: Digest) -> Fingerprint {
        let (kind, bytes) = &self.content;
        let content = match kind {
            0 => Content::Body(bytes),
            1 => Content::CanonicalJson(bytes),
            _ => Content::Fields(bytes),
        };
        let content_type = self.content_type.as_deref().map(str::as_bytes);
        of_request(digest, &self.method, &self.target, content_type, content)
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
        for digest in DIGESTS {
            prop_assert_eq!(a == b, a.fingerprint(*digest) == b.fingerprint(*digest));
        }
    }

    #[test]
    fn fingerprints_by_two_digests_are_never_equal(a in request(), b in request()) {
        if let Some(other) = Digest::Sha256.other() {
            prop_assert_ne!(a.fingerprint(Digest::Sha256), b.fingerprint(other));
        }
    }
}

/// Records outlive a release: what goes into the digest, with its version, must stay as it is.
#[test]
fn the_format_stays() {
    let frames = |version: u8| {
        let field = |bytes: &[u8]| [&(bytes.len() as u64).to_le_bytes(), bytes].concat();
        [
            vec![version],
            field(b"POST"),
            field(b"/payments?dry=1"),
            vec![1],
            field(b"application/json"),
            field(b"body"),
            field(b"{}"),
        ]
        .concat()
    };
    let of = |digest| {
        let (target, media) = ("/payments?dry=1", b"application/json; a=b");
        of_request(digest, "POST", target, Some(media), Content::Body(b"{}"))
    };
    let sha256: [u8; 32] = Sha256::digest(frames(1)).into();
    assert_eq!(of(Digest::Sha256).as_bytes(), &sha256);
    #[cfg(feature = "blake3")]
    assert_eq!(
        of(Digest::Blake3).as_bytes(),
        blake3::hash(&frames(2)).as_bytes()
    );
}

#[test]
fn parameters_and_case_of_the_media_type_do_not_count() {
    let of = |media: &str| {
        let content_type = Some(media.as_bytes());
        of_request(
            Digest::Sha256,
            "POST",
            "/",
            content_type,
            Content::Body(b"{}"),
        )
    };
    assert_eq!(
        of("application/json"),
        of("Application/JSON ; charset=utf-8")
    );
    assert_ne!(of("application/json"), of("application/merge-patch+json"));
}

#[test]
fn ten_and_0usd_are_not_a_hundred_and_usd() {
    for digest in DIGESTS {
        let of = |method, target| of_request(*digest, method, target, None, Content::Body(b""));
        assert_ne!(of("10", "0USD"), of("100", "USD"));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4096, failure_persistence: None, ..Default::default() })]

    #[test]
    fn no_request_has_the_fingerprint_of_an_input(request in request(), input in proptest::collection::vec(0u8..2, 0..3)) {
        for digest in DIGESTS {
            prop_assert_ne!(request.fingerprint(*digest), Fingerprint::of_input(&input));
        }
    }

    #[test]
    fn inputs_are_equal_exactly_when_their_bytes_are(a in "[ab]{0,3}", b in "[ab]{0,3}") {
        let of = |text: &str| Fingerprint::of_input(text.as_bytes());
        prop_assert_eq!(a == b, of(&a) == of(&b));
    }
}

fn form(content_type: &str, body: &str) -> Fingerprint {
    let (media_type, content) = (
        Some(content_type.as_bytes()),
        Content::Body(body.as_bytes()),
    );
    of_request(Digest::Sha256, "POST", "/", media_type, content)
}

#[test]
fn form_counts_by_its_parts_and_not_by_its_boundary() {
    let upload = |boundary: &str, parts: [&str; 2]| {
        let [a, b] = parts;
        let body = format!("--{boundary}\r\n{a}\r\n--{boundary}\r\n{b}\r\n--{boundary}--\r\n");
        form(&format!("multipart/form-data; boundary={boundary}"), &body)
    };
    let first = upload("one", ["\r\n10", "\r\nUSD"]);
    assert_eq!(first, upload("two", ["\r\n10", "\r\nUSD"]));
    assert_ne!(first, upload("one", ["\r\nUSD", "\r\n10"]), "another order");
    assert_ne!(first, upload("one", ["\r\n10", "\r\nEUR"]), "another value");
    assert_ne!(
        first,
        upload("one", ["a: b\r\n\r\n10", "\r\nUSD"]),
        "a header"
    );
}

/// The same bytes with another boundary are another form.
#[test]
fn body_that_cannot_be_taken_apart_counts_by_its_bytes_and_its_boundary() {
    let body = "--one\n\n10\n--one--\n--two\n\n20\n--two--\n";
    let first = form("multipart/form-data; boundary=one", body);
    assert_eq!(first, form("multipart/form-data; boundary=one", body));
    assert_ne!(first, form("multipart/form-data; boundary=two", body));
}

#[test]
fn headers_count_where_there_are_some_to_count() {
    let of = |headers| {
        let request = super::Request {
            method: "POST",
            path_and_query: "/",
            content_type: None,
            headers,
            content: Content::Body(b"{}"),
        };
        Fingerprint::of_request(Digest::Sha256, &request)
    };
    let all = [of(None), of(Some(b"")), of(Some(b"a")), of(Some(b"b"))];
    for (index, one) in all.iter().enumerate() {
        assert!(all.iter().skip(index + 1).all(|other| one != other));
    }
}

//! Bytes: what comes back is what went in, and what differs in one bit never meets.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};

use super::case::cases;
use super::lab::Lab;
use super::request::{answer, rival};
use super::verdict::{Failure, Verdict, must_be, same};
use crate::key::RecordKey;
use crate::record::{RecordState, StoredResponse};
use crate::store::{Claim, Completion};

cases! {
    Immutable:
        bodies_come_back_byte_for_byte,
        headers_come_back_in_order;
    AtomicClaim:
        keys_one_bit_apart_never_meet,
        keys_that_text_would_merge_never_meet;
}

async fn comes_back(lab: &Lab<'_>, what: &str, response: StoredResponse) -> Verdict {
    let response = Arc::new(response);
    let request = lab.claimed(lab.request()?).await?;
    let completion = lab.complete(&request.owner, &response).await?;
    must_be!(what, completion, Completion::Stored);
    let claim = lab.store.claim(&rival(&request)?).await?;
    must_be!(what, claim, Claim::Completed(got) if same(&got, &response));
    let state = lab.record(&request.owner.key).await?.state;
    must_be!(what, state, RecordState::Completed(got) if same(&got, &response));
    Ok(())
}

async fn bodies_come_back_byte_for_byte(lab: &Lab<'_>) -> Verdict {
    let every_byte: Vec<u8> = (0..=u8::MAX).collect();
    let mebibyte = every_byte.repeat(4096);
    for (what, status, body) in [
        ("a body of every byte", 200, Some(Bytes::from(every_byte))),
        ("an empty body", 204, Some(Bytes::new())),
        ("a body that was not kept", 201, None),
        ("a body of one mebibyte", 503, Some(Bytes::from(mebibyte))),
        (
            "a result that was no response",
            0,
            Some(Bytes::from_static(b"{}")),
        ),
        ("the highest status", 999, Some(Bytes::from_static(b"\0"))),
    ] {
        comes_back(
            lab,
            what,
            StoredResponse::of_parts(status, HeaderMap::new(), body),
        )
        .await?;
    }
    Ok(())
}

async fn headers_come_back_in_order(lab: &Lab<'_>) -> Verdict {
    let mut headers = HeaderMap::new();
    for (name, value) in [
        ("x-zebra", &b"2"[..]),
        ("x-apple", b"first"),
        ("x-zebra", b"1"),
        ("location", b"/payments/1?a=b&c=%20"),
        ("x-apple", b"second"),
        ("x-latin-1", b"caf\xe9"),
        ("x-not-utf-8", b"\xff\xfe\x80"),
        ("x-empty", b""),
        ("x-zebra", b"2"),
        ("x-quotes", b"'; \"\\ \t%00 {}"),
    ] {
        let value = HeaderValue::from_bytes(value).map_err(|_| Failure::Inconclusive)?;
        headers.append(HeaderName::from_static(name), value);
    }
    let body = Some(Bytes::from_static(b"{}"));
    comes_back(lab, "headers", StoredResponse::of_parts(200, headers, body)).await
}

async fn keys_one_bit_apart_never_meet(lab: &Lab<'_>) -> Verdict {
    let random = *lab.request()?.owner.key.as_bytes();
    let mut keys = vec![random];
    for byte in 0..random.len() {
        let mut key = random;
        key.iter_mut()
            .skip(byte)
            .take(1)
            .for_each(|bits| *bits ^= 1 << (byte % 8));
        keys.push(key);
    }
    never_meet(lab, &keys).await
}

/// Keys that are one key to a column of text: without regard to case or trailing blanks, cut at a
/// zero, or with what is no UTF-8 replaced.
async fn keys_that_text_would_merge_never_meet(lab: &Lab<'_>) -> Verdict {
    let random = *lab.request()?.owner.key.as_bytes();
    let ending = |last: [u8; 3]| {
        let mut key = random;
        key.iter_mut()
            .rev()
            .zip(last.iter().rev())
            .for_each(|(to, from)| *to = *from);
        key
    };
    let endings = [
        *b"aaA",
        *b"aaa",
        *b"a  ",
        *b"a \0",
        *b"a\0\0",
        *b"a\0b",
        *b"\xff\xfea",
        *b"\xfe\xffa",
    ];
    never_meet(lab, &endings.map(ending)).await
}

/// Each is claimed for another request and completed with another answer, and keeps its own.
async fn never_meet(lab: &Lab<'_>, keys: &[[u8; 32]]) -> Verdict {
    let mut claimed = Vec::new();
    for key in keys {
        let request = lab.request_of(RecordKey::from_bytes(*key))?;
        claimed.push(lab.claimed(request).await?);
    }
    let (odd, even) = (answer("odd"), answer("even"));
    let answers = || [&odd, &even].into_iter().cycle();
    for (request, response) in claimed.iter().zip(answers()) {
        let completion = lab.complete(&request.owner, response).await?;
        must_be!(
            "completing one of many like keys",
            completion,
            Completion::Stored
        );
    }
    for (request, response) in claimed.iter().zip(answers()) {
        let claim = lab.store.claim(&rival(request)?).await?;
        must_be!("claiming one of many like keys", claim, Claim::Completed(got) if got == *response);
    }
    Ok(())
}

//! gRPC-Web: trailers are the last frame of the body.

const TRAILERS: u8 = 0x80;

/// The `grpc-status` in the trailers of a body of this kind. Text (base64) is not read.
pub(super) fn status<'a>(kind: &str, body: &'a [u8]) -> Option<&'a str> {
    let rest = kind.strip_prefix("-web")?;
    if !(rest.is_empty() || rest.starts_with(['+', ';', ' '])) {
        return None;
    }
    let lines = std::str::from_utf8(trailers(body)?).ok()?.lines();
    let mut fields = lines.filter_map(|line| line.split_once(':'));
    let (_, status) = fields.find(|(name, _)| name.trim().eq_ignore_ascii_case("grpc-status"))?;
    Some(status.trim())
}

/// The content of the last frame, if it holds trailers and every frame is whole.
fn trailers(mut body: &[u8]) -> Option<&[u8]> {
    loop {
        let ([flags, length @ ..], rest) = body.split_first_chunk::<5>()?;
        let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
        let (content, rest) = rest.split_at_checked(length)?;
        if *flags == TRAILERS {
            return rest.is_empty().then_some(content);
        }
        body = rest;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(flags: u8, content: &str) -> Vec<u8> {
        let length = u32::try_from(content.len()).unwrap().to_be_bytes();
        [&[flags][..], &length, content.as_bytes()].concat()
    }

    #[test]
    fn status_is_in_the_last_frame() {
        let message = frame(0, "a message");
        let end = frame(TRAILERS, "grpc-message: no\r\nGrpc-Status: 14\r\n");
        assert_eq!(status("-web+proto", &end), Some("14"));
        assert_eq!(status("-web", &[&message[..], &end].concat()), Some("14"));
        assert_eq!(status("-web; a=b", &end), Some("14"));
        for (kind, body) in [
            ("-web", &b""[..]),
            ("-web", &message),
            ("-web", &end[..end.len() - 1]),
            ("-web", &[&end[..], &message].concat()),
            ("-web", &frame(TRAILERS, "grpc-message:no\r\n")),
            ("-web-text", &end),
            ("", &end),
        ] {
            assert_eq!(status(kind, body), None, "{kind}");
        }
    }
}

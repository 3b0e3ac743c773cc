//! The pieces of a `multipart/form-data` body.
//!
//! A client makes a new boundary for each upload, retries included: the same form has other bytes then.
//! So a form is compared by what is between its delimiters.
//!
//! Two bodies have the same pieces only if they differ in the boundary and in nothing else. That holds
//! because the pieces and the boundary give the body back byte for byte, and because whatever a lenient
//! parser may take for a delimiter is one: any other occurrence of the boundary makes the body
//! unreadable here, and it is compared by its bytes.

use memchr::memmem::Finder;

const MEDIA_TYPE: &[u8] = b"multipart/form-data";

/// The most pieces that a form is taken apart into, which bounds the memory for it.
const MOST_PIECES: usize = 4096;

/// The longest boundary (RFC 2046, section 5.1.1).
const LONGEST_BOUNDARY: usize = 70;

/// A body that is said to be a form.
#[derive(Debug, PartialEq)]
pub(super) enum Form<'a> {
    /// What is before the first delimiter, each part with its headers, and what is after the last.
    Pieces(Vec<&'a [u8]>),
    /// It is not a form, or not every parser would read it in the same way.
    Unreadable,
}

impl<'a> Form<'a> {
    /// `None` for a body of another media type.
    pub(super) fn of(content_type: &[u8], body: &'a [u8]) -> Option<Self> {
        let (essence, parameters) = content_type.split_at_checked(MEDIA_TYPE.len())?;
        let is_whole_word = matches!(parameters.first(), None | Some(b';' | b' ' | b'\t'));
        if !essence.eq_ignore_ascii_case(MEDIA_TYPE) || !is_whole_word {
            return None;
        }
        let pieces = boundary(parameters).and_then(|boundary| pieces(boundary, body));
        Some(pieces.map_or(Self::Unreadable, Self::Pieces))
    }
}

/// The value of the parameter `boundary`, if there is one such parameter and its value is a boundary.
fn boundary(mut parameters: &[u8]) -> Option<&[u8]> {
    let mut boundary: Option<&[u8]> = None;
    loop {
        parameters = parameters.trim_ascii_start();
        if parameters.is_empty() {
            return boundary.filter(|boundary| is_boundary(boundary));
        }
        parameters = parameters.strip_prefix(b";")?.trim_ascii_start();
        if parameters.is_empty() {
            continue;
        }
        let equals = parameters.iter().position(|byte| *byte == b'=')?;
        let (name, value) = parameters.split_at_checked(equals)?;
        let (value, rest) = parameter_value(value.strip_prefix(b"=")?)?;
        if name.eq_ignore_ascii_case(b"boundary") && boundary.replace(value).is_some() {
            return None;
        }
        parameters = rest;
    }
}

/// A value, quoted or not, and what comes after it. No boundary needs an escape.
fn parameter_value(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    if let Some(quoted) = bytes.strip_prefix(b"\"") {
        let end = quoted
            .iter()
            .position(|byte| matches!(byte, b'"' | b'\\'))?;
        let (value, rest) = quoted.split_at_checked(end)?;
        return Some((value, rest.strip_prefix(b"\"")?));
    }
    let is_end = |byte: &u8| matches!(byte, b';' | b' ' | b'\t');
    let end = bytes.iter().position(is_end).unwrap_or(bytes.len());
    bytes.split_at_checked(end)
}

fn is_boundary(bytes: &[u8]) -> bool {
    let is_allowed = |byte: &u8| byte.is_ascii_alphanumeric() || b"'()+_,-./:=? ".contains(byte);
    (1..=LONGEST_BOUNDARY).contains(&bytes.len())
        && bytes.iter().all(is_allowed)
        && bytes.last() != Some(&b' ')
}

fn pieces<'a>(boundary: &[u8], body: &'a [u8]) -> Option<Vec<&'a [u8]>> {
    let delimiter = [b"--", boundary].concat();
    let finder = Finder::new(&delimiter);
    let mut pieces = Vec::new();
    let mut rest = body;
    while pieces.len() < MOST_PIECES {
        let (before, found) = rest.split_at_checked(finder.find(rest)?)?;
        // The first delimiter may begin the body, with no line before it.
        let is_first = pieces.is_empty();
        if !(before.ends_with(b"\r\n") || is_first && before.is_empty()) {
            return None;
        }
        pieces.push(before);
        let after = found.strip_prefix(&*delimiter)?;
        if let Some(epilogue) = after.strip_prefix(b"--") {
            let is_line = epilogue.is_empty() || epilogue.starts_with(b"\r\n");
            if !is_line || finder.find(epilogue).is_some() {
                return None;
            }
            pieces.push(epilogue);
            return Some(pieces);
        }
        rest = after.strip_prefix(b"\r\n")?;
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of<'a>(content_type: &str, body: &'a str) -> Option<Form<'a>> {
        Form::of(content_type.as_bytes(), body.as_bytes())
    }

    #[track_caller]
    fn assert_pieces(boundary: &str, body: &str, pieces: &[&str]) {
        let content_type = format!("multipart/form-data; boundary={boundary}");
        let pieces = pieces.iter().map(|piece| piece.as_bytes()).collect();
        assert_eq!(of(&content_type, body), Some(Form::Pieces(pieces)));
    }

    #[test]
    fn parts_are_what_is_between_the_delimiters() {
        assert_pieces(
            "b",
            "--b\r\na: 1\r\n\r\nx\r\n--b\r\n\r\ny\r\n--b--\r\n",
            &["", "a: 1\r\n\r\nx\r\n", "\r\ny\r\n", "\r\n"],
        );
        assert_pieces(
            "b",
            "before\r\n--b\r\n\r\n--b--",
            &["before\r\n", "\r\n", ""],
        );
        assert_pieces("-", "---\r\n\r\nx\r\n-----", &["", "\r\nx\r\n", ""]);
        assert_pieces("\"a b\"", "--a b\r\n\r\n--a b--", &["", "\r\n", ""]);
    }

    #[test]
    fn what_another_parser_could_read_in_another_way_is_unreadable() {
        let boundaries = [
            "",
            ";",
            "; boundary",
            "; boundary=",
            "; boundary=\"\"",
            "; boundary=\"b",
            "; boundary=\"\\b\"",
            "; boundary=b; boundary=b",
            "; boundary=b; BOUNDARY=c",
            "; boundary=\"b \"",
            "; boundary=b b",
            "; boundary=b*",
            "; boundary =b",
        ];
        let good = "--b\r\n\r\nx\r\n--b--\r\n";
        for parameters in boundaries {
            let content_type = format!("multipart/form-data{parameters}");
            assert_eq!(
                of(&content_type, good),
                Some(Form::Unreadable),
                "{parameters}"
            );
        }
        let long = format!("; boundary={}", "b".repeat(71));
        assert_eq!(
            of(&format!("multipart/form-data{long}"), good),
            Some(Form::Unreadable)
        );
        for body in [
            "",
            "x",
            "--b",
            "--b--x",
            "--b\r\n",
            "--b\r\n\r\nx\r\n",
            "--b\r\n\r\nx--b--",
            "--b\n\nx\n--b--\n",
            "--b \r\n\r\nx\r\n--b--",
            "--b\r\n\r\nx\r\n--bc\r\n--b--",
            "--b\r\n\r\n--b\r\n--b--",
            "--b\r\n\r\na --b c\r\n--b--",
            "--b\r\n\r\nx\r\n--b--\r\n--b\r\n",
            " --b\r\n\r\nx\r\n--b--",
        ] {
            let form = of("multipart/form-data; boundary=b", body);
            assert_eq!(form, Some(Form::Unreadable), "{body:?}");
        }
        let many = "--b\r\n\r\n".repeat(MOST_PIECES) + "--b--";
        assert_eq!(
            of("multipart/form-data; boundary=b", &many),
            Some(Form::Unreadable)
        );
    }

    #[test]
    fn other_media_types_are_not_looked_at() {
        for content_type in [
            "multipart/form-data2; boundary=b",
            "multipart/mixed; boundary=b",
            "multipart/form-dat",
            "application/json",
            "",
        ] {
            assert_eq!(
                of(content_type, "--b\r\n\r\nx\r\n--b--"),
                None,
                "{content_type}"
            );
        }
        let spelt = "Multipart/Form-Data;charset=utf-8 ; Boundary=\"b\";";
        assert!(matches!(
            of(spelt, "--b\r\n\r\nx\r\n--b--"),
            Some(Form::Pieces(_))
        ));
    }

    /// Bytes of which delimiters are made.
    fn bytes() -> impl Strategy<Value = String> {
        "(--|-|b|c|\r\n|--b\r\n|\r\n--b\r\n|\r\n--b--){0,12}"
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 4096, failure_persistence: None, ..Default::default() })]

        /// So two bodies with the same pieces differ in the boundary only.
        #[test]
        fn pieces_and_boundary_give_the_body_back(body in bytes(), boundary in "[-bc]{1,3}") {
            if let Some(pieces) = pieces(boundary.as_bytes(), body.as_bytes()) {
                let delimiter = format!("--{boundary}");
                let (epilogue, lines) = pieces.split_last().unwrap();
                let mut again = Vec::new();
                for (index, line) in lines.iter().enumerate() {
                    again.extend_from_slice(line);
                    again.extend_from_slice(delimiter.as_bytes());
                    let is_last = index + 1 == lines.len();
                    again.extend_from_slice(if is_last { b"--" } else { b"\r\n" });
                }
                again.extend_from_slice(epilogue);
                prop_assert_eq!(again, body.as_bytes());
                prop_assert_eq!(body.matches(&delimiter).count(), lines.len());
            }
        }

        #[test]
        fn another_boundary_gives_the_same_pieces(parts in proptest::collection::vec("[a-z\r\n]{0,9}", 0..4)) {
            let form = |boundary: &str| {
                let parts = parts.iter().map(|part| format!("--{boundary}\r\n{part}\r\n"));
                parts.collect::<String>() + "--" + boundary + "--\r\n"
            };
            let (one, two) = (form("B1"), form("----WebKitFormBoundary7MA4"));
            let one = pieces(b"B1", one.as_bytes());
            prop_assert!(one.is_some());
            prop_assert_eq!(one, pieces(b"----WebKitFormBoundary7MA4", two.as_bytes()));
        }
    }
}

//! Whether a text is a media type, as the value of `Content-Type` (RFC 9110, section 8.3.1).

pub(super) fn is_media_type(text: &str) -> bool {
    let parameters = token(text)
        .and_then(|rest| rest.strip_prefix('/'))
        .and_then(token);
    parameters.is_some_and(are_parameters)
}

/// `*( OWS ";" OWS [ token "=" ( token / quoted-string ) ] )`
fn are_parameters(mut rest: &str) -> bool {
    while !rest.is_empty() {
        let Some(after) = without_space(rest).strip_prefix(';') else {
            return false;
        };
        rest = without_space(after);
        if rest.is_empty() || rest.starts_with(';') {
            continue;
        }
        let value = token(rest).and_then(|rest| rest.strip_prefix('='));
        let Some(after) = value.and_then(|value| quoted(value).or_else(|| token(value))) else {
            return false;
        };
        rest = after;
    }
    true
}

fn without_space(text: &str) -> &str {
    text.trim_start_matches([' ', '\t'])
}

/// What is behind a token.
fn token(text: &str) -> Option<&str> {
    let is_of_token = |it: char| it.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(it);
    let rest = text.trim_start_matches(is_of_token);
    (rest.len() < text.len()).then_some(rest)
}

/// What is behind a quoted string.
fn quoted(text: &str) -> Option<&str> {
    let text = text.strip_prefix('"')?;
    let is_text = |it: char| matches!(it, '\t' | ' '..='~');
    let mut characters = text.char_indices();
    while let Some((at, it)) = characters.next() {
        match it {
            '"' => return text.get(at + 1..),
            '\\' => {
                characters.next().filter(|(_, it)| is_text(*it))?;
            }
            it if is_text(it) => {}
            _ => return None,
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_media_type_is_two_tokens_and_parameters() {
        for right in [
            "text/plain",
            "application/problem+json",
            "text/html ; charset=\"utf-8\" ; a=b;",
            r#"multipart/mixed; boundary="a \"b\" ;c""#,
        ] {
            assert!(is_media_type(right), "{right}");
        }
        for wrong in [
            "x y",
            "text",
            "text/",
            "/plain",
            "text/plain,text/html",
            "text/plain; charset",
            "text/plain; charset = utf-8",
            "text/plain; a=\"b",
            "text/plain\n",
        ] {
            assert!(!is_media_type(wrong), "{wrong}");
        }
    }
}

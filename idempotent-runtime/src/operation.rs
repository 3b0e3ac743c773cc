//! Names of operations.

use std::borrow::Cow;

/// An operation without the names of its path's parameters: `POST /orders/{id}/pay` is
/// `POST /orders/{}/pay`, and `GET /files/{*rest}` is `GET /files/{*}`. So a parameter can be renamed,
/// which is a change of the source and not of the API, and no live key is forgotten.
///
/// What does not read like a method and a route is left as it is: two names may differ in what is in
/// their braces, and two routes may not.
pub(crate) fn without_parameter_names(operation: &str) -> Cow<'_, str> {
    match operation.split_once(' ') {
        Some((method, path)) if path.starts_with('/') && path.contains('{') => {
            Cow::Owned([method, " ", &*path_without_parameter_names(path)].concat())
        }
        Some(_) | None => Cow::Borrowed(operation),
    }
}

/// The same of a path, as a router has it: doubled braces are braces.
pub(crate) fn path_without_parameter_names(path: &str) -> Cow<'_, str> {
    if !path.contains('{') {
        return Cow::Borrowed(path);
    }
    let mut nameless = String::with_capacity(path.len());
    let mut rest = path;
    while let Some((before, after)) = rest.split_once('{') {
        nameless.push_str(before);
        nameless.push('{');
        rest = after;
        if let Some(literal) = rest.strip_prefix('{') {
            nameless.push('{');
            rest = literal;
        } else if let Some((name, after)) = rest.split_once('}') {
            nameless.push_str(if name.starts_with('*') { "*}" } else { "}" });
            rest = after;
        }
    }
    nameless.push_str(rest);
    Cow::Owned(nameless)
}

/// The most bytes of an operation's name that a store keeps.
pub(crate) const MAX_STORED_BYTES: usize = 128;

/// As much of a name as a store keeps: it is there to be read, and a record key is made of the whole name.
pub(crate) fn stored(operation: &str) -> &str {
    let end = operation.floor_char_boundary(MAX_STORED_BYTES);
    operation.get(..end).unwrap_or_default()
}

/// The most bytes of a label.
pub(crate) const MAX_LABEL_BYTES: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stored_name_is_cut_between_two_characters() {
        assert_eq!(stored("POST /payments"), "POST /payments");
        assert_eq!(stored(&"x".repeat(129)).len(), 128);
        assert_eq!(stored(&format!("{}ß", "x".repeat(127))).len(), 127);
    }

    #[test]
    fn routes_lose_the_names_of_their_parameters_and_nothing_else() {
        for (route, nameless) in [
            ("POST /payments", "POST /payments"),
            ("POST /orders/{id}/pay", "POST /orders/{}/pay"),
            ("POST /{a}/{b}", "POST /{}/{}"),
            ("PUT /files/{*rest}", "PUT /files/{*}"),
            ("POST /{id}.json", "POST /{}.json"),
            ("POST /{{literal}}/{id}", "POST /{{literal}}/{}"),
            ("POST /{{{id}}}", "POST /{{{}}}"),
            ("POST /orders/{}/pay", "POST /orders/{}/pay"),
            ("POST /open{", "POST /open{"),
        ] {
            assert_eq!(without_parameter_names(route), nameless, "{route}");
            let again = without_parameter_names(nameless);
            assert_eq!(again, nameless, "{route} a second time");
        }
    }

    #[test]
    fn names_are_left_alone() {
        for name in [
            "charge-{eur}",
            "charge {eur}",
            "POST {eur}",
            "{}",
            "/{a}",
            "",
        ] {
            assert_eq!(without_parameter_names(name), name);
        }
    }
}

//! What is published: printed, and put into `PERFORMANCE.md` where it belongs.

use std::fs;
use std::path::Path;

use super::options::Options;
use crate::say;

/// Prints tables, unless lines of JSON were asked for, and replaces those of the same place in
/// `PERFORMANCE.md` if that was asked for.
pub(super) fn publish(options: &Options, place: &str, text: &str) -> Result<(), String> {
    if !options.json {
        say(text);
    }
    if !options.write || text.is_empty() {
        return Ok(());
    }
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../PERFORMANCE.md");
    let failed = |error| format!("cannot change PERFORMANCE.md: {error}");
    let document = fs::read_to_string(&file).map_err(failed)?;
    let replaced = replace(&document, place, text)
        .ok_or_else(|| format!("PERFORMANCE.md has no place for `{place}`"))?;
    fs::write(&file, replaced).map_err(failed)
}

/// What stands between `<!-- begin place -->` and `<!-- end place -->` is replaced.
fn replace(document: &str, place: &str, text: &str) -> Option<String> {
    let (begin, end) = (
        format!("<!-- begin {place} -->\n"),
        format!("<!-- end {place} -->"),
    );
    let (before, rest) = document.split_once(&begin)?;
    let (_, after) = rest.split_once(&end)?;
    Some(format!("{before}{begin}{text}\n{end}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_between_the_marks_of_its_place_is_replaced() {
        let document =
            "a\n<!-- begin x -->\nold\n<!-- end x -->\nb\n<!-- begin y -->\n<!-- end y -->\n";
        let expected =
            "a\n<!-- begin x -->\nnew\n<!-- end x -->\nb\n<!-- begin y -->\n<!-- end y -->\n";
        assert_eq!(replace(document, "x", "new").as_deref(), Some(expected));
        assert_eq!(replace(document, "z", "new"), None);
    }
}

//! What stands above the attribute. It was expanded before and is not in the tokens, so it is read off the source.

use quote::quote;
use syn::{Attribute, parse::Parser as _};

use crate::error::Errors;

/// The lines of the file above the attribute, where the compiler says which file that is. Each begins with its line break.
pub(crate) fn source(attribute: proc_macro::Span) -> String {
    let file = attribute.local_file().map(std::fs::read_to_string);
    let source = file.and_then(Result::ok).unwrap_or_default();
    let above = source.lines().take(attribute.line().saturating_sub(1));
    above.flat_map(|line| ["\n", line]).collect()
}

/// `#[axum::debug_handler]` calls the function with the arguments as they are written, which the outer one has not.
pub(crate) fn check(above: &str, errors: &mut Errors) {
    let parse = |at| Attribute::parse_outer.parse_str(above.get(at..)?).ok();
    // From a line of another function on, it is not attributes alone.
    let lines = above.rmatch_indices('\n').take(64);
    let longest = lines.filter_map(|(at, _)| parse(at)).last();
    let attributes = longest.iter().flatten();
    let mut names = attributes.filter_map(|it| Some(&it.path().segments.last()?.ident));
    if names.any(|it| it == "debug_handler") {
        let rule = "`#[axum::debug_handler]` cannot check the function that `#[idempotent]` makes: \
                    move it below `#[idempotent]`";
        errors.at(quote!(), rule);
    }
}

//! What stands above the attribute. It was expanded before and is not in the tokens, so it is read off the source.

use quote::quote;
use syn::{Attribute, Meta, parse::Parser as _};

use crate::error::Errors;

/// What is in the file before the attribute, and near it, where the compiler says which file that is.
pub(crate) fn source(attribute: proc_macro::Span) -> String {
    let file = attribute.local_file().map(std::fs::read_to_string);
    let source = file.and_then(Result::ok).unwrap_or_default();
    let line = attribute.line().saturating_sub(1);
    let mut lines = source.split_inclusive('\n').skip(line.saturating_sub(64));
    let mut above: String = lines.by_ref().take(line.min(64)).collect();
    above.extend(
        lines
            .flat_map(str::chars)
            .take(attribute.column().saturating_sub(1)),
    );
    above
}

/// `#[axum::debug_handler]` calls the function with the arguments as they are written, which the outer one has not.
pub(crate) fn check(above: &str, errors: &mut Errors) {
    let mut starts = std::iter::once(0).chain(above.match_indices('\n').map(|(at, _)| at));
    let parse = |at| Attribute::parse_outer.parse_str(above.get(at..)?).ok();
    // From one of another function on, it is not attributes alone.
    let attributes = starts.find_map(parse).unwrap_or_default();
    let is_one = |it: &Attribute| match &it.meta {
        Meta::List(list) if list.path.is_ident("cfg_attr") => {
            let mut tokens = list.tokens.clone().into_iter();
            tokens.any(|it| it.to_string() == "debug_handler")
        }
        meta => meta
            .path()
            .segments
            .last()
            .is_some_and(|it| it.ident == "debug_handler"),
    };
    if attributes.iter().any(is_one) {
        let rule = "`#[axum::debug_handler]` cannot check the function that `#[idempotent]` makes: \
                    move it below `#[idempotent]`";
        errors.at(quote!(), rule);
    }
}

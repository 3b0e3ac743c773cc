//! What stands above the attribute. It was expanded before and is not in the tokens, so it is read off the source.

use proc_macro2::Span;

use crate::error::Errors;

/// The lines of the file above the attribute, where the compiler says which file that is.
pub(crate) fn source(attribute: proc_macro::Span) -> String {
    let file = attribute.local_file().map(std::fs::read_to_string);
    let source = file.and_then(Result::ok).unwrap_or_default();
    let above = source.lines().take(attribute.line().saturating_sub(1));
    Vec::from_iter(above).join("\n")
}

/// `#[axum::debug_handler]` calls the function with the arguments as they are written, which the outer one has not.
pub(crate) fn check(above: &str, errors: &mut Errors) {
    let lines = above.lines().rev().map(str::trim);
    // A line that does not end with it has a function of its own.
    let is_one = |it: &str| it.starts_with("#[") && (it.ends_with(']') || it.contains("] //"));
    let attributes = lines.take_while(|it| is_one(it) || it.starts_with("//"));
    let paths = attributes.filter_map(|it| it.strip_prefix("#[")?.split(['(', ']']).next());
    let mut names = paths.filter_map(|path| path.rsplit("::").next());
    if names.any(|name| name.trim() == "debug_handler") {
        let rule = "`#[axum::debug_handler]` cannot check the function that `#[idempotent]` makes: \
                    move it below `#[idempotent]`";
        errors.push(syn::Error::new(Span::call_site(), rule));
    }
}

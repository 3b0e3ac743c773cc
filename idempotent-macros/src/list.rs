//! `name = value, name = value`: the list between the parentheses, read to its end whatever is wrong in it.

use proc_macro2::{Ident, TokenStream, TokenTree};
use syn::ext::IdentExt as _;
use syn::parse::discouraged::Speculative as _;
use syn::parse::{ParseStream, Parser as _};
use syn::{Error, Expr, Result, Token};

use crate::error::Errors;
use crate::value::Argument;
use crate::words::{ARGUMENTS, did_you_mean, example, one_of};

/// The well-formed arguments. A malformed one is reported, and reading goes on after the next comma.
pub(crate) fn arguments(tokens: TokenStream, errors: &mut Errors) -> Vec<Argument> {
    let list = |input: ParseStream<'_>| {
        let mut arguments = Vec::new();
        while !input.is_empty() {
            let read = argument(input).and_then(|argument| {
                arguments.push(argument);
                comma(input)
            });
            if let Err(mistake) = read {
                errors.push(mistake);
                skip_to_next(input)?;
            }
        }
        Ok(arguments)
    };
    // The closure reads everything there is and reports what it finds, so it cannot fail itself.
    list.parse2(tokens).unwrap_or_default()
}

/// "unknown argument", with the nearest known one and all of them.
pub(crate) fn unknown(name: &Ident) -> Error {
    let known = || ARGUMENTS.iter().map(|(argument, _)| *argument);
    let hint = did_you_mean(&name.to_string(), known());
    let message = format!(
        "unknown argument `{name}`{hint}: the arguments are {}",
        one_of(known())
    );
    Error::new(name.span(), message)
}

fn argument(input: ParseStream<'_>) -> Result<Argument> {
    let name = input.call(Ident::parse_any).map_err(|mistake| {
        Error::new(
            mistake.span(),
            format!("arguments are written `{}`", example("ttl_hours")),
        )
    })?;
    let value = value(&name, input);
    if !ARGUMENTS.iter().any(|(known, _)| name == known) {
        return Err(unknown(&name));
    }
    value.map(|value| Argument { name, value })
}

/// The `= value` after a name.
fn value(name: &Ident, input: ParseStream<'_>) -> Result<Expr> {
    let example = example(&name.to_string());
    let ended = |input: ParseStream<'_>| input.is_empty() || input.peek(Token![,]);
    if !ended(input) && !input.peek(Token![=]) {
        return Err(input.error(format!("an `=` comes after `{name}`: write `{example}`")));
    }
    let equals: Option<Token![=]> = input.parse()?;
    if equals.is_none() || ended(input) {
        return Err(Error::new(
            name.span(),
            format!("`{name}` needs a value: write `{example}`"),
        ));
    }
    // On a fork, so that what is left unread in a broken expression is not reported once more.
    let ahead = input.fork();
    let value = ahead.parse()?;
    input.advance_to(&ahead);
    Ok(value)
}

fn comma(input: ParseStream<'_>) -> Result<()> {
    if input.is_empty() {
        return Ok(());
    }
    match input.parse::<Option<Token![,]>>()? {
        Some(_) => Ok(()),
        None => Err(input.error("a `,` comes between two arguments: add it here")),
    }
}

/// Leaves the input after the next comma, or before what looks like the next argument.
fn skip_to_next(input: ParseStream<'_>) -> Result<()> {
    while !input.is_empty() && !starts_argument(input) {
        if input.peek(Token![,]) {
            input.parse::<Token![,]>()?;
            break;
        }
        input.parse::<TokenTree>()?;
    }
    Ok(())
}

fn starts_argument(input: ParseStream<'_>) -> bool {
    let is_known = |name: Ident| ARGUMENTS.iter().any(|(known, _)| name == known);
    input.fork().call(Ident::parse_any).is_ok_and(is_known) && input.peek2(Token![=])
}

//! `name = value, name = value`: the list between the parentheses, read to its end whatever is wrong in it.

use proc_macro2::{Ident, TokenStream, TokenTree};
use syn::ext::IdentExt as _;
use syn::parse::discouraged::Speculative as _;
use syn::parse::{ParseStream, Parser as _};
use syn::{Error, Expr, Result, Token};

use crate::args::{ARGUMENTS, Spec};
use crate::error::Errors;
use crate::value::Argument;
use crate::words::{did_you_mean, one_of};

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

fn argument(input: ParseStream<'_>) -> Result<Argument> {
    let name = input
        .call(Ident::parse_any)
        .map_err(|mistake| Error::new(mistake.span(), "arguments are written `ttl_hours = 24`"))?;
    let spec = spec(&name);
    let value = value(&name, spec, input);
    let spec = spec.ok_or_else(|| unknown(&name))?;
    value.map(|value| Argument { spec, name, value })
}

fn spec(name: &Ident) -> Option<&'static Spec> {
    ARGUMENTS.iter().find(|spec| name == spec.name)
}

/// "unknown argument", with the nearest known one and all of them.
fn unknown(name: &Ident) -> Error {
    let known = || ARGUMENTS.iter().map(|spec| spec.name);
    let hint = did_you_mean(&name.to_string(), known());
    let all = one_of(known());
    let rule = format!("unknown argument `{name}`{hint}: the arguments are {all}");
    Error::new(name.span(), rule)
}

/// The `= value` after a name.
fn value(name: &Ident, spec: Option<&Spec>, input: ParseStream<'_>) -> Result<Expr> {
    let example = spec.map(Spec::example).unwrap_or_default();
    let ended = |input: ParseStream<'_>| input.is_empty() || input.peek(Token![,]);
    if !ended(input) && !input.peek(Token![=]) {
        return Err(input.error(format!("an `=` comes after `{name}`: write `{example}`")));
    }
    let equals: Option<Token![=]> = input.parse()?;
    if equals.is_none() || ended(input) {
        let rule = format!("`{name}` needs a value: write `{example}`");
        return Err(Error::new(name.span(), rule));
    }
    // On a fork, so that what is left unread in a broken expression is not reported once more.
    let ahead = input.fork();
    let value = ahead.parse()?;
    input.advance_to(&ahead);
    Ok(value)
}

fn comma(input: ParseStream<'_>) -> Result<()> {
    if !input.is_empty() && input.parse::<Option<Token![,]>>()?.is_none() {
        return Err(input.error("a `,` comes between two arguments: add it here"));
    }
    Ok(())
}

/// Leaves the input after the next comma, or before what looks like the next argument.
fn skip_to_next(input: ParseStream<'_>) -> Result<()> {
    while !input.is_empty() && !starts_argument(input) {
        if matches!(input.parse()?, TokenTree::Punct(it) if it.as_char() == ',') {
            break;
        }
    }
    Ok(())
}

fn starts_argument(input: ParseStream<'_>) -> bool {
    let name = input.fork().call(Ident::parse_any);
    name.is_ok_and(|name| spec(&name).is_some()) && input.peek2(Token![=])
}

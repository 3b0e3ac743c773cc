//! A plain function under the attribute: one that is given the handle, and answers no request.

use proc_macro2::TokenStream;
use quote::ToTokens as _;
use syn::{ItemFn, PatType, ReturnType, Safety, Signature, Type, TypeReference};

use crate::args::Args;
use crate::error::Errors;
use crate::handler::{Handler, is_named, peeled, typed};
use crate::pattern;
use crate::value::Value;

mod expand;

pub(crate) use expand::function;

/// What only makes sense where there is a request, and why.
const OF_HANDLERS: [(&str, &str); 4] = [
    ("header", "this function has no request"),
    ("fingerprint_headers", "this function has no request"),
    ("required", "this function always has a key"),
    ("replay_errors", "an `Err` of this function is never stored"),
];

/// A function without HTTP that can be made idempotent.
pub(crate) struct Plain {
    /// Its parts are those of a handler.
    pub(crate) parts: Handler,
    /// Which of the arguments is the handle.
    pub(crate) handle: usize,
}

impl Plain {
    /// `None` for what is a handler, or no function at all. Every mistake goes to `errors`.
    pub(crate) fn parse(item: &TokenStream, args: &Args, errors: &mut Errors) -> Option<Self> {
        let function: ItemFn = syn::parse2(item.clone()).ok()?;
        let handle = typed(&function.sig).position(|it| reference_to_handle(it).is_some())?;
        check_signature(&function.sig, errors);
        check_arguments(&function, errors);
        check_args(args, &function.sig, errors);
        Some(Self {
            parts: Handler::of(function),
            handle,
        })
    }
}

/// The function with its handle used, for when there was a mistake: nobody has to hear that it is not.
pub(crate) fn with_handle_used(item: TokenStream) -> TokenStream {
    let Ok(mut function) = syn::parse2::<ItemFn>(item.clone()) else {
        return item;
    };
    let handles = typed(&function.sig).filter(|it| reference_to_handle(it).is_some());
    let handles = pattern::bindings(handles.map(|it| &*it.pat));
    expand::use_bindings(&mut function, &handles);
    function.into_token_stream()
}

/// A reference whose path ends in `Idempotency`.
fn reference_to_handle(argument: &PatType) -> Option<&TypeReference> {
    let Type::Reference(reference) = peeled(&argument.ty) else {
        return None;
    };
    let Type::Path(path) = peeled(&reference.elem) else {
        return None;
    };
    let last = path.path.segments.last()?;
    (last.ident == "Idempotency").then_some(reference)
}

fn check_signature(sig: &Signature, errors: &mut Errors) {
    const IT: &str = "an idempotent function";
    if let Some(constness) = &sig.constness {
        errors.at(constness, format!("{IT} cannot be `const`: remove it"));
    } else if sig.asyncness.is_none() {
        let fix = format!("write `async fn {}`", sig.ident);
        errors.at(sig.fn_token, format!("{IT} is `async`: {fix}"));
    }
    if let Safety::Unsafe(unsafety) = &sig.safety {
        let fix = "put the `unsafe` inside";
        errors.at(unsafety, format!("{IT} cannot be `unsafe`: {fix}"));
    }
    if let Some(abi) = &sig.abi {
        errors.at(abi, format!("{IT} cannot be `extern`: remove it"));
    }
    if let Some(receiver) = sig.receiver() {
        let fix = "take what it needs as an argument, and own it";
        errors.at(receiver, format!("{IT} has no `self`: {fix}"));
    }
    if let ReturnType::Default = sig.output {
        let fix = "return `Ok` for what happened, to be stored, and `Err` if nothing did";
        errors.at(&sig.ident, format!("{IT} returns a `Result`: {fix}"));
    }
}

fn check_arguments(function: &ItemFn, errors: &mut Errors) {
    for again in function
        .attrs
        .iter()
        .filter(|it| is_named(it, "idempotent"))
    {
        let rule = "`#[idempotent]` is here twice: put all arguments into one of them";
        errors.at(again, rule);
    }
    let mut handles = 0;
    for argument in typed(&function.sig) {
        match reference_to_handle(argument) {
            Some(reference) => {
                handles += 1;
                check_handle(reference, handles, errors);
            }
            None => check_owned(argument, errors),
        }
        for attribute in &argument.attrs {
            if is_named(attribute, "tx") {
                let rule = "`#[tx]` is for handlers: put it on the argument of one";
                errors.at(attribute, rule);
            } else if is_named(attribute, "cfg") || is_named(attribute, "cfg_attr") {
                let rule = "an argument of an idempotent function cannot be conditional: \
                            put the `cfg` on the function and write it twice";
                errors.at(attribute, rule);
            }
        }
    }
}

fn check_handle(reference: &TypeReference, count: usize, errors: &mut Errors) {
    if count > 1 {
        errors.at(reference, "the handle is here twice: remove one of the two");
    }
    if let Some(mutability) = &reference.mutability {
        errors.at(mutability, "the handle is shared: write `&Idempotency`");
    }
    if let Some(lifetime) = reference
        .lifetime
        .as_ref()
        .filter(|it| it.ident == "static")
    {
        let rule = "the handle is lent for the call only: write `&Idempotency`";
        errors.at(lifetime, rule);
    }
}

fn check_owned(argument: &PatType, errors: &mut Errors) {
    if let Type::Reference(reference) = peeled(&argument.ty)
        && reference
            .lifetime
            .as_ref()
            .is_none_or(|it| it.ident != "static")
    {
        let rule = "an idempotent function owns its arguments, because it goes on when its caller has \
                    gone: take the value, such as a `String` instead of a `&str`, or an `Arc`";
        errors.at(reference, rule);
    }
}

/// The arguments of the attribute, which a handler could have too.
fn check_args(args: &Args, sig: &Signature, errors: &mut Errors) {
    for (name, why) in OF_HANDLERS {
        if let Some(said) = args.said(name) {
            errors.at(
                said,
                format!("`{name}` is for handlers, and {why}: remove it"),
            );
        }
    }
    for call in &args.calls {
        if let Value::Variant("FingerprintSource", _) = call.value {
            let rule = "this function has no body to be compared by: write an expression over its \
                        arguments, such as `fingerprint = order`, or nothing for all of them";
            errors.at(&call.method, rule);
        }
    }
    if args.said("key").is_none() {
        let rule = "an idempotent function that is no handler needs a key: \
                    say which of its arguments it is, as in `#[idempotent(key = order.id)]`";
        errors.at(&sig.ident, rule);
    }
    if args.said("name").is_none() {
        let rule = "an idempotent function that is no handler needs a name, which is part of all its keys: \
                    give it one that no other function has, as in `#[idempotent(name = \"orders.settle\")]`";
        errors.at(&sig.ident, rule);
    }
}

//! What the function may look like: one check for handlers and for plain functions.

use syn::{ItemFn, Meta, PatType, ReturnType, Signature, TypeReference};

use crate::args::{Args, Said};
use crate::error::Errors;
use crate::function::{Kind, is_lent, is_named, reference, referenced_handle, typed};
use crate::value::Value;

/// axum implements `Handler` for functions of up to this many arguments.
const MOST_ARGUMENTS: usize = 16;

pub(crate) fn check(function: &ItemFn, kind: &Kind, args: &Args, errors: &mut Errors) {
    let sig = &function.sig;
    match kind {
        Kind::Handler | Kind::Transactional { .. } => {
            check_function(function, "a handler", "such as `State<Self>`", errors);
            check_handler(sig, errors);
        }
        Kind::Plain { handle } => {
            let it = "an idempotent function";
            check_function(function, it, "and own it", errors);
            check_plain(sig, *handle, errors);
        }
    }
    check_args(args, sig, kind, errors);
}

fn check_function(function: &ItemFn, it: &str, instead: &str, errors: &mut Errors) {
    let sig = &function.sig;
    let no_unsafe = "cannot be `unsafe`: put the `unsafe` inside";
    let no_self = "cannot take `self`: take what it needs as an argument";
    errors.refuse(sig.constness, format!("{it} cannot be `const`: remove it"));
    errors.refuse(&sig.safety, format!("{it} {no_unsafe}"));
    errors.refuse(&sig.abi, format!("{it} cannot be `extern`: remove it"));
    errors.refuse(sig.receiver(), format!("{it} {no_self}, {instead}"));
    if sig.constness.is_none() && sig.asyncness.is_none() {
        let rule = format!("{it} must be `async`: write `async fn {}`", sig.ident);
        errors.at(sig.fn_token, rule);
    }
    check_attributes(function, it, errors);
}

fn check_attributes(function: &ItemFn, it: &str, errors: &mut Errors) {
    for attribute in &function.attrs {
        if is_named(attribute, "idempotent") {
            let rule = "`#[idempotent]` is given twice: put all arguments into one of them";
            errors.at(attribute, rule);
        } else if is_named(attribute, "path") {
            let rule = "`#[utoipa::path]` must see the function that the router is given: \
                        move it above `#[idempotent]`";
            errors.at(attribute, rule);
        }
    }
    for attribute in typed(&function.sig).flat_map(|argument| &argument.attrs) {
        if is_named(attribute, "cfg") || is_named(attribute, "cfg_attr") {
            let rule = "cannot be conditional: write the function twice, each with its `cfg`";
            errors.at(attribute, format!("an argument of {it} {rule}"));
        }
    }
}

fn check_handler(sig: &Signature, errors: &mut Errors) {
    let (lent, extracted): (Vec<_>, Vec<_>) = typed(sig).partition(|it| is_lent(it));
    for argument in &extracted {
        let rule = "handler arguments are extractors and must be owned: take the value; for a transaction's \
                    connection, put `#[tx]` before the argument; if this function is not a handler, \
                    write the handle as `&Idempotency`, not as an alias";
        errors.refuse(reference(argument), rule);
    }
    let rule = "axum handlers have at most 16 arguments: \
                put some of them into one tuple, or into a type with `FromRequestParts`";
    errors.refuse(extracted.get(MOST_ARGUMENTS), rule);
    let attributes = lent.iter().flat_map(|it| &it.attrs);
    for (index, tx) in attributes.filter(|it| is_named(it, "tx")).enumerate() {
        if !matches!(tx.meta, Meta::Path(_)) {
            let rule = "`#[tx]` takes no arguments: the type says which database";
            errors.at(tx, rule);
        }
        if index > 0 {
            let rule = "a handler runs in one transaction: remove the second `#[tx]`";
            errors.at(tx, rule);
        }
    }
    let is_mutable = |it: &PatType| reference(it).is_some_and(|it| it.mutability.is_some());
    let unusable = lent.first().filter(|it| !is_mutable(it));
    let rule = "`#[tx]` lends the handler a connection, which the runtime commits: \
                write `&mut PgConnection`, `&mut DeadpoolTransaction`, `&mut SqliteConnection` or `&mut MySqlConnection`";
    errors.refuse(unusable.map(|it| &it.ty), rule);
}

fn check_plain(sig: &Signature, handle: usize, errors: &mut Errors) {
    if let ReturnType::Default = sig.output {
        let rule = "an idempotent function must return a `Result`: \
                    `Ok` for what happened, which is stored, and `Err` if nothing happened";
        errors.at(&sig.ident, rule);
    }
    for (place, argument) in typed(sig).enumerate() {
        for tx in argument.attrs.iter().filter(|it| is_named(it, "tx")) {
            let rule = "`#[tx]` is for handlers: put it on the argument of one";
            errors.at(tx, rule);
        }
        if let Some(reference) = referenced_handle(argument) {
            if place != handle {
                let rule = "the handle is given twice: remove one of the two";
                errors.at(reference, rule);
            }
            let rule = "the handle cannot be borrowed mutably: write `&Idempotency`";
            errors.refuse(reference.mutability, rule);
            let rule = "the handle is borrowed for the call only: write `&Idempotency`";
            errors.refuse(static_lifetime(reference), rule);
        } else {
            let borrowed = reference(argument).filter(|it| static_lifetime(it).is_none());
            let rule = "an idempotent function must own its arguments, because it continues when \
                        its caller is gone: take the value, such as a `String` instead of a `&str`, \
                        or an `Arc`";
            errors.refuse(borrowed, rule);
        }
    }
}

fn static_lifetime(reference: &TypeReference) -> Option<&syn::Lifetime> {
    let lifetime = reference.lifetime.as_ref();
    lifetime.filter(|it| it.ident == "static")
}

/// The arguments of the attribute, against what it is on.
fn check_args(args: &Args, sig: &Signature, kind: &Kind, errors: &mut Errors) {
    for Said { name, spec, .. } in &args.said {
        let rule = match (kind, spec.not_plain, spec.not_in_transaction) {
            (Kind::Plain { .. }, Some(why), _) => {
                format!("`{name}` is for handlers, and {why}: remove it")
            }
            (Kind::Transactional { .. }, _, Some(why)) => format!("{why}: remove `{name}`"),
            _ => continue,
        };
        errors.at(name, rule);
    }
    let Kind::Plain { .. } = kind else {
        check_key_age(args, errors);
        return;
    };
    if let Some(Value::Variant(..)) = args.value("fingerprint") {
        let rule = "this function has no request body to compare: write an expression over its \
                    arguments, such as `fingerprint = order`, or nothing for all of them";
        errors.at(args.get("fingerprint").map(|said| &said.name), rule);
    }
    let key = "needs a key: \
               say which of its arguments it is, as in `#[idempotent(key = order.id)]`";
    let name = "needs a name, which is part of all its keys: give it one that no other function has, \
                as in `#[idempotent(name = \"orders.settle\")]`";
    for (method, rule) in [("key", key), ("name", name)] {
        if args.get(method).is_none() {
            let it = "an idempotent function that is not a handler";
            errors.at(&sig.ident, format!("{it} {rule}"));
        }
    }
}

/// What the application makes a key of has no time in it.
fn check_key_age(args: &Args, errors: &mut Errors) {
    let key_age = args.get("key_age").filter(|_| args.get("key").is_some());
    let rule = "`key_age` is about the key in a header, which `key` replaces: remove `key_age`, \
                and refuse in the handler what is too old";
    errors.refuse(key_age.map(|said| &said.name), rule);
}

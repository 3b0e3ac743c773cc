//! A handler: what the router sees, the last argument wrapped.

use proc_macro2::{Ident, Span, TokenStream};
use quote::{ToTokens, quote, quote_spanned};
use syn::spanned::Spanned as _;
use syn::{Expr, PatType};

use super::{answer, inputs, names, policy, shell, users_path};
use crate::args::Args;
use crate::function::{Function, Kind};
use crate::pattern;
use crate::value::Value;

pub(super) fn function(args: &Args, function: &Function) -> TokenStream {
    let runtime = args.runtime();
    let (before, last) = split(args, function);
    let (first, types) = (names(before), before.iter().map(|it| &it.ty));
    let last_type = or_unit(last.map(|it| &it.ty));
    let wrapped = Ident::new("__last", Span::mixed_site());
    let handle = match (with(args), &function.kind) {
        (Some(_), _) => Some(quote!(#runtime::__private::Unbound)),
        (None, Kind::Transactional { .. }) => Some(handle(args, function)),
        _ => None,
    };
    let handle = handle.map(|handle| quote!(, #handle));
    let extraction = quote!(impl #runtime::__private::Extraction<#last_type>);
    let request = quote!(IdempotentRequest<#last_type, #extraction #handle>);
    let arguments = quote!(#(#first: #types,)* #wrapped: #runtime::__private::#request,);
    let call = call(args, function);
    let output = quote!(-> #runtime::__private::Response);
    shell(args, function, [arguments, output, call])
}

/// `__last.run(..).await`. It is located at the return type, because that is what is wrong when the compiler does not
/// like what the handler answers.
fn call(args: &Args, function: &Function) -> TokenStream {
    let here = Span::mixed_site().located_at(answer(&function.users.sig));
    let (wrapped, policy) = (Ident::new("__last", here), policy(args, ""));
    let (before, last) = split(args, function);
    let mut passed = names(&function.arguments);
    let first = names(before);
    let last_name = or_unit(passed.get(before.len()));
    let users = users_path(function);
    let run = match function.kind {
        Kind::Transactional { place, .. } => {
            let tx = Ident::new("__tx", Span::mixed_site());
            passed.insert(place.min(passed.len()), tx.clone());
            // Two names at the return type, which the compiler blames: what the handler answers, and its future.
            let [by, work] = ["by", "__work"].map(|name| Ident::new(name, here));
            let runtime = args.runtime();
            let body = quote!(#runtime::__private::Work.#by(#work));
            quote!(|(#(#first,)*), #last_name, #tx| { let #work = #users(#(#passed),*); #body })
        }
        _ => quote!(|(#(#first,)*), #last_name| #users(#(#passed),*)),
    };
    // What is given references is what the patterns bind.
    let by_reference = |it: &PatType| pattern::by_reference(&it.pat);
    let patterns = Vec::from_iter(before.iter().map(by_reference));
    let last_pattern = or_unit(last.map(by_reference));
    let kept = Ident::new("__args", Span::mixed_site());
    let passed = match with(args) {
        None => quote!((#(#first,)*)),
        Some(_) => quote!(#kept),
    };
    let run = match inputs(args, function) {
        None => quote_spanned!(here=> run(#policy, #passed, #run)),
        Some(inputs) => {
            let inputs = quote!(|(#(#patterns,)*), #last_pattern| { #inputs });
            quote_spanned!(here=> run_with(#policy, #passed, #inputs, #run))
        }
    };
    let Some(expression) = with(args) else {
        return quote_spanned!(here=> #wrapped.#run.await);
    };
    let handle = handle(args, function);
    let used = pattern::used(&pattern::bindings(before));
    let borrowed = quote_spanned!(expression.span()=> &(#expression));
    let clone = quote_spanned!(expression.span()=> <#handle as ::core::clone::Clone>::clone);
    let bound = quote!(.with({ let (#(#patterns,)*) = &#kept; #used #clone(#borrowed) }));
    quote_spanned!(here=> let #kept = (#(#first,)*); #wrapped #bound.#run.await)
}

/// The type of the handle.
fn handle(args: &Args, function: &Function) -> TokenStream {
    let runtime = args.runtime();
    match &function.kind {
        Kind::Transactional { connection, .. } => quote!(#runtime::Transactions<#connection>),
        _ => quote!(#runtime::Idempotency),
    }
}

/// The expression that says where the handle is.
fn with(args: &Args) -> Option<&Expr> {
    match args.value("with") {
        Some(Value::Handle(expression)) => Some(expression),
        _ => None,
    }
}

/// The arguments that the outer function takes as they are, and the last one, which it wraps. Where the handle is in
/// that, as in a handler whose only argument is the state, it is an argument like the others, and nothing is wrapped in
/// its place.
fn split<'a>(args: &Args, function: &'a Function) -> (&'a [PatType], Option<&'a PatType>) {
    let mentions = |name: &Ident| with(args).is_some_and(|it| pattern::mentions(it, name));
    match function.arguments.split_last() {
        Some((last, before)) if !pattern::bindings([last]).iter().any(mentions) => {
            (before, Some(last))
        }
        _ => (&function.arguments, None),
    }
}

fn or_unit(it: Option<impl ToTokens>) -> TokenStream {
    it.map_or_else(|| quote!(()), |it| it.to_token_stream())
}

//! A handler: what the router sees, the last argument wrapped.

use proc_macro2::{Ident, Span, TokenStream};
use quote::{ToTokens, quote, quote_spanned};
use syn::ext::IdentExt as _;
use syn::spanned::Spanned as _;
use syn::{Expr, PatType};

use super::{answer, inputs, names, policy, shell, used, users_path};
use crate::args::Args;
use crate::function::{Function, Kind};
use crate::pattern;
use crate::value::Value;

pub(super) fn function(args: &Args, function: &Function) -> TokenStream {
    let (runtime, with) = (args.runtime(), with(args));
    let wraps_last = wraps_last(with, function);
    let (types, last_type) = split(function.arguments.iter().map(|it| &it.ty), wraps_last);
    let names = names(&function.arguments);
    let (first, _) = split(&names, wraps_last);
    let wrapped = Ident::new("__last", Span::mixed_site());
    let handle = match with {
        Some(_) => Some(quote!(#runtime::__private::Unbound)),
        None => match &function.kind {
            Kind::Transactional { .. } => Some(handle(args, function)),
            _ => None,
        },
    };
    let handle = handle.map(|handle| quote!(, #handle));
    let extraction = quote!(impl #runtime::__private::Extraction<#last_type>);
    let request = quote!(IdempotentRequest<#last_type, #extraction #handle>);
    let arguments = quote! {
        #(#first: #types,)*
        #wrapped: #runtime::__private::#request,
    };
    let call = call(args, function, &names);
    let output = quote!(-> #runtime::__private::Response);
    shell(args, function, [arguments, output, call])
}

/// `__last.run(..).await`. It is located at the return type, because that is what is wrong when the compiler does not
/// like what the handler answers.
fn call(args: &Args, function: &Function, names: &[Ident]) -> TokenStream {
    let here = Span::mixed_site().located_at(answer(&function.users.sig));
    let (wrapped, policy) = (Ident::new("__last", here), policy(args, ""));
    let wraps_last = wraps_last(with(args), function);
    let (first, last) = split(names, wraps_last);
    let mut passed = names.to_vec();
    let users = users_path(function);
    let run = match function.kind {
        Kind::Transactional { place, .. } => {
            let tx = Ident::new("__tx", Span::mixed_site());
            passed.insert(place.min(passed.len()), tx.clone());
            quote!(|(#(#first,)*), #last, #tx| ::std::boxed::Box::pin(#users(#(#passed),*)))
        }
        _ => quote!(|(#(#first,)*), #last| #users(#(#passed),*)),
    };
    // What is given references is what the patterns bind.
    let patterns = function.arguments.iter();
    let patterns = patterns.map(|it| pattern::by_reference(&it.pat));
    let (patterns, pattern) = split(patterns, wraps_last);
    let kept = Ident::new("__args", Span::mixed_site());
    let passed = match with(args) {
        None => quote!((#(#first,)*)),
        Some(_) => quote!(#kept),
    };
    let run = match inputs(args, function) {
        None => quote_spanned!(here=> run(#policy, #passed, #run)),
        Some(inputs) => {
            let inputs = quote!(|(#(#patterns,)*), #pattern| { #inputs });
            quote_spanned!(here=> run_with(#policy, #passed, #inputs, #run))
        }
    };
    let Some(expression) = with(args) else {
        return quote_spanned!(here=> #wrapped.#run.await);
    };
    let (handle, used) = (
        handle(args, function),
        used(arguments_before(function, wraps_last)),
    );
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

/// Whether the last argument is what is wrapped. Where the handle is in it, as in a handler whose only argument is the
/// state, it is an argument like the others, and nothing is wrapped in its place.
fn wraps_last(with: Option<&Expr>, function: &Function) -> bool {
    let (Some(with), Some(last)) = (with, function.arguments.last()) else {
        return true;
    };
    let names_it =
        |name: &Ident| pattern::mentions(with.to_token_stream(), &name.unraw().to_string());
    !pattern::bindings([last]).iter().any(names_it)
}

fn arguments_before(function: &Function, wraps_last: bool) -> &[PatType] {
    match function.arguments.split_last() {
        Some((_, before)) if wraps_last => before,
        _ => &function.arguments,
    }
}

/// All but the last, and the last one; or all of them, and `()`.
fn split<T: ToTokens>(
    all: impl IntoIterator<Item = T>,
    wraps_last: bool,
) -> (Vec<TokenStream>, TokenStream) {
    let mut all: Vec<_> = all.into_iter().map(|it| it.to_token_stream()).collect();
    let last = if wraps_last { all.pop() } else { None };
    (all, last.unwrap_or_else(|| quote!(())))
}

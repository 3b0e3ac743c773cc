//! A handler: what the router sees, the last argument wrapped.

use proc_macro2::{Ident, Span, TokenStream};
use quote::{ToTokens, quote, quote_spanned};

use super::{answer, inputs, names, policy, shell, users_path};
use crate::args::Args;
use crate::function::{Function, Kind};
use crate::pattern;

pub(super) fn function(args: &Args, function: &Function) -> TokenStream {
    let runtime = args.runtime();
    let (types, last_type) = split_last(function.arguments.iter().map(|it| &it.ty));
    let names = names(&function.arguments);
    let (first, _) = split_last(&names);
    let wrapped = Ident::new("__last", Span::mixed_site());
    let request = match &function.kind {
        Kind::Transactional { connection, .. } => quote!(TransactionalRequest<#connection,),
        _ => quote!(IdempotentRequest<),
    };
    // Whether the key is in the usual header, which is what the runtime takes for granted.
    let is_elsewhere = args.value("key").or(args.value("header")).is_some();
    let usual = is_elsewhere.then(|| quote!(, false));
    let extraction = quote!(impl #runtime::__private::Extraction<#last_type>);
    let arguments = quote! {
        #(#first: #types,)*
        #wrapped: #runtime::__private::#request #last_type, #extraction #usual>,
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
    let (first, last) = split_last(names);
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
    let Some(inputs) = inputs(args, function) else {
        return quote_spanned!(here=> #wrapped.run(#policy, (#(#first,)*), #run).await);
    };
    // The closure is given references, so that is what the patterns bind.
    let patterns = function.arguments.iter();
    let (patterns, pattern) = split_last(patterns.map(|it| pattern::by_reference(&it.pat)));
    let inputs = quote!(|(#(#patterns,)*), #pattern| { #inputs });
    quote_spanned!(here=> #wrapped.run_with(#policy, (#(#first,)*), #inputs, #run).await)
}

/// All but the last, and the last one, or `()`.
fn split_last<T: ToTokens>(all: impl IntoIterator<Item = T>) -> (Vec<TokenStream>, TokenStream) {
    let mut all: Vec<_> = all.into_iter().map(|it| it.to_token_stream()).collect();
    let last = all.pop().unwrap_or_else(|| quote!(()));
    (all, last)
}

//! Tokens only: what they do is in the runtime. This is the shell that all functions share.

use proc_macro2::{Span, TokenStream};
use quote::{ToTokens as _, format_ident, quote, quote_spanned};
use syn::spanned::Spanned as _;
use syn::{Attribute, ConstParam, GenericParam, Ident, ItemFn, PatType, ReturnType, Signature};

use crate::args::{Args, Said};
use crate::function::{FOR_CALLERS, Function, Kind, mark_handle_used};
use crate::pattern;
use crate::value::Value;

mod handler;
mod plain;

/// The outer function, with the user's function inside of it or beside it.
pub(crate) fn function(args: &Args, function: &Function) -> TokenStream {
    match function.kind {
        Kind::Plain { handle } => plain::function(args, function, handle),
        Kind::Handler | Kind::Transactional { .. } => handler::function(args, function),
    }
}

/// What all functions have in common. The parts are the arguments, the output, and the one call in which everything
/// happens.
fn shell(args: &Args, function: &Function, parts: [TokenStream; 3]) -> TokenStream {
    let [arguments, output, call] = parts;
    let users = users_function(args, function);
    let (inside, beside) = match function.beside {
        None => (Some(users), None),
        Some(_) => (None, Some(users)),
    };
    let (outside, vis, sig) = (&function.outside, &function.users.vis, &function.users.sig);
    let (asyncness, fn_token, ident) = (&sig.asyncness, &sig.fn_token, &sig.ident);
    let (generics, where_clause) = (&sig.generics, &sig.generics.where_clause);
    // With the user's braces: by their span the compiler takes the function for the user's, and warns when it is
    // never used.
    let (braces, mut body) = (&function.users.block.brace_token, TokenStream::new());
    braces.surround(&mut body, |body| body.extend(quote!(#inside #call)));
    quote! {
        #(#outside)*
        #vis #asyncness #fn_token #ident #generics(#arguments) #output
        #where_clause
        #body
        #beside
    }
}

/// What the generated code calls the arguments. Nothing of the user's can see these names. Each is located at its
/// type, because that is what is wrong when the compiler does not like an argument.
fn names(arguments: &[PatType]) -> Vec<Ident> {
    let name = |(index, it): (usize, &PatType)| {
        let here = Span::mixed_site().located_at(it.ty.span());
        format_ident!("__a{index}", span = here)
    };
    arguments.iter().enumerate().map(name).collect()
}

/// Where the return type is, or the name of a function that has none.
fn answer(sig: &Signature) -> Span {
    match &sig.output {
        ReturnType::Type(_, answer) => answer.span(),
        ReturnType::Default => sig.ident.span(),
    }
}

/// The settings known at compile time, without one that goes elsewhere. A `const` block, unlike a `static`, may name
/// the function's generics and `Self`, and has no name itself.
fn policy(args: &Args, elsewhere: &str) -> TokenStream {
    let runtime = args.runtime();
    let settings = args.said.iter().filter(|it| it.spec.method != elsewhere);
    let settings = settings.filter_map(|said| {
        let setting = said.value.as_ref()?.setting(&runtime, said.spec.method)?;
        Some(method_call(said, &setting))
    });
    let key = args.get("key").filter(|_| elsewhere.is_empty());
    let key = key.map(|_| quote!(.key_from_arguments()));
    quote!(const { &#runtime::Policy::new() #(#settings)* #key })
}

/// A call of the runtime's method, with the span of the user's word: errors, and editors, go there.
fn method_call(said: &Said, value: &TokenStream) -> TokenStream {
    let method = Ident::new(said.spec.method, said.name.span());
    quote!(.#method(#value))
}

/// The user's expressions, if there are any, as calls of the builder that takes what they evaluate to, and before them
/// a use of what the patterns bind: not every expression uses every binding, and the compiler would say so.
fn inputs(args: &Args, function: &Function) -> Option<TokenStream> {
    let calls = args.said.iter().filter_map(|said| match &said.value {
        Some(Value::Borrowed(it)) => {
            let borrowed = quote_spanned!(it.span()=> &(#it));
            Some(method_call(said, &borrowed))
        }
        _ => None,
    });
    let (runtime, mut calls) = (args.runtime(), calls.peekable());
    calls.peek()?;
    let used = pattern::used(&pattern::bindings(&function.arguments));
    Some(quote!(#used #runtime::__private::Inputs::new() #(#calls)*))
}

/// The user's function, as it is called.
fn users_path(function: &Function) -> TokenStream {
    let sig = &function.users.sig;
    let path = match &function.beside {
        None => sig.ident.to_token_stream(),
        Some(ident) => quote!(Self::#ident),
    };
    // Spelt out, because a parameter may be in the body only. A constant in braces: without them, a type that has its
    // name is meant.
    let parameters = Vec::from_iter(sig.generics.params.iter().filter_map(|it| match it {
        GenericParam::Type(it) => Some(it.ident.to_token_stream()),
        GenericParam::Const(ConstParam { ident, .. }) => Some(quote!({ #ident })),
        GenericParam::Lifetime(_) => None,
    }));
    let turbofish = (!parameters.is_empty()).then(|| quote!(::<#(#parameters),*>));
    quote!(#path #turbofish)
}

/// The user's function, as written. Beside the outer one it has another name, and needs its lints.
fn users_function(args: &Args, function: &Function) -> ItemFn {
    let mut users = function.users.clone();
    users.vis = syn::Visibility::Inherited;
    // An argument that only an expression names is used, and the compiler cannot know.
    let mut named = pattern::bindings(&function.arguments);
    named.retain(|binding| is_named(args, binding));
    users.block.stmts.splice(0..0, pattern::used(&named));
    mark_handle_used(&mut users);
    if let Some(ident) = &function.beside {
        users.sig.ident = ident.clone();
        let is_lint = |it: &&Attribute| !FOR_CALLERS.iter().any(|name| it.path().is_ident(name));
        let lints = function.outside.iter().filter(is_lint);
        users.attrs.extend(lints.cloned());
    }
    users
}

/// Whether one of the user's expressions names it.
fn is_named(args: &Args, binding: &Ident) -> bool {
    args.said.iter().any(|said| match &said.value {
        Some(Value::Borrowed(it) | Value::Handle(it)) => pattern::mentions(it, binding),
        _ => false,
    })
}

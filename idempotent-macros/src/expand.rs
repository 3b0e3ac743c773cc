//! Tokens only: what they do is in the runtime.

use proc_macro2::{Literal, Span, TokenStream, TokenTree};
use quote::{ToTokens as _, format_ident, quote, quote_spanned};
use syn::ext::IdentExt as _;
use syn::spanned::Spanned as _;
use syn::{
    Attribute, Block, Expr, GenericParam, Ident, ItemFn, Path, ReturnType, Signature, Visibility,
    parse_quote,
};

use crate::args::{Args, Call};
use crate::handler::{Handler, Home};
use crate::pattern;
use crate::transaction::Transaction;
use crate::value::Value;

/// The outer function, which the router sees, with the user's function inside of it or beside it.
pub(crate) fn handler(args: &Args, handler: &Handler) -> TokenStream {
    let Handler {
        outside,
        function,
        home,
        ..
    } = handler;
    let Signature {
        asyncness,
        fn_token,
        ident,
        generics,
        ..
    } = &function.sig;
    let (vis, where_clause) = (&function.vis, &generics.where_clause);
    let runtime = &args.runtime;
    let names = Names::of(handler);
    let arguments = outer_arguments(args, handler, &names);
    let run = run(args, handler, &names);
    let users = users_function(args, handler);
    let (inside, beside) = match home {
        Home::Inside => (Some(users), None),
        Home::Beside => (None, Some(users)),
    };
    let body = body(&function.block, quote!(#inside #run));
    quote! {
        #(#outside)*
        #vis #asyncness #fn_token #ident #generics(#arguments) -> #runtime::__private::Response
        #where_clause
        #body
        #beside
    }
}

/// What the generated code calls the handler's arguments. Nothing of the user's can see these names.
struct Names {
    /// All but the last.
    first: Vec<Ident>,
    /// The last one; nothing if there are no arguments.
    last: Option<Ident>,
    /// The last one, or `()`, before the runtime has unwrapped it.
    wrapped: Ident,
}

impl Names {
    fn of(handler: &Handler) -> Self {
        let name = |index| format_ident!("__a{index}", span = Span::mixed_site());
        let mut first: Vec<Ident> = (0..handler.arguments.len()).map(name).collect();
        let last = first.pop();
        let wrapped = Ident::new("__last", Span::mixed_site());
        Self {
            first,
            last,
            wrapped,
        }
    }
}

/// Every argument with its type as written, the last one's wrapped.
fn outer_arguments(args: &Args, handler: &Handler, names: &Names) -> TokenStream {
    let runtime = &args.runtime;
    let Names { first, wrapped, .. } = names;
    let mut types: Vec<_> = handler
        .arguments
        .iter()
        .map(|it| it.ty.to_token_stream())
        .collect();
    let last = types.pop().unwrap_or_else(|| quote!(()));
    let handle = handler
        .transaction
        .as_ref()
        .map(|Transaction { connection, .. }| quote!(, #runtime::Transactions<#connection>));
    quote! {
        #(#first: #types,)*
        #wrapped: #runtime::__private::IdempotentRequest<
            #last,
            impl #runtime::__private::Extraction<#last>
            #handle
        >,
    }
}

/// A block with the user's braces: by their span the compiler takes the function for the user's, and warns
/// when it is never used.
pub(crate) fn body(users: &Block, statements: TokenStream) -> TokenStream {
    let mut body = TokenStream::new();
    users
        .brace_token
        .surround(&mut body, |inside| inside.extend(statements));
    body
}

/// `__last.run(..).await`: the one call in which everything happens. It is located at the return type, because
/// that is what is wrong when the compiler does not like what the handler answers.
fn run(args: &Args, handler: &Handler, names: &Names) -> TokenStream {
    let here = Span::mixed_site().located_at(answer(&handler.function.sig));
    let (runtime, first) = (&args.runtime, &names.first);
    let wrapped = Ident::new(&names.wrapped.to_string(), here);
    let (mut policy, call) = (policy(args, |_| true), call(handler, names));
    if args.said("key").is_some() {
        policy.extend(quote!(.key_from_arguments()));
    }
    // A `const` block, unlike a `static`, may name the function's generics and `Self`, and has no name itself.
    let arguments = quote!(const { &#runtime::Policy::new() #policy }, (#(#first,)*));
    match inputs(args, handler) {
        None => quote_spanned!(here=> #wrapped.run(#arguments, #call).await),
        Some(inputs) => quote_spanned!(here=> #wrapped.run_with(#arguments, #inputs, #call).await),
    }
}

/// Where the return type is, or the name of a handler that has none.
pub(crate) fn answer(sig: &Signature) -> Span {
    match &sig.output {
        ReturnType::Type(_, answer) => answer.span(),
        ReturnType::Default => sig.ident.span(),
    }
}

/// The settings known at compile time, those of them that are wanted, as calls of the policy's builder.
pub(crate) fn policy(args: &Args, is_wanted: impl Fn(&Call) -> bool) -> TokenStream {
    let runtime = &args.runtime;
    let call = |Call { method, value }: &Call| {
        let value = match value {
            Value::Switch(switch) => quote!(#switch),
            Value::Number(number) => Literal::u64_unsuffixed(*number).into_token_stream(),
            Value::Duration(millis) => {
                let millis = Literal::u64_unsuffixed(*millis);
                quote!(::core::time::Duration::from_millis(#millis))
            }
            Value::Text(text) => quote!(#text),
            Value::Texts(texts) => quote!(&[#(#texts),*]),
            Value::Variant(name, variant) => {
                let (name, variant) = (format_ident!("{name}"), format_ident!("{variant}"));
                quote!(#runtime::#name::#variant)
            }
            Value::Recover(function) => recover(runtime, function),
            Value::Borrowed(_) if method == "fingerprint" => {
                quote!(#runtime::FingerprintSource::Fields)
            }
            Value::Borrowed(_) | Value::Runtime(_) => return None,
        };
        Some(quote!(.#method(#value)))
    };
    let calls = args.calls.iter().filter(|call| is_wanted(call));
    calls.filter_map(call).collect()
}

/// The user's recovery function, its future boxed.
fn recover(runtime: &Path, function: &Path) -> TokenStream {
    let here = Span::mixed_site().located_at(function.span());
    quote_spanned! {here=>
        #runtime::OnAbandoned::Recover(|__abandoned| {
            ::std::boxed::Box::pin(#function(__abandoned))
        })
    }
}

/// The closure that computes the user's expressions, if there are any. It is given references, so that is what
/// the patterns bind.
fn inputs(args: &Args, handler: &Handler) -> Option<TokenStream> {
    let runtime = &args.runtime;
    let calls: Vec<_> = input_calls(args).collect();
    if calls.is_empty() {
        return None;
    }
    let patterns = || handler.arguments.iter().map(|it| &*it.pat);
    let bindings = pattern::bindings(patterns());
    // Not every expression uses every binding, and the compiler would say so.
    let used = (!bindings.is_empty()).then(|| quote!(let _ = (#(&#bindings,)*);));
    let mut first: Vec<_> = patterns().map(pattern::by_reference).collect();
    let last = first
        .pop()
        .map_or_else(|| quote!(()), |last| last.to_token_stream());
    Some(quote! {
        |(#(#first,)*), #last| {
            #used
            #runtime::__private::Inputs::new() #(#calls)*
        }
    })
}

/// The user's expressions, as calls of the builder that takes what they evaluate to.
pub(crate) fn input_calls(args: &Args) -> impl Iterator<Item = TokenStream> {
    args.calls
        .iter()
        .filter_map(|Call { method, value }| match value {
            Value::Borrowed(it) => {
                let borrowed = quote_spanned!(it.span()=> &(#it));
                Some(quote!(.#method(#borrowed)))
            }
            _ => None,
        })
}

/// The closure that calls the user's function.
fn call(handler: &Handler, Names { first, last, .. }: &Names) -> TokenStream {
    let function = users_path(handler);
    let unwrapped = last
        .as_ref()
        .map_or_else(|| quote!(()), |last| quote!(#last));
    let Some(transaction) = &handler.transaction else {
        return quote!(|(#(#first,)*), #unwrapped| #function(#(#first,)* #last));
    };
    let tx = Ident::new("__tx", Span::mixed_site()).into_token_stream();
    let others = first
        .iter()
        .chain(last)
        .map(quote::ToTokens::to_token_stream);
    let arguments = transaction.put(&tx, others.collect());
    quote! {
        |(#(#first,)*), #unwrapped, #tx| ::std::boxed::Box::pin(#function(#arguments))
    }
}

/// The user's function, as it is called.
pub(crate) fn users_path(handler: &Handler) -> TokenStream {
    let Signature {
        ident, generics, ..
    } = &handler.function.sig;
    let function = match handler.home {
        Home::Inside => ident.to_token_stream(),
        Home::Beside => {
            let ident = beside(ident);
            quote!(Self::#ident)
        }
    };
    // Spelt out, because a parameter may be in the body only.
    let parameters = generics
        .params
        .iter()
        .filter_map(|parameter| match parameter {
            GenericParam::Type(parameter) => Some(&parameter.ident),
            GenericParam::Const(parameter) => Some(&parameter.ident),
            GenericParam::Lifetime(_) => None,
        });
    let parameters: Vec<_> = parameters.collect();
    let turbofish = (!parameters.is_empty()).then(|| quote!(::<#(#parameters),*>));
    quote!(#function #turbofish)
}

/// The user's function, as written. Beside the outer one it has another name, and needs its lints.
pub(crate) fn users_function(args: &Args, handler: &Handler) -> ItemFn {
    let mut function = handler.function.clone();
    function.vis = Visibility::Inherited;
    // An argument that only an expression names is used, and the compiler cannot know.
    let patterns = handler.arguments.iter().map(|it| &*it.pat);
    let mut named = pattern::bindings(patterns);
    named.retain(|binding| is_named(args, binding));
    if !named.is_empty() {
        let used = parse_quote!(let _ = (#(&#named,)*););
        function.block.stmts.insert(0, used);
    }
    if handler.home == Home::Beside {
        function.sig.ident = beside(&function.sig.ident);
        function.attrs.extend(
            handler
                .outside
                .iter()
                .filter(|it| !is_for_callers(it))
                .cloned(),
        );
    }
    function
}

/// Whether one of the user's expressions names it.
pub(crate) fn is_named(args: &Args, binding: &Ident) -> bool {
    expressions(args).any(|it| mentions(it.to_token_stream(), binding))
}

fn expressions(args: &Args) -> impl Iterator<Item = &Expr> {
    args.calls.iter().filter_map(|call| match &call.value {
        Value::Borrowed(expression) => Some(expression),
        _ => None,
    })
}

fn mentions(tokens: TokenStream, name: &Ident) -> bool {
    tokens.into_iter().any(|token| match token {
        TokenTree::Group(group) => mentions(group.stream(), name),
        TokenTree::Ident(ident) => ident == *name,
        TokenTree::Literal(literal) => captures(&literal.to_string(), &name.unraw().to_string()),
        TokenTree::Punct(_) => false,
    })
}

/// Whether the format string captures the name: as a value, or as a width or a precision (`{:>width$}`).
fn captures(literal: &str, name: &str) -> bool {
    let is_of_name = |letter: char| letter.is_alphanumeric() || letter == '_';
    literal.split('{').skip(1).any(|placeholder| {
        let inside = placeholder.split('}').next().unwrap_or_default();
        let mut words = inside.split(|letter| !is_of_name(letter));
        words.any(|word| word == name || word.trim_start_matches('0') == name)
    })
}

fn is_for_callers(attribute: &Attribute) -> bool {
    ["deprecated", "doc", "must_use"]
        .iter()
        .any(|name| attribute.path().is_ident(name))
}

fn beside(ident: &Ident) -> Ident {
    format_ident!("__idempotent_{ident}")
}

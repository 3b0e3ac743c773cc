//! The expansion as a user would read it, and where things go in it.
//!
//! `BLESS=1 cargo test -p idempotent-macros` writes the snapshots anew; read the difference before you commit it.

use std::path::Path;

use proc_macro2::TokenStream;
use quote::quote;

use crate::error::Errors;

mod arguments;
mod plain;

#[test]
fn payments() {
    let item = quote! {
        async fn create_payment(
            State(ledger): State<Ledger>,
            Json(payment): Json<PaymentRequest>,
        ) -> Result<(StatusCode, Json<Payment>), PaymentError> {
            ledger.charge(payment).await
        }
    };
    snapshot("payments", quote!(ttl_hours = 24), item);
}

#[test]
fn no_arguments() {
    let item = quote! {
        /// Answers nothing.
        pub(crate) async fn ping() {}
    };
    snapshot("no_arguments", quote!(), item);
}

#[test]
fn expressions_over_any_patterns() {
    let args = quote! {
        scope = &user.tenant, key = (order, line), fingerprint = (amount, &currency),
        in_flight = "wait", wait = "2s", on_abandoned = recovery::ask, crate = api::idempotent
    };
    let item = quote! {
        #[doc = "Adds a line."]
        #[tracing::instrument(skip_all)]
        #[allow(clippy::unused_async)]
        pub async fn add_line(
            mut user: User,
            _: HeaderMap,
            Path((order, mut line)): Path<(u64, u32)>,
            State(&Config { ref limits, .. }): State<&'static Config>,
            Json(Line { amount, currency: mut currency @ Currency(..), .. }): Json<Line>,
        ) -> impl IntoResponse {
            line += 1;
        }
    };
    snapshot("expressions", args, item);
}

#[test]
fn transaction() {
    let item = quote! {
        async fn create_payment(
            State(limits): State<Limits>,
            #[tx] tx: &mut PgConnection,
            Json(payment): Json<PaymentRequest>,
        ) -> Result<Json<Payment>, PaymentError> {
            limits.check(&payment)?;
            insert(tx, payment).await
        }
    };
    snapshot(
        "transaction",
        quote!(ttl_hours = 24, scope = payment.tenant),
        item,
    );
}

#[test]
fn generic() {
    let args = quote!(
        name = "notes.create",
        required = false,
        replay_errors = "none"
    );
    let item = quote! {
        async fn create_note<'a, S: Store, const N: usize>(State(store): State<S>, body: String) -> String
        where
            S: Clone + Send + Sync + 'static,
        {
            store.put::<N>(body)
        }
    };
    snapshot("generic", args, item);
}

#[test]
fn associated_function_that_says_self() {
    let item = quote! {
        /// Starts a job.
        #[must_use]
        #[expect(unused_variables)]
        #[warn(missing_docs)]
        pub async fn start(State(jobs): State<Self>, Path(id): Path<u32>) -> StatusCode {
            Self::ACCEPTED
        }
    };
    snapshot(
        "associated",
        quote!(scope = Self::tenant(jobs), lease = "1500ms"),
        item,
    );
}

#[test]
fn several_mistakes_and_the_function_is_still_there() {
    let args = quote!(
        ttl_hour = 24,
        lease,
        required = "no",
        ttl_hours = 0,
        ttl = "1d"
    );
    let item = quote! {
        fn create_payment(#[tx] tx: &mut PgConnection, Json(payment): Json<PaymentRequest>) -> StatusCode {
            StatusCode::OK
        }
    };
    snapshot("mistakes", args, item);
}

#[test]
fn self_of_an_item_in_the_body_is_not_the_handlers() {
    let item = quote! {
        async fn free() {
            struct Local;
            impl Local { fn new() -> Self { Self } }
            drop(Local::new());
        }
    };
    assert!(!expand(quote!(), item).contains("Self ::"));
    let in_a_block = quote! {
        async fn free(it: impl Into<String>) -> impl IntoResponse {
            if it.is_empty() {
                trait Local { fn new() -> Self; }
                struct Of(Box<Self>, u8);
                enum Or<T> where T: Copy { One(T), Another(Box<Self>) }
                impl<const N: usize> Local for [Of; N] { fn new() -> Self { Self::of() } }
            }
        }
    };
    assert!(!expand(quote!(), in_a_block).contains("Self :: __idempotent"));
    for of_an_impl in [
        quote!(
            async fn f(State(it): State<Self>) -> impl IntoResponse {}
        ),
        quote!(
            async fn f() -> impl Into<Self> {}
        ),
        quote!(
            async fn f() {
                struct A;
                impl A {
                    fn a() {}
                }
                Self::a(|it: A| Self)
            }
        ),
        quote!(
            #[instrument(fields(a = Self::A))]
            async fn f() {}
        ),
        quote!(
            async fn f() {
                #[cfg(Self)]
                let a = 1;
            }
        ),
    ] {
        let expanded = expand(quote!(), of_an_impl.clone());
        assert!(expanded.contains("Self :: __idempotent_f"), "{of_an_impl}");
    }
    let in_a_macro = quote!(
        async fn of_an_impl() {
            println!("{}", Self::NAME);
        }
    );
    assert!(expand(quote!(), in_a_macro).contains("Self :: __idempotent_of_an_impl"));
}

#[test]
fn a_conditional_attribute_goes_where_its_content_goes() {
    let item = quote! {
        #[cfg_attr(test, allow(dead_code))]
        #[cfg_attr(all(test, feature = "trace"), instrument)]
        async fn handler() {}
    };
    let expanded = expand(quote!(), item);
    let (outside, inside) = expanded.split_once('{').unwrap();
    assert!(
        outside.contains("dead_code") && !outside.contains("instrument"),
        "{expanded}"
    );
    assert!(
        inside.contains("instrument") && !inside.contains("dead_code"),
        "{expanded}"
    );
}

/// A fragment of a `macro_rules` comes in an invisible group, and a type may be in parentheses.
#[test]
fn a_grouped_type_is_the_type() {
    use proc_macro2::{Delimiter, Group, TokenTree};
    let group = |delimiter| TokenTree::Group(Group::new(delimiter, quote!(&mut PgConnection)));
    for delimiter in [Delimiter::None, Delimiter::Parenthesis] {
        let ty = group(delimiter);
        let expanded = expand(quote!(), quote!(async fn f(#[tx] tx: #ty) -> String {}));
        assert!(!expanded.contains("compile_error"), "{expanded}");
        assert!(
            expanded.contains("Transactions < PgConnection >"),
            "{expanded}"
        );
    }
}

/// What only the placeholder of a format string names is used, and the compiler cannot know.
#[test]
fn names_in_format_strings_are_used() {
    let used = |scope: TokenStream| {
        let item = quote!(
            async fn f(a: A, b: B, width: W, _c: C) -> String {}
        );
        expand(quote!(scope = #scope), item)
    };
    let only = |names: &str| format!("{{ let _ = ({names}) ; }}");
    for (scope, names) in [
        (quote!(format!("{a}")), "& a ,"),
        (
            quote!(format!("{b:>1$}, {0:0width$}, {{a}}.", 1, 2)),
            "& a , & b , & width ,",
        ),
        (quote!(format!("{}", a)), "& a ,"),
        (quote!(format!("{{}} {b:?} {_c}")), "& b ,"),
    ] {
        let expanded = used(scope);
        assert!(expanded.contains(&only(names)), "{names}: {expanded}");
    }
    assert!(!used(quote!(format!("a {} b", 1))).contains(&only("& a ,")));
}

/// A field, a method and a path may be called like an argument.
#[test]
fn names_of_members_are_not_used() {
    let uses = |scope: TokenStream| {
        let item = quote!(
            async fn f(name: A, other: B) -> String {}
        );
        expand(quote!(scope = #scope), item).contains("{ let _ = (& name ,) ; }")
    };
    for scope in [
        quote!(name.id),
        quote!(0..name),
        quote!(0..=name.len()),
        quote!(Of { id: name }),
        quote!(&*name),
        quote!(::at::of(name)),
    ] {
        assert!(uses(scope.clone()), "{scope}");
    }
    for scope in [
        quote!(it.name),
        quote!(it?.name()),
        quote!(it.r#name),
        quote!(at::name),
        quote!(name::of()),
        quote!(Of { name: 1 }),
    ] {
        assert!(!uses(scope.clone()), "{scope}");
    }
}

/// `clippy::used_underscore_binding` is about what the user has written.
#[test]
fn a_binding_with_an_underscore_is_not_used_by_what_is_generated() {
    let item = quote!(
        async fn f(_user: User, order: Order) -> String {}
    );
    let expanded = expand(quote!(scope = order.id), item);
    assert!(!expanded.contains("& _user"), "{expanded}");
    let item = quote!(
        async fn f(_h: &Idempotency, _a: A, _b: B) -> Result<(), E> {}
    );
    let expanded = expand(quote!(name = "f", key = _b.id), item);
    assert!(expanded.contains("let _b = __a2"), "{expanded}");
    assert!(
        !expanded.contains("let _a") && !expanded.contains("let _h"),
        "{expanded}"
    );
}

#[test]
#[should_panic(expected = "never reported")]
fn a_forgotten_sink_panics() {
    let mut errors = Errors::default();
    errors.at(quote!(here), "a mistake");
}

/// What stands above the attribute is in no token: it is read off the lines of the file.
#[test]
fn debug_handler_above_the_attribute_is_refused() {
    let is_refused = |above: &str| {
        let mut errors = Errors::default();
        crate::above::check(&format!("\n{above}"), &mut errors);
        errors.finish().is_some()
    };
    for above in [
        "#[axum::debug_handler]",
        "fn other() {}\n    #[ axum :: debug_handler(state = App)]",
        "#[debug_handler]\n/// Creates.\n// Not yet.\n#[allow(dead_code)]",
        "#[debug_handler] // Finds mistakes.\n#[doc = \"https://example.com\"]",
        "#[axum::debug_handler(\n    state = App,\n)]\n",
        "fn other() {}\n#[allow(dead_code)] #[debug_handler]\n#[doc = \"A text\nof two lines.\"]",
    ] {
        assert!(is_refused(above), "{above}");
    }
    for above in [
        "",
        "#[axum::debug_handler]\nasync fn other() {}\n",
        "#[axum::debug_handler]\nasync fn other() {}",
        "#[axum::debug_handler] async fn other() -> &'static str { \"ok\" }",
        "// #[axum::debug_handler]",
        "/// Not below axum::debug_handler",
        "#[axum::debug_middleware]",
        "const TEXT: &str = \"#[debug_handler]\";",
        "#[tracing::instrument(name = \"debug_handler\")]",
        "#[allow(dead_code, reason = \"debug_handler is below\")]",
        "#[cfg_attr(doc, doc = \"as debug_handler does\")]",
        "#[mine::no_debug_handler]",
        "#[axum::debug_handler]\nasync fn other() { let it = \"",
    ] {
        assert!(!is_refused(above), "{above}");
    }
}

fn expand(args: TokenStream, item: TokenStream) -> String {
    crate::expand(args, item, Errors::default()).to_string()
}

fn snapshot(name: &str, args: TokenStream, item: TokenStream) {
    let file = syn::parse2(crate::expand(args, item, Errors::default())).unwrap();
    let expanded = prettyplease::unparse(&file);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("src/tests/{name}.expanded.rs"));
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&path, &expanded).unwrap();
    }
    let blessed = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(
        expanded,
        blessed,
        "{} is not what the attribute expands to",
        path.display()
    );
}

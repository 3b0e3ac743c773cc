//! The `#[idempotent]` attribute of `idempotent-runtime`. Depend on that crate, not on this one: it re-exports
//! the attribute, and what the attribute expands to calls it.
//!
//! The attribute knows the handler's signature and nothing of idempotency. It turns its arguments into constants
//! and closures, and hands them to one function of the runtime, where all behaviour lives.

use proc_macro::TokenStream;
use proc_macro2::TokenStream as TokenStream2;
use syn::ItemFn;

use crate::args::Args;
use crate::error::Errors;
use crate::function::Function;

mod above;
mod args;
mod error;
mod expand;
mod function;
mod list;
mod pattern;
mod signature;
mod value;
mod words;

#[cfg(test)]
mod tests;

/// Makes an axum handler idempotent: it runs at most once for a key, and a retry with the key gets the first response.
///
/// A client that gets no answer cannot know whether its request was lost on the way there or on the way back. It
/// has to send it again, and a handler that charges a card charges it twice. With this attribute the client sends
/// a key of its own making with every attempt, the handler runs for the first of them, and the rest are answered
/// from its stored response, byte for byte.
///
/// ```text
/// #[idempotent(ttl_hours = 24, scope = (&user.tenant, user.id))]
/// async fn create_payment(
///     State(ledger): State<Ledger>,
///     user: User,
///     Json(payment): Json<PaymentRequest>,
/// ) -> Result<(StatusCode, Json<Payment>), PaymentError> {
///     ledger.charge(payment).await
/// }
/// ```
///
/// The application's state has to hold an `Idempotency` (`FromRef`), or the router does not compile: "the trait
/// `Handler<...>` is not implemented" at `.route(..)` says so, or that one of the arguments is not an extractor.
///
/// # Arguments
///
/// All are optional, and each may be given once. Each is a setting of `Policy`, or an expression over the handler's
/// arguments. Durations are a whole number and a unit, `ms`, `s`, `m`, `h` or `d`, in quotes.
///
/// | argument | default | meaning |
/// | --- | --- | --- |
/// | `ttl_hours`, `ttl_minutes`, `ttl_secs`, or `ttl = "24h"` | 24 hours | how long a completed response is replayed, counted from its completion; at most ten years |
/// | `header = "..."` | `"Idempotency-Key"` | the request header that the key is in |
/// | `required = bool` | `true` | what happens without a key: 400, or the handler runs unprotected |
/// | `key = expr` | none | the key, made from the handler's arguments (`key = order.id`) instead of a header |
/// | `key_age = "any"` or `"ttl"` | `"any"` | `"ttl"` refuses a key in the header that is a UUIDv7 or a ULID, older than the TTL, and has no record (400 `key-expired`), so that a retry that comes too late does not run again; not with `key`, whose keys have no age |
/// | `scope = expr` | the handle's, else none | whose key it is (`scope = (&user.tenant, user.id)`); the same key of another scope is another key; `None` is the same as no scope |
/// | `label = expr` | none | your own reference (`label = order.number`), which is stored in clear for operators; anything that is `Display`, at most 64 bytes |
/// | `fingerprint = body`, `json` or `expr` | `body` | what has to be equal under one key: the body's bytes, its canonical JSON, or chosen fields (`(payment.amount, &payment.currency)`) |
/// | `fingerprint_headers = ["..."]` | the handle's | request headers that have to be equal as well, beside the handle's (`["x-api-version"]`); not to be changed while keys are alive |
/// | `lease = "..."` | `"30s"` | how long a claim is held without renewal, which is how long a crash blocks its key; 10 ms to 24 h, whatever the TTL is |
/// | `in_flight = "reject"` or `"wait"` | `"reject"` | what a duplicate of a running request gets: 409 at once, or that request's answer |
/// | `wait = "..."` | `"5s"` | how long it waits before its 409; 1 ms to 1 h, only with `in_flight = "wait"` |
/// | `on_abandoned = "reject"`, `"retry"` or a path | `"reject"` | the key of a crashed attempt: refused (never twice), run again (at least once), or your `async fn(Abandoned) -> Recovery` decides |
/// | `replay_errors = "all"`, `"4xx"` or `"none"` | `"all"` | which error answers are stored and replayed: 4xx and 5xx, only 4xx, or neither; what is not stored frees the key, and a retry runs the handler again |
/// | `max_response_bytes = n` | `1048576` | the largest body that is stored, in bytes, at most 1 GiB; after a larger one the handler still never runs again |
/// | `name = "..."` | method and matched route, without the names of its parameters | the operation, which is part of every key; before you change a route set it to the old one (`"POST /payments"`); required on plain functions |
/// | `with = expr` | the router's state, by `FromRef` | where the handle is, as an expression over the handler's arguments: `with = app.idempotency`, for a state of which you cannot implement `FromRef`, such as `Arc<AppState>`; with `#[tx]` an expression for the `Transactions`. It is evaluated on each request, and cloned; an argument that it names is extracted before the last one, which cannot be the body |
/// | `crate = path` | `::idempotent_runtime` | where the runtime is, for crates that re-export it |
///
/// # Expressions
///
/// `key`, `scope` and `fingerprint` may name whatever the handler's argument patterns bind, and have to be
/// `Serialize`. They see references: `user` above is a `&User`, and `scope = user.id` borrows the field. In a tuple,
/// write `&` before what is not `Copy`. They are computed once a request, after the extractors have run and before a
/// claim is taken.
///
/// `label` sees the same, and has to be `Display`. It names nothing: another label is no other key. One of more than
/// 64 bytes is refused before anything runs.
///
/// `key`, `scope` and `fingerprint` are compared as values, by their canonical JSON: the order of a map or a `HashSet` does not count. A value whose
/// JSON is another value's too is refused before anything runs: a float that is not finite, a `Some` of what is `null`
/// in JSON, such as `Some(())`. So is a set of another crate that serializes as a list in no order. A `HashSet` that a
/// type has made into a list before it is serialized (in a `serde_json::Value`, for one) is not seen, and a retry is
/// another request then: use a `BTreeSet` there.
///
/// `fingerprint = body` and `fingerprint = json` are the two words of the table, also when a binding is called so;
/// `fingerprint = (body)` is the binding.
///
/// # Transactions
///
/// A parameter with `#[tx]` is a connection that the runtime lends the handler:
///
/// ```text
/// #[idempotent(ttl_hours = 24)]
/// async fn create_payment(
///     #[tx] tx: &mut PgConnection,
///     Json(payment): Json<PaymentRequest>,
/// ) -> Result<Json<Payment>, PaymentError> {
///     sqlx::query("INSERT INTO payments ...").execute(&mut *tx).await?;
///     ...
/// }
/// ```
///
/// What is written through it is committed together with the stored response, or not at all; an error answer takes it
/// back (one of status 4xx or 5xx: an `Err` that is answered with 200 does not), and so does a crash, after which the key is free. The state has to hold a `Transactions<PgConnection>`
/// (`Idempotency::transactions`), which only a store in that database gives; without its `FromRef` the router does not
/// compile, as without that of `Idempotency`. It stands anywhere among the arguments, and
/// expressions cannot name it. There is no lease, and nothing is ever abandoned, so that `lease` and `on_abandoned` are
/// errors beside it. `#[axum::debug_handler]` takes it for an extractor and cannot be used. A handler must not put another
/// connection in its place (`*tx = ...`): what it writes there is not taken back, and a retry runs it again.
///
/// # What it expands to
///
/// A function of the same name, visibility and generics, which takes the same arguments, the last one wrapped, and
/// runs your function, which it contains as you wrote it:
///
/// ```text
/// async fn create_payment(
///     __a0: State<Ledger>,
///     __a1: User,
///     __last: IdempotentRequest<Json<PaymentRequest>, impl Extraction<Json<PaymentRequest>>>,
/// ) -> __private::Response {
///     async fn create_payment(/* your arguments */) -> Result<(StatusCode, Json<Payment>), PaymentError> {
///         /* your body */
///     }
///     __last.run_with(
///         const { &Policy::new().ttl(Duration::from_millis(86400000)) },
///         (__a0, __a1),
///         |(State(ledger), user), Json(payment)| Inputs::new().scope(&((&user.tenant, user.id))),
///         |(__a0, __a1), __a2| create_payment(__a0, __a1, __a2),
///     ).await
/// }
/// ```
///
/// So the arguments before the last are extracted first, on replays too: an authentication that fails is answered
/// as such, whatever is stored. A body is buffered and then given to the last extractor; for a cached replay, a `Json`
/// in last place is not parsed, because it could reject nothing but the content, which was good the first time.
///
/// # Plain functions
///
/// A queue delivers a message again whose acknowledgement was lost; a job is started twice. On a function that has
/// an argument of type `&Idempotency` (a reference, whose path ends so; the attribute cannot see through an alias) the attribute does the same without HTTP: it
/// runs at most once for a key, and a later call with the key gets the first result, as a value.
///
/// ```text
/// #[idempotent(name = "orders.settle", key = order.id, ttl_hours = 24)]
/// async fn settle(idempotency: &Idempotency, order: Order) -> Result<Receipt, SettleError> {
///     charge(&order.card, order.amount).await
/// }
/// ```
///
/// * `key` is required too. `header`, `fingerprint_headers`, `required`, `key_age`, `replay_errors`, `with`,
///   `fingerprint = body` and `fingerprint = json` are for handlers; everything else is as above.
/// * `name` is required: it is the operation, which is part of every key. Give each function one of its own, whatever
///   module it is in: two functions of one name are one operation, and the second is not run for a key of the first. So are
///   the instances of a generic function: what tells them apart has to be in an argument, or in `key`.
/// * Without `fingerprint = expr`, two calls are compared by all arguments but the handle, as one tuple, and each has
///   to be `Serialize`. With it, arguments may be anything, such as a database pool.
/// * Arguments are owned: the function goes on when its caller has gone. The handle may be in any place, and is
///   there in the function as well.
/// * The function returns a `Result`. An `Ok` (`Serialize` and `DeserializeOwned`) is stored; an `Err` says that
///   **nothing happened** and frees the key. Return `Ok` for what did happen.
/// * Why there is no result (a duplicate that is still running, another input under the key, a store that is unavailable) is
///   said through the function's own error, which has to be `From<ExecuteError>`.
///
/// It expands to a function of the same signature, which contains yours:
///
/// ```text
/// async fn settle(__a0: &Idempotency, __a1: Order) -> Result<Receipt, SettleError> {
///     async fn settle(idempotency: &Idempotency, order: Order) -> Result<Receipt, SettleError> { /* your body */ }
///     __private::call(
///         __a0,
///         const { &Policy::new().ttl(Duration::from_millis(86400000)) },
///         "orders.settle",
///         (__a1,),
///         |__a0, (__a1,)| { /* let order = __a1; */ Inputs::new().key(&(order.id)).argument(__a1) },
///         |__a0, (__a1,)| async move { settle(&__a0, __a1).await },
///     ).await
/// }
/// ```
///
/// That is `Idempotency::execute`, which has more to say about what is kept, and when.
///
/// # Other attributes
///
/// Documentation, `cfg`, lints, `deprecated` and `must_use` describe the outer function. Every other attribute below
/// this one goes to your function: `#[tracing::instrument]` is inside of what the client sees, and
/// `#[axum::debug_handler]` checks the arguments as you wrote them; above this one it is refused. An attribute that
/// looks a handler up by its path, as documentation generators do, has to be above this one: `#[utoipa::path]` below
/// it is refused.
///
/// # Limitations
///
/// * The handler is an `async fn` of at most 16 arguments, without `self`; an associated function is fine. A plain
///   function may have more.
/// * An associated function that uses the generics of its `impl` block has to say `Self` somewhere (`where Self: Sized`
///   is enough). Its body is then a second associated function, which is also why the attribute is of no use in the
///   `impl` of a trait.
/// * The outer function is for the router. To call the handler from other code, give its body a function of its own.
/// * `#[cfg]` on an argument is refused: put it on the function.
#[proc_macro_attribute]
pub fn idempotent(args: TokenStream, item: TokenStream) -> TokenStream {
    let mut errors = Errors::default();
    above::check(&above::source(proc_macro::Span::call_site()), &mut errors);
    expand(args.into(), item.into(), errors).into()
}

/// Parse, validate, expand; with a mistake anywhere, the mistakes and the function as the user wrote it.
fn expand(args: TokenStream2, item: TokenStream2, mut errors: Errors) -> TokenStream2 {
    let args = Args::parse(args, &mut errors);
    let Ok(users) = syn::parse2::<ItemFn>(item.clone()) else {
        errors.push(function::not_a_function(item.clone()));
        return errors.finish().into_iter().chain([item]).collect();
    };
    let function = Function::new(users.clone(), &args, &mut errors);
    match errors.finish() {
        None => expand::function(&args, &function),
        Some(mistakes) => TokenStream2::from_iter([mistakes, function::as_written(users)]),
    }
}

//! The kind of server.

/// The kind of server: its headers and codes, and the form of the key.
///
/// Default: [`Draft`](Self::Draft).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Profile {
    /// A server that follows draft-ietf-httpapi-idempotency-key-header-07, with or without the problem codes of
    /// `#[idempotent]` servers. The key is quoted.
    ///
    /// Without the codes the status decides; without the mark `Idempotent-Replayed: true`, a stored 5xx looks like one
    /// of a proxy, and so does a 4xx after a try whose outcome is unknown. Both end as
    /// [`Undecided`](crate::Error::Undecided), and the key is kept.
    #[default]
    Draft,
    /// Stripe: `Stripe-Should-Retry`, and 400 with the type `idempotency_error` for other parameters under one key. The
    /// mark is the same, problem codes are ignored, and the key is sent without quotes.
    Stripe,
}

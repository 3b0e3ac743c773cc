//! Which server is spoken to.

/// How a server is understood: which headers and codes it has, and how it wants the key written.
///
/// Default: [`Draft`](Self::Draft).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Profile {
    /// A server that follows draft-ietf-httpapi-idempotency-key-header-07, with or without the problem codes of
    /// `#[idempotent]` servers. The key is quoted.
    ///
    /// Without the codes the status decides; without the mark `Idempotent-Replayed: true` a 5xx that is stored cannot
    /// be told from one of a proxy, and neither can a 4xx after a try whose outcome is not known. Both end as
    /// [`Undecided`](crate::Error::Undecided), with the key kept.
    #[default]
    Draft,
    /// Stripe: `Stripe-Should-Retry`, and 400 with the type `idempotency_error` for other parameters under one key.
    /// The mark is the same, problem codes are not read, and the key is bare.
    Stripe,
}

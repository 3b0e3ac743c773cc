//! Policies: the settings of one operation.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use crate::recovery::{Abandoned, Recovery};

const DEFAULT_TTL: Duration = Duration::from_secs(24 * 60 * 60);

const MAX_MILLIS: u128 = Policy::MAX_DURATION.as_millis();

/// The settings of one operation: the arguments of `#[idempotent]` that are known at compile time.
///
/// The macro creates one constant per handler; every method is `const`.
///
/// ```
/// use std::time::Duration;
///
/// use idempotent_runtime::{InFlight, Policy, ReplayErrors};
///
/// static CREATE_PAYMENT: Policy = Policy::new()
///     .ttl(Duration::from_hours(48))
///     .in_flight(InFlight::Wait)
///     .replay_errors(ReplayErrors::ClientErrors);
/// # let _ = CREATE_PAYMENT;
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Policy {
    /// `None` if it was not set; the handle's default then applies.
    ttl: Option<Duration>,
    pub(crate) lease: Duration,
    pub(crate) wait: Duration,
    pub(crate) header: &'static str,
    pub(crate) key_from_arguments: bool,
    pub(crate) name: Option<&'static str>,
    pub(crate) required: bool,
    pub(crate) key_age: KeyAge,
    pub(crate) fingerprint: FingerprintSource,
    pub(crate) fingerprint_headers: &'static [&'static str],
    pub(crate) in_flight: InFlight,
    pub(crate) on_abandoned: OnAbandoned,
    pub(crate) replay_errors: ReplayErrors,
    pub(crate) max_response_bytes: usize,
}

/// What is compared when a key is used again: the source of the fingerprint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FingerprintSource {
    /// The body's bytes as received. The default. A `multipart/form-data` body is compared by its parts,
    /// each with its headers, and not by its boundary, which differs in each upload. A form that
    /// parsers could read in different ways is compared by its bytes.
    Body,
    /// The body as canonical JSON (RFC 8785, but with exact integers): formatting does not matter. A body
    /// that is not JSON is compared as [`Body`](Self::Body).
    Json,
    /// Chosen fields, serialized: `fingerprint = (payment.amount, &payment.order_id)`.
    Fields,
}

/// How a duplicate of a running request is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum InFlight {
    /// 409 at once, with `Retry-After`. The default.
    Reject,
    /// The first request's response if it arrives within [`Policy::wait`], otherwise 409.
    Wait,
}

/// What happens to the key of a crashed attempt: the key was claimed and not completed, and the lease has ended.
///
/// Only the system in which the effect takes place then knows whether it took place.
#[derive(Clone, Copy)]
#[non_exhaustive]
pub enum OnAbandoned {
    /// 409 `outcome-unknown`: the handler never runs twice, as long as the record is kept
    /// ([`abandoned_retention`](crate::IdempotencyBuilder::abandoned_retention), 30 days by default). The default.
    Reject,
    /// Run the handler again, as the next attempt: **at least once** after a crash. For handlers
    /// whose effects are themselves idempotent.
    ///
    /// An ended lease does not prove a crash. The owner therefore first gets a grace period of 2.5 s to renew it:
    /// an attempt that is alive tries at least once a second. The request that found the ended lease waits for
    /// the grace period; other requests with the key are in flight meanwhile.
    Retry,
    /// Ask a function of the application that can look up the effect: see [`Recovery`], and [`Abandoned`] for what the
    /// function may do. The owner first gets the same grace period. While the function runs, other requests with the
    /// key are in flight.
    Recover(fn(Abandoned) -> Pin<Box<dyn Future<Output = Recovery> + Send>>),
}

impl fmt::Debug for OnAbandoned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Reject => "Reject",
            Self::Retry => "Retry",
            Self::Recover(_) => "Recover(..)",
        })
    }
}

/// The maximum age of a key that contains a timestamp (UUIDv7 or ULID).
///
/// A key that is sent again after its record has expired is a new key to the store, and its request runs again.
/// A client that retries for longer than the TTL, or a message that waited in a queue, is charged twice. Where the
/// key contains a timestamp, such a request can be refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeyAge {
    /// Any age. The default.
    #[default]
    Any,
    /// A key gets 400 `key-expired`, and nothing runs, if it has no record and is older than the TTL minus a margin for
    /// the clocks (a tenth of the TTL, at most 5 minutes). A stored response is replayed whatever the age of its key,
    /// because its TTL counts from the completion. A key whose time is in the future by more than the margin gets 400
    /// `invalid-key`. Keys of other forms pass, and so do keys that are made from a handler's arguments (`key = expr`).
    /// The time is compared with this process's clock. Recommended if all clients make UUIDv7 or ULID keys.
    Ttl,
}

/// Which error responses are stored and replayed like a success.
///
/// A response that is not stored frees its key: the next request with the key runs the handler again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReplayErrors {
    /// 4xx and 5xx are stored. The default, as with Stripe: a handler may have charged before it
    /// failed.
    All,
    /// 4xx are stored; a 5xx frees the key. Only for handlers whose 5xx means that nothing happened.
    ClientErrors,
    /// Neither is stored.
    None,
}

impl Policy {
    /// The longest duration that a policy or a handle accepts: ten years (3,660 days). With this limit no arithmetic
    /// on time can overflow, in this process or in a store.
    pub const MAX_DURATION: Duration = Duration::from_secs(3_660 * 24 * 60 * 60);

    /// The defaults: 24 h TTL, 30 s lease, key in `Idempotency-Key` and required, fingerprint of
    /// the body, duplicates and abandoned keys rejected, errors stored, response bodies stored up to 1 MiB.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            ttl: None,
            lease: Duration::from_secs(30),
            wait: Duration::from_secs(5),
            header: "idempotency-key",
            key_from_arguments: false,
            name: None,
            required: true,
            key_age: KeyAge::Any,
            fingerprint: FingerprintSource::Body,
            fingerprint_headers: &[],
            in_flight: InFlight::Reject,
            on_abandoned: OnAbandoned::Reject,
            replay_errors: ReplayErrors::All,
            max_response_bytes: 1024 * 1024,
        }
    }

    /// How long a completed response is replayed, counted from its completion. Default: the handle's
    /// ([`IdempotencyBuilder::ttl`](crate::IdempotencyBuilder::ttl)), which is 24 hours.
    ///
    /// # Panics
    ///
    /// If it is less than a millisecond or more than [ten years](Self::MAX_DURATION); in a `const` or `static`
    /// that is a compile error.
    #[must_use]
    pub const fn ttl(mut self, ttl: Duration) -> Self {
        assert!(ttl.as_millis() > 0, "a TTL must be at least a millisecond");
        assert!(
            ttl.as_millis() <= MAX_MILLIS,
            "a TTL must be at most ten years"
        );
        self.ttl = Some(ttl);
        self
    }

    /// The TTL: the handle's, or 24 h, if it is not set.
    pub(crate) fn ttl_or(&self, of_handle: Option<Duration>) -> Duration {
        self.ttl.or(of_handle).unwrap_or(DEFAULT_TTL)
    }

    /// How long a claim is held without renewal. Default 30 s.
    ///
    /// While the handler runs, the lease is renewed every third of its length. It therefore bounds how long a *crashed*
    /// attempt blocks its key, not how long a handler may take. A handler that blocks its thread keeps its lease too,
    /// as long as the runtime has another free thread. If the process, or its connection to the store, pauses for
    /// longer than the lease, it may lose the claim. The lease is unrelated to the TTL, which begins when the response
    /// is stored.
    ///
    /// # Panics
    ///
    /// If it is less than a millisecond or more than [ten years](Self::MAX_DURATION).
    #[must_use]
    pub const fn lease(mut self, lease: Duration) -> Self {
        assert!(
            lease.as_millis() > 0,
            "a lease must be at least a millisecond"
        );
        assert!(
            lease.as_millis() <= MAX_MILLIS,
            "a lease must be at most ten years"
        );
        self.lease = lease;
        self
    }

    /// How a duplicate of a running request is answered. Default [`InFlight::Reject`].
    #[must_use]
    pub const fn in_flight(mut self, in_flight: InFlight) -> Self {
        self.in_flight = in_flight;
        self
    }

    /// How long a duplicate waits under [`InFlight::Wait`]. Default 5 s.
    ///
    /// # Panics
    ///
    /// If it is more than [ten years](Self::MAX_DURATION).
    #[must_use]
    pub const fn wait(mut self, wait: Duration) -> Self {
        assert!(
            wait.as_millis() <= MAX_MILLIS,
            "a wait must be at most ten years"
        );
        self.wait = wait;
        self
    }

    /// What happens to the key of a crashed attempt. Default [`OnAbandoned::Reject`].
    #[must_use]
    pub const fn on_abandoned(mut self, on_abandoned: OnAbandoned) -> Self {
        self.on_abandoned = on_abandoned;
        self
    }

    /// Which error responses are stored. Default [`ReplayErrors::All`].
    #[must_use]
    pub const fn replay_errors(mut self, replay_errors: ReplayErrors) -> Self {
        self.replay_errors = replay_errors;
        self
    }

    /// What must be equal in requests with the same key. Default [`FingerprintSource::Body`].
    #[must_use]
    pub const fn fingerprint(mut self, of: FingerprintSource) -> Self {
        self.fingerprint = of;
        self
    }

    /// Request headers that are part of the fingerprint, in lower case, in addition to those of
    /// [`IdempotencyBuilder::fingerprint_headers`](crate::IdempotencyBuilder::fingerprint_headers), which has the
    /// details. Default: none.
    #[must_use]
    pub const fn fingerprint_headers(mut self, names: &'static [&'static str]) -> Self {
        self.fingerprint_headers = names;
        self
    }

    /// The header that carries the key, in lower case. Default `idempotency-key`.
    #[must_use]
    pub const fn header(mut self, name: &'static str) -> Self {
        self.header = name;
        self
    }

    /// Takes the key from the handler's arguments instead of a header. The attribute sets it with its argument
    /// `key`.
    #[doc(hidden)]
    #[must_use]
    pub const fn key_from_arguments(mut self) -> Self {
        self.key_from_arguments = true;
        self
    }

    /// The maximum age of a key that contains a timestamp (UUIDv7 or ULID). Default [`KeyAge::Any`].
    #[must_use]
    pub const fn key_age(mut self, age: KeyAge) -> Self {
        self.key_age = age;
        self
    }

    /// Whether a request without a key is rejected (400). Default `true`; with `false` it runs
    /// unprotected.
    #[must_use]
    pub const fn required(mut self, required: bool) -> Self {
        self.required = required;
        self
    }

    /// The largest response body that is stored, in bytes. Default 1 MiB. For a larger body the record is a
    /// tombstone: status and headers are replayed, the body is not, and the handler never runs again.
    #[must_use]
    pub const fn max_response_bytes(mut self, bytes: usize) -> Self {
        self.max_response_bytes = bytes;
        self
    }

    /// The operation's name, part of every record key. Default: the method and the matched route without
    /// parameter names (`POST /orders/{}/pay`), so renaming a parameter is safe. Set a
    /// name before a route is changed in any other way while keys are alive.
    #[must_use]
    pub const fn name(mut self, name: &'static str) -> Self {
        self.name = Some(name);
        self
    }
}

impl Default for Policy {
    fn default() -> Self {
        Self::new()
    }
}

impl ReplayErrors {
    /// Whether a response with this status is stored.
    pub(crate) const fn keeps(self, status: u16) -> bool {
        match self {
            Self::All => true,
            Self::ClientErrors => status < 500,
            Self::None => status < 400,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lease_does_not_depend_on_the_ttl() {
        let policy = Policy::new()
            .lease(Duration::from_secs(61))
            .ttl(Duration::from_secs(1));
        assert_eq!(policy.lease, Duration::from_secs(61));
        assert_eq!(policy.ttl_or(None), Duration::from_secs(1));
    }

    #[test]
    fn durations_that_cannot_be_meant_are_refused_where_they_are_set() {
        let longest = Policy::new().ttl(Policy::MAX_DURATION);
        assert_eq!(longest.ttl_or(None), Policy::MAX_DURATION);
        type Setter = fn(Policy, Duration) -> Policy;
        let too_long = Policy::MAX_DURATION + Duration::from_millis(1);
        let setters: [(Setter, Duration); 7] = [
            (Policy::ttl, too_long),
            (Policy::ttl, Duration::MAX),
            (Policy::ttl, Duration::from_micros(999)),
            (Policy::lease, Duration::MAX),
            (Policy::lease, Duration::ZERO),
            (Policy::wait, too_long),
            (Policy::wait, Duration::MAX),
        ];
        for (set, value) in setters {
            let set = std::panic::catch_unwind(|| set(Policy::new(), value));
            assert!(set.is_err(), "{value:?}");
        }
    }
}

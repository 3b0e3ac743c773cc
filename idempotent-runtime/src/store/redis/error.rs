//! What the driver's errors mean: by their kind and the server's code, never by their text.

use std::error::Error;
use std::sync::Arc;
use std::{fmt, io};

use ::redis::{ErrorKind, RedisError, RetryMethod};

use crate::store::{StoreError, StoreErrorKind};

/// What the store is called in its errors.
pub(super) const NAME: &str = "redis";

/// An operation that the server did not do, or whose outcome is unknown.
#[derive(Clone, Debug)]
pub(super) struct CallError {
    error: RedisError,
    may_have_happened: bool,
}

impl CallError {
    /// Of a connection that sends everything once, or at most once to a server that does it.
    pub(super) fn of_one_try(error: RedisError) -> Self {
        let may_have_happened = match kind(&error) {
            StoreErrorKind::Unavailable | StoreErrorKind::TimedOut => Unsent::of(&error).is_none(),
            StoreErrorKind::Refused => error.code().is_some_and(is_of_proxies),
            _ => false,
        };
        Self {
            error,
            may_have_happened,
        }
    }

    /// Of a connection that may have tried several times, as that of a Cluster does: where the last reply
    /// asks for another try, an earlier one may have got through and lost its reply.
    pub(super) fn of_several_tries(error: RedisError) -> Self {
        let is_one_of_several = !matches!(error.retry_method(), RetryMethod::NoRetry);
        let failure = Self::of_one_try(error);
        if is_one_of_several && Unsent::of(&failure.error).is_none() {
            failure.maybe_executed()
        } else {
            failure
        }
    }

    /// The same, of an operation that was sent before, and whose reply was lost.
    pub(super) fn maybe_executed(mut self) -> Self {
        self.may_have_happened = true;
        self
    }

    /// The code that the server has refused it with.
    pub(super) fn code(&self) -> Option<&str> {
        self.error.code()
    }
}

impl From<CallError> for StoreError {
    fn from(failure: CallError) -> Self {
        let error = Self::new(NAME, kind(&failure.error));
        let error = if failure.may_have_happened {
            error.maybe_executed()
        } else {
            error.not_executed()
        };
        match Unsent::of(&failure.error) {
            Some(cause) => error.with_source(cause.clone()),
            None => error.with_source(failure.error),
        }
    }
}

/// Whether it may be a proxy's word for a server that it has lost in the middle of a command: such a proxy says `ERR`, or a word of its
/// own. A server says by any of these that it has done nothing, and by `ERR` that it does not know the command or its arguments.
fn is_of_proxies(code: &str) -> bool {
    !matches!(
        code,
        "READONLY"
            | "MASTERDOWN"
            | "LOADING"
            | "NOREPLICAS"
            | "MISCONF"
            | "NOPERM"
            | "NOAUTH"
            | "WRONGPASS"
            | "DENIED"
            | "CLUSTERDOWN"
            | "TRYAGAIN"
            | "MOVED"
            | "ASK"
            | "CROSSSLOT"
            | "NOSCRIPT"
            | "EXECABORT"
            | "NOPROTO"
            | "UNKILLABLE"
    )
}

fn kind(error: &RedisError) -> StoreErrorKind {
    if let Some(cause) = Unsent::of(error) {
        return kind(cause);
    }
    match error.code() {
        // Over `maxmemory` under `noeviction`.
        Some("OOM") => StoreErrorKind::Full,
        // The value is no string, or a script says that it is no record.
        Some("WRONGTYPE" | "CORRUPT") => StoreErrorKind::Corrupt,
        Some("TOOLARGE") => StoreErrorKind::TooLarge,
        Some("VERSION") => StoreErrorKind::OtherRelease,
        // With a script that takes long.
        Some("BUSY") => StoreErrorKind::Busy,
        // It has understood and said no, unless a proxy says it (`is_of_proxies`).
        // A script of ours that is refused is refused before its first write.
        Some(_) => StoreErrorKind::Refused,
        None => kind_without_code(error),
    }
}

fn kind_without_code(error: &RedisError) -> StoreErrorKind {
    match error.kind() {
        ErrorKind::Io if error.is_timeout() => StoreErrorKind::TimedOut,
        // The password is wrong, or the driver has found out by itself that it cannot be done.
        ErrorKind::AuthenticationFailed
        | ErrorKind::InvalidClientConfig
        | ErrorKind::Client
        | ErrorKind::RESP3NotSupported
        | ErrorKind::EmptySentinelList => StoreErrorKind::Refused,
        // No connection, a broken one, or a reply of an unknown form.
        _ => StoreErrorKind::Unavailable,
    }
}

/// Whether the connection turned out to be closed when it was used, so that a fresh one may do. What was
/// sent over it may have arrived.
pub(super) fn is_broken(error: &RedisError) -> bool {
    error.is_connection_dropped() && !error.is_connection_refusal() && Unsent::of(error).is_none()
}

/// Why there was no connection to send something by. The driver has no error that tells this.
#[derive(Debug)]
struct Unsent(RedisError);

type DriverCause = Arc<dyn Error + Send + Sync>;

impl Unsent {
    fn of(error: &RedisError) -> Option<&RedisError> {
        // The driver's cause is a pointer to the cause.
        let cause = error.source()?.downcast_ref::<DriverCause>()?;
        let error = cause.downcast_ref::<io::Error>()?;
        let Unsent(cause) = error.get_ref()?.downcast_ref()?;
        Some(cause)
    }
}

impl fmt::Display for Unsent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Error for Unsent {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.0)
    }
}

/// The error of something that was not sent, because of that one.
pub(super) fn unsent(cause: RedisError) -> RedisError {
    if Unsent::of(&cause).is_some() {
        return cause;
    }
    io::Error::new(io::ErrorKind::NotConnected, Unsent(cause)).into()
}

#[cfg(test)]
mod tests {
    use ::redis::make_extension_error;

    use super::*;

    fn said(code: &str) -> RedisError {
        let reply = format!("-{code} what the server says\r\n");
        let reply = ::redis::parse_redis_value(reply.as_bytes()).unwrap();
        reply.extract_error().unwrap_err()
    }

    fn of(error: RedisError) -> (StoreErrorKind, bool) {
        let error = StoreError::from(CallError::of_one_try(error));
        (error.kind(), error.may_have_happened())
    }

    #[test]
    fn refusals_are_known_by_their_codes_and_did_nothing() {
        for (codes, kind) in [
            ("OOM", StoreErrorKind::Full),
            ("WRONGTYPE CORRUPT", StoreErrorKind::Corrupt),
            ("TOOLARGE", StoreErrorKind::TooLarge),
            ("BUSY", StoreErrorKind::Busy),
            ("READONLY MASTERDOWN LOADING", StoreErrorKind::Refused),
            ("NOREPLICAS MISCONF", StoreErrorKind::Refused),
            ("NOPERM NOAUTH WRONGPASS DENIED", StoreErrorKind::Refused),
            ("CLUSTERDOWN TRYAGAIN MOVED ASK", StoreErrorKind::Refused),
            ("NOSCRIPT EXECABORT CROSSSLOT", StoreErrorKind::Refused),
            ("VERSION", StoreErrorKind::OtherRelease),
        ] {
            for code in codes.split(' ') {
                assert_eq!(of(said(code)), (kind, false), "{code}");
            }
        }
    }

    #[test]
    fn what_a_proxy_may_say_of_a_server_that_it_has_lost_may_have_happened() {
        for code in ["ERR", "upstream", "SOMETHINGNEW"] {
            assert_eq!(of(said(code)), (StoreErrorKind::Refused, true), "{code}");
        }
    }

    #[test]
    fn only_what_is_about_the_item_is_final() {
        for (code, is_final) in [
            ("CORRUPT", true),
            ("TOOLARGE", true),
            ("ERR", false),
            ("NOREPLICAS", false),
        ] {
            let error = StoreError::from(CallError::of_one_try(said(code)));
            assert_eq!(error.is_about_item(), is_final, "{code}");
        }
        let unknown = RedisError::from((ErrorKind::UnexpectedReturnType, "what is this"));
        assert_eq!(of(unknown), (StoreErrorKind::Unavailable, true));
    }

    #[test]
    fn lost_reply_may_have_been_one_and_what_was_not_sent_was_not() {
        for (io, kind) in [
            (io::ErrorKind::TimedOut, StoreErrorKind::TimedOut),
            (io::ErrorKind::BrokenPipe, StoreErrorKind::Unavailable),
            (
                io::ErrorKind::ConnectionRefused,
                StoreErrorKind::Unavailable,
            ),
        ] {
            let error = || RedisError::from(io::Error::from(io));
            assert_eq!(of(error()), (kind, true));
            assert_eq!(of(unsent(error())), (kind, false));
            assert_eq!(of(unsent(unsent(error()))), (kind, false));
        }
        let password = (ErrorKind::AuthenticationFailed, "wrong");
        assert_eq!(
            of(unsent(password.into())),
            (StoreErrorKind::Refused, false)
        );
        assert_eq!(
            of(unsent(said("LOADING"))),
            (StoreErrorKind::Refused, false)
        );
    }

    #[test]
    fn last_of_several_tries_says_nothing_about_the_others() {
        let of = |error| StoreError::from(CallError::of_several_tries(error)).may_have_happened();
        for code in ["CLUSTERDOWN", "TRYAGAIN", "READONLY", "LOADING", "MOVED"] {
            assert!(of(said(code)), "{code}");
        }
        assert!(!of(make_extension_error("NOREPLICAS".into(), None)));
        assert!(!of(unsent(said("LOADING"))));
    }
}

//! The fingerprints of one request, by each digest that its record can have been made with.
//!
//! A store compares 32 bytes and knows of no digest. While an application changes from one digest to
//! another, a mismatch can be the same request, digested by a process that had the other setting. So
//! it is asked a second time, by the other digest, before a request is called another one.

use std::fmt;

use crate::fingerprint::Fingerprint;

/// Makes the fingerprint that a request has by another digest, if there is another. Called once at
/// most, so it can use up what it is made of.
pub(crate) type OtherFingerprint<'a> = &'a mut (dyn FnMut() -> Option<Fingerprint> + Send);

/// What a request is asked for by, and what else it could be asked for by.
pub(crate) struct Fingerprints<'a> {
    current: Fingerprint,
    other: Other<'a>,
    /// The record was the other one's neither.
    is_second: bool,
}

enum Other<'a> {
    ToMake(OtherFingerprint<'a>),
    Made(Option<Fingerprint>),
}

impl<'a> Fingerprints<'a> {
    pub(crate) fn new(own: Fingerprint, other: OtherFingerprint<'a>) -> Self {
        Self {
            current: own,
            other: Other::ToMake(other),
            is_second: false,
        }
    }

    /// Of what is digested in one way only.
    pub(crate) fn only(own: Fingerprint) -> Self {
        Self {
            current: own,
            other: Other::Made(None),
            is_second: false,
        }
    }

    /// What to ask by.
    pub(super) fn current(&self) -> Fingerprint {
        self.current
    }

    /// The record is not [`current`](Self::current)'s. Says whether to ask by the other one, which is
    /// current from now on.
    pub(super) fn mismatched(&mut self) -> bool {
        if std::mem::replace(&mut self.is_second, true) {
            return false;
        }
        let Some(other) = self.made() else {
            return false;
        };
        self.other = Other::Made(Some(std::mem::replace(&mut self.current, other)));
        true
    }

    /// The record is [`current`](Self::current)'s, and may be another one's by the time it is asked for
    /// again. That can be long, and a request's body should not be kept for so long: the other
    /// fingerprint is made now.
    pub(super) fn matched(&mut self) {
        self.is_second = false;
        self.made();
    }

    /// Whether a record with this fingerprint is of this request.
    pub(crate) fn include(&mut self, fingerprint: Fingerprint) -> bool {
        self.current == fingerprint || self.made() == Some(fingerprint)
    }

    fn made(&mut self) -> Option<Fingerprint> {
        match &mut self.other {
            Other::Made(made) => *made,
            Other::ToMake(make) => {
                let made = make();
                self.other = Other::Made(made);
                made
            }
        }
    }
}

impl fmt::Debug for Fingerprints<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fingerprints")
            .field("current", &self.current)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: Fingerprint = Fingerprint::from_bytes([1; 32]);
    const OTHER: Fingerprint = Fingerprint::from_bytes([2; 32]);

    /// Runs with fingerprints of which the other one can be made once.
    fn with<T>(other: Option<Fingerprint>, test: impl FnOnce(&mut Fingerprints<'_>) -> T) -> T {
        let mut is_made = false;
        let mut make = || {
            assert!(!std::mem::replace(&mut is_made, true), "made twice");
            other
        };
        test(&mut Fingerprints::new(OWN, &mut make))
    }

    #[test]
    fn two_mismatches_are_another_request() {
        with(Some(OTHER), |fingerprints| {
            assert_eq!(fingerprints.current(), OWN);
            assert!(fingerprints.mismatched());
            assert_eq!(fingerprints.current(), OTHER);
            assert!(!fingerprints.mismatched());
        });
    }

    #[test]
    fn one_mismatch_is_another_request_where_there_is_one_digest() {
        with(None, |fingerprints| assert!(!fingerprints.mismatched()));
    }

    /// The record that was waited for is gone, and the next one is by the first digest.
    #[test]
    fn mismatch_after_a_match_asks_by_the_first_again() {
        with(Some(OTHER), |fingerprints| {
            assert!(fingerprints.mismatched());
            fingerprints.matched();
            assert_eq!(fingerprints.current(), OTHER);
            assert!(fingerprints.mismatched());
            assert_eq!(fingerprints.current(), OWN);
            assert!(!fingerprints.mismatched());
        });
    }

    #[test]
    fn record_by_either_digest_is_this_requests() {
        with(Some(OTHER), |fingerprints| {
            assert!(fingerprints.include(OWN) && fingerprints.include(OTHER));
            assert!(!fingerprints.include(Fingerprint::from_bytes([3; 32])));
        });
        with(None, |fingerprints| {
            assert!(fingerprints.include(OWN) && !fingerprints.include(OTHER));
        });
    }
}

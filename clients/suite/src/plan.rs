//! What goes wrong, and when: a function of the seed, the intent and the number of its try.

use std::fmt;
use std::str::FromStr;

/// A client that pays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Client {
    Rust,
    JavaScript,
    /// The JavaScript client, in a page that is reloaded.
    Page,
    ReqwestRetry,
    Ky,
    AxiosRetry,
}

impl Client {
    /// In the order of the rounds.
    pub(crate) const ALL: [Self; 6] = [
        Self::Rust,
        Self::JavaScript,
        Self::Page,
        Self::ReqwestRetry,
        Self::Ky,
        Self::AxiosRetry,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Rust => "rust",
            Self::JavaScript => "javascript",
            Self::Page => "page",
            Self::ReqwestRetry => "reqwest-retry",
            Self::Ky => "ky",
            Self::AxiosRetry => "axios-retry",
        }
    }

    /// As the table calls it.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Rust => "`idempotent-client`, Rust",
            Self::JavaScript => "`idempotent-client`, JavaScript",
            Self::Page => "the same in Chromium, from another origin, reloaded",
            Self::ReqwestRetry => "`reqwest-retry`",
            Self::Ky => "`ky`",
            Self::AxiosRetry => "`axios-retry`",
        }
    }

    /// Whether it is one of this repository, of which everything is demanded.
    pub(crate) fn is_ours(self) -> bool {
        matches!(self, Self::Rust | Self::JavaScript | Self::Page)
    }

    pub(crate) fn is_rust(self) -> bool {
        matches!(self, Self::Rust | Self::ReqwestRetry)
    }
}

impl FromStr for Client {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let mut all = Self::ALL.into_iter();
        all.find(|client| client.name() == name)
            .ok_or_else(|| format!("there is no client called {name}"))
    }
}

/// What the network does to one try.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fault {
    /// The connection is closed before anything is forwarded.
    Refused,
    /// Half of the request's body is forwarded, and both connections are reset.
    RequestCut,
    /// The request is carried out, and the connection is closed instead of a reply.
    ReplyLost,
    /// Half of the reply's body arrives, and the connection is reset.
    ReplyCut,
    /// The request is carried out, and the reply is held until the client has given up.
    ReplyLate,
    /// The connection is closed at once, and the request arrives later: after the retry, or while it runs.
    RequestLate,
    /// The request arrives once more, after its reply.
    Duplicated,
    /// The request arrives twice at the same time: one of the two is a real 409 `in-flight`.
    Twice,
    /// A gateway answers 409 `in-flight` with `Retry-After`, and forwards nothing.
    Conflict,
    /// A gateway answers 503 with `Retry-After`, and forwards nothing.
    Busy,
    /// The same, and `Retry-After` is a date.
    BusyUntil,
    /// The request is carried out, and a gateway answers 503 with `Retry-After`.
    BusyAfter,
    /// The request is carried out, and a gateway answers 502.
    BadGateway,
}

/// Of 1,000 tries, how many meet which fault. The rest is forwarded as it is.
const PLAN: [(Fault, u64); 13] = [
    (Fault::Refused, 30),
    (Fault::RequestCut, 50),
    (Fault::ReplyLost, 60),
    (Fault::ReplyCut, 50),
    (Fault::ReplyLate, 5),
    (Fault::RequestLate, 35),
    (Fault::Duplicated, 40),
    (Fault::Twice, 40),
    (Fault::Conflict, 40),
    (Fault::Busy, 40),
    (Fault::BusyUntil, 10),
    (Fault::BusyAfter, 40),
    (Fault::BadGateway, 40),
];

/// A try with a higher number meets no fault, so that every round ends.
const LAST_WITH_FAULT: u32 = 12;

impl Fault {
    /// What happens to this try of an intent, counted from 1.
    pub(crate) fn of(seed: u64, intent: &str, number: u32) -> Option<Self> {
        if number > LAST_WITH_FAULT {
            return None;
        }
        let mut left = Chance::new(seed, intent, number).below(1000);
        for (fault, share) in PLAN {
            if left < share {
                return Some(fault);
            }
            left -= share;
        }
        None
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Refused => "refused",
            Self::RequestCut => "request cut",
            Self::ReplyLost => "reply lost",
            Self::ReplyCut => "reply cut",
            Self::ReplyLate => "reply late",
            Self::RequestLate => "request late",
            Self::Duplicated => "duplicated later",
            Self::Twice => "sent twice at once",
            Self::Conflict => "409",
            Self::Busy => "503",
            Self::BusyUntil => "503 until a date",
            Self::BusyAfter => "503 after the charge",
            Self::BadGateway => "502 after the charge",
        })
    }
}

/// Random numbers that depend on nothing but the seed, the intent and the number of the try (`SplitMix64`).
#[derive(Debug)]
pub(crate) struct Chance(u64);

impl Chance {
    pub(crate) fn new(seed: u64, name: &str, number: u32) -> Self {
        let mix = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325, mix);
        let hash = number.to_le_bytes().into_iter().fold(hash, mix);
        Self(hash ^ seed.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    /// At least 0, below `end`.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % end.max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_is_the_same_plan_and_another_seed_another() {
        let plan = |seed| -> Vec<_> {
            let tries = (0..200).map(|number| Fault::of(seed, &format!("intent-{number}"), 1));
            tries.collect()
        };
        assert_eq!(plan(1), plan(1));
        assert_ne!(plan(1), plan(2));
    }

    #[test]
    fn every_fault_has_its_share() {
        let mut counts = [0_u64; PLAN.len()];
        for number in 0..20_000 {
            let fault = Fault::of(7, &format!("intent-{number}"), 1);
            if let Some(place) = PLAN.iter().position(|(planned, _)| Some(*planned) == fault) {
                counts[place] += 1;
            }
        }
        for ((fault, share), count) in PLAN.into_iter().zip(counts) {
            let expected = share * 20;
            assert!(
                count * 2 > expected && count < expected * 2,
                "{fault}: {count}"
            );
        }
    }

    #[test]
    fn a_round_ends() {
        assert_eq!(Fault::of(1, "intent", LAST_WITH_FAULT + 1), None);
    }
}

//! One seat a key and process: the request that runs a transaction for a key sits on it.
//!
//! Others of the same key need not ask the database: they are told by the seat that it is in flight,
//! or they queue for it. The first in that queue asks on behalf of all, while another process runs the
//! transaction. So waiters hold no connection, and one at most of a process polls.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, Weak};

use tokio::sync::OwnedMutexGuard;

use super::calls::lock;
use crate::fingerprint::Fingerprint;
use crate::key::RecordKey;

type ByKey = Arc<Mutex<HashMap<RecordKey, Weak<Seat>>>>;

/// The seats that requests are interested in.
#[derive(Clone, Debug, Default)]
pub(super) struct Seats(ByKey);

#[derive(Debug)]
pub(super) struct Seat {
    key: RecordKey,
    turn: Arc<tokio::sync::Mutex<()>>,
    runs: Mutex<Option<Fingerprint>>,
    seats: ByKey,
}

/// First in the queue, or running.
pub(super) type Turn = OwnedMutexGuard<()>;

/// Says that a transaction of this process runs for the key, until it is dropped.
#[derive(Debug)]
pub(super) struct Occupied {
    seat: Arc<Seat>,
    /// Missing when another waiter was first in the queue, and late to see that the other
    /// process is done.
    _turn: Option<Turn>,
}

impl Seats {
    pub(super) fn of(&self, key: &RecordKey) -> Arc<Seat> {
        let mut seats = lock(&self.0);
        if let Some(seat) = seats.get(key).and_then(Weak::upgrade) {
            return seat;
        }
        let seat = Arc::new(Seat {
            key: *key,
            turn: Arc::default(),
            runs: Mutex::default(),
            seats: Arc::clone(&self.0),
        });
        seats.insert(*key, Arc::downgrade(&seat));
        seat
    }
}

impl Seat {
    /// The request that runs here.
    pub(super) fn runs(&self) -> Option<Fingerprint> {
        *lock(&self.runs)
    }

    /// The turn, if it is free.
    pub(super) fn try_turn(&self) -> Option<Turn> {
        Arc::clone(&self.turn).try_lock_owned().ok()
    }

    /// The turn, when it is ours.
    pub(super) async fn turn(&self) -> Turn {
        Arc::clone(&self.turn).lock_owned().await
    }

    pub(super) fn occupy(
        self: Arc<Self>,
        turn: Option<Turn>,
        fingerprint: Fingerprint,
    ) -> Occupied {
        *lock(&self.runs) = Some(fingerprint);
        Occupied {
            seat: self,
            _turn: turn,
        }
    }
}

impl Drop for Occupied {
    fn drop(&mut self) {
        *lock(&self.seat.runs) = None;
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut seats = lock(&self.seats);
        // Another request may have come since, to a new one.
        if seats
            .get(&self.key)
            .is_some_and(|seat| seat.strong_count() == 0)
        {
            seats.remove(&self.key);
        }
    }
}

//! Which request made which message, for as long as its sender may ask again.

use std::collections::HashMap;
use std::collections::VecDeque;
use std::time::Duration;

use crate::message::Idempotency;
use crate::message::MessageId;
use crate::message::Position;
use crate::time::Time;

use super::live::UNPLACED;

/// The idempotency keys in use, each with the message that it made.
#[derive(Debug)]
pub(super) struct Requests {
    ttl: Duration,
    by_key: HashMap<[u8; 16], Request>,
    /// Keys in the order of their positions, each with its end: a key may have been used again.
    ages: VecDeque<([u8; 16], Time)>,
}

/// A request that was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) fingerprint: [u8; 16],
    pub(super) id: MessageId,
    pub(super) until: Time,
    /// Where the record that names it is.
    pub(super) position: Position,
}

impl Requests {
    pub(super) fn new(ttl: Duration) -> Self {
        Self { ttl, by_key: HashMap::new(), ages: VecDeque::new() }
    }

    pub(super) const fn set_ttl(&mut self, ttl: Duration) {
        self.ttl = ttl;
    }

    /// The request that used `key`, if it still counts.
    pub(super) fn find(&self, now: Time, key: &[u8; 16]) -> Option<&Request> {
        self.by_key.get(key).filter(|request| request.until > now)
    }

    pub(super) fn len(&self) -> usize {
        self.by_key.len()
    }

    /// Notes a request of `at`.
    pub(super) fn accept(&mut self, at: Time, entry: Idempotency, id: MessageId) {
        self.carry(entry, id, at + self.ttl);
    }

    /// Notes a request that counts until `until`, in place of an older note of the same.
    pub(super) fn carry(&mut self, entry: Idempotency, id: MessageId, until: Time) {
        if self.ages.front() == Some(&(entry.key, until)) {
            self.pop_oldest();
        }
        let Idempotency { key, fingerprint } = entry;
        let request = Request { fingerprint, id, until, position: UNPLACED };
        self.by_key.insert(key, request);
        self.ages.push_back((key, until));
    }

    /// Notes where the record that names `key` is.
    pub(super) fn place(&mut self, key: &[u8; 16], position: Position) {
        if let Some(request) = self.by_key.get_mut(key) {
            request.position = position;
        }
    }

    /// The request whose record is the oldest.
    pub(super) fn oldest(&self) -> Option<(Idempotency, Request)> {
        // A key that was used again stands in the list twice, for a little while.
        self.ages.iter().find_map(|(key, until)| {
            let request = self.by_key.get(key).filter(|request| request.until == *until)?;
            Some((Idempotency { key: *key, fingerprint: request.fingerprint }, *request))
        })
    }

    fn pop_oldest(&mut self) {
        let Some((key, until)) = self.ages.pop_front() else { return };
        if self.by_key.get(&key).is_some_and(|request| request.until == until) {
            self.by_key.remove(&key);
        }
    }

    /// Forgets a few of those whose time is over.
    pub(super) fn forget(&mut self, now: Time) {
        const AT_ONCE: usize = 4;
        for _ in 0..AT_ONCE {
            if self.ages.front().is_none_or(|(_, until)| *until > now) {
                return;
            }
            self.pop_oldest();
        }
    }

    /// All requests, in no order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&[u8; 16], &Request)> {
        self.by_key.iter()
    }
}

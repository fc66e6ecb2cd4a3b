//! Which request made which message, for as long as its sender may ask again.

use std::collections::VecDeque;
use std::time::Duration;

use crate::message::Idempotency;
use crate::message::MessageId;
use crate::message::Position;
use crate::time::Time;

use super::index::Index;
use super::index::spread;
use super::live::UNPLACED;

/// The idempotency keys in use, each with the message that it made: some 80 octets each.
#[derive(Debug)]
pub(super) struct Requests {
    ttl: Duration,
    /// In the order of their positions. A key that was used again after its time stands here twice
    /// for a little while.
    requests: VecDeque<Request>,
    /// The number of the first of them; numbers wrap.
    first: u32,
    /// The number of each key's newest request.
    by_key: Index<u32>,
}

/// A request that was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) entry: Idempotency,
    pub(super) id: MessageId,
    pub(super) until: Time,
    /// Where the record that names it is.
    pub(super) position: Position,
}

impl Requests {
    pub(super) fn new(ttl: Duration) -> Self {
        Self { ttl, requests: VecDeque::new(), first: 0, by_key: Index::default() }
    }

    pub(super) const fn set_ttl(&mut self, ttl: Duration) {
        self.ttl = ttl;
    }

    /// The request that used `key`, if it still counts.
    pub(super) fn find(&self, now: Time, key: &[u8; 16]) -> Option<&Request> {
        let number = self.number(key)?;
        self.get(number).filter(|request| request.until > now)
    }

    pub(super) fn len(&self) -> usize {
        self.by_key.len()
    }

    /// Notes a request of `at`.
    pub(super) fn accept(&mut self, at: Time, entry: Idempotency, id: MessageId) {
        self.push(entry, id, at + self.ttl);
    }

    /// Notes a request again that counts until `until`, in place of the older note of it.
    pub(super) fn carry(&mut self, entry: Idempotency, id: MessageId, until: Time) {
        if self.requests.front().is_some_and(|it| (it.entry, it.until) == (entry, until)) {
            self.pop();
        }
        self.push(entry, id, until);
    }

    /// Notes where the record that names `key` is.
    pub(super) fn place(&mut self, key: &[u8; 16], position: Position) {
        let number = self.number(key);
        let place = number.map(|number| number.wrapping_sub(self.first) as usize);
        if let Some(request) = place.and_then(|place| self.requests.get_mut(place)) {
            request.position = position;
        }
    }

    /// The request whose record is the oldest.
    pub(super) fn oldest(&self) -> Option<&Request> {
        self.iter().next()
    }

    /// Forgets a few of those whose time is over.
    pub(super) fn forget(&mut self, now: Time) {
        const AT_ONCE: usize = 4;
        for _ in 0..AT_ONCE {
            if self.requests.front().is_none_or(|request| request.until > now) {
                return;
            }
            self.pop();
        }
    }

    /// All requests, the oldest position first.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Request> {
        let numbered = self.requests.iter().enumerate();
        let newest = numbered.filter(|(place, request)| {
            let number = self.number(&request.entry.key);
            number.map(|number| number.wrapping_sub(self.first) as usize) == Some(*place)
        });
        newest.map(|(_, request)| request)
    }

    fn push(&mut self, entry: Idempotency, id: MessageId, until: Time) {
        let count = u32::try_from(self.requests.len()).unwrap_or(u32::MAX);
        let number = self.first.wrapping_add(count);
        self.requests.push_back(Request { entry, id, until, position: UNPLACED });
        let (requests, first) = (&self.requests, self.first);
        let is_it = |other: &u32| key(requests, first, *other) == Some(entry.key);
        match self.by_key.find_mut(hash(&entry.key), is_it) {
            Some(known) => *known = number,
            None => self.by_key.insert(hash(&entry.key), number, |number| {
                key(requests, first, *number).map_or(0, |key| hash(&key))
            }),
        }
    }

    /// Takes out the first request; its key too, unless it was used again.
    fn pop(&mut self) {
        let Some(request) = self.requests.front() else { return };
        let (hash, first) = (hash(&request.entry.key), self.first);
        self.by_key.remove(hash, |number| *number == first);
        self.requests.pop_front();
        self.first = first.wrapping_add(1);
    }

    fn number(&self, key: &[u8; 16]) -> Option<u32> {
        let is_it = |number: &u32| self.get(*number).is_some_and(|it| it.entry.key == *key);
        self.by_key.find(hash(key), is_it).copied()
    }

    fn get(&self, number: u32) -> Option<&Request> {
        self.requests.get(number.wrapping_sub(self.first) as usize)
    }
}

fn key(requests: &VecDeque<Request>, first: u32, number: u32) -> Option<[u8; 16]> {
    requests.get(number.wrapping_sub(first) as usize).map(|request| request.entry.key)
}

/// Keys are digests of SHA-256, so a part of one is as good as a hash.
fn hash(key: &[u8; 16]) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = *key;
    spread(u64::from_be_bytes([a, b, c, d, e, f, g, h]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(key: u64) -> Idempotency {
        let mut digest = [0; 16];
        digest[..8].copy_from_slice(&key.to_be_bytes());
        Idempotency { key: digest, fingerprint: [7; 16] }
    }

    fn id(number: u128) -> MessageId {
        MessageId::from_u128(number)
    }

    #[test]
    fn a_key_counts_for_its_time_and_may_then_be_used_again() {
        let mut requests = Requests::new(Duration::from_secs(10));
        let now = Time::from_secs(100);
        requests.accept(now, entry(1), id(1));
        requests.accept(now, entry(2), id(2));
        assert_eq!(requests.find(now, &entry(1).key).map(|it| it.id), Some(id(1)));
        let later = now + Duration::from_secs(10);
        assert_eq!(requests.find(later, &entry(1).key), None);
        requests.accept(later, entry(1), id(3));
        requests.place(&entry(1).key, Position(9));
        assert_eq!(requests.find(later, &entry(1).key).map(|it| it.position), Some(Position(9)));
        assert_eq!(requests.oldest().map(|it| it.id), Some(id(2)), "1 was used again");
        requests.forget(later);
        assert_eq!((requests.len(), requests.oldest().map(|it| it.id)), (1, Some(id(3))));
    }

    #[test]
    fn what_is_carried_moves_to_the_end() {
        let mut requests = Requests::new(Duration::from_secs(10));
        let now = Time::from_secs(100);
        for number in 0..1_000 {
            requests.accept(now, entry(number), id(number.into()));
        }
        for number in 0..500 {
            let oldest = *requests.oldest().unwrap();
            assert_eq!(oldest.id, id(number));
            requests.carry(oldest.entry, oldest.id, oldest.until);
        }
        assert_eq!((requests.len(), requests.oldest().unwrap().id), (1_000, id(500)));
        for number in 0..1_000 {
            let found = requests.find(now, &entry(number).key).map(|it| it.id);
            assert_eq!(found, Some(id(number.into())));
        }
    }
}

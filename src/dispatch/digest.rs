//! One number for the whole book, to compare two of them.

use std::collections::BTreeSet;
use std::hash::DefaultHasher;
use std::hash::Hash;
use std::hash::Hasher;

use crate::route::CarrierId;
use crate::route::Routes;

use super::book::Book;
use super::live::Attempt;
use super::live::Live;

impl Book {
    /// A hash of what the book says, whatever order it came in and whatever numbers names have.
    ///
    /// What counts no more is left out, for it is forgotten a little at a time; and so are
    /// references and repeats, which are only a help.
    pub(super) fn digest(&self, routes: &Routes) -> u64 {
        let held = self.table.slots().filter(|slot| {
            let live = &self.table[*slot];
            live.id().as_u128() != 0 && !(live.is_finished() && self.is_too_late(*slot))
        });
        let messages = held.map(|slot| self.digest_of(routes, &self.table[slot]));
        let requests = self.requests.iter().filter(|request| request.until > self.time);
        let requests = requests.map(|request| {
            let (key, fingerprint) = (request.entry.key, request.entry.fingerprint);
            hash(&(key, fingerprint, request.id, request.until, request.position))
        });
        // Of one that two carriers wrote alike, a replay may hold both.
        let orphans: BTreeSet<u64> = self
            .orphans
            .iter()
            .map(|(_, orphan)| {
                let receipt = &orphan.receipt;
                hash(&(&receipt.carrier_message_id, &receipt.state, &receipt.raw))
            })
            .collect();
        let used = self
            .usage
            .iter()
            .map(|(day, key, used)| hash(&(day, self.keys.get(key), used.count, used.position)));
        let all = messages.chain(requests).chain(orphans).chain(used);
        all.fold(hash(&(self.live(), self.parts.len())), u64::wrapping_add)
    }

    fn digest_of(&self, routes: &Routes, live: &Live) -> u64 {
        let name = |carrier: CarrierId| routes.carrier_name(carrier);
        let mut hasher = DefaultHasher::new();
        (live.id(), live.position, live.expires_at, live.due, live.to.0).hash(&mut hasher);
        (self.keys.get(live.key), live.class, live.state, live.segments).hash(&mut hasher);
        (live.receipts as u8, name(live.carrier)).hash(&mut hasher);
        let Some(sent) = live.sent.as_deref() else { return hasher.finish() };
        (sent.present, sent.tries, sent.throttles).hash(&mut hasher);
        let finish = sent.finish.as_deref();
        finish.map(|it| (it.state, it.reason, &it.carrier, &it.carrier_error)).hash(&mut hasher);
        for attempt in sent.attempts() {
            digest_attempt(attempt, &name(attempt.carrier), &mut hasher);
        }
        hasher.finish()
    }
}

fn digest_attempt(attempt: &Attempt, carrier: &str, hasher: &mut DefaultHasher) {
    (attempt.number, carrier, attempt.reference).hash(hasher);
    (attempt.sent_at, attempt.taken_at).hash(hasher);
    attempt.failure.as_deref().map(|failure| (&failure.state, &failure.error)).hash(hasher);
    for (number, segment) in attempt.numbered() {
        let refusal = segment.refusal.map(|(status, reason)| (status.0, reason));
        (number, segment.standing, segment.is_doubtful, refusal, &segment.id).hash(hasher);
    }
}

fn hash(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

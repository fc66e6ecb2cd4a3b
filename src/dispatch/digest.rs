//! One number for the whole book, to compare two of them.

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
    /// What is only a help is left out: references and repeats may be forgotten at any time.
    pub(super) fn digest(&self, routes: &Routes) -> u64 {
        let held = self.table.slots().map(|slot| &self.table[slot]);
        let held = held.filter(|live| live.id().as_u128() != 0);
        let messages = held.map(|live| self.digest_of(routes, live));
        let requests = self.requests.iter().map(|request| {
            let (key, fingerprint) = (request.entry.key, request.entry.fingerprint);
            hash(&(key, fingerprint, request.id, request.until, request.position))
        });
        let orphans = self.orphans.iter().map(|(_, orphan)| {
            let receipt = &orphan.receipt;
            let name = routes.carrier_name(orphan.carrier);
            hash(&(orphan.at, name, &receipt.carrier_message_id, &receipt.state, &receipt.raw))
        });
        let used = self
            .usage
            .iter()
            .map(|(day, key, used)| hash(&(day, self.keys.get(key), used.count, used.position)));
        let all = messages.chain(requests).chain(orphans).chain(used);
        let order = [self.live(), self.late.len(), self.parts.len()];
        all.fold(hash(&order), u64::wrapping_add)
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

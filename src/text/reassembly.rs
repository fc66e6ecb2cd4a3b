//! The parts of long messages, kept until all are there or their time is over.
//!
//! Parts come in any order and more than once. A part that contradicts one already there - another
//! total, another content under the same number - begins a new message: references are used again.
//! What is not whole in time, or when there is no room, comes out as it is. Nothing is lost here;
//! whoever owns the machine sees to what must survive a crash.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::collections::VecDeque;
use std::hash::Hash;
use std::time::Duration;

use crate::time::Time;

use super::udh::Concat;
use super::udh::RefBits;

/// How much is kept, and how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How long after its first part a message waits for the others.
    pub timeout: Duration,
    /// The most messages that wait.
    pub messages: usize,
    /// The most octets of all parts that wait.
    pub octets: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { timeout: Duration::from_mins(5), messages: 10_000, octets: 16 << 20 }
    }
}

/// What became of a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// It was the last one missing: [`Reassembly::poll`] has the message.
    Whole,
    /// It waits for others.
    Waits,
    /// It was there already.
    Duplicate,
    /// Its numbers are those of no long message: [`Reassembly::poll`] has it as a single one.
    Single,
}

/// A message that comes out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message<K, P> {
    /// Whose it is.
    pub key: K,
    /// The reference and total of its parts; `None` for a single one.
    pub reference: Option<(RefBits, u16)>,
    /// Its parts in order; `None` where one is missing.
    pub parts: Vec<Option<P>>,
}

impl<K, P> Message<K, P> {
    /// Whether no part is missing.
    pub fn is_whole(&self) -> bool {
        self.parts.iter().all(Option::is_some)
    }
}

/// The messages that wait for parts. `K` is the account with both addresses, `P` a part.
#[derive(Debug)]
pub struct Reassembly<K, P> {
    limits: Limits,
    open: HashMap<(K, RefBits, u16), Open<P>>,
    /// The messages by when their first part came.
    ages: BTreeMap<Birth, (K, RefBits, u16)>,
    /// The number of messages begun so far.
    begun: u64,
    octets: usize,
    out: VecDeque<Message<K, P>>,
}

/// When a message began, and which one it was.
type Birth = (Time, u64);

#[derive(Debug)]
struct Open<P> {
    birth: Birth,
    parts: Vec<Option<P>>,
    missing: usize,
    octets: usize,
}

impl<K: Clone + Eq + Hash, P: PartialEq> Reassembly<K, P> {
    /// Nothing waits.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            open: HashMap::new(),
            ages: BTreeMap::new(),
            begun: 0,
            octets: 0,
            out: VecDeque::new(),
        }
    }

    /// Takes one part of `octets` octets; drain [`Reassembly::poll`] after it.
    pub fn push(&mut self, now: Time, key: K, concat: Concat, part: P, octets: usize) -> Taken {
        self.expire(now);
        if !concat.is_plausible() {
            self.out.push_back(Message { key, reference: None, parts: vec![Some(part)] });
            return Taken::Single;
        }
        let id = (key, concat.bits, concat.reference);
        let index = usize::from(concat.seq) - 1;
        match self.open.get(&id).map(|open| open.fits(concat, index, &part)) {
            Some(Fit::Duplicate) => return Taken::Duplicate,
            Some(Fit::Contradicts) => self.close(&id),
            Some(Fit::Missing) | None => {}
        }
        self.add(now, id, concat, part, octets)
    }

    fn add(
        &mut self,
        now: Time,
        id: (K, RefBits, u16),
        concat: Concat,
        part: P,
        octets: usize,
    ) -> Taken {
        let index = usize::from(concat.seq) - 1;
        let open = self.open.entry(id.clone()).or_insert_with(|| {
            self.begun += 1;
            self.ages.insert((now, self.begun), id.clone());
            Open::new((now, self.begun), usize::from(concat.total))
        });
        open.put(index, part, octets);
        self.octets += octets;
        let whole = open.missing == 0;
        if whole {
            self.close(&id);
        } else {
            self.make_room();
        }
        if whole { Taken::Whole } else { Taken::Waits }
    }

    /// Ends the wait of messages whose time is over; drain [`Reassembly::poll`] after it.
    pub fn expire(&mut self, now: Time) {
        while let Some(id) = self.oldest().filter(|(due, _)| *due <= now).map(|(_, id)| id.clone())
        {
            self.close(&id);
        }
    }

    /// When [`Reassembly::expire`] has something to do next.
    pub fn deadline(&self) -> Option<Time> {
        self.oldest().map(|(due, _)| due)
    }

    /// The next message that comes out.
    pub fn poll(&mut self) -> Option<Message<K, P>> {
        self.out.pop_front()
    }

    /// How many messages wait.
    pub fn len(&self) -> usize {
        self.open.len()
    }

    /// Whether no message waits.
    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// The octets of all parts that wait.
    pub const fn octets(&self) -> usize {
        self.octets
    }

    /// The message that waits longest, and until when.
    fn oldest(&self) -> Option<(Time, &(K, RefBits, u16))> {
        self.ages.first_key_value().map(|((since, _), id)| (*since + self.limits.timeout, id))
    }

    fn make_room(&mut self) {
        while self.open.len() > self.limits.messages || self.octets > self.limits.octets {
            let Some(id) = self.oldest().map(|(_, id)| id.clone()) else { return };
            self.close(&id);
        }
    }

    fn close(&mut self, id: &(K, RefBits, u16)) {
        if let Some(((key, bits, reference), open)) = self.open.remove_entry(id) {
            self.octets -= open.octets;
            self.ages.remove(&open.birth);
            let reference = Some((bits, reference));
            self.out.push_back(Message { key, reference, parts: open.parts });
        }
    }
}

/// How a part stands to the message of its reference.
enum Fit {
    Missing,
    Duplicate,
    Contradicts,
}

impl<P: PartialEq> Open<P> {
    fn new(birth: Birth, total: usize) -> Self {
        let parts = std::iter::repeat_with(|| None).take(total).collect();
        Self { birth, parts, missing: total, octets: 0 }
    }

    fn fits(&self, concat: Concat, index: usize, part: &P) -> Fit {
        match self.parts.get(index) {
            _ if self.parts.len() != usize::from(concat.total) => Fit::Contradicts,
            Some(Some(there)) if there == part => Fit::Duplicate,
            Some(Some(_)) => Fit::Contradicts,
            _ => Fit::Missing,
        }
    }

    fn put(&mut self, index: usize, part: P, octets: usize) {
        if let Some(place) = self.parts.get_mut(index) {
            *place = Some(part);
            self.missing -= 1;
            self.octets += octets;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T0: Time = Time::from_secs(1_000);

    fn part(reference: u16, seq: u8, total: u8) -> Concat {
        Concat { reference, bits: RefBits::Eight, total, seq }
    }

    fn machine(messages: usize, octets: usize) -> Reassembly<&'static str, &'static str> {
        Reassembly::new(Limits { timeout: Duration::from_secs(300), messages, octets })
    }

    fn drain(machine: &mut Reassembly<&'static str, &'static str>) -> Vec<String> {
        std::iter::from_fn(|| machine.poll())
            .map(|message| {
                let parts = message.parts.iter().map(|part| part.unwrap_or("?"));
                format!("{}:{}", message.key, parts.collect::<String>())
            })
            .collect()
    }

    #[test]
    fn parts_come_in_any_order_and_more_than_once() {
        for order in [[1, 2, 3], [3, 2, 1], [2, 3, 1], [3, 1, 2]] {
            let mut machine = machine(10, 100);
            let text = |seq: u8| ["a", "b", "c"][usize::from(seq) - 1];
            for seq in &order[..2] {
                let taken = machine.push(T0, "k", part(7, *seq, 3), text(*seq), 1);
                assert_eq!(taken, Taken::Waits);
                let again = machine.push(T0, "k", part(7, *seq, 3), text(*seq), 1);
                assert_eq!(again, Taken::Duplicate);
            }
            let last = order[2];
            assert_eq!(machine.push(T0, "k", part(7, last, 3), text(last), 1), Taken::Whole);
            assert_eq!(drain(&mut machine), ["k:abc"]);
            assert_eq!((machine.len(), machine.octets(), machine.deadline()), (0, 0, None));
        }
    }

    #[test]
    fn keys_and_widths_of_reference_tell_messages_apart() {
        let mut machine = machine(10, 100);
        machine.push(T0, "k", part(7, 1, 2), "a", 1);
        machine.push(T0, "l", part(7, 2, 2), "x", 1);
        machine.push(T0, "k", Concat { bits: RefBits::Sixteen, ..part(7, 2, 2) }, "y", 1);
        machine.push(T0, "k", part(8, 2, 2), "z", 1);
        assert_eq!((machine.len(), machine.poll()), (4, None));
    }

    #[test]
    fn a_part_that_contradicts_begins_a_new_message() {
        let mut machine = machine(10, 100);
        machine.push(T0, "k", part(7, 1, 3), "a", 1);
        machine.push(T0, "k", part(7, 1, 2), "b", 1);
        assert_eq!(drain(&mut machine), ["k:a??"]);
        machine.push(T0, "k", part(7, 1, 2), "c", 1);
        assert_eq!(drain(&mut machine), ["k:b?"]);
        machine.push(T0, "k", part(7, 2, 2), "d", 1);
        assert_eq!(drain(&mut machine), ["k:cd"]);
    }

    #[test]
    fn numbers_of_no_long_message_come_out_at_once() {
        let mut machine = machine(10, 100);
        for (seq, total) in [(0, 2), (3, 2), (1, 0), (1, 1)] {
            assert_eq!(machine.push(T0, "k", part(7, seq, total), "a", 1), Taken::Single);
        }
        assert_eq!(drain(&mut machine), ["k:a", "k:a", "k:a", "k:a"]);
    }

    #[test]
    fn what_is_not_whole_in_time_comes_out_as_it_is() {
        let mut machine = machine(10, 100);
        machine.push(T0, "k", part(7, 2, 2), "b", 1);
        let due = T0 + Duration::from_secs(300);
        assert_eq!(machine.deadline(), Some(due));
        machine.expire(due - Duration::from_micros(1));
        assert_eq!(machine.poll(), None);
        machine.expire(due);
        assert_eq!(drain(&mut machine), ["k:?b"]);
        machine.push(due, "k", part(7, 1, 2), "a", 1);
        assert_eq!(machine.deadline(), Some(due + Duration::from_secs(300)));
    }

    #[test]
    fn the_oldest_leave_when_there_is_no_room() {
        let mut machine = machine(2, 10);
        machine.push(T0, "a", part(1, 1, 2), "1", 1);
        machine.push(T0, "b", part(1, 1, 2), "2", 1);
        machine.push(T0, "c", part(1, 1, 2), "3", 1);
        assert_eq!(drain(&mut machine), ["a:1?"]);
        machine.push(T0, "c", part(1, 2, 3), "4", 9);
        assert_eq!(drain(&mut machine), ["c:3?"]);
        machine.push(T0, "b", part(1, 1, 3), "5", 11);
        assert_eq!(drain(&mut machine), ["b:2?", "c:?4?", "b:5??"]);
        assert_eq!(machine.octets(), 0);
    }

    #[test]
    fn whole_messages_do_not_pile_up_behind_an_old_one() {
        let mut machine = machine(2, 100);
        machine.push(T0, "old", part(1, 1, 2), "a", 1);
        for reference in 0..1_000 {
            machine.push(T0, "k", part(reference, 1, 2), "a", 1);
            machine.push(T0, "k", part(reference, 2, 2), "b", 1);
            machine.poll();
        }
        assert_eq!(machine.ages.len(), 1);
    }
}

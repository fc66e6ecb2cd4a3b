//! Requests of ours that wait for an answer, and the numbers they use.

use std::collections::HashMap;
use std::collections::VecDeque;
use std::time::Duration;

use crate::pdu::CommandId;
use crate::time::Time;

/// The highest number of a request (SMPP 3.4 §3.2); after it comes 1 again.
const LAST_NUMBER: u32 = 0x7FFF_FFFF;

/// The send window: at most `limit` requests without an answer, each under a number of its own.
///
/// A request whose timer ran out frees its place and stays known for a late answer, up to
/// `late_limit` of them.
#[derive(Debug)]
pub struct Window {
    limit: u16,
    late_limit: usize,
    /// The number used last; 0 before the first.
    last: u32,
    /// Whether all numbers have been used once.
    wrapped: bool,
    pending: HashMap<u32, Pending>,
    /// The requests in the order they were sent, so in that of their deadlines; also some that
    /// are answered.
    deadlines: VecDeque<(Time, u32)>,
    late: HashMap<u32, Pending>,
    late_order: VecDeque<u32>,
}

#[derive(Clone, Copy, Debug)]
struct Pending {
    token: u64,
    command_id: CommandId,
}

/// What an answer belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Match {
    /// A request that waits for it.
    Pending { token: u64, command_id: CommandId },
    /// A request whose timer ran out.
    Late { token: u64, command_id: CommandId },
    /// A request of another kind, which still waits.
    Mismatched,
    /// A request that is over.
    Over,
    /// No request.
    Unknown,
}

impl Window {
    /// An empty window.
    pub fn new(limit: u16, late_limit: u16) -> Self {
        Self {
            limit,
            late_limit: late_limit.into(),
            last: 0,
            wrapped: false,
            pending: HashMap::new(),
            deadlines: VecDeque::new(),
            late: HashMap::new(),
            late_order: VecDeque::new(),
        }
    }

    /// How many requests may be unanswered.
    pub const fn limit(&self) -> u16 {
        self.limit
    }

    /// How many requests are unanswered.
    pub fn used(&self) -> usize {
        self.pending.len()
    }

    /// How many more requests may be sent.
    pub fn free(&self) -> usize {
        usize::from(self.limit).saturating_sub(self.pending.len())
    }

    /// The number used last; 0 before the first.
    pub const fn last_number(&self) -> u32 {
        self.last
    }

    /// Takes the next number that no request waits under.
    pub(crate) fn next_number(&mut self) -> u32 {
        loop {
            self.wrapped |= self.last == LAST_NUMBER;
            self.last = if self.last == LAST_NUMBER { 1 } else { self.last + 1 };
            // Both tables are tiny beside the numbers there are, so this ends.
            if !self.pending.contains_key(&self.last) && !self.late.contains_key(&self.last) {
                return self.last;
            }
        }
    }

    /// Takes a request that waits until `deadline`; `None` when the window is full.
    pub(crate) fn send(
        &mut self,
        token: u64,
        command_id: CommandId,
        deadline: Time,
    ) -> Option<u32> {
        if self.free() == 0 {
            return None;
        }
        let number = self.next_number();
        self.pending.insert(number, Pending { token, command_id });
        self.deadlines.push_back((deadline, number));
        Some(number)
    }

    /// Finds what an answer belongs to, and ends it.
    pub(crate) fn answer(&mut self, number: u32, answer: CommandId) -> Match {
        if let Some(&Pending { token, command_id }) = self.pending.get(&number) {
            if !answers(answer, command_id) {
                return Match::Mismatched;
            }
            self.pending.remove(&number);
            self.forget_answered();
            return Match::Pending { token, command_id };
        }
        match self.late.get(&number) {
            Some(pending) if !answers(answer, pending.command_id) => Match::Mismatched,
            Some(&Pending { token, command_id }) => {
                self.late.remove(&number);
                self.late_order.retain(|&late| late != number);
                Match::Late { token, command_id }
            }
            None if self.was_used(number) => Match::Over,
            None => Match::Unknown,
        }
    }

    /// The next request whose time is up: its number and token.
    pub(crate) fn expire(&mut self, now: Time) -> Option<(u32, u64)> {
        self.forget_answered();
        let &(_, number) = self.deadlines.front().filter(|(deadline, _)| *deadline <= now)?;
        self.deadlines.pop_front();
        let pending = self.pending.remove(&number)?;
        self.remember_late(number, pending);
        Some((number, pending.token))
    }

    /// When the next request's time is up.
    pub(crate) fn deadline(&self) -> Option<Time> {
        self.deadlines.front().map(|&(deadline, _)| deadline)
    }

    /// Gives every request `longer` to be answered.
    pub(crate) fn postpone(&mut self, longer: Duration) {
        for (deadline, _) in &mut self.deadlines {
            *deadline += longer;
        }
    }

    /// Empties the window: the tokens that still waited, with their numbers, oldest first.
    pub(crate) fn close(&mut self) -> Vec<(u32, u64)> {
        let Self { pending, deadlines, .. } = self;
        let numbers = deadlines.drain(..).map(|(_, number)| number);
        let waited = numbers.filter_map(|number| Some((number, pending.remove(&number)?.token)));
        waited.collect()
    }

    const fn was_used(&self, number: u32) -> bool {
        number != 0 && (number <= self.last || (self.wrapped && number <= LAST_NUMBER))
    }

    /// Keeps an unanswered request in front, so that `deadline` tells the truth and the queue
    /// stays as short as the window... but for answers out of order.
    fn forget_answered(&mut self) {
        while let Some((_, number)) = self.deadlines.front() {
            if self.pending.contains_key(number) {
                break;
            }
            self.deadlines.pop_front();
        }
        if self.deadlines.len() > 2 * usize::from(self.limit) {
            let Self { pending, deadlines, .. } = self;
            deadlines.retain(|(_, number)| pending.contains_key(number));
        }
    }

    fn remember_late(&mut self, number: u32, pending: Pending) {
        if self.late_limit == 0 {
            return;
        }
        if self.late_order.len() == self.late_limit
            && let Some(oldest) = self.late_order.pop_front()
        {
            self.late.remove(&oldest);
        }
        self.late.insert(number, pending);
        self.late_order.push_back(number);
    }
}

/// Whether a PDU of id `answer` answers a request of id `request`.
fn answers(answer: CommandId, request: CommandId) -> bool {
    answer == CommandId::GENERIC_NACK || answer.0 == request.0 | CommandId::GENERIC_NACK.0
}

#[cfg(test)]
mod tests {
    use super::*;

    const T: Time = Time::from_secs(1_000);
    const SUBMIT: CommandId = CommandId::SUBMIT_SM;
    const RESP: CommandId = CommandId::SUBMIT_SM_RESP;

    fn second(n: u64) -> Time {
        T + Duration::from_secs(n)
    }

    #[test]
    fn numbers_start_at_one_and_wrap_to_one_past_those_in_use() {
        let mut window = Window::new(4, 4);
        assert_eq!(window.send(10, SUBMIT, T), Some(1));
        window.last = LAST_NUMBER - 1;
        assert_eq!(window.send(11, SUBMIT, T), Some(LAST_NUMBER));
        assert_eq!(window.send(12, SUBMIT, T), Some(2), "1 still waits");
    }

    #[test]
    fn a_full_window_takes_nothing_until_an_answer_comes() {
        let mut window = Window::new(1, 4);
        assert_eq!(window.send(10, SUBMIT, T), Some(1));
        assert_eq!(window.send(11, SUBMIT, T), None);
        assert_eq!(window.answer(1, RESP), Match::Pending { token: 10, command_id: SUBMIT });
        assert_eq!(window.send(11, SUBMIT, T), Some(2));
    }

    #[test]
    fn an_answer_of_another_kind_leaves_the_request_waiting() {
        let mut window = Window::new(1, 4);
        window.send(10, SUBMIT, T);
        assert_eq!(window.answer(1, CommandId::QUERY_SM_RESP), Match::Mismatched);
        assert_eq!(window.used(), 1);
        let nack = window.answer(1, CommandId::GENERIC_NACK);
        assert_eq!(nack, Match::Pending { token: 10, command_id: SUBMIT });
    }

    #[test]
    fn a_second_answer_is_told_from_one_to_a_number_never_used() {
        let mut window = Window::new(1, 4);
        window.send(10, SUBMIT, T);
        window.answer(1, RESP);
        assert_eq!(window.answer(1, RESP), Match::Over);
        assert_eq!(window.answer(2, RESP), Match::Unknown);
        assert_eq!(window.answer(0, RESP), Match::Unknown);
    }

    #[test]
    fn a_request_that_timed_out_frees_its_place_and_takes_one_late_answer() {
        let mut window = Window::new(1, 4);
        window.send(10, SUBMIT, second(60));
        assert_eq!(window.deadline(), Some(second(60)));
        assert_eq!(window.expire(second(59)), None);
        assert_eq!(window.expire(second(60)), Some((1, 10)));
        assert_eq!(window.free(), 1);
        assert_eq!(window.answer(1, RESP), Match::Late { token: 10, command_id: SUBMIT });
        assert_eq!(window.answer(1, RESP), Match::Over);
    }

    #[test]
    fn only_so_many_late_requests_are_remembered() {
        let mut window = Window::new(3, 2);
        for token in 1..=3 {
            window.send(token, SUBMIT, T);
        }
        while window.expire(T).is_some() {}
        assert_eq!(window.answer(1, RESP), Match::Over);
        assert!(matches!(window.answer(2, RESP), Match::Late { token: 2, .. }));
        assert!(matches!(window.answer(3, RESP), Match::Late { token: 3, .. }));
    }

    #[test]
    fn answers_out_of_order_leave_no_stale_deadline() {
        let mut window = Window::new(3, 0);
        for n in 1..=3 {
            window.send(n, SUBMIT, second(n));
        }
        window.answer(2, RESP);
        assert_eq!(window.deadline(), Some(second(1)));
        window.answer(1, RESP);
        assert_eq!(window.deadline(), Some(second(3)));
        assert_eq!(window.close(), [(3, 3)]);
        assert_eq!(window.deadline(), None);
    }

    #[test]
    fn the_deadlines_stay_short_behind_one_that_is_never_answered() {
        let mut window = Window::new(2, 0);
        window.send(0, SUBMIT, T);
        for token in 1..1_000 {
            let number = window.send(token, SUBMIT, T).unwrap();
            window.answer(number, RESP);
        }
        assert!(window.deadlines.len() <= 5, "{}", window.deadlines.len());
    }
}

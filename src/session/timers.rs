//! The timers of a session, but those of its window: what runs, what is due.

use std::time::Duration;

use crate::session::Timers;
use crate::time::Time;

/// Timers that run.
#[derive(Debug)]
pub(super) struct Running {
    config: Timers,
    /// When the state is over that the session is in: `session_init`, `drain`, `unbind_response`.
    phase: Option<Time>,
    /// When the peer's last whole PDU came; octets alone are no sign of life.
    heard_at: Time,
    /// Whether the peer is to be asked for a sign of life: once it is bound.
    enquires: bool,
    /// When our `enquire_link` went that waits for one.
    enquired_at: Option<Time>,
    /// When the PDU began that is not whole yet.
    partial_since: Option<Time>,
    paused_at: Option<Time>,
}

/// A timer that has run out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    Phase,
    PduRead,
    EnquireLinkResponse,
    Inactivity,
    EnquireLink,
}

impl Running {
    /// Starts with `session_init`.
    pub(super) fn new(now: Time, config: Timers) -> Self {
        Self {
            config,
            phase: Some(now + config.session_init.0),
            heard_at: now,
            enquires: false,
            enquired_at: None,
            partial_since: None,
            paused_at: None,
        }
    }

    pub(super) const fn config(&self) -> &Timers {
        &self.config
    }

    pub(super) const fn heard_at(&self) -> Time {
        self.heard_at
    }

    /// A whole PDU came.
    pub(super) const fn heard(&mut self, now: Time) {
        self.heard_at = now;
        self.enquired_at = None;
        self.partial_since = None;
    }

    /// Octets of a PDU that is not whole wait, or none do.
    pub(super) fn partial(&mut self, now: Time, partial: bool) {
        self.partial_since = partial.then(|| self.partial_since.unwrap_or(now));
    }

    /// The session is bound.
    pub(super) const fn bound(&mut self) {
        self.phase = None;
        self.enquires = true;
    }

    /// Either side has unbound: no sign of life is asked for any more.
    pub(super) const fn unbound(&mut self) {
        self.enquires = false;
    }

    /// The session is in a state that lasts until `deadline`.
    pub(super) const fn start_phase(&mut self, deadline: Time) {
        self.phase = Some(deadline);
    }

    /// An `enquire_link` goes out.
    pub(super) const fn enquired(&mut self, now: Time) {
        self.enquired_at = Some(now);
    }

    pub(super) const fn is_paused(&self) -> bool {
        self.paused_at.is_some()
    }

    /// The peer's octets are left unread from now on.
    pub(super) fn pause(&mut self, now: Time) {
        self.paused_at.get_or_insert(now);
    }

    /// The peer's octets are read again. Gives how long they were not.
    pub(super) fn resume(&mut self, now: Time) -> Option<Duration> {
        let paused = now.since(self.paused_at.take()?);
        self.heard_at += paused;
        for at in [&mut self.enquired_at, &mut self.partial_since].into_iter().flatten() {
            *at += paused;
        }
        Some(paused)
    }

    /// The first timer that has run out.
    pub(super) fn due(&self, now: Time) -> Option<Due> {
        let (at, due) = self.running().min_by_key(|(at, _)| *at)?;
        (at <= now).then_some(due)
    }

    /// When the next timer runs out.
    pub(super) fn next(&self) -> Option<Time> {
        self.running().map(|(at, _)| at).min()
    }

    /// Those that run, the graver first among equals.
    fn running(&self) -> impl Iterator<Item = (Time, Due)> {
        let after = |at: Option<Time>, span: Duration| at.map(|at| at + span);
        let heard_at = Some(self.heard_at);
        let listens = self.paused_at.is_none();
        let config = &self.config;
        let enquires = self.enquires && !config.enquire_link.is_zero();
        let phase = self.phase.map(|at| (at, Due::Phase));
        let pdu_read = after(self.partial_since, config.pdu_read.0);
        let response = after(self.enquired_at, config.enquire_link_response.0);
        let inactivity = after(heard_at, config.inactivity.0);
        let enquire = after(heard_at, config.enquire_link.0);
        let waits = [
            pdu_read.filter(|_| listens).map(|at| (at, Due::PduRead)),
            response.filter(|_| listens).map(|at| (at, Due::EnquireLinkResponse)),
            inactivity
                .filter(|_| listens && !config.inactivity.is_zero())
                .map(|at| (at, Due::Inactivity)),
            enquire
                .filter(|_| enquires && self.enquired_at.is_none())
                .map(|at| (at, Due::EnquireLink)),
        ];
        phase.into_iter().chain(waits.into_iter().flatten())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Span;

    const T: Time = Time::from_secs(1_000);

    fn at(seconds: u64) -> Time {
        T + Duration::from_secs(seconds)
    }

    fn bound(config: Timers) -> Running {
        let mut timers = Running::new(T, config);
        timers.bound();
        timers
    }

    #[test]
    fn session_init_runs_from_the_start_until_the_bind() {
        let mut timers = Running::new(T, Timers::default());
        assert_eq!(timers.due(at(29)), None);
        assert_eq!(timers.due(at(30)), Some(Due::Phase));
        timers.bound();
        assert_eq!(timers.next(), Some(at(30)), "now the enquire_link");
        assert_eq!(timers.due(at(30)), Some(Due::EnquireLink));
    }

    #[test]
    fn only_a_whole_pdu_counts_as_a_sign_of_life() {
        let mut timers = bound(Timers::default());
        timers.partial(at(29), true);
        assert_eq!(timers.due(at(30)), Some(Due::EnquireLink));
        timers.enquired(at(30));
        timers.heard(at(31));
        assert_eq!(timers.next(), Some(at(61)));
    }

    #[test]
    fn a_pdu_in_pieces_must_be_whole_within_pdu_read_of_its_first() {
        let mut timers = bound(Timers::default());
        timers.partial(at(1), true);
        timers.partial(at(10), true);
        assert_eq!(timers.due(at(11)), Some(Due::PduRead));
        timers.partial(at(11), false);
        assert_eq!(timers.due(at(11)), None);
    }

    #[test]
    fn nothing_that_waits_for_the_peer_runs_out_while_its_octets_are_left_unread() {
        let config = Timers { inactivity: Span::secs(50), ..Timers::default() };
        let mut timers = bound(config);
        timers.enquired(at(30));
        timers.partial(at(30), true);
        timers.pause(at(31));
        timers.pause(at(32));
        assert_eq!(timers.next(), None);
        assert_eq!(timers.resume(at(131)), Some(Duration::from_secs(100)));
        assert_eq!(timers.resume(at(131)), None);
        assert_eq!(timers.due(at(139)), None);
        assert_eq!(timers.due(at(140)), Some(Due::PduRead));
    }

    #[test]
    fn timers_of_no_length_do_not_run() {
        let config = Timers { enquire_link: Span::secs(0), ..Timers::default() };
        assert_eq!(bound(config).next(), None);
    }
}

//! Connections: octets that arrive late, in pieces, in part, or not at all.

use std::collections::BTreeMap;
use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use hikyaku::time::Time;

use super::draw::Draws;
use super::draw::Skew;

/// One direction of a connection.
#[derive(Debug, Default)]
struct Pipe {
    under_way: VecDeque<(Time, Bytes)>,
    /// Nothing overtakes what was written before.
    last: Time,
    /// When the reader learns that nothing more comes.
    end: Option<Time>,
}

/// What a reader finds.
#[derive(Debug)]
pub(super) enum Read {
    Octets(Bytes),
    End,
}

impl Pipe {
    fn write(&mut self, at: Time, octets: Bytes) {
        if self.end.is_none() {
            self.last = self.last.max(at);
            self.under_way.push_back((self.last, octets));
        }
    }

    fn end(&mut self, at: Time) {
        let last = self.last.max(at);
        self.end.get_or_insert(last);
    }

    /// Loses all but the first `keep` octets of what is under way.
    fn cut(&mut self, now: Time, mut keep: usize) {
        for (_, octets) in &mut self.under_way {
            octets.truncate(keep);
            keep -= octets.len();
        }
        self.under_way.retain(|(_, octets)| !octets.is_empty());
        self.last = self.under_way.back().map_or(now, |(at, _)| *at);
        self.end(now);
    }

    /// Nothing arrives before `until`.
    fn stall(&mut self, until: Time) {
        self.last = self.last.max(until);
        for (at, _) in &mut self.under_way {
            *at = until.max(*at);
        }
        self.end = self.end.map(|at| at.max(until));
    }

    fn next(&self) -> Option<Time> {
        self.under_way.front().map(|(at, _)| *at).or(self.end)
    }

    fn read(&mut self, now: Time) -> Option<Read> {
        if self.next().is_none_or(|at| at > now) {
            return None;
        }
        match self.under_way.pop_front() {
            Some((_, octets)) => Some(Read::Octets(octets)),
            None => {
                // Told once.
                self.end = Some(Time::MAX);
                Some(Read::End)
            }
        }
    }

    fn octets(&self) -> usize {
        self.under_way.iter().map(|(_, octets)| octets.len()).sum()
    }
}

/// Which end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Gateway,
    Carrier,
}

#[derive(Debug)]
struct Connection {
    carrier: usize,
    /// To the carrier, to the gateway.
    pipes: [Pipe; 2],
}

/// All connections there are.
#[derive(Debug)]
pub(super) struct Net {
    connections: BTreeMap<u64, Connection>,
    next: u64,
    draws: Draws,
    /// Until when nothing comes through to or from each carrier.
    holes: Vec<Time>,
    /// The slowest that octets travel, in microseconds, by carrier.
    delays: Vec<u64>,
    /// The gateway's clock; each end speaks by its own.
    pub(super) skew: Skew,
}

impl Net {
    pub(super) fn new(draws: Draws, delays: Vec<u64>) -> Self {
        let holes = vec![Time::ZERO; delays.len()];
        Self { connections: BTreeMap::new(), next: 0, draws, holes, delays, skew: Skew::default() }
    }

    fn world(&self, now: Time, end: End) -> Time {
        match end {
            End::Gateway => self.skew.world(now),
            End::Carrier => now,
        }
    }

    pub(super) fn connect(&mut self, carrier: usize) -> u64 {
        self.next += 1;
        self.connections.insert(self.next, Connection { carrier, pipes: Default::default() });
        self.next
    }

    /// Writes octets at one end; now and then they travel in two pieces.
    pub(super) fn write(&mut self, now: Time, id: u64, from: End, mut octets: Bytes) {
        let now = self.world(now, from);
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let least = now.max(self.holes[connection.carrier]);
        let most = self.delays[connection.carrier];
        let pipe = &mut connection.pipes[from as usize];
        if octets.len() > 1 && self.draws.per_mille(100) {
            let first = octets.split_to(1 + self.draws.index(octets.len() - 1));
            pipe.write(least + Duration::from_micros(self.draws.between(50, most)), first);
        }
        pipe.write(least + Duration::from_micros(self.draws.between(50, most)), octets);
    }

    /// What has arrived at one end.
    pub(super) fn read(&mut self, now: Time, id: u64, at: End) -> Option<Read> {
        let now = self.world(now, at);
        let pipe = match at {
            End::Carrier => 0,
            End::Gateway => 1,
        };
        self.connections.get_mut(&id)?.pipes[pipe].read(now)
    }

    /// One end closes in good order: what it wrote arrives, what is on its way to it does not.
    pub(super) fn close(&mut self, now: Time, id: u64, by: End) {
        let now = self.world(now, by);
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let later = now.max(self.holes[connection.carrier]) + Duration::from_millis(1);
        connection.pipes[by as usize].end(later);
        let to = &mut connection.pipes[1 - by as usize];
        to.cut(now, 0);
        to.end = Some(Time::MAX);
        self.sweep(id);
    }

    /// The connection breaks: of what is under way in each direction a part arrives, to the octet.
    pub(super) fn cut(&mut self, now: Time, id: u64) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        for pipe in &mut connection.pipes {
            let keep = self.draws.index(pipe.octets() + 1);
            pipe.cut(now, keep);
        }
    }

    /// The gateway's process is gone: what it wrote arrives, what is on its way to it does not. When
    /// its machine is gone too, a part arrives and nobody tells the carrier.
    pub(super) fn abandon(&mut self, now: Time, id: u64, is_silent: bool) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let [to_carrier, to_gateway] = &mut connection.pipes;
        to_gateway.cut(now, 0);
        to_gateway.end = Some(Time::MAX);
        if is_silent {
            to_carrier.cut(now, self.draws.index(to_carrier.octets() + 1));
            to_carrier.end = Some(Time::MAX);
        } else {
            to_carrier.end(now);
        }
    }

    /// Nothing comes through to or from `carrier` until then.
    pub(super) fn stall(&mut self, carrier: usize, until: Time) {
        self.holes[carrier] = until;
        for connection in self.connections.values_mut().filter(|it| it.carrier == carrier) {
            connection.pipes.iter_mut().for_each(|pipe| pipe.stall(until));
        }
    }

    /// When something arrives next; the gateway does not look before `gateway_from`.
    pub(super) fn next(&self, gateway_from: Time) -> Option<Time> {
        let next = self.connections.values().flat_map(|connection| {
            let [to_carrier, to_gateway] = &connection.pipes;
            let to_gateway = to_gateway.next().map(|at| at.max(gateway_from));
            to_carrier.next().into_iter().chain(to_gateway)
        });
        next.min().filter(|at| *at < Time::MAX)
    }

    fn sweep(&mut self, id: u64) {
        let over = |pipe: &Pipe| pipe.under_way.is_empty() && pipe.end == Some(Time::MAX);
        if self.connections.get(&id).is_some_and(|it| it.pipes.iter().all(over)) {
            self.connections.remove(&id);
        }
    }
}

//! The books of all, held against each other and against the promises.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::HashMap;
use std::fmt;
use std::sync::Mutex;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;

use hikyaku::pdu::CommandStatus;
use hikyaku::pdu::SubmitSm;
use hikyaku::time::Time;
use serde_json::Value;

use super::clients::Order;
use super::clients::Recall;
use super::clients::Told;
use super::handsets;
use super::hooks;
use super::reader::Event;
use super::reader::Letter;
use super::run::Books;
use super::settings::BINDS;
use super::settings::WINDOW;
use crate::http::Answer;
use crate::http::Client;

/// What came of it.
#[derive(Debug, Default)]
pub(super) struct Account {
    pub(super) differences: Vec<String>,
    orders: usize,
    answers: BTreeMap<String, u64>,
    events: usize,
    ends: BTreeMap<String, u64>,
    corrections: u64,
    calls: Vec<u64>,
    accepted: Vec<usize>,
    throttled: usize,
    doubles: u64,
    unknown: u64,
    /// Messages of handsets, and how many events there are of them.
    letters: (usize, usize),
    /// How long nothing was sent, for each exchange.
    gaps: Vec<Duration>,
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} messages handed in, answers {:?}", self.orders, self.answers)?;
        writeln!(
            f,
            "{} events, ends {:?}, {} corrected, webhook calls {:?}",
            self.events, self.ends, self.corrections, self.calls
        )?;
        write!(
            f,
            "carriers took {:?} segments and throttled {}; {} segments of unknown outcome, {} \
             sent a second time as the route allows; handsets wrote {} messages, {} events tell of \
             them; from the last submit before an exchange to \
             the first one after it: {:?}",
            self.accepted,
            self.throttled,
            self.unknown,
            self.doubles,
            self.letters.0,
            self.letters.1,
            self.gaps
        )
    }
}

/// A message as its events tell it.
#[derive(Debug, Default)]
struct Life<'a> {
    id: &'a str,
    events: Vec<&'a Event>,
}

impl Life<'_> {
    /// The state that it ended in.
    fn end(&self) -> Option<&str> {
        self.events.iter().rev().find(|event| event.is_end()).map(|event| event.state())
    }
}

/// The times that carriers took one segment of a message: the carrier of each.
type Sights = BTreeMap<u8, Vec<usize>>;

/// Holds the books against each other.
pub(super) fn reconcile(client: &Client, books: &Books) -> Account {
    let mut account = Account { gaps: gaps(books), ..Account::default() };
    account.feed(books);
    let lives = lives(&books.whole, &mut account.differences);
    let sights = sights(books, &mut account);
    let desk = books.desk.book.lock().unwrap();
    account.orders = desk.orders.len();
    account.answers.clone_from(&desk.answers);
    account.differences.extend(desk.complaints.iter().cloned());
    for (to, order) in &desk.orders {
        account.order(to, order, lives.get(&**to), sights.get(&**to));
    }
    let known = lives.keys().copied().chain(sights.keys().map(String::as_str));
    for to in known.filter(|to| !desk.orders.contains_key(*to)) {
        account.differ(format!("nobody handed in a message to {to}"));
    }
    account.letters(&books.handsets, &books.whole);
    for hook in &books.hooks {
        account.hook(hook, &lives, &books.whole);
    }
    account.look_up(client, &desk.orders, &lives, &sights);
    let most = books.starts * (2 * BINDS * WINDOW) as u64;
    let lost = account.ends.remove("lost at a restart").unwrap_or_default();
    if lost > most {
        account.differ(format!("{lost} segments lost at restarts, more than all windows held"));
    }
    account
}

/// The longest time without a submit within the ten seconds from each exchange on.
fn gaps(books: &Books) -> Vec<Duration> {
    let mut times: Vec<Time> = books.seen.iter().flatten().map(|seen| seen.at).collect();
    times.sort();
    let gap = |from: &Time| {
        let around = times
            .windows(2)
            .filter(|pair| pair[1] >= *from && pair[0] <= *from + Duration::from_secs(10));
        around.map(|pair| pair[1].since(pair[0])).max().unwrap_or_default()
    };
    books.exchanges.iter().map(gap).collect()
}

/// The messages of the feed by destination.
fn lives<'a>(feed: &'a [Event], differences: &mut Vec<String>) -> HashMap<&'a str, Life<'a>> {
    let mut lives = HashMap::<&str, Life<'_>>::new();
    for event in feed.iter().filter(|event| event.letter.is_none()) {
        let to = event.to.trim_start_matches('+');
        let life = lives.entry(to).or_default();
        if life.events.is_empty() {
            life.id = &event.message;
        } else if life.id != event.message {
            differences.push(format!("{} and {} are both to {to}", life.id, event.message));
        }
        life.events.push(event);
    }
    lives
}

/// What carriers took, by destination and segment.
fn sights(books: &Books, account: &mut Account) -> HashMap<String, Sights> {
    let mut sights = HashMap::<String, Sights>::new();
    for (carrier, seen) in books.seen.iter().enumerate() {
        account.accepted.push(0);
        for seen in seen {
            if seen.status == CommandStatus::ESME_ROK {
                account.accepted[carrier] += 1;
                let to = seen.submit.destination.addr.to_text_lossy();
                let segment = segment(&seen.submit);
                sights.entry(to).or_default().entry(segment).or_default().push(carrier);
            } else {
                account.throttled += 1;
            }
        }
    }
    sights
}

/// The number of the segment, from the header of the text; 1 for a message of one.
fn segment(submit: &SubmitSm) -> u8 {
    match submit.short_message.as_bytes() {
        [5, 0, 3, _, _, number, ..] if submit.esm_class.0 & 0x40 != 0 => *number,
        _ => 1,
    }
}

impl Account {
    fn differ(&mut self, difference: String) {
        self.differences.push(difference);
    }

    /// The feed is the same for who read it through all deaths and for who reads it afterwards.
    fn feed(&mut self, books: &Books) {
        self.events = books.whole.len();
        if books.read != books.whole {
            let (read, whole) = (books.read.len(), books.whole.len());
            let at = books.read.iter().zip(&books.whole).take_while(|(a, b)| a == b).count();
            self.differ(format!(
                "the feed read along the way has {read} events, the whole one {whole}; from event \
                 {at} on: {:?} and {:?}",
                books.read.get(at),
                books.whole.get(at)
            ));
        }
        for pair in books.whole.windows(2) {
            if pair[0].cursor >= pair[1].cursor {
                self.differ(format!("the cursor does not rise: {pair:?}"));
            }
        }
    }

    /// One message, as its client, the feed and the carriers know it.
    fn order(&mut self, to: &str, order: &Order, life: Option<&Life<'_>>, seen: Option<&Sights>) {
        match (&order.told, life) {
            (Told::Accepted(id), None) => self.differ(format!("{to}: {id} is not in the feed")),
            (Told::Accepted(id), Some(life)) if life.id != id => {
                self.differ(format!("{to}: accepted as {id}, the feed has {}", life.id));
            }
            (Told::Refused, Some(life)) => {
                self.differ(format!("{to}: refused, and the feed has {}", life.id));
            }
            _ => {}
        }
        match life {
            Some(life) => self.life(to, life),
            None if seen.is_some() => self.differ(format!("{to}: sent and never accepted")),
            None => {}
        }
        let is_cancelled = life.is_some_and(|life| life.end() == Some("cancelled"));
        match order.recall {
            Recall::Done if seen.is_some() => self.differ(format!("{to}: withdrawn and sent")),
            Recall::Done if !is_cancelled => self.differ(format!("{to}: withdrawn in vain")),
            Recall::None if is_cancelled => self.differ(format!("{to}: withdrawn by nobody")),
            _ => {}
        }
        self.copies(to, seen);
    }

    /// One beginning, one end, at most one correction, and nothing behind them.
    fn life(&mut self, to: &str, life: &Life<'_>) {
        let id = life.id;
        let kinds = || life.events.iter().map(|event| &*event.kind).collect::<Vec<_>>();
        let queued = life.events.iter().filter(|event| event.kind == "message.queued").count();
        let ends: Vec<_> =
            life.events.iter().filter(|it| it.is_end() && !it.is_correction).collect();
        let corrections = life.events.iter().filter(|event| event.is_correction).count();
        let mut tail = life.events.iter().skip_while(|event| !event.is_end());
        if queued != 1 || life.events[0].kind != "message.queued" {
            self.differ(format!("{to} {id} is not accepted once: {:?}", kinds()));
        }
        if ends.len() != 1 || corrections > 1 || !tail.all(|event| event.is_end()) {
            self.differ(format!("{to} {id} does not end once: {:?}", kinds()));
        }
        self.corrections += corrections as u64;
        if let Some(end) = life.end() {
            *self.ends.entry(end.to_owned()).or_default() += 1;
        }
    }

    /// A second copy only at another carrier; [`look`] sees whether the route allows it.
    fn copies(&mut self, to: &str, seen: Option<&Sights>) {
        for (segment, carriers) in seen.into_iter().flatten() {
            self.doubles += carriers.len() as u64 - 1;
            if (1..carriers.len()).any(|at| carriers[..at].contains(&carriers[at])) {
                self.differ(format!("{to}: segment {segment} was taken by carriers {carriers:?}"));
            }
        }
    }

    /// What handsets wrote and carriers were told is taken is there, whole, and no more often than
    /// it was sent.
    fn letters(&mut self, written: &handsets::Book, feed: &[Event]) {
        let told: Vec<&Letter> = feed.iter().filter_map(|event| event.letter.as_ref()).collect();
        self.letters = (written.len(), told.len());
        let mut of = HashMap::<&str, Vec<&Letter>>::new();
        told.into_iter().for_each(|letter| of.entry(&letter.from).or_default().push(letter));
        for (from, letter) in written {
            let found = of.remove(&**from).unwrap_or_default();
            let sent = letter.parts.iter().map(|part| part.left).sum::<u64>();
            let is_right = |it: &&Letter| !it.is_whole || it.text == letter.text;
            let is_there = found.iter().any(|it| it.is_whole);
            if !is_there || found.len() as u64 > sent || !found.iter().all(is_right) {
                self.differ(format!("a handset wrote {from} {letter:?}, the feed has {found:?}"));
            }
        }
        let unwritten: Vec<_> = of.into_values().flatten().collect();
        if !unwritten.is_empty() {
            self.differ(format!("no handset wrote {unwritten:?}"));
        }
    }

    /// An endpoint took every event, and those of a message in their order.
    fn hook(&mut self, hook: &hooks::Book, lives: &HashMap<&str, Life<'_>>, feed: &[Event]) {
        self.calls.push(hook.calls);
        self.differences.extend(hook.complaints.iter().cloned());
        let letters = feed.iter().filter(|event| event.letter.is_some());
        let (taken, lacking): (Vec<_>, Vec<_>) =
            letters.partition(|event| hook.place(&event.id).is_some());
        if !lacking.is_empty() {
            self.differ(format!("an endpoint was never told of {lacking:?}"));
        }
        let mut known = taken.len();
        for life in lives.values() {
            let places: Vec<_> = life.events.iter().map(|event| hook.place(&event.id)).collect();
            known += places.iter().flatten().count();
            if places.iter().any(Option::is_none) {
                self.differ(format!("{}: an endpoint has not taken all: {places:?}", life.id));
            }
            if !places.is_sorted() {
                self.differ(format!("{}: an endpoint was told out of order: {places:?}", life.id));
            }
        }
        if known != hook.taken {
            self.differ(format!(
                "an endpoint took {} events, the feed has {known} of them",
                hook.taken
            ));
        }
    }

    /// Asks the gateway after every message.
    fn look_up(
        &mut self,
        client: &Client,
        orders: &BTreeMap<String, Order>,
        lives: &HashMap<&str, Life<'_>>,
        sights: &HashMap<String, Sights>,
    ) {
        let all: Vec<_> = lives.iter().collect();
        let next = AtomicUsize::new(0);
        let found = Mutex::new((Vec::new(), 0, 0));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    while let Some((to, life)) = all.get(next.fetch_add(1, Ordering::Relaxed)) {
                        let copies = sights.get(**to).map(copies).unwrap_or_default();
                        let is_otp = orders.get(**to).is_some_and(|order| order.class == "otp");
                        let about = look(client, life, copies, is_otp);
                        let mut found = found.lock().unwrap();
                        found
                            .0
                            .extend(about.differences.into_iter().map(|it| format!("{to} {it}")));
                        found.1 += about.unknown;
                        found.2 += about.lost;
                    }
                });
            }
        });
        let (differences, unknown, lost) = found.into_inner().unwrap();
        self.differences.extend(differences);
        self.unknown = unknown;
        self.ends.insert("lost at a restart".into(), lost);
    }
}

/// What the gateway says of one message.
#[derive(Default)]
struct Look {
    differences: Vec<String>,
    /// Segments of unknown outcome.
    unknown: u64,
    /// Those of them whose answer a death has cost.
    lost: u64,
}

/// How often carriers took a message. One that took some of its segments and never the rest, since
/// it refused them or was gone, has no copy: no handset can show it, and a fallback hands in all of
/// it anew.
fn copies(seen: &Sights) -> usize {
    let most = seen.values().map(Vec::len).max().unwrap_or_default();
    let some: BTreeSet<usize> = seen.values().flatten().copied().collect();
    let has_part = |carrier: &&usize| seen.values().any(|took| !took.contains(carrier));
    most.saturating_sub(some.iter().filter(has_part).count())
}

#[test]
fn a_carrier_that_lacks_a_segment_has_no_copy() {
    let sights = |all: &[(u8, &[usize])]| -> Sights {
        all.iter().map(|(segment, carriers)| (*segment, carriers.to_vec())).collect()
    };
    assert_eq!(copies(&sights(&[(0, &[1])])), 1);
    assert_eq!(copies(&sights(&[(0, &[1, 0])])), 2);
    assert_eq!(copies(&sights(&[(1, &[1, 0]), (2, &[1, 0]), (3, &[0])])), 1);
    assert_eq!(copies(&sights(&[(1, &[1, 0]), (2, &[0, 1])])), 2);
    assert_eq!(copies(&sights(&[])), 0);
}

/// Asks after one message, which carriers took `copies` times.
fn look(client: &Client, life: &Life<'_>, copies: usize, is_otp: bool) -> Look {
    let id = life.id;
    let mut look = Look::default();
    let Ok(found) = asked(client, &format!("/v1/messages/{id}")).inspect_err(|status| {
        look.differences.push(format!("{id} is not told: {status:?}"));
    }) else {
        return look;
    };
    let state = found.body["state"].as_str().unwrap();
    if life.end() != Some(state) {
        look.differences.push(format!("{id} is {state}, and the feed ends with {:?}", life.end()));
    }
    if state != "delivered" && is_taken(&found.body) {
        look.differences.push(format!("{id} is {state}, and a carrier took and delivered it all"));
    }
    if state != "delivered" || copies > 1 {
        match asked(client, &format!("/v1/messages/{id}/timeline")) {
            Ok(timeline) => look.timeline(id, &timeline.body, copies, is_otp),
            Err(status) => look.differences.push(format!("{id} has no timeline: {status:?}")),
        }
    }
    look
}

/// The answer to a question, which may be asked a few times when there is none; else the last
/// status.
fn asked(client: &Client, path: &str) -> Result<Answer, Option<u16>> {
    let mut status = None;
    for _ in 0..10 {
        match client.get(path) {
            Some(answer) if answer.status == 200 => return Ok(answer),
            Some(answer) if answer.status < 500 && answer.status != 429 => {
                return Err(Some(answer.status));
            }
            answer => status = answer.map(|answer| answer.status),
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    Err(status)
}

/// Whether a carrier gave all segments of an attempt an id; the carriers here deliver all these.
fn is_taken(message: &Value) -> bool {
    let segments = message["segments"].as_array().unwrap();
    message["attempts"].as_array().unwrap().iter().any(|attempt| {
        let of_it = segments.iter().filter(|it| it["attempt"] == attempt["attempt"]);
        let taken = of_it.filter(|it| it["carrier_message_id"].is_string()).count();
        Some(taken as u64) == attempt["segments"].as_u64()
    })
}

impl Look {
    /// A second copy follows only what was unknown of a login code, or a carrier that was taken out
    /// of the configuration.
    fn timeline(&mut self, id: &str, timeline: &Value, copies: usize, is_otp: bool) {
        let entries = timeline["entries"].as_array().unwrap();
        let unanswered = entries
            .iter()
            .filter(|entry| entry["type"] == "unanswered" && entry["cause"] != "unsent");
        let mut attempts = 0;
        for entry in unanswered {
            let segments = entry["segments"].as_array().unwrap().len() as u64;
            attempts += usize::from(is_otp);
            self.unknown += segments;
            if entry["cause"] == "restart" {
                self.lost += segments;
            }
        }
        let is_withdrawn = |entry: &&Value| entry["decision"]["rule"] == WITHDRAWN;
        let withdrawn = entries.iter().filter(is_withdrawn).count();
        if copies > attempts + withdrawn + 1 {
            self.differences.push(format!(
                "{id}: carriers took it {copies} times, it was unknown {attempts} times as a login \
                 code, and {withdrawn} times its carrier was taken out: {timeline}"
            ));
        }
    }
}

/// Why a message leaves a carrier that is no longer in the configuration.
const WITHDRAWN: &str = "the carrier was taken out";

//! What a seed draws before anything happens: carriers, routes, load and faults.

use std::fmt::Write;
use std::time::Duration;

use hikyaku::dispatch;
use hikyaku::dispatch::SheddingConfig;
use hikyaku::journal;
use hikyaku::message::Class;
use hikyaku::message::ReceiptsWanted;
use hikyaku::pdu::InterfaceVersion;
use hikyaku::route::Carrier;
use hikyaku::route::CarrierConfig;
use hikyaku::route::RouteConfig;
use hikyaku::route::Routes;
use hikyaku::session;
use hikyaku::session::Mode;
use hikyaku::session::Timers;
use hikyaku::smsc;
use hikyaku::smsc::FaultKind;
use hikyaku::smsc::IdForm;
use hikyaku::smsc::ReceiptForm;
use hikyaku::time::Rate;
use hikyaku::time::Span;

use super::door::ANSWER_TIMEOUT;
use super::draw::Draws;

/// One simulated world.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) carriers: Vec<CarrierPlan>,
    /// The config as it is at first, and as each reload finds it.
    pub(super) versions: Vec<Version>,
    pub(super) journal: journal::Config,
    pub(super) requests: Vec<Request>,
    pub(super) faults: Vec<(Duration, Fault)>,
    /// How long a sync takes, in microseconds.
    pub(super) sync: [u64; 2],
    /// Whether a crowd of marketing stands in the way of a few otps and nothing breaks.
    pub(super) is_crowd: bool,
    /// From when on the disk only says that it syncs, and when the power fails for good.
    pub(super) lie: Option<(Duration, Duration)>,
    /// How many endpoints follow the feed.
    pub(super) hooks: u64,
    /// Whether the real archive follows too.
    pub(super) has_archive: bool,
    /// The HTTP door that clients come by; the dispatcher is told directly without one.
    pub(super) door: Option<DoorPlan>,
}

/// A config of carriers, routes and limits.
#[derive(Clone, Debug)]
pub(super) struct Version {
    /// The tables of carriers and routes.
    pub(super) tables: String,
    pub(super) dispatch: dispatch::Config,
    /// What it says of each carrier's rate; nothing of one that is not in it.
    pub(super) rates: Vec<Option<u64>>,
}

/// One carrier, and how it is spoken to.
#[derive(Clone, Debug)]
pub(super) struct CarrierPlan {
    pub(super) name: String,
    /// What the config says it takes a second.
    pub(super) rate: u64,
    pub(super) resend_unknown: bool,
    /// How long messages are sent.
    long: &'static str,
    pub(super) model: smsc::Config,
    pub(super) manners: Manners,
    pub(super) binds: Vec<Mode>,
    pub(super) session: session::Config,
    /// The slowest that octets travel, in microseconds.
    pub(super) delay: u64,
}

/// What a carrier does besides what its model does, each in so many of a thousand cases.
#[derive(Clone, Debug, Default)]
pub(super) struct Manners {
    /// Takes a submit and never says so.
    pub(super) unsaid_answers: u64,
    /// Says so only after the response timer.
    pub(super) late_answers: u64,
    /// Refuses a submit with a status drawn from [`super::carrier::REFUSALS`].
    pub(super) refusals: u64,
    /// Sends a receipt twice.
    pub(super) doubled_receipts: u64,
    /// Sends a receipt up to a minute late.
    pub(super) late_receipts: u64,
    /// Sends something beside a receipt that looks like one and cannot be read.
    pub(super) garbled_receipts: u64,
    /// What it really takes a second from each of these times on; the rest is throttled.
    pub(super) caps: Vec<(Duration, u64)>,
}

/// What the HTTP door lets in.
#[derive(Clone, Copy, Debug)]
pub(super) struct DoorPlan {
    /// How many messages a key may hand in a second.
    pub(super) rate: u64,
    /// How many requests may wait for the dispatcher.
    pub(super) queue: usize,
}

/// What a client hands in.
#[derive(Clone, Debug)]
pub(super) struct Request {
    pub(super) at: Duration,
    pub(super) key: u64,
    pub(super) class: Class,
    pub(super) to: String,
    pub(super) text: String,
    pub(super) ttl: Duration,
    /// Whether its time to live begins when it may be sent, and not when it is handed in.
    pub(super) lives_from_send_at: bool,
    pub(super) send_after: Option<Duration>,
    pub(super) is_idempotent: bool,
    pub(super) receipts: ReceiptsWanted,
    pub(super) cancel_after: Option<Duration>,
    /// Whether it comes with the key of the one before and other words.
    pub(super) steals_key: bool,
}

/// What breaks on the gateway's side.
#[derive(Clone, Copy, Debug)]
pub(super) enum Fault {
    /// Every connection to a carrier breaks.
    Cut { carrier: usize },
    /// Nothing comes through to or from a carrier.
    BlackHole { carrier: usize, lasts: Duration },
    /// The gateway unbinds from a carrier, as after a wish of an operator.
    Unbind { carrier: usize },
    /// Syncs take this long.
    SlowDisk { sync: Duration, lasts: Duration },
    /// Writes and syncs fail.
    FailingDisk { lasts: Duration },
    /// There is no room on the disk.
    FullDisk { lasts: Duration },
    /// The process stands still, as a machine does that is moved to another.
    Suspend { lasts: Duration },
    /// The process finds the next version of its config.
    Reload,
    /// The process is killed.
    Kill,
    /// The machine loses its power: so does the disk, all that was not synced.
    PowerLoss,
    /// The machine loses its power within the `n`th operation of the disk from now.
    CrashAtOperation { n: u64 },
    /// The machine loses its power as the archive writes next.
    CrashInArchive,
}

/// When all faults and requests are over.
pub(super) const BUSY: Duration = Duration::from_secs(300);

impl Plan {
    pub(super) fn draw(seed: u64) -> Self {
        let mut draws = Draws::new(seed);
        let is_crowd = draws.per_mille(60);
        let is_calm = is_crowd || draws.per_mille(100);
        let count = if is_crowd { 1 } else { draws.between(1, 3) };
        let mut carriers: Vec<CarrierPlan> =
            (0..count).map(|number| CarrierPlan::draw(&mut draws, number, is_calm)).collect();
        if is_crowd {
            carriers.iter_mut().for_each(CarrierPlan::make_quick);
        }
        let (dispatch, journal) = limits(&mut draws);
        let mut versions = vec![Version::first(&mut draws, &carriers, dispatch)];
        let mut requests =
            if is_crowd { crowd(&mut draws, carriers[0].rate) } else { requests(&mut draws) };
        requests.sort_by_key(|request| request.at);
        let mut faults = if is_calm { Vec::new() } else { faults(&mut draws, carriers.len()) };
        if is_crowd {
            versions[0] = Version::of_crowd(&carriers);
        } else {
            let reloads = draws.pick(&[0, 0, 1, 2, 3]);
            for reload in 0..reloads {
                faults.push((draws.millis(500, 240_000), Fault::Reload));
                // All carriers are there again at last, so that everything can end.
                let is_last = reload + 1 == reloads;
                versions.push(versions[0].next(&mut draws, &carriers, is_last));
            }
        }
        faults.sort_by_key(|(at, _)| *at);
        let sync = match draws.per_mille(200) {
            true if !is_crowd => [5_000, 200_000],
            _ => [100, 8_000],
        };
        let lie = (!is_calm && draws.per_mille(70)).then(|| {
            let from = draws.millis(1_000, 200_000);
            (from, from + draws.millis(10, 60_000))
        });
        let hooks = draws.pick(&[0, 1, 2]);
        let has_archive = lie.is_none() && draws.per_mille(250);
        let door = (has_archive && !is_crowd && draws.per_mille(500))
            .then(|| DoorPlan { rate: draws.pick(&[1, 5, 1_000]), queue: draws.pick(&[4, 64]) });
        if door.is_some() && !is_calm && draws.per_mille(500) {
            // Longer than the door waits for an answer.
            let fault = Fault::SlowDisk { sync: 2 * ANSWER_TIMEOUT, lasts: draws.millis(1, 5_000) };
            faults.push((draws.millis(1_000, 120_000), fault));
            faults.sort_by_key(|(at, _)| *at);
        }
        Self {
            carriers,
            versions,
            journal,
            requests,
            faults,
            sync,
            is_crowd,
            lie,
            hooks,
            has_archive,
            door,
        }
    }
}

impl Version {
    fn first(draws: &mut Draws, carriers: &[CarrierPlan], dispatch: dispatch::Config) -> Self {
        let rates: Vec<_> = carriers.iter().map(|carrier| Some(carrier.rate)).collect();
        Self { tables: tables(draws, carriers, &rates), dispatch, rates }
    }

    /// One carrier and one route without anything that would hold a message up.
    fn of_crowd(carriers: &[CarrierPlan]) -> Self {
        let carrier = &carriers[0];
        let tables = format!(
            "[carriers.{0}]\nrate = \"{1}/s\"\n[[routes]]\nname = \"all\"\ncarriers = [\"{0}\"]",
            carrier.name, carrier.rate,
        );
        let dispatch = dispatch::Config::default();
        Self { tables, dispatch, rates: vec![Some(carrier.rate)] }
    }

    /// What an operator makes of it.
    fn next(&self, draws: &mut Draws, carriers: &[CarrierPlan], is_last: bool) -> Self {
        let mut rates: Vec<_> = carriers
            .iter()
            .map(|carrier| {
                let rate =
                    if draws.per_mille(500) { carrier.rate } else { draws.pick(&[1, 3, 50]) };
                (is_last || draws.per_mille(600)).then_some(rate)
            })
            .collect();
        if rates.iter().all(Option::is_none) {
            rates[0] = Some(carriers[0].rate);
        }
        let (limits, _) = limits(draws);
        // What was forgotten for want of room stays so, and a replay does not know what room there was.
        let dispatch = dispatch::Config {
            reference_hold: self.dispatch.reference_hold,
            orphan_limit: self.dispatch.orphan_limit,
            late_limit: self.dispatch.late_limit,
            repeat_limit: self.dispatch.repeat_limit,
            ..limits
        };
        Self { tables: tables(draws, carriers, &rates), dispatch, rates }
    }

    /// Whether things that were seen may be forgotten for want of room.
    pub(super) fn forgets(&self) -> bool {
        let usual = dispatch::Config::default();
        self.dispatch.orphan_limit < usual.orphan_limit
    }

    /// A fresh reading of it.
    pub(super) fn parts(&self) -> (Vec<Carrier>, Vec<RouteConfig>) {
        #[derive(serde::Deserialize)]
        struct File {
            carriers: std::collections::BTreeMap<String, CarrierConfig>,
            routes: Vec<RouteConfig>,
        }
        let file: File = toml::from_str(&self.tables).unwrap();
        let carrier = |(name, config): (String, CarrierConfig)| {
            Carrier::new(&name, config, InterfaceVersion::V3_4)
        };
        (file.carriers.into_iter().map(carrier).collect(), file.routes)
    }

    pub(super) fn routes(&self) -> Routes {
        let (carriers, routes) = self.parts();
        Routes::new(carriers, routes).unwrap()
    }
}

impl CarrierPlan {
    fn draw(draws: &mut Draws, number: u64, is_calm: bool) -> Self {
        let name = format!("c{number}");
        let rate = draws.pick(&[2, 5, 20, 100]);
        let session = session::Config {
            window: draws.pick(&[1, 2, 5, 10, 50]),
            timers: Timers {
                response: Span::secs(draws.pick(&[5, 10, 20])),
                enquire_link: Span::secs(30),
                enquire_link_response: Span::secs(10),
                ..Timers::default()
            },
            ..session::Config::default()
        };
        let binds = draws.pick(&[
            &[Mode::Trx][..],
            &[Mode::Trx, Mode::Trx],
            &[Mode::Tx, Mode::Rx],
            &[Mode::Trx, Mode::Tx, Mode::Rx],
        ]);
        let model = model(draws, &name, is_calm, session.window);
        let manners = if is_calm { Manners::default() } else { Manners::draw(draws, rate) };
        Self {
            name,
            rate,
            resend_unknown: draws.per_mille(300),
            long: draws.pick(&["udh8", "udh8", "udh16", "sar"]),
            model,
            manners,
            binds: binds.to_vec(),
            session,
            delay: draws.pick(&[200, 5_000, 80_000]),
        }
    }

    /// Nothing but the rate holds a message up.
    fn make_quick(&mut self) {
        self.rate = 10;
        self.delay = 200;
        self.session.window = 50;
        self.model.window = 50;
        self.binds = vec![Mode::Trx];
        self.model.latency = [Span::millis(1), Span::millis(20)];
    }
}

impl Manners {
    fn draw(draws: &mut Draws, rate: u64) -> Self {
        let mut rarely = |most| if draws.per_mille(400) { draws.between(1, most) } else { 0 };
        let [unsaid_answers, late_answers] = [rarely(60), rarely(60)];
        let [refusals, doubled_receipts, late_receipts] = [rarely(150), rarely(300), rarely(300)];
        let garbled_receipts = rarely(100);
        let caps = match draws.below(3) {
            0 => (0..4)
                .map(|part| (BUSY / 4 * part, draws.between(rate.div_ceil(3), rate)))
                .collect(),
            _ => Vec::new(),
        };
        Self {
            unsaid_answers,
            late_answers,
            refusals,
            doubled_receipts,
            late_receipts,
            garbled_receipts,
            caps,
        }
    }
}

fn model(draws: &mut Draws, name: &str, is_calm: bool, window: u16) -> smsc::Config {
    let mut config = smsc::Config {
        name: name.to_owned(),
        latency: [Span::millis(1), Span::millis(draws.pick(&[5, 100, 1_500]))],
        receipt_delay: [Span::millis(50), Span::millis(draws.pick(&[300, 5_000, 40_000]))],
        ids: draws.pick(&[
            IdForm::Decimal,
            IdForm::Hex,
            IdForm::HexThenDecimal,
            IdForm::ZeroPadded,
            IdForm::Uuid,
        ]),
        receipts: draws.pick(&[
            ReceiptForm::Both,
            ReceiptForm::Text,
            ReceiptForm::Tlv,
            ReceiptForm::Terse,
        ]),
        magic_numbers: true,
        max_binds: 4,
        window,
        inactivity: Span::secs(90),
        seed: draws.below(1 << 40),
        ..smsc::Config::default()
    };
    if is_calm {
        return config;
    }
    let mut rarely = |most: u16| if draws.per_mille(400) { draws.below(most.into()) } else { 0 };
    let [loss, order, early] = [rarely(200), rarely(500), rarely(300)];
    let thousandths = |chance: u64| u16::try_from(chance).unwrap();
    config.receipt_loss_per_mille = thousandths(loss);
    config.out_of_order_per_mille = thousandths(order);
    config.early_receipt_per_mille = thousandths(early);
    if draws.per_mille(200) {
        config.rate = Some(Rate::per_second(draws.between(2, 20)));
    }
    if draws.per_mille(200) {
        config.inbound_every = Some(Span::secs(draws.between(5, 60)));
    }
    if draws.per_mille(100) {
        config.window = window.div_ceil(2);
    }
    for _ in 0..draws.below(3) {
        let kind = draws.pick(&[
            FaultKind::Cut,
            FaultKind::Unbind,
            FaultKind::Garbage,
            FaultKind::BlackHole,
            FaultKind::Refuse,
        ]);
        let after = Span(draws.millis(1_000, 250_000));
        config.faults.push(smsc::Fault { after, kind, lasts: Span(draws.millis(500, 40_000)) });
    }
    config.faults.sort_by_key(|fault| fault.after.0);
    config
}

fn tables(draws: &mut Draws, carriers: &[CarrierPlan], rates: &[Option<u64>]) -> String {
    let mut toml = String::new();
    let mut names = Vec::new();
    for (carrier, rate) in carriers.iter().zip(rates) {
        let Some(rate) = rate else { continue };
        names.push(format!("\"{}\"", carrier.name));
        let long = carrier.long;
        let timeout = draws.pick(&["90s", "3m", "5m"]);
        writeln!(
            toml,
            "[carriers.{}]\nrate = \"{}/s\"\nresend_unknown = {}\ncancel_sm = {}\nquery_sm = {}\n\
             text = {{ long = \"{long}\" }}\nreceipts = {{ timeout = \"{timeout}\" }}",
            carrier.name,
            rate,
            carrier.resend_unknown,
            draws.per_mille(500),
            draws.per_mille(500),
        )
        .unwrap();
    }
    if names.len() > 1 && draws.per_mille(500) {
        names.reverse();
    }
    if names.len() > 2 && draws.per_mille(300) {
        let second = names.pop().unwrap();
        let first = names.pop().unwrap();
        names.push(format!(
            "{{ any = [{{ carrier = {first}, weight = 2 }}, {{ carrier = {second} }}] }}"
        ));
    }
    writeln!(toml, "[[routes]]\nname = \"all\"\ncarriers = [{}]", names.join(", ")).unwrap();
    if draws.per_mille(600) {
        let no_bind = draws.pick(&["0s", "5s", "20s", "never"]);
        let no_answer = draws.pick(&["3s", "10s", "never"]);
        let throttles = draws.pick(&[0, 3, 10]);
        writeln!(
            toml,
            "[routes.fallback]\nno_bind = \"{no_bind}\"\nno_answer = \"{no_answer}\"\n\
             throttles = {throttles}"
        )
        .unwrap();
        if draws.per_mille(400) {
            writeln!(toml, "no_delivered = \"{}s\"", draws.between(10, 60)).unwrap();
        }
        if draws.per_mille(400) {
            writeln!(toml, "receipt_states = [\"undeliverable\", \"expired\"]").unwrap();
        }
        if draws.per_mille(200) {
            writeln!(toml, "receipt_errors = [\"001\"]").unwrap();
        }
        if draws.per_mille(300) {
            writeln!(toml, "unknown = \"{}\"", draws.pick(&["fallback", "hold"])).unwrap();
        }
        if draws.per_mille(300) {
            writeln!(toml, "retry = {{ tries = 3, delay = \"2s\", max_delay = \"10s\" }}").unwrap();
        }
    }
    toml
}

fn limits(draws: &mut Draws) -> (dispatch::Config, journal::Config) {
    let mut config = dispatch::Config {
        clean_above_bytes: draws.pick(&[10_000, 40_000, 1 << 30]),
        body_bytes: draws.pick(&[0, 3_000, 64 << 20]),
        reference_hold: Span::secs(draws.pick(&[60, 600])),
        reassembly_timeout: Span::secs(60),
        ..dispatch::Config::default()
    };
    if draws.per_mille(150) {
        config.live_limit = draws.between(5, 30);
    }
    if draws.per_mille(150) {
        let mut few = || draws.between(1, 12);
        config.backlog_limit = few();
        config.idempotency_limit = few();
        config.orphan_limit = few();
        config.late_limit = few();
        config.repeat_limit = few();
        let (transactional, marketing) = draws.pick(&[(95, 80), (70, 40), (100, 100)]);
        config.shedding = SheddingConfig { transactional, marketing };
    }
    let journal = journal::Config {
        segment_bytes: draws.pick(&[4 << 10, 16 << 10, 64 << 10]),
        ..journal::Config::default()
    };
    (config, journal)
}

/// The fates of [`hikyaku::smsc`], and some without one.
const FATES: [&str; 14] = [
    "0001", "0002", "0003", "0004", "0005", "0006", "0007", "0008", "0009", "0010", "5678", "5678",
    "1234", "4321",
];

fn requests(draws: &mut Draws) -> Vec<Request> {
    let count = draws.between(10, 60);
    let width = draws.pick(&[5_000, 60_000, 200_000]);
    let keys = draws.between(1, 3);
    let mut requests: Vec<Request> = (0..count).map(|_| request(draws, width, keys)).collect();
    // Some come as a batch.
    for index in 1..requests.len() {
        if draws.per_mille(200) {
            requests[index].at = requests[index - 1].at;
        }
    }
    requests
}

/// A crowd of two keys that takes most of the time, and now and then an otp.
fn crowd(draws: &mut Draws, rate: u64) -> Vec<Request> {
    let mut all = Vec::new();
    for number in 0..draws.between(15, 30) * rate {
        let mut one = request(draws, 2_000, 2);
        (one.class, one.key) = (Class::Marketing, number % 2);
        all.push(one);
    }
    for number in 0..draws.between(5, 12) {
        let mut one = request(draws, 1, 1);
        one.class = Class::Otp;
        one.at = Duration::from_secs(3 + number) + draws.millis(0, 400);
        all.push(one);
    }
    for one in &mut all {
        let letters: String = one.text.chars().take(60).collect();
        (one.text, one.ttl) = (letters, Duration::from_secs(900));
        one.to = format!("819012{:02}5678", draws.below(40));
        (one.send_after, one.cancel_after, one.steals_key) = (None, None, false);
    }
    all
}

fn request(draws: &mut Draws, width: u64, keys: u64) -> Request {
    let fate = if draws.per_mille(300) { draws.pick(&FATES) } else { "5678" };
    let class = draws.pick(&Class::ALL);
    let segments = if draws.per_mille(600) { 1 } else { draws.between(2, 5) };
    let (letter, units) = draws.pick(&[('a', 152), ('あ', 66)]);
    let units = units * segments - draws.between(0, 40);
    let receipts = match draws.below(10) {
        0 => ReceiptsWanted::None,
        1 => ReceiptsWanted::All,
        _ => ReceiptsWanted::Final,
    };
    Request {
        at: draws.millis(0, width),
        key: draws.below(keys),
        class,
        to: format!("819012{:02}{fate}", draws.below(4)),
        text: std::iter::repeat_n(letter, usize::try_from(units).unwrap()).collect(),
        ttl: Duration::from_secs(draws.pick(&[10, 60, 240, 900])),
        lives_from_send_at: draws.per_mille(800),
        send_after: draws.per_mille(150).then(|| draws.millis(1_000, 90_000)),
        is_idempotent: draws.per_mille(700),
        receipts,
        cancel_after: draws.per_mille(100).then(|| draws.millis(1, 30_000)),
        steals_key: draws.per_mille(20),
    }
}

fn faults(draws: &mut Draws, carriers: usize) -> Vec<(Duration, Fault)> {
    let count = draws.below(8);
    (0..count).map(|_| (draws.millis(500, 240_000), fault(draws, carriers))).collect()
}

fn fault(draws: &mut Draws, carriers: usize) -> Fault {
    let carrier = draws.index(carriers);
    let lasts = draws.millis(200, 45_000);
    match draws.below(15) {
        0 | 1 => Fault::Cut { carrier },
        2 | 3 => Fault::BlackHole { carrier, lasts },
        4 => Fault::Unbind { carrier },
        5 => Fault::SlowDisk { sync: draws.millis(100, 3_000), lasts },
        6 => Fault::FailingDisk { lasts: draws.millis(200, 15_000) },
        7 => Fault::FullDisk { lasts: draws.millis(200, 15_000) },
        8 => Fault::Kill,
        9 | 10 => Fault::PowerLoss,
        11 => Fault::Suspend { lasts: draws.millis(1_000, 90_000) },
        12 | 13 => Fault::CrashInArchive,
        _ => Fault::CrashAtOperation { n: draws.below(40) },
    }
}

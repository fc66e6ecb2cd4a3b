//! Peers that mean harm, against the real process: carriers that flood, claim and dawdle, and ten
//! thousand connections to the API. The others are served, and memory stays bounded.
#![expect(clippy::disallowed_methods, reason = "the figures that are shown need a clock")]

use std::io::Read;
use std::io::Write;
use std::net::TcpListener;
use std::net::TcpStream;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use hikyaku::smsc;
use hikyaku::time::Span;
use serde_json::json;

use crate::process::Carriers;
use crate::process::House;

const BIND_TRANSCEIVER_RESP: u32 = 0x8000_0009;
const ENQUIRE_LINK: u32 = 0x15;
const DELIVER_SM: u32 = 5;
const SUBMIT_SM_RESP: u32 = 0x8000_0004;

/// What a carrier does once it is bound.
#[derive(Clone, Copy, Debug)]
enum Malice {
    /// Random octets without end.
    Garbage,
    /// The head of a PDU of 64 KiB, and its body an octet at a time.
    LongPdu,
    /// The same answer to the bind again and again.
    BindAnswers,
    /// `enquire_link` without end, its answers unread.
    Enquiries,
    /// `deliver_sm` with a body of nothing at all.
    EmptyDeliveries,
    /// `deliver_sm` that is right and says nothing.
    Deliveries,
    /// Answers to requests that were never made.
    Answers,
    /// An octet of an `enquire_link` each tenth of a second.
    Dawdles,
}

const ALL: [Malice; 8] = [
    Malice::Garbage,
    Malice::LongPdu,
    Malice::BindAnswers,
    Malice::Enquiries,
    Malice::EmptyDeliveries,
    Malice::Deliveries,
    Malice::Answers,
    Malice::Dawdles,
];

/// The most that a flood writes in all.
const FLOOD: u64 = 24 << 20;

fn pdu(id: u32, sequence: u32, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(16 + body.len()).unwrap();
    let mut octets = Vec::new();
    for number in [length, id, 0, sequence] {
        octets.extend_from_slice(&number.to_be_bytes());
    }
    octets.extend_from_slice(body);
    octets
}

/// A carrier that takes every bind and then does its worst.
struct Villain {
    port: u16,
    written: Arc<AtomicU64>,
    binds: Arc<AtomicU64>,
}

impl Villain {
    fn open(malice: Malice, stop: Arc<AtomicBool>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (written, binds) = <(Arc<AtomicU64>, Arc<AtomicU64>)>::default();
        let (octets, times) = (Arc::clone(&written), Arc::clone(&binds));
        thread::spawn(move || {
            for stream in listener.incoming() {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                times.fetch_add(1, Ordering::Relaxed);
                // What the gateway does about it is the test; here it only ends.
                let _cut = harm(malice, stream.unwrap(), &octets, &stop);
            }
        });
        Self { port, written, binds }
    }
}

fn harm(
    malice: Malice,
    mut stream: TcpStream,
    written: &AtomicU64,
    stop: &AtomicBool,
) -> std::io::Result<()> {
    let mut head = [0; 16];
    stream.read_exact(&mut head)?;
    let [length, _, _, sequence] = [0, 4, 8, 12]
        .map(|at: usize| u32::from_be_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]));
    let mut body = vec![0; usize::try_from(length).unwrap() - 16];
    stream.read_exact(&mut body)?;
    let bound = pdu(BIND_TRANSCEIVER_RESP, sequence, b"villain\0");
    stream.write_all(&bound)?;
    let block = match malice {
        Malice::Garbage => {
            (0..4_096_u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()).collect()
        }
        Malice::LongPdu => pdu(DELIVER_SM, 1, &[0; 65_520]),
        Malice::BindAnswers => bound.repeat(1_000),
        Malice::Enquiries => pdu(ENQUIRE_LINK, 1, &[]).repeat(1_000),
        Malice::EmptyDeliveries => pdu(DELIVER_SM, 1, &[]).repeat(1_000),
        Malice::Deliveries => pdu(DELIVER_SM, 1, &[0; 17]).repeat(100),
        Malice::Answers => pdu(SUBMIT_SM_RESP, 77, b"x\0").repeat(1_000),
        Malice::Dawdles => pdu(ENQUIRE_LINK, 1, &[]),
    };
    let pause = match malice {
        Malice::LongPdu | Malice::Dawdles => Some(Duration::from_millis(100)),
        // Each of these is a message that the gateway keeps.
        Malice::Deliveries => Some(Duration::from_millis(20)),
        _ => None,
    };
    let piece = if matches!(malice, Malice::LongPdu | Malice::Dawdles) { 1 } else { block.len() };
    while !stop.load(Ordering::Relaxed) && written.load(Ordering::Relaxed) < FLOOD {
        for piece in block.chunks(piece) {
            stream.write_all(piece)?;
            written.fetch_add(piece.len() as u64, Ordering::Relaxed);
            if let Some(pause) = pause {
                thread::sleep(pause);
            }
            if stop.load(Ordering::Relaxed) {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// Octets that the process has in memory, and the processor time that it has used.
fn usage(pid: u32) -> (u64, Duration) {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let rss = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    let rss: u64 = rss.trim().trim_end_matches(" kB").parse().unwrap();
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let (_, rest) = stat.rsplit_once(')').unwrap();
    let ticks = rest.split_whitespace().skip(11).take(2).map(|ticks| ticks.parse::<u64>().unwrap());
    (rss << 10, Duration::from_millis(ticks.sum::<u64>() * 10))
}

fn carrier(name: &str, port: u16) -> String {
    format!(
        "[carriers.{name}]\nhost = \"127.0.0.1\"\nport = {port}\nsystem_id = \"t\"\n\
         rate = \"2000/s\"\n[carriers.{name}.reconnect]\nmin = \"100ms\"\nmax = \"500ms\"\n"
    )
}

/// More than this is no bounded memory: an idle process of a debug build has some 60 MiB.
const MOST_MEMORY: u64 = 512 << 20;

#[test]
fn carriers_that_mean_harm_disturb_no_other_and_cost_little() {
    let carriers = Carriers::new();
    let quick = smsc::Config {
        receipt_delay: [Span::millis(1), Span::millis(50)],
        magic_numbers: false,
        ..smsc::Config::default()
    };
    let (good, port) = carriers.open(quick);
    let stop = Arc::new(AtomicBool::new(false));
    let villains = ALL.map(|malice| Villain::open(malice, Arc::clone(&stop)));
    let mut config = carrier("good", port);
    for (villain, number) in villains.iter().zip(0..) {
        config.push_str(&carrier(&format!("bad{number}"), villain.port));
    }
    config.push_str("[[routes]]\nname = \"all\"\ncarriers = [\"good\"]\n");
    let house = House::new(&config);
    let daemon = house.start();
    let bound = |villain: &Villain| villain.binds.load(Ordering::Relaxed) > 0;
    while !villains.iter().all(bound) {
        thread::yield_now();
    }
    let begun = Instant::now();
    for number in 0..60 {
        let body = json!({"to": format!("+8190{number:08}"), "text": "1234", "class": "otp"});
        let answer = house.client.post("/v1/messages", &body).unwrap();
        assert_eq!(answer.status, 202, "{}", answer.text);
        let message = house.end_of(answer.body["id"].as_str().unwrap());
        assert_eq!(message["state"], "delivered", "{message}");
    }
    let took = begun.elapsed();
    assert_eq!(good.tally().accepted, 60);
    stop.store(true, Ordering::Relaxed);
    let (memory, processor) = usage(daemon.id());
    let octets = villains.each_ref().map(|villain| villain.written.load(Ordering::Relaxed));
    let binds = villains.each_ref().map(|villain| villain.binds.load(Ordering::Relaxed));
    println!(
        "60 messages in {took:?}; {} MiB, {processor:?} of processor; written {octets:?} in \
         {binds:?} binds, in the order {ALL:?}",
        memory >> 20
    );
    assert!(memory < MOST_MEMORY, "{memory} octets in memory");
    assert!(daemon.stop().success());
    assert!(!house.said().contains("panicked"), "{}", house.said());
}

/// Lets this process have many files open; how many.
fn raise_limit() -> u64 {
    let pid = std::process::id().to_string();
    // Where it cannot be raised, the test makes do with what there is.
    let _same = Command::new("prlimit").args(["--pid", &pid, "--nofile=65536:65536"]).output();
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap();
    let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    line.split_whitespace().nth(3).unwrap().parse().unwrap_or(u64::MAX)
}

#[test]
fn ten_thousand_connections_keep_nobody_out() {
    let files = raise_limit();
    let count = usize::try_from(files.saturating_sub(1_000).min(10_000)).unwrap();
    let house = House::new(&carrier("one", crate::process::free_port()).replace(
        "[carriers.one]",
        "[[routes]]\nname = \"all\"\ncarriers = [\"one\"]\n[carriers.one]",
    ));
    let daemon = house.start();
    let (before, _) = usage(daemon.id());
    let head = "POST /v1/messages HTTP/1.1\r\nhost: gw\r\nx-slow: ";
    let mut streams = Vec::new();
    for number in 0..count {
        let Ok(mut stream) = TcpStream::connect(("127.0.0.1", house.client.port)) else { break };
        // A third says nothing, a third half of a head, a third a head and half of a body.
        let said = match number % 3 {
            0 => String::new(),
            1 => head.to_owned(),
            _ => format!(
                "POST /v1/messages HTTP/1.1\r\nhost: gw\r\nauthorization: Bearer {}\r\n\
                 content-type: application/json\r\ncontent-length: 60000\r\n\r\n{{",
                house.client.token
            ),
        };
        // It may be cut to make room for others.
        let _cut = stream.write_all(said.as_bytes());
        streams.push(stream);
    }
    assert!(streams.len() >= count, "{} of {count} connected", streams.len());
    let mut took = Vec::new();
    for number in 0..200 {
        let body = json!({"to": format!("+8190{number:08}"), "text": "1234"});
        let begun = Instant::now();
        let answer = house.client.post("/v1/messages", &body).unwrap();
        took.push(begun.elapsed());
        assert_eq!(answer.status, 202, "{}", answer.text);
    }
    let (memory, processor) = usage(daemon.id());
    took.sort();
    println!(
        "{count} connections: p50 {:?}, worst {:?}; {} MiB before, {} MiB with them, {processor:?} \
         of processor",
        took[took.len() / 2],
        took[took.len() - 1],
        before >> 20,
        memory >> 20
    );
    assert!(memory < MOST_MEMORY, "{memory} octets in memory");
    drop(streams);
    assert!(daemon.stop().success());
    assert!(!house.said().contains("panicked"), "{}", house.said());
}

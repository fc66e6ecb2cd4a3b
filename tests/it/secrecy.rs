//! Numbers, texts and secrets are in no octet that the process writes.
//!
//! A real process at the level `trace` is given unusual numbers and texts through every door, dies
//! and comes back; then every file of its data, its log, its metrics and what it says when it is
//! asked wrongly are searched for them, in every spelling in which SMPP, HTTP and people write them.

use std::collections::BTreeMap;
use std::io::Read;
use std::io::Write;
use std::net::TcpListener;
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hikyaku::api::NewKey;
use serde_json::json;
use tempfile::TempDir;

use crate::http::Client;
use crate::process::Daemon;
use crate::process::free_port;

/// Subscribers' numbers without their country's 81.
const NUMBERS: [&str; 8] = [
    "8073915506",
    "8073915517",
    "8073915528",
    "8073915539",
    "8073915540",
    "8073915551",
    "8073915562",
    "8073915573",
];

const TEXTS: [&str; 8] = [
    "a kestrel hovers 7731",
    "a bittern booms 8842",
    "a wryneck hides 9953",
    "a dotterel runs 1164",
    "a garganey dabbles 2275",
    "秘密の鷹は七七三一",
    "an avocet wades 3386",
    "a hoopoe probes 4497",
];

const PASSWORD: &str = "pwhobby7";

/// What is written in the open: that it is found shows that the search can find.
const OPEN: &str = "reference-of-a-redshank";

/// The spellings of some words, by name.
fn spellings(words: &str) -> BTreeMap<String, Vec<u8>> {
    let utf_16: Vec<u8> = words.encode_utf16().flat_map(u16::to_be_bytes).collect();
    let mut found = BTreeMap::new();
    for (name, octets) in [("UTF-8", words.as_bytes().to_vec()), ("UTF-16", utf_16)] {
        let hex = |upper: bool| {
            let digit =
                |octet: &u8| if upper { format!("{octet:02X}") } else { format!("{octet:02x}") };
            octets.iter().map(digit).collect::<String>().into_bytes()
        };
        found.insert(format!("hex of {name}"), hex(false));
        found.insert(format!("upper-case hex of {name}"), hex(true));
        let decimal: Vec<_> = octets.iter().map(u8::to_string).collect();
        found.insert(format!("a printed list of {name}"), decimal.join(", ").into_bytes());
        for lead in 0..3 {
            // The first and the last characters also depend on what stands around.
            let text = STANDARD.encode([vec![0; lead], octets.clone()].concat());
            found.insert(
                format!("base64 of {name}, {lead}"),
                text.as_bytes()[4..text.len() - 4].to_vec(),
            );
        }
        found.insert(name.to_owned(), octets);
    }
    let escaped: String = words.encode_utf16().map(|unit| format!("\\u{unit:04x}")).collect();
    found.insert("JSON escapes".to_owned(), escaped.into_bytes());
    if words.is_ascii() {
        for lead in 0..8 {
            let packed = septets(words.as_bytes(), lead);
            found.insert(format!("septets, {lead}"), packed[1..packed.len() - 1].to_vec());
        }
    }
    if words.bytes().all(|octet| octet.is_ascii_digit()) {
        for lead in ["", "0"] {
            let digits = [lead, words].concat().into_bytes();
            let pairs = digits.chunks_exact(2);
            let swapped = pairs.map(|pair| (pair[1] - b'0') << 4 | (pair[0] - b'0')).collect();
            found.insert(format!("semi-octets {lead}"), swapped);
        }
        let (head, tail) = words.split_at(2);
        let (middle, tail) = tail.split_at(4);
        found.insert("with hyphens".to_owned(), format!("{head}-{middle}-{tail}").into_bytes());
        found.insert("with spaces".to_owned(), format!("{head} {middle} {tail}").into_bytes());
    }
    found
}

/// Seven bits a character, as GSM packs them, behind `lead` bits of something else.
fn septets(words: &[u8], lead: usize) -> Vec<u8> {
    let mut packed = vec![0_u8; (words.len() * 7 + lead).div_ceil(8)];
    for (number, octet) in words.iter().enumerate() {
        for bit in 0..7 {
            let place = lead + number * 7 + bit;
            packed[place / 8] |= (octet >> bit & 1) << (place % 8);
        }
    }
    packed
}

/// Where one of the `secrets` stands in `octets`, if it does.
pub(crate) fn leak(octets: &[u8], secrets: &[String]) -> Option<String> {
    for secret in secrets {
        for (spelling, wanted) in spellings(secret) {
            if let Some(at) = octets.windows(wanted.len()).position(|found| found == wanted) {
                let from = at.saturating_sub(60);
                let around = String::from_utf8_lossy(&octets[from..(at + 60).min(octets.len())]);
                return Some(format!("{secret:?} as {spelling} at octet {at}: {around:?}"));
            }
        }
    }
    None
}

#[test]
fn the_search_finds_every_spelling() {
    for words in [NUMBERS[0], TEXTS[0], TEXTS[5]] {
        let secrets = [words.to_owned()];
        for (name, octets) in spellings(words) {
            let hay = [b"before".as_slice(), &octets, b"behind"].concat();
            assert!(leak(&hay, &secrets).is_some(), "{words} as {name}");
        }
        assert_eq!(leak(b"nothing of that kind", &secrets), None);
    }
    assert_eq!(septets(b"hellohello", 0), b"\xe8\x32\x9b\xfd\x46\x97\xd9\xec\x37");
}

/// A carrier that answers everything, sends receipts with the text in them, messages of handsets,
/// and a receipt for nothing.
fn carrier() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let next = Arc::new(AtomicU32::new(1));
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let next = Arc::clone(&next);
            std::thread::spawn(move || talk(stream.unwrap(), &next));
        }
    });
    port
}

fn pdu(id: u32, sequence: u32, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 16).unwrap();
    let head = [length, id, 0, sequence].map(u32::to_be_bytes).concat();
    [head, body.to_vec()].concat()
}

fn deliver(sequence: u32, source: &str, esm_class: u8, coding: u8, text: &[u8]) -> Vec<u8> {
    let head = [b"\0\x01\x01".as_slice(), source.as_bytes(), b"\0\x01\x010005123456\0"].concat();
    let fields = [esm_class, 0, 0, 0, 0, 0, 0, coding, 0, u8::try_from(text.len()).unwrap()];
    pdu(5, sequence, &[head.as_slice(), &fields, text].concat())
}

fn talk(mut stream: TcpStream, next: &AtomicU32) -> Option<()> {
    loop {
        let mut head = [0; 16];
        stream.read_exact(&mut head).ok()?;
        let field = |at: usize| u32::from_be_bytes(head[at..at + 4].try_into().unwrap());
        let mut body = vec![0; field(0) as usize - 16];
        stream.read_exact(&mut body).ok()?;
        let answer = field(4) | 0x8000_0000;
        let number = next.fetch_add(1, Ordering::Relaxed);
        let octets = match field(4) {
            1 | 2 | 9 => {
                let text: Vec<u8> = TEXTS[4].encode_utf16().flat_map(u16::to_be_bytes).collect();
                let receipt = receipt("nobody", TEXTS[6]);
                [
                    pdu(answer, field(12), b"carrier\0"),
                    deliver(900_001, &format!("81{}", NUMBERS[4]), 0, 8, &text),
                    deliver(900_002, &format!("0{}", NUMBERS[4]), 0, 1, TEXTS[6].as_bytes()),
                    deliver(900_003, &format!("81{}", NUMBERS[5]), 4, 1, receipt.as_bytes()),
                ]
                .concat()
            }
            4 => {
                let id = format!("ID{number}");
                let receipt = receipt(&id, TEXTS[number as usize % 3]);
                let source = format!("81{}", NUMBERS[number as usize % 3]);
                [
                    pdu(answer, field(12), format!("{id}\0").as_bytes()),
                    deliver(number, &source, 4, 1, receipt.as_bytes()),
                ]
                .concat()
            }
            0x15 | 6 => pdu(answer, field(12), &[]),
            _ => continue,
        };
        stream.write_all(&octets).ok()?;
    }
}

fn receipt(id: &str, text: &str) -> String {
    format!(
        "id:{id} sub:001 dlvrd:001 submit date:2611221200 done date:2611221201 stat:DELIVRD \
         err:000 text:{}",
        &text[..20.min(text.len())]
    )
}

/// An endpoint that takes nothing, so that everything for it is parked.
pub(crate) fn refuser() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut octets = [0; 16_384];
            let _read = stream.read(&mut octets);
            let _gone = stream
                .write_all(b"HTTP/1.1 500 No\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
        }
    });
    port
}

struct House {
    dir: TempDir,
    client: Client,
}

impl House {
    fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let key = NewKey::generate().unwrap();
        let (port, carrier) = (free_port(), carrier());
        std::fs::write(dir.path().join("password"), PASSWORD).unwrap();
        let config = format!(
            "data_dir = {:?}\ndrain = \"2s\"\n[log]\nlevel = \"trace\"\nformat = \"json\"\n\
             [api]\nlisten = \"127.0.0.1:{port}\"\n[api.clients.shop]\nkeys = [\"{}\"]\n\
             scopes = [\"messages:write\", \"messages:read\", \"messages:read_content\", \
             \"webhooks\"]\n[archive]\nstore_text = true\nwrite_live_after = \"100ms\"\n\
             flush_every = \"100ms\"\n[archive.inbound_owners]\n\"*\" = \"shop\"\n\
             [dispatch]\norphan_hold = \"2s\"\n\
             [webhooks]\nnetworks = [\"127.0.0.0/8\"]\n[carriers.one]\nhost = \"127.0.0.1\"\n\
             port = {carrier}\nsystem_id = \"t\"\npassword_file = {:?}\nrate = \"1000/s\"\n\
             [[routes]]\nname = \"all\"\ncarriers = [\"one\"]\n",
            dir.path().join("data"),
            key.hash,
            dir.path().join("password"),
        );
        std::fs::write(dir.path().join("hikyaku.toml"), config).unwrap();
        Self { dir, client: Client { port, token: key.token } }
    }

    fn start(&self) -> Daemon {
        let log = self.dir.path().join("log");
        Daemon::start(&self.dir.path().join("hikyaku.toml"), &log, &self.client)
    }

    fn post(&self, path: &str, body: &serde_json::Value) -> crate::http::Answer {
        self.client.post(path, body).unwrap()
    }

    /// Hands everything in that there is a door for; gives the ids of what was taken.
    fn hand_in(&self) -> Vec<String> {
        let to = |number: usize| format!("+81{}", NUMBERS[number]);
        let header = format!("idempotency-key: {}\r\n", NUMBERS[7]);
        let first = json!({"to": to(0), "text": TEXTS[0], "client_ref": OPEN, "from": to(7)});
        let first = self.client.call_with("POST", "/v1/messages", &header, Some(&first)).unwrap();
        let spoken = json!({"to": format!("0{}", NUMBERS[2]), "text": TEXTS[5]});
        let spoken = self.post("/v1/messages", &spoken);
        let later = json!({"to": to(1), "text": TEXTS[1], "send_at": "2036-01-01T00:00:00Z",
                           "ttl": "1h"});
        let batch = json!({"messages": [
            {"to": to(1), "text": TEXTS[1]}, {"to": to(2), "text": TEXTS[2]}, later,
            {"to": "12", "text": TEXTS[3]},
        ]});
        let batch = self.post("/v1/messages/batch", &batch);
        let taken = [first, spoken];
        assert!(taken.iter().all(|answer| answer.status == 202), "{taken:?}");
        let items = batch.body["results"].as_array().unwrap();
        let ids = taken.iter().map(|answer| &answer.body["id"]);
        let ids = ids.chain(items.iter().map(|item| &item["id"]));
        let ids: Vec<_> = ids.filter_map(|id| id.as_str()).map(ToOwned::to_owned).collect();
        assert!(ids.len() >= 4, "{}", batch.text);
        self.ask_wrongly();
        ids
    }

    /// Requests that are refused, with numbers and texts in every part.
    fn ask_wrongly(&self) {
        let (number, text) = (NUMBERS[3], TEXTS[3]);
        for body in [
            json!({"to": number, "text": text, "no_such_field": text}),
            json!({"to": [number], "text": {"text": text}}),
            json!({"to": text, "text": number}),
            json!({"to": format!("+81{number}"), "text": text, "class": text}),
            json!({"to": format!("+81{number}"), "text": text.repeat(2_000)}),
            json!(text),
        ] {
            let answer = self.post("/v1/messages", &body);
            assert!((400..500).contains(&answer.status), "{} {}", answer.status, answer.text);
        }
        self.post("/v1/messages/preview", &json!({"to": format!("+81{number}"), "text": text}));
        self.post(&format!("/v1/{number}"), &json!({}));
        for path in [
            format!("/v1/messages?to=%2B81{number}"),
            format!("/v1/messages?to={number}&{number}=1"),
            format!("/v1/messages/{number}"),
            format!("/v1/events?after={number}"),
        ] {
            self.client.get(&path).unwrap();
        }
        let stranger = Client { token: format!("hk_{number}"), ..self.client.clone() };
        assert_eq!(stranger.get("/v1/messages").unwrap().status, 401);
        let mut stream = TcpStream::connect(("127.0.0.1", self.client.port)).unwrap();
        let broken = format!(
            "POST /v1/messages HTTP/1.1\r\nhost: test\r\nauthorization: Bearer {}\r\n\
             content-type: application/json\r\ncontent-length: 80\r\n\r\n\
             {{\"to\": \"+81{number}\", \"text\": \"{text}\" nonsense {number}",
            self.client.token
        );
        stream.write_all(broken.as_bytes()).unwrap();
    }

    /// Every file below the data folder, and the log, with its octets.
    fn written(&self) -> Vec<(String, Vec<u8>)> {
        fn visit(dir: &Path, found: &mut Vec<(String, Vec<u8>)>) {
            for entry in std::fs::read_dir(dir).unwrap() {
                let path = entry.unwrap().path();
                match path.is_dir() {
                    true => visit(&path, found),
                    false => {
                        found.push((path.display().to_string(), std::fs::read(&path).unwrap()));
                    }
                }
            }
        }
        let log = self.dir.path().join("log");
        let mut found = vec![(log.display().to_string(), std::fs::read(&log).unwrap())];
        visit(&self.dir.path().join("data"), &mut found);
        found
    }
}

#[test]
fn nothing_that_the_process_writes_has_a_number_a_text_or_a_secret() {
    let house = House::new();
    let daemon = house.start();
    let hook = json!({"url": format!("http://127.0.0.1:{}/{}", refuser(), NUMBERS[6])});
    let hook = house.post("/v1/webhooks", &hook);
    assert_eq!(hook.status, 201, "{}", hook.text);
    let ids = house.hand_in();
    let is_delivered = |id: &str| {
        let found = house.client.get(&format!("/v1/messages/{id}?wait=5s")).unwrap();
        assert!(found.text.contains("text"), "{}", found.text);
        found.body["state"] == "delivered"
    };
    while ids.iter().filter(|id| is_delivered(id)).count() < 4 {}
    let inbound = house.client.get("/v1/inbound").unwrap();
    assert!(inbound.text.contains(TEXTS[4]), "{}", inbound.text);
    let mut written = Vec::new();
    let said = |written: &mut Vec<(String, Vec<u8>)>| {
        let metrics = house.client.get("/metrics").map(|answer| answer.text).unwrap_or_default();
        written.push(("metrics".to_owned(), metrics.into_bytes()));
        written.extend(house.written());
    };
    said(&mut written);
    daemon.kill();
    written.extend(house.written());
    let daemon = house.start();
    house.hand_in();
    said(&mut written);
    assert!(daemon.stop().success());
    written.extend(house.written());

    let all = |what: &str| written.iter().filter(|(name, _)| name.contains(what)).count();
    for kind in ["journal/", "archive/", "webhooks.db", "keys/", "log", "metrics"] {
        assert!(all(kind) > 0, "nothing of {kind} was searched");
    }
    let open = |name: &str, words: &str| {
        let files = written.iter().filter(|(found, _)| found.contains(name));
        files
            .into_iter()
            .any(|(_, octets)| octets.windows(words.len()).any(|found| found == words.as_bytes()))
    };
    assert!(open("archive/", OPEN), "the search finds what is there");
    assert!(open("log", "TRACE"), "the log is as long as it can be");

    let secret = hook.body["secret"].as_str().unwrap().trim_start_matches("whsec_").to_owned();
    let token = house.client.token.clone();
    let secrets: Vec<String> = NUMBERS
        .iter()
        .chain(&TEXTS)
        .map(|words| (*words).to_owned())
        .chain([PASSWORD.to_owned(), secret, token])
        .collect();
    for (name, octets) in &written {
        assert_eq!(leak(octets, &secrets), None, "in {name}");
    }
}

//! Erasure in the real process: ten days later nobody can read what has ended, whichever door is
//! asked and whatever files are kept, and what still lives goes out.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::Path;
use std::process::Command;

use hikyaku::pdu::Address;
use hikyaku::pdu::DeliverSm;
use hikyaku::pdu::Npi;
use hikyaku::pdu::ShortMessage;
use hikyaku::pdu::Ton;
use hikyaku::smsc;
use hikyaku::smsc::Carrier;
use serde_json::json;

use crate::process::Carriers;
use crate::process::Daemon;
use crate::process::EXE;
use crate::process::House;
use crate::process::one_carrier;
use crate::process::quick;
use crate::secrecy::leak;
use crate::secrecy::refuser;
use crate::wrong_clock::WrongClock;

/// A message that ends before its day is over, as number and text.
const ENDED: (&str, &str) = ("818073915506", "a kestrel hovers 7731");

/// One that is to be sent later.
const LIVE: (&str, &str) = ("818073915517", "a bittern booms 8842");

/// One of a handset.
const INBOUND: (&str, &str) = ("818073915528", "a wryneck hides 9953");

const DAY: i64 = 86_400;

/// The house, the machine's clock, and the ids of what was handed in.
struct Scene {
    house: House,
    clock: WrongClock,
    ids: Vec<String>,
    webhook: String,
}

impl Scene {
    fn new(carrier: u16) -> Self {
        let rest = "[seal]\nkeep = \"1d\"\n[archive]\nstore_text = true\nflush_every = \"100ms\"\n\
                    write_live_after = \"100ms\"\n[archive.inbound_owners]\n\"*\" = \"test\"\n\
                    [webhooks]\nnetworks = [\"127.0.0.0/8\"]\n";
        let house = House::new(&(rest.to_owned() + &one_carrier(carrier)));
        Self { house, clock: WrongClock::new(), ids: Vec::new(), webhook: String::new() }
    }

    /// Starts the process with a clock that is so many seconds off.
    fn start(&self, shift: i64) -> Daemon {
        let mut run = Command::new(EXE);
        self.clock.shift(&mut run, shift);
        self.house.start_by(run)
    }

    /// Hands in what ends, what lives for another hour from now on, and what a handset writes.
    fn hand_in(&mut self, carrier: &Carrier) {
        let hook = json!({"url": format!("http://127.0.0.1:{}/", refuser())});
        let hook = self.house.client.post("/v1/webhooks", &hook).unwrap();
        self.webhook = hook.body["id"].as_str().unwrap().to_owned();
        let later = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(1);
        let ended = json!({"to": format!("+{}", ENDED.0), "text": ENDED.1});
        let live = json!({"to": format!("+{}", LIVE.0), "text": LIVE.1,
                          "send_at": later.to_string(), "ttl": "1d"});
        for message in [ended, live] {
            let answer = self.house.client.post("/v1/messages", &message).unwrap();
            assert_eq!(answer.status, 202, "{}", answer.text);
            self.ids.push(answer.body["id"].as_str().unwrap().to_owned());
        }
        let number = |digits| Address::new(Ton::INTERNATIONAL, Npi::ISDN, digits).unwrap();
        carrier.receive(DeliverSm {
            source: number(INBOUND.0),
            destination: number("819012345678"),
            short_message: ShortMessage::new(INBOUND.1.as_bytes()).unwrap(),
            ..DeliverSm::default()
        });
        assert_eq!(self.house.end_of(&self.ids[0])["state"], "delivered");
    }

    /// Everything that a client with all scopes can be told.
    fn told(&self) -> String {
        let mut all = String::new();
        let mut ask = |path: String| {
            let answer = self.house.client.get(&path).unwrap();
            assert_eq!(answer.status, 200, "{path}: {}", answer.text);
            all += &answer.text;
        };
        for id in &self.ids {
            ask(format!("/v1/messages/{id}"));
            ask(format!("/v1/messages/{id}/timeline"));
        }
        ask("/v1/messages".to_owned());
        for (number, _) in [ENDED, LIVE] {
            ask(format!("/v1/messages?to=%2B{number}"));
        }
        ask("/v1/events?limit=200".to_owned());
        ask("/v1/inbound".to_owned());
        ask(format!("/v1/webhooks/{}/deliveries", self.webhook));
        all
    }

    /// Whether all doors together tell a message's number and its text.
    fn tells(&self, (number, text): (&str, &str)) -> [bool; 2] {
        let all = self.told();
        [all.contains(number), all.contains(text)]
    }

    fn files(&self, of: &str) -> BTreeSet<OsString> {
        let entries = std::fs::read_dir(self.house.data().join(of)).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name());
        names.filter(|name| name != "lock").collect()
    }
}

fn until(mut is_so: impl FnMut() -> bool) {
    while !is_so() {
        std::thread::yield_now();
    }
}

/// All octets below a directory, by file.
fn octets(dir: &Path, all: &mut Vec<(String, Vec<u8>)>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            octets(&path, all);
        } else {
            all.push((path.display().to_string(), std::fs::read(&path).unwrap()));
        }
    }
}

#[test]
fn what_has_ended_is_read_by_nobody_once_its_day_is_erased_and_what_lives_goes_out() {
    let carriers = Carriers::new();
    let (carrier, port) = carriers.open(quick());
    let mut scene = Scene::new(port);

    let daemon = scene.start(-10 * DAY);
    scene.hand_in(&carrier);
    until(|| scene.tells(INBOUND) == [true; 2]);
    for known in [ENDED, LIVE, INBOUND] {
        assert_eq!(scene.tells(known), [true; 2], "{known:?} is told while its key is there");
    }
    daemon.kill();
    let (keys, journal) = (scene.files("keys"), scene.files("journal"));
    let copy = tempfile::tempdir().unwrap();
    let copied = Command::new("cp").arg("-r").arg(scene.house.data()).arg(copy.path()).status();
    assert!(copied.unwrap().success());

    // The journal is written again first; the key goes with the next look.
    let daemon = scene.start(0);
    until(|| scene.files("journal").is_disjoint(&journal));
    daemon.kill();
    let daemon = scene.start(0);
    until(|| keys.difference(&scene.files("keys")).count() > 0);
    until(|| scene.house.said().contains("erased keys"));
    let no_one_is_told = |scene: &Scene| {
        for erased in [ENDED, INBOUND] {
            assert_eq!(scene.tells(erased), [false; 2], "{erased:?} is told after its erasure");
        }
    };
    no_one_is_told(&scene);
    assert_eq!(scene.tells(LIVE), [true; 2], "what lives has a younger key");
    let ended = scene.house.client.get(&format!("/v1/messages/{}", scene.ids[0])).unwrap();
    assert_eq!(ended.body["state"], "delivered", "{}", ended.text);
    daemon.kill();

    // Two hours later what lived is due.
    let daemon = scene.start(2 * 3_600);
    assert_eq!(scene.house.end_of(&scene.ids[1])["state"], "delivered");
    let sent = carrier.seen();
    let text = |seen: &smsc::Seen| crate::process::text(seen.submit.short_message.as_bytes());
    let texts: Vec<_> = sent.iter().map(text).collect();
    assert_eq!(texts, [ENDED.1, LIVE.1], "each once, and whole");
    no_one_is_told(&scene);
    assert!(daemon.stop().success());

    let mut all = Vec::new();
    octets(&scene.house.data(), &mut all);
    octets(copy.path(), &mut all);
    let secrets = [ENDED, LIVE, INBOUND].map(|(number, text)| [&number[2..], text]);
    let secrets: Vec<_> = secrets.iter().flatten().map(ToString::to_string).collect();
    for (name, octets) in &all {
        assert_eq!(leak(octets, &secrets), None, "in {name}");
    }

    refuses_old_files(&scene, &copy.path().join("data"));
}

/// Who has kept the files of that day, and has the keys that are left, is told which one is missing.
fn refuses_old_files(scene: &Scene, old: &Path) {
    let data = scene.house.data();
    std::fs::remove_dir_all(old.join("keys")).unwrap();
    std::fs::rename(data.join("keys"), old.join("keys")).unwrap();
    std::fs::remove_dir_all(&data).unwrap();
    let back = Command::new("cp").arg("-r").arg(old).arg(&data).status();
    assert!(back.unwrap().success());
    let mut run = Command::new(EXE);
    let run = run.arg("run").arg("-c").arg(scene.house.config()).output().unwrap();
    let said = crate::process::text(&run.stderr);
    assert_eq!(run.status.code(), Some(1), "{said}");
    assert!(said.contains("the records are sealed under the key of"), "{said}");
}

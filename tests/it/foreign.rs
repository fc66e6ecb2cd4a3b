//! Foreign SMPP stacks: the npm package `smpp` as an SMSC for the gateway, the PyPI package
//! `smpplib` as an ESME of the simulated carrier.
//!
//! `tests/run` installs them and says where in `HIKYAKU_PEERS`. Without that there is nobody to
//! talk to, and these tests say so and pass.

use std::io::BufRead;
use std::io::BufReader;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;

use hikyaku::smsc;
use hikyaku::smsc::IdForm;
use hikyaku::smsc::ReceiptForm;
use serde_json::Value;
use serde_json::json;

use crate::process::Carriers;
use crate::process::House;

#[expect(clippy::print_stdout, reason = "who runs the tests is to know what was not tried")]
pub(crate) fn peers() -> Option<PathBuf> {
    let peers = std::env::var_os("HIKYAKU_PEERS").map(PathBuf::from);
    if peers.is_none() {
        println!("HIKYAKU_PEERS is not set: no foreign peer was asked; tests/run sets it");
    }
    peers
}

pub(crate) fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers").join(name)
}

/// A foreign program that tells one JSON object a line.
struct Peer {
    child: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Peer {
    fn start(command: &mut Command) -> Self {
        let command = command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    /// What it tells next of this kind.
    fn told(&mut self, event: &str) -> Value {
        for line in self.lines.by_ref() {
            let told: Value = serde_json::from_str(&line.unwrap()).unwrap();
            assert_ne!(told["event"], "error", "{told}");
            if told["event"] == event {
                return told;
            }
        }
        panic!("the peer ended before it told of {event:?}");
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}

fn node_smsc(peers: &Path) -> (Peer, u64) {
    let mut peer = Peer::start(
        Command::new("node").arg(script("smsc.js")).env("NODE_PATH", peers.join("node_modules")),
    );
    let port = peer.told("listening")["port"].as_u64().unwrap();
    (peer, port)
}

fn node_house(port: u64, mode: &str) -> House {
    House::new(&format!(
        "[carriers.node]\nhost = \"127.0.0.1\"\nport = {port}\nmode = \"{mode}\"\n\
         system_id = \"hikyaku\"\npassword_file = {:?}\nrate = \"100/s\"\n\
         [[routes]]\nname = \"all\"\ncarriers = [\"node\"]\n",
        script("password")
    ))
}

#[test]
fn node_smpp_as_smsc_takes_a_long_text_whole_and_its_receipts_match() {
    let Some(peers) = peers() else { return };
    let (mut node, port) = node_smsc(&peers);
    let house = node_house(port, "trx");
    let daemon = house.start();
    let text: String = (0..100).map(|n| ["飛", "脚", "𠮷", "🗾"][n % 4]).collect();
    let body = json!({"to": "+819012345678", "from": "0005123456", "text": text});
    let answer = house.client.post("/v1/messages", &body).unwrap();
    assert_eq!(answer.status, 202, "{}", answer.text);
    let segments = answer.body["segments"].as_u64().unwrap();
    assert_eq!(segments, 3);
    let mut whole = String::new();
    for number in 1..=segments {
        let told = node.told("submit");
        assert_eq!(told["data_coding"], 8, "{told}");
        assert_eq!(told["destination"], "819012345678");
        let udh = told["udh"].as_str().unwrap();
        assert!(udh.ends_with(&format!("{segments:02x}{number:02x}")), "{told}");
        whole.push_str(told["text"].as_str().unwrap());
    }
    assert_eq!(whole, text);
    let message = house.end_of(answer.body["id"].as_str().unwrap());
    assert_eq!(message["state"], "delivered", "the ids are hexadecimal here and decimal there");
    assert_eq!(node.told("receipt_answer")["status"], 0);
    assert!(daemon.stop().success());
    node.told("unbind");
}

#[test]
fn node_smpp_as_smsc_refuses_a_number_and_the_message_says_so() {
    let Some(peers) = peers() else { return };
    let (_node, port) = node_smsc(&peers);
    let house = node_house(port, "tx+rx");
    let _daemon = house.start();
    let body = json!({"to": "+819012340001", "text": "hello"});
    let answer = house.client.post("/v1/messages", &body).unwrap();
    let message = house.end_of(answer.body["id"].as_str().unwrap());
    assert_eq!(message["state"], "rejected", "{message}");
    assert_eq!(message["reason"], "invalid_destination", "{message}");
}

#[test]
fn smpplib_as_esme_gets_every_receipt_of_the_simulated_carrier() {
    let Some(peers) = peers() else { return };
    for (ids, receipts) in [
        (IdForm::Decimal, ReceiptForm::Both),
        (IdForm::Uuid, ReceiptForm::Tlv),
        (IdForm::ZeroPadded, ReceiptForm::Both),
    ] {
        let carriers = Carriers::new();
        let (carrier, port) =
            carriers.open(smsc::Config { ids, receipts, ..smsc::Config::default() });
        let text = "飛脚便り".repeat(40);
        let mut esme = Peer::start(
            Command::new("python3")
                .arg(script("esme.py"))
                .args([&port.to_string(), "819012345678", &text])
                .env("PYTHONPATH", peers.join("python")),
        );
        assert_eq!(esme.told("done")["parts"], 3);
        assert_eq!(carrier.tally().accepted, 3);
        assert_eq!(carrier.tally().receipts, 3);
    }
}

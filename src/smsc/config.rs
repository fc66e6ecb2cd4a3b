//! What a simulated carrier is like: its limits, its manners and its faults.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;
use serde::Serialize;

use crate::time::Rate;
use crate::time::Span;

/// One simulated carrier.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// What it calls itself in bind responses and logs.
    pub name: String,
    /// The only `system_id` that may bind; empty for any.
    pub system_id: String,
    /// The only password that may bind; empty for any.
    pub password: String,
    /// The SMPP version it speaks: `0x33`, `0x34` or `0x50`.
    pub version: u8,
    /// How many sessions may be bound at once; more are refused with `ESME_RALYBND`.
    pub max_binds: u16,
    /// How many requests one session may leave unanswered; more are answered `ESME_RMSGQFUL`.
    pub window: u16,
    /// Submits a second over all sessions; more are answered `ESME_RTHROTTLED`. Absent: no cap.
    pub rate: Option<Rate>,
    /// From a submit to its answer: drawn evenly between the two.
    pub latency: [Span; 2],
    /// From the answer to the receipt: drawn evenly between the two.
    pub receipt_delay: [Span; 2],
    /// How many receipts of a thousand get lost.
    pub receipt_loss_per_mille: u16,
    /// How many answers of a thousand come out of their turn, up to a second later.
    pub out_of_order_per_mille: u16,
    /// How many receipts of a thousand come before the answer.
    pub early_receipt_per_mille: u16,
    /// How message ids are written.
    pub ids: IdForm,
    /// How receipts are written.
    pub receipts: ReceiptForm,
    /// Whether the last four digits of a destination choose what happens to it.
    pub magic_numbers: bool,
    /// How often a handset sends a message to us. Absent or `0s`: never.
    pub inbound_every: Option<Span>,
    /// How many receipts and messages of handsets may be on their way at once, besides those that
    /// sessions have; more are lost.
    pub max_waiting: usize,
    /// How many messages are remembered for `query_sm` and `cancel_sm`, and how many numbers that
    /// were throttled by their last digits.
    pub max_remembered: usize,
    /// What breaks, and when, counted from the start.
    pub faults: Vec<Fault>,
    /// How many octets one write carries; 0 for as many as there are.
    pub write_octets: usize,
    /// How long a session may be silent before it is closed.
    pub inactivity: Span,
    /// The certificate chain for TLS, PEM; with `tls_key`.
    pub tls_cert: Option<PathBuf>,
    /// The private key for TLS, PEM.
    pub tls_key: Option<PathBuf>,
    /// Whose certificates a peer must show, PEM; none is asked for without it.
    pub tls_client_ca: Option<PathBuf>,
    /// Where its randomness begins: the same seed draws the same fates.
    pub seed: u64,
}

/// How message ids are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum IdForm {
    /// `1234` in both.
    #[default]
    Decimal,
    /// `4d2` in both.
    Hex,
    /// `4d2` in the answer, `1234` in the receipt.
    HexThenDecimal,
    /// `0000001234` in the answer, `1234` in the receipt.
    ZeroPadded,
    /// A UUID in both.
    Uuid,
}

/// How receipts are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ReceiptForm {
    /// The text of SMPP 3.4 appendix B, and the TLVs `receipted_message_id` and `message_state`.
    #[default]
    Both,
    /// The text only.
    Text,
    /// The TLVs only.
    Tlv,
    /// The text without `sub`, `dlvrd` and dates, with the state in lower case.
    Terse,
}

/// One thing that breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// When, counted from the start of the simulated carrier.
    pub after: Span,
    /// What.
    pub kind: FaultKind,
    /// For how long; for `refuse` and `black_hole` only.
    #[serde(default)]
    pub lasts: Span,
}

/// What may break.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FaultKind {
    /// Every connection is cut.
    Cut,
    /// Every session is unbound properly.
    Unbind,
    /// Every session is sent octets that are no PDU.
    Garbage,
    /// Requests are taken and nothing is answered.
    BlackHole,
    /// Connections are cut and binds are refused with `ESME_RSYSERR`.
    Refuse,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            name: "smsc".into(),
            system_id: String::new(),
            password: String::new(),
            version: 0x34,
            max_binds: 100,
            window: 1_000,
            rate: None,
            latency: [Span::millis(1), Span::millis(5)],
            receipt_delay: [Span::millis(200), Span::millis(800)],
            receipt_loss_per_mille: 0,
            out_of_order_per_mille: 0,
            early_receipt_per_mille: 0,
            ids: IdForm::Decimal,
            receipts: ReceiptForm::Both,
            magic_numbers: true,
            inbound_every: None,
            max_waiting: 4_000_000,
            max_remembered: 100_000,
            faults: Vec::new(),
            write_octets: 0,
            inactivity: Span::secs(300),
            tls_cert: None,
            tls_key: None,
            tls_client_ca: None,
            seed: 1,
        }
    }
}

//! Kannel in the gateway's place: Debian's `kannel`, its bearerbox and its smsbox.
//!
//! The same generator, carrier and receiver; delivery reports by `dlr-url`. Its reports are kept in
//! memory (`dlr-storage = internal`), and its spool is never synced: what it calls accepted, a
//! crash of the machine may lose. Under load some reports find no message and never come; they are
//! counted.

use std::fmt::Write;
use std::path::Path;
use std::process::Command;

use clap::ValueEnum;

use crate::cli::Failure;
use crate::cli::bench::free_port;
use crate::cli::bench::marks::destination;
use crate::cli::bench::process::Gateway;

/// Where Kannel keeps what it has accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Store {
    /// Nowhere but in memory.
    Memory,
    /// In a file a message, which it does not sync.
    Spool,
}

/// What names the message in the path of a delivery report.
pub(super) const REPORT: &[u8] = b"/report?n=";

/// Starts both boxes; they bind to the carrier at `carrier_port`.
pub(super) fn start(
    store: Store,
    dir: &Path,
    carrier_port: u16,
    binds: u16,
    window: u16,
) -> Result<Gateway, Failure> {
    let (admin, boxes, door) = (free_port()?, free_port()?, free_port()?);
    let spool = dir.join("spool");
    std::fs::create_dir_all(&spool)?;
    let store = match store {
        Store::Memory => String::new(),
        Store::Spool => format!("store-type = spool\nstore-location = {spool:?}\n"),
    };
    let text = format!(
        "group = core\nadmin-port = {admin}\nadmin-password = bench\nsmsbox-port = {boxes}\n\
         box-allow-ip = 127.0.0.1\nlog-level = 4\ndlr-storage = internal\n{store}\n\
         group = smsc\nsmsc = smpp\nsmsc-id = bench\nhost = 127.0.0.1\nport = {carrier_port}\n\
         transceiver-mode = true\nsmsc-username = bench\nsmsc-password = bench\n\
         system-type = \"\"\nmax-pending-submits = {window}\ninstances = {binds}\n\n\
         group = smsbox\nbearerbox-host = 127.0.0.1\nsendsms-port = {door}\n\
         global-sender = 13013\nlog-level = 4\nmax-pending-requests = 512\n\n\
         group = sendsms-user\nusername = bench\npassword = bench\nmax-messages = 10\n\
         concatenation = true\n\n\
         group = sms-service\nkeyword = default\ntext = \"no\"\n"
    );
    let config = dir.join("kannel.conf");
    std::fs::write(&config, text)?;
    let mut gateway = Gateway::of_several(door);
    for program in ["/usr/sbin/bearerbox", "/usr/sbin/smsbox"] {
        // Without this it tells every octet on standard error.
        gateway.spawn(Command::new(program).args(["-v", "4"]).arg(&config))?;
        // The second box gives up when the first does not listen yet.
        std::thread::sleep(std::time::Duration::from_secs(2));
    }
    Ok(gateway)
}

/// The request that hands in one message.
pub(super) fn request(message: u64, text: &str, reports: u16) -> Vec<u8> {
    let coding = if text.is_ascii() { 0 } else { 2 };
    let to = destination(message).replace('+', "%2B");
    let report = format!("http://127.0.0.1:{reports}/report?n={message}");
    format!(
        "GET /cgi-bin/sendsms?username=bench&password=bench&to={to}&coding={coding}&charset=UTF-8\
         &dlr-mask=3&dlr-url={}&text={} HTTP/1.1\r\nhost: bench\r\n\r\n",
        escaped(&report),
        escaped(text),
    )
    .into_bytes()
}

fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len() * 3);
    for octet in text.bytes() {
        if octet.is_ascii_alphanumeric() {
            escaped.push(octet.into());
        } else {
            // Writing to a String does not fail.
            let _infallible = write!(escaped, "%{octet:02X}");
        }
    }
    escaped
}

//! Replays the corpora of the fuzz targets.

use std::path::Path;

#[path = "../../fuzz/bodies"]
pub(crate) mod bodies {
    pub(crate) mod api;
    use crate::api::house;

    pub(crate) mod archive;
    pub(crate) mod config;
    pub(crate) mod journal;
    pub(crate) mod pdu;
    pub(crate) mod receipt;
    mod script;
    pub(crate) mod session;
    pub(crate) mod smsc;
    mod smsc_draws;
    pub(crate) mod text;
}

fn replay(target: &str, body: fn(&[u8])) {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let mut count = 0;
    for entry in std::fs::read_dir(&dir).unwrap() {
        body(&std::fs::read(entry.unwrap().path()).unwrap());
        count += 1;
    }
    assert!(count > 0, "{} is empty", dir.display());
    // The shortest inputs of all are in no corpus.
    for octets in [&[][..], &[0], &[255; 5]] {
        body(octets);
    }
}

#[test]
fn the_corpus_of_api_holds() {
    replay("api", bodies::api::run);
}

#[test]
fn the_corpus_of_dispatch_holds() {
    replay("dispatch", crate::dispatch::random::play);
}

#[test]
fn the_corpus_of_pdu_holds() {
    replay("pdu", bodies::pdu::run);
}

#[test]
fn the_corpus_of_text_holds() {
    replay("text", bodies::text::run);
}

#[test]
fn the_corpus_of_receipt_holds() {
    replay("receipt", bodies::receipt::run);
}

#[test]
fn the_corpus_of_session_holds() {
    replay("session", bodies::session::run);
}

#[test]
fn the_corpus_of_smsc_holds() {
    replay("smsc", bodies::smsc::run);
}

#[test]
fn the_corpus_of_journal_holds() {
    replay("journal", bodies::journal::run);
}

#[test]
fn the_corpus_of_archive_holds() {
    replay("archive", bodies::archive::run);
}

#[test]
fn the_corpus_of_config_holds() {
    replay("config", bodies::config::run);
}

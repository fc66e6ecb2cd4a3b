//! The body of the fuzz target `journal`.

use hikyaku::dispatch::Config;
use hikyaku::dispatch::Dispatch;
use hikyaku::journal::sim::open_arbitrary;
use hikyaku::message::Position;
use hikyaku::message::Record;
use hikyaku::pdu::InterfaceVersion;
use hikyaku::route::Carrier;
use hikyaku::route::CarrierConfig;
use hikyaku::route::Routes;
use hikyaku::time::Time;

/// Any octets as a journal: refused, or opened; a good journal works after. Any octets as records:
/// refused, or read and replayed, twice to the same state.
pub(crate) fn run(octets: &[u8]) {
    open_arbitrary(octets);
    let records = records(octets);
    if records.is_empty() {
        return;
    }
    let first = replay(&records);
    let second = replay(&records);
    assert_eq!(first.state_hash(), second.state_hash(), "two replays differ");
    goes_on(first, &records);
}

/// Pieces of the octets, each behind an octet with its length, that are records.
fn records(mut octets: &[u8]) -> Vec<Record> {
    let mut records = Vec::new();
    while let Some((length, rest)) = octets.split_first() {
        let (piece, rest) = rest.split_at(rest.len().min(usize::from(*length)));
        octets = rest;
        let mut framed = vec![1];
        framed.extend_from_slice(piece);
        let Ok(record) = Record::decode(&framed) else { continue };
        let mut written = Vec::new();
        record.encode(&mut written);
        assert_eq!(
            Record::decode(&written).as_ref(),
            Ok(&record),
            "it reads otherwise than written"
        );
        records.push(record);
    }
    records
}

fn replay(records: &[Record]) -> Dispatch {
    let config: CarrierConfig = toml::from_str("rate = \"50/s\"").unwrap();
    let carrier = Carrier::new("a", config, InterfaceVersion::V3_4);
    let routes = Routes::new(vec![carrier], Vec::new()).unwrap();
    let mut dispatch = Dispatch::new(Config::default(), routes, 1);
    for (record, place) in records.iter().zip(0..) {
        dispatch.replay(Position(place * 100), record);
    }
    dispatch
}

/// What was replayed is taken up, and what follows from it is a record that can be written.
fn goes_on(mut dispatch: Dispatch, records: &[Record]) {
    let last = records.iter().map(Record::at).max().unwrap_or_default();
    // A clock cannot say more than this, and sums must not wrap.
    let now = last.min(Time::from_secs(1 << 40));
    dispatch.replayed(now);
    let mut end = records.len() as u64 * 100;
    let placed: Result<(), ()> = dispatch.commit(|record| {
        let mut octets = Vec::new();
        record.encode(&mut octets);
        assert_eq!(Record::decode(&octets).as_ref(), Ok(record));
        end += 100;
        Ok(Position(end))
    });
    placed.unwrap();
    while dispatch.poll_effect().is_some() {}
}

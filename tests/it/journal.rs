//! The journal's battery: what every engine must do, and what a crash may do to ours.

use hikyaku::journal::Config;
use hikyaku::journal::Opened;
use hikyaku::journal::Position;
use hikyaku::journal::disk::Files;
use hikyaku::journal::open;

fn write_all(journal: &mut Opened) {
    while let Some(batch) = journal.appender.take_batch() {
        journal.writer.write(batch).unwrap();
    }
}

fn all(journal: &Opened) -> Vec<(Position, Vec<u8>)> {
    journal.reader.follow(journal.reader.first()).collect::<Result<_, _>>().unwrap()
}

#[test]
fn records_are_there_after_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let config = Config { segment_bytes: 1_000, ..Config::default() };
    let mut expected = Vec::new();
    for life in 0..5_u8 {
        let mut journal = open(Files::new(dir.path().join("a/b")), &config).unwrap();
        assert_eq!(all(&journal), expected);
        for record in 0..50_u8 {
            let record = vec![record; 1 + usize::from(life) * 37 + usize::from(record)];
            expected.push((journal.appender.push(&record).unwrap(), record));
            if expected.len().is_multiple_of(3) {
                write_all(&mut journal);
            }
        }
        write_all(&mut journal);
        assert_eq!(all(&journal), expected);
        for (at, record) in &expected {
            assert_eq!(&journal.reader.read(*at).unwrap(), record);
        }
    }
}

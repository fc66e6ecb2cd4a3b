//! The keys on a real disk: made, found again, wrapped, refused, erased.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use hikyaku::seal::Config;
use hikyaku::seal::Day;
use hikyaku::seal::KeyError;
use hikyaku::seal::Keys;
use hikyaku::seal::Sealer;

fn config(dir: &Path) -> Config {
    Config { dir: dir.join("keys"), ..Config::default() }
}

/// The files of the keys' directory.
fn files(dir: &Path) -> Vec<std::path::PathBuf> {
    let entries = fs::read_dir(dir.join("keys")).unwrap();
    entries.map(|entry| entry.unwrap().path()).collect()
}

#[test]
fn a_key_is_found_again_until_it_is_erased() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let mut sealed = Vec::new();
    let keys = Keys::open(&config).unwrap();
    Sealer::new(keys.clone(), "test").seal(b"hello", &mut sealed).unwrap();
    let today = Sealer::day_of(&sealed).unwrap();
    assert_eq!(keys.due(), Day(today.0 - 30));
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&config.dir), 0o700);
    let made = files(dir.path());
    assert_eq!(made.len(), 2, "the day's and the store's: {made:?}");
    made.iter().for_each(|path| assert_eq!(mode(path), 0o600));

    let keys = Keys::open(&config).unwrap();
    let sealer = Sealer::new(keys.clone(), "test");
    assert_eq!(sealer.open(&sealed), Ok(Some(b"hello".to_vec())));
    assert_eq!(keys.erase_below(Day(today.0 + 1)).unwrap(), [today]);
    assert_eq!(sealer.open(&sealed), Ok(None));
    let left = files(dir.path());
    assert!(left.len() == 1 && left[0].ends_with("store.key"), "{left:?}");
    let sealer = Sealer::new(Keys::open(&config).unwrap(), "test");
    assert_eq!(sealer.open(&sealed), Ok(None));
}

#[test]
fn a_key_that_was_overwritten_when_the_process_died_is_gone_at_the_next_start() {
    let dir = tempfile::tempdir().unwrap();
    let keys = Keys::open(&config(dir.path())).unwrap();
    let (today, _) = keys.present().unwrap();
    drop(keys);
    let path = files(dir.path()).into_iter().find(|path| !path.ends_with("store.key")).unwrap();
    fs::write(&path, [0; 84]).unwrap();
    let keys = Keys::open(&config(dir.path())).unwrap();
    assert!(keys.find(today).is_none());
    assert!(!path.exists());
    fs::write(&path, [0; 83]).unwrap();
    let refused = Keys::open(&config(dir.path())).unwrap_err();
    assert!(refused.to_string().contains("found other octets"), "{refused}");
}

#[test]
fn a_key_of_a_day_that_is_over_is_not_made_again() {
    let dir = tempfile::tempdir().unwrap();
    let keys = Keys::open(&config(dir.path())).unwrap();
    let due = keys.due();
    assert!(keys.of(Day(due.0 - 1)).unwrap().is_none());
    assert!(keys.of(due).unwrap().is_some());
}

#[test]
fn wrapped_keys_need_the_master_key_that_they_were_made_with() {
    let dir = tempfile::tempdir().unwrap();
    let master = |name: &str, octets: &[u8]| {
        let path = dir.path().join(name);
        fs::write(&path, octets).unwrap();
        Config { master_key_file: Some(path), ..config(dir.path()) }
    };
    let config = master("a", &[7; 32]);
    let mut sealed = Vec::new();
    let sealer = Sealer::new(Keys::open(&config).unwrap(), "test");
    sealer.seal(b"hello", &mut sealed).unwrap();
    let sealer = Sealer::new(Keys::open(&config).unwrap(), "test");
    assert_eq!(sealer.open(&sealed), Ok(Some(b"hello".to_vec())));
    let refused = Keys::open(&Config { master_key_file: None, ..config }).unwrap_err();
    assert!(matches!(refused, KeyError::Wrapped { .. }), "{refused}");
    let refused = Keys::open(&master("b", &[8; 32])).unwrap_err();
    assert!(matches!(refused, KeyError::Wrapped { .. }), "{refused}");
    let refused = Keys::open(&master("c", &[7; 31])).unwrap_err().to_string();
    assert!(refused.ends_with("expected at least 32 octets, found 31"), "{refused}");
}

#[test]
fn a_key_that_was_changed_or_is_of_a_newer_release_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    Keys::open(&config).unwrap().present().unwrap();
    let path = files(dir.path()).into_iter().find(|path| !path.ends_with("store.key")).unwrap();
    let good = fs::read(&path).unwrap();
    assert_eq!((good.len(), &good[..12]), (84, b"hikykey\0\x01\0\0\0".as_slice()));
    for place in 0..good.len() {
        let mut octets = good.clone();
        octets[place] ^= 0x40;
        fs::write(&path, &octets).unwrap();
        let refused = Keys::open(&config).unwrap_err();
        let is_newer = (8..12).contains(&place);
        match refused {
            KeyError::Damaged { path: named } => assert!(!is_newer && named == path, "{place}"),
            KeyError::Version { known: 1, .. } => assert!(is_newer, "{place}"),
            other => panic!("{place}: {other}"),
        }
    }
    fs::write(&path, &good[..83]).unwrap();
    assert!(matches!(Keys::open(&config), Err(KeyError::Damaged { .. })));
}

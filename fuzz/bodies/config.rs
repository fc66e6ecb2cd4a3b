//! The body of the fuzz target `config`.

use hikyaku::config::Source;

/// Any text as a configuration: refused with faults, or read; what is read prints without a panic.
pub(crate) fn run(octets: &[u8]) {
    let source = Source::from_text("fuzz.toml", &String::from_utf8_lossy(octets));
    match hikyaku::config::read(&source) {
        Ok(config) => assert!(config.shown().is_ok()),
        Err(faults) => {
            assert!(!faults.is_empty(), "refused without a fault");
            assert!(!source.draw(&faults).is_empty());
        }
    }
}

//! Panics: a bug is told where it is, and never what it was working on.

use std::any::Any;
use std::backtrace::Backtrace;
use std::backtrace::BacktraceStatus;
use std::panic;
use std::panic::PanicHookInfo;
use std::thread;

/// Lets panics be logged like everything else, with their place in the code.
///
/// A message that was put together at run time may quote the text or the number it failed at (the
/// standard library's own quote the string), so only messages that stand in the code are told.
pub fn log_panics() {
    panic::set_hook(Box::new(log));
}

fn log(info: &PanicHookInfo<'_>) {
    let place = info.location().map(ToString::to_string).unwrap_or_default();
    let thread = thread::current();
    let thread = thread.name().unwrap_or("unnamed");
    let backtrace = Backtrace::capture();
    let message = message(info.payload());
    match backtrace.status() {
        BacktraceStatus::Captured => {
            tracing::error!(%place, thread, %backtrace, "a bug: {message}");
        }
        _ => tracing::error!(%place, thread, "a bug: {message}"),
    }
}

fn message(payload: &(dyn Any + Send)) -> &'static str {
    payload.downcast_ref::<&'static str>().copied().unwrap_or("its message is left out")
}

#[cfg(test)]
mod tests {
    use std::panic::catch_unwind;

    use super::*;

    #[test]
    fn only_a_message_that_stands_in_the_code_is_told() {
        let fixed = catch_unwind(|| panic!("the table is full")).unwrap_err();
        assert_eq!(message(&*fixed), "the table is full");
        let text = String::from("認証コード 123456");
        let quoting = catch_unwind(|| text[..1].len()).unwrap_err();
        assert!(quoting.downcast_ref::<String>().unwrap().contains("認証コード"));
        assert_eq!(message(&*quoting), "its message is left out");
    }
}

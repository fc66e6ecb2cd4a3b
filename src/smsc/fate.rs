//! What becomes of a submit.
//!
//! The last four digits of a destination choose its fate, the same in the demo, the tests and the
//! documents:
//!
//! | digits | fate |
//! |---|---|
//! | 0001 | `ESME_RINVDSTADR` at submit |
//! | 0002 | receipt `UNDELIV` |
//! | 0003 | receipt `EXPIRED` |
//! | 0004 | no receipt |
//! | 0005 | throttled twice, then accepted |
//! | 0006 | receipt before the answer |
//! | 0007 | receipts doubled |
//! | 0008 | one segment without its receipt |
//! | 0009 | answered after 30 s |
//! | 0010 | connection cut after the submit |
//! | others | delivered |

/// What becomes of one submit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Delivered,
    RefusedDestination,
    Undeliverable,
    Expired,
    NoReceipt,
    ThrottledTwice,
    EarlyReceipt,
    DoubledReceipt,
    OneSegmentWithoutReceipt,
    SlowAnswer,
    Cut,
}

impl Fate {
    pub(super) fn of(destination: &[u8]) -> Self {
        match destination.get(destination.len().saturating_sub(4)..).unwrap_or_default() {
            b"0001" => Self::RefusedDestination,
            b"0002" => Self::Undeliverable,
            b"0003" => Self::Expired,
            b"0004" => Self::NoReceipt,
            b"0005" => Self::ThrottledTwice,
            b"0006" => Self::EarlyReceipt,
            b"0007" => Self::DoubledReceipt,
            b"0008" => Self::OneSegmentWithoutReceipt,
            b"0009" => Self::SlowAnswer,
            b"0010" => Self::Cut,
            _ => Self::Delivered,
        }
    }
}

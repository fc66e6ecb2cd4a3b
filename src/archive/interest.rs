//! Which events somebody wants to hear of.

use crate::archive::Event;
use crate::archive::EventKind;

/// Which events somebody wants to hear of: of some kinds, or those that a message's own address
/// gets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Interest(u16);

/// How many things there are to be interested in: the kinds, and callbacks.
pub(super) const KINDS: usize = EventKind::ALL.len() + 1;

impl Interest {
    /// In every event.
    pub const ALL: Self = Self(u16::MAX);
    /// In those of messages with a `callback_url`.
    pub const CALLBACKS: Self = Self(1 << EventKind::ALL.len());
    /// In none.
    pub const NONE: Self = Self(0);

    /// In the events of these kinds.
    pub fn in_kinds(kinds: impl IntoIterator<Item = EventKind>) -> Self {
        kinds.into_iter().fold(Self::NONE, |all, kind| all.and(Self(1 << kind as u16)))
    }

    /// In what either is in.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// All that an event may be wanted for.
    pub(super) fn of(event: &Event) -> Self {
        let kind = Self::in_kinds([event.kind]);
        if event.callback_url().is_some() { kind.and(Self::CALLBACKS) } else { kind }
    }

    /// The numbers of what it is in, each below [`KINDS`].
    pub(super) fn numbers(self) -> impl Iterator<Item = usize> {
        (0..KINDS).filter(move |number| self.0 & 1 << number != 0)
    }

    /// Whether both are in some event.
    pub(super) const fn meets(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }
}

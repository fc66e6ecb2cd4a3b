//! Names with small numbers, so that millions of live messages hold numbers.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

/// The number of a carrier's name; it stays the carrier's for as long as the process lives.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CarrierId(pub u16);

/// The number of a route's name; it stays the route's for as long as the process lives.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RouteId(pub u16);

impl fmt::Debug for CarrierId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "carrier {}", self.0)
    }
}

impl fmt::Debug for RouteId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "route {}", self.0)
    }
}

/// A list of names that only grows.
#[derive(Clone, Debug, Default)]
pub(super) struct Names {
    names: Vec<Arc<str>>,
    numbers: HashMap<Arc<str>, u16>,
}

impl Names {
    /// The number of `name`, a new one if it has none yet; `None` when all numbers are taken.
    pub(super) fn intern(&mut self, name: &str) -> Option<u16> {
        if let Some(number) = self.find(name) {
            return Some(number);
        }
        let number = u16::try_from(self.names.len()).ok()?;
        let name: Arc<str> = name.into();
        self.names.push(Arc::clone(&name));
        self.numbers.insert(name, number);
        Some(number)
    }

    /// The number of `name`.
    pub(super) fn find(&self, name: &str) -> Option<u16> {
        self.numbers.get(name).copied()
    }

    /// The name with this number.
    pub(super) fn name(&self, number: u16) -> Option<&Arc<str>> {
        self.names.get(usize::from(number))
    }

    /// How many names there are.
    pub(super) const fn len(&self) -> usize {
        self.names.len()
    }
}

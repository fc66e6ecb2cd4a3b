//! Why a message takes the route it takes, in words.

use std::fmt;
use std::sync::Arc;

use serde::Serialize;
use serde::Serializer;

use super::table::Mismatch;
use super::table::NoRoute;
use super::table::Query;
use super::table::Route;
use super::table::Routes;
use super::table::Seed;

/// The choice of a route, told step by step: for `hikyaku route`, the preview and the timeline.
///
/// Numbers of people are not in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// The steps in their order, each one line.
    pub steps: Vec<Step>,
    /// The route's name; `None` when there is none.
    pub route: Option<Arc<str>>,
    /// The carriers in the order in which they would be tried.
    pub carriers: Vec<Arc<str>>,
}

/// One line of an explanation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// The message asks for a route by name, and it is there.
    Asked {
        /// The route.
        route: Arc<str>,
    },
    /// The message asks for a route that is not there.
    Unknown {
        /// The name.
        name: Box<str>,
    },
    /// A route was looked at and does not take the message.
    Passed {
        /// The route.
        route: Arc<str>,
        /// Which condition fails.
        mismatch: Mismatch,
    },
    /// A route takes the message.
    Matched {
        /// The route.
        route: Arc<str>,
        /// The prefix by which it does; empty for a route without prefixes.
        prefix: Box<str>,
        /// How many of its conditions besides the prefix are met.
        conditions: usize,
    },
    /// A route would take the message too, but stands behind the one that does.
    Behind {
        /// The route.
        route: Arc<str>,
    },
    /// No route takes the message.
    Unmatched,
    /// A carrier's place in the order.
    Carrier {
        /// From 1.
        place: usize,
        /// The carrier.
        carrier: Arc<str>,
        /// Its share among equals, in percent; `None` when it has its place alone.
        share: Option<u64>,
    },
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Asked { route } => write!(f, "route {route}: asked for by name"),
            Self::Unknown { name } => {
                write!(f, "route {name}: asked for by name, and there is none")
            }
            Self::Passed { route, mismatch } => write!(f, "route {route}: passed by, {mismatch}"),
            Self::Matched { route, prefix, conditions } => {
                write!(f, "route {route}: taken, ")?;
                match (prefix.is_empty(), conditions) {
                    (true, 0) => f.write_str("it takes what no other route does"),
                    (true, _) => f.write_str("all its conditions are met"),
                    (false, 0) => write!(f, "prefix {prefix}"),
                    (false, _) => write!(f, "prefix {prefix} and all its other conditions are met"),
                }
            }
            Self::Behind { route } => {
                write!(f, "route {route}: would take it too, but stands behind")
            }
            Self::Unmatched => f.write_str("no route takes the message"),
            Self::Carrier { place, carrier, share: None } => {
                write!(f, "carrier {place}: {carrier}")
            }
            Self::Carrier { place, carrier, share: Some(share) } => {
                write!(
                    f,
                    "carrier {place}: {carrier}, drawn among equals with a share of {share} %"
                )
            }
        }
    }
}

impl Serialize for Step {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Prefix => "none of its prefixes is the number's",
            Self::Class => "it is for other classes",
            Self::Key => "it is for other keys",
            Self::Sender => "it is for other senders",
            Self::Tag => "the message has none of its tags",
            Self::OnRequest => "it is only for messages that ask for it",
        })
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for step in &self.steps {
            writeln!(f, "{step}")?;
        }
        Ok(())
    }
}

impl Routes {
    /// Tells which routes [`Routes::select`] looks at and why it takes the one it takes; with the
    /// carriers in the order that the message of `seed` would try them.
    pub fn explain(&self, query: &Query<'_>, seed: Seed) -> Explanation {
        let selected = self.select(query);
        let mut steps = match (&selected, query.route) {
            (Ok(route), Some(_)) => vec![Step::Asked { route: Arc::clone(&route.name) }],
            (Err(NoRoute::Unknown { name }), _) => vec![Step::Unknown { name: name.clone() }],
            (Ok(route), None) => self.looked_at(query, Some(route)),
            (Err(NoRoute::Unmatched), _) => self.looked_at(query, None),
        };
        let Ok(route) = selected else {
            return Explanation { steps, route: None, carriers: Vec::new() };
        };
        let carriers: Vec<_> =
            route.candidates(seed).iter().map(|id| self.carrier_name(*id)).collect();
        for (carrier, place) in carriers.iter().zip(1..) {
            let share = self.carrier_id(carrier).and_then(|id| route.share(id));
            steps.push(Step::Carrier { place, carrier: Arc::clone(carrier), share });
        }
        Explanation { steps, route: Some(Arc::clone(&route.name)), carriers }
    }

    fn looked_at(&self, query: &Query<'_>, taken: Option<&Route>) -> Vec<Step> {
        let mut routes = self.routes();
        routes.sort_by_key(|route| {
            let prefix = route.prefix(query.to).map(str::len);
            (std::cmp::Reverse(prefix), route.rank())
        });
        let mut steps: Vec<_> = routes.into_iter().map(|route| step(route, query, taken)).collect();
        if taken.is_none() {
            steps.push(Step::Unmatched);
        }
        steps
    }
}

/// What is told of one route.
fn step(route: &Route, query: &Query<'_>, taken: Option<&Route>) -> Step {
    let name = Arc::clone(&route.name);
    let Some(prefix) = route.prefix(query.to) else {
        return Step::Passed { route: name, mismatch: Mismatch::Prefix };
    };
    match route.mismatch(query) {
        Some(mismatch) => Step::Passed { route: name, mismatch },
        None if taken.is_some_and(|taken| taken.id == route.id) => {
            let conditions = route.conditions();
            Step::Matched { route: name, prefix: prefix.into(), conditions }
        }
        None => Step::Behind { route: name },
    }
}

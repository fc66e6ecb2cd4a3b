//! What is done to the process, and when: all drawn from the seed.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use hikyaku::time::Span;

use super::draw::Draws;

/// Something that is done to the process or to what surrounds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Ill {
    /// SIGKILL, and a new start.
    Kill,
    /// SIGTERM, another binary in the place of the one that ran, and a new start.
    Exchange,
    /// SIGSTOP, and later SIGCONT.
    Freeze,
    /// No room on the disk.
    Full,
    /// More messages than the gateway may hold, while no carrier is there.
    Flood,
    /// Every connection to a carrier is cut.
    Cut(usize),
    /// No carrier at this address.
    Away(usize),
    /// Nothing reaches the carrier.
    StallThere(usize),
    /// Nothing comes back from the carrier.
    StallBack(usize),
    /// Everything takes longer.
    Delay(usize),
    /// A few octets at a time.
    Trickle(usize),
    /// A changed configuration is taken, and later the first one again.
    Reload,
    /// An endpoint refuses every webhook.
    HookFails,
    /// An endpoint answers no webhook.
    HookDead,
}

impl Ill {
    /// What it is, whoever has it.
    pub(super) fn name(self) -> String {
        let name = format!("{self:?}");
        name.split('(').next().unwrap_or_default().to_lowercase()
    }
}

/// An ill with its time, counted from the beginning of the load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Due {
    pub(super) at: Duration,
    pub(super) until: Duration,
    pub(super) ill: Ill,
}

/// A whole run.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) seed: u64,
    /// For how long there is load.
    pub(super) load: Duration,
    /// In the order of their beginnings.
    pub(super) dues: Vec<Due>,
    pub(super) draws: Draws,
}

/// How long ills last, in milliseconds.
struct Lengths {
    short: (u64, u64),
    freeze: u64,
}

impl Plan {
    /// The plan of a seed for a run of about this length in all.
    pub(super) fn new(seed: u64, whole: Duration) -> Self {
        let mut draws = Draws::new(seed);
        let minutes = whole.as_secs().div_ceil(60).max(1);
        let is_long = minutes >= 10;
        // The rest is for what is left to come to its end.
        let load = if is_long { whole * 9 / 10 } else { whole * 3 / 5 };
        let kills = if is_long { minutes * 5 / 3 } else { minutes * 8 };
        let lengths = if is_long {
            Lengths { short: (500, 20_000), freeze: 30_000 }
        } else {
            Lengths { short: (200, 2_500), freeze: 3_000 }
        };
        let rounds = if is_long { minutes / 3 } else { minutes };
        let mut ills = vec![Ill::Kill; usize::try_from(kills).unwrap()];
        for _ in 0..rounds {
            ills.extend(Self::round(&mut draws));
        }
        let mut dues: Vec<Due> =
            ills.into_iter().map(|ill| Self::due(&mut draws, ill, load, &lengths)).collect();
        dues.sort_by_key(|due| due.at);
        part(&mut dues);
        Self { seed, load, dues, draws }
    }

    /// Everything once, but for kills.
    fn round(draws: &mut Draws) -> Vec<Ill> {
        let mut one = || draws.pick(&[0, 1]);
        vec![
            Ill::Exchange,
            Ill::Freeze,
            Ill::Full,
            Ill::Flood,
            Ill::Cut(0),
            Ill::Cut(1),
            Ill::Away(one()),
            Ill::StallThere(one()),
            Ill::StallBack(one()),
            Ill::Delay(one()),
            Ill::Trickle(one()),
            Ill::Reload,
            Ill::HookFails,
            Ill::HookDead,
        ]
    }

    fn due(draws: &mut Draws, ill: Ill, load: Duration, lengths: &Lengths) -> Due {
        let at = draws.millis(500, u64::try_from(load.as_millis()).unwrap());
        let (least, most) = lengths.short;
        let lasts = match ill {
            Ill::Freeze => Duration::from_millis(lengths.freeze),
            Ill::Kill | Ill::Exchange | Ill::Cut(_) => Duration::ZERO,
            // Less would not be noticed.
            Ill::Full | Ill::Flood | Ill::Reload => draws.millis(least + 1_000, most),
            _ => draws.millis(least, most),
        };
        Due { at, until: at + lasts, ill }
    }

    /// The plan that the environment asks for: `HIKYAKU_TORTURE` is the length, a minute unless
    /// set, `HIKYAKU_TORTURE_SEED` the seed, a fresh one unless set.
    pub(super) fn asked() -> Self {
        let whole = std::env::var("HIKYAKU_TORTURE").map_or(Duration::from_secs(60), |text| {
            let span: Span =
                text.parse().unwrap_or_else(|error| panic!("HIKYAKU_TORTURE: {error}"));
            *span
        });
        let seed = std::env::var("HIKYAKU_TORTURE_SEED").map_or_else(
            |_| {
                let since = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap();
                u64::from(since.subsec_nanos()) ^ since.as_secs() << 20
            },
            |text| text.parse().unwrap_or_else(|error| panic!("HIKYAKU_TORTURE_SEED: {error}")),
        );
        Self::new(seed, whole)
    }
}

/// Moves what cannot be there twice at a time behind the one before it.
fn part(dues: &mut [Due]) {
    for ill in [Ill::Full, Ill::Flood, Ill::Freeze, Ill::Reload] {
        let mut free = Duration::ZERO;
        for due in dues.iter_mut().filter(|due| due.ill == ill) {
            let late = free.saturating_sub(due.at);
            (due.at, due.until) = (due.at + late, due.until + late);
            free = due.until + Duration::from_millis(100);
        }
    }
    dues.sort_by_key(|due| due.at);
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut counts = BTreeMap::<String, usize>::new();
        for due in &self.dues {
            *counts.entry(due.ill.name()).or_default() += 1;
        }
        write!(f, "seed {}, {} s of load, {counts:?}", self.seed, self.load.as_secs())
    }
}

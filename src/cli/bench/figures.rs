//! What was measured, as a table, as JSON, and beside another build.

use std::fmt::Write;

use crate::cli::Failure;

/// Figures with their names, in the order in which they are shown.
#[derive(Clone, Debug, Default)]
pub(super) struct Figures(Vec<(String, f64)>);

impl Figures {
    pub(super) fn push(&mut self, name: impl Into<String>, figure: f64) {
        self.0.push((name.into(), figure));
    }

    pub(super) fn json(&self) -> Result<String, Failure> {
        let figures = self.0.iter().map(|(name, figure)| (name.clone(), (*figure).into()));
        Ok(serde_json::to_string(&figures.collect::<serde_json::Map<_, _>>())?)
    }

    /// A line a figure.
    pub(super) fn table(&self) -> String {
        let mut table = String::new();
        for (name, figure) in &self.0 {
            // Writing to a String does not fail.
            let _infallible =
                writeln!(table, "{:<30}{:>14}", name.replace('_', " "), shown(*figure));
        }
        table
    }

    fn get(&self, name: &str) -> Option<f64> {
        self.0.iter().find(|(it, _)| it == name).map(|(_, figure)| *figure)
    }

    /// The median of each figure over several runs.
    pub(super) fn median(runs: &[Self]) -> Self {
        let Some(first) = runs.first() else { return Self::default() };
        let median = |name: &String| {
            let mut all: Vec<f64> = runs.iter().filter_map(|run| run.get(name)).collect();
            all.sort_by(f64::total_cmp);
            all.get(all.len() / 2).copied().unwrap_or_default()
        };
        Self(first.0.iter().map(|(name, _)| (name.clone(), median(name))).collect())
    }
}

/// The medians of two builds side by side, and what one is of the other.
pub(super) fn compared(other: &[Figures], this: &[Figures]) -> String {
    let (other, this) = (Figures::median(other), Figures::median(this));
    let mut table = format!("{:<30}{:>14}{:>14}{:>9}\n", "median", "other", "this", "ratio");
    for (name, figure) in &this.0 {
        let before = other.get(name).unwrap_or_default();
        let ratio = if before > 0.0 { format!("{:.2}", figure / before) } else { String::new() };
        let (before, now) = (shown(before), shown(*figure));
        let name = name.replace('_', " ");
        // Writing to a String does not fail.
        let _infallible = writeln!(table, "{name:<30}{before:>14}{now:>14}{ratio:>9}");
    }
    table
}

fn shown(figure: f64) -> String {
    if figure.abs() < 1_000.0 { format!("{figure:.2}") } else { format!("{figure:.0}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(cpu: f64) -> Figures {
        let mut figures = Figures::default();
        figures.push("cpu_micros", cpu);
        figures
    }

    #[test]
    fn builds_are_compared_by_their_medians() {
        let other = [90.0, 100.0, 4_000.0].map(figures);
        let this = [50.0, 20.0, 60.0].map(figures);
        let table = compared(&other, &this);
        assert!(table.contains("cpu micros"), "{table}");
        assert!(table.lines().nth(1).is_some_and(|line| line.ends_with("0.50")), "{table}");
    }
}

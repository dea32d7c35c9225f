//! Figures with their spread, alone or beside a peer's.

use serde::Serialize;

/// The median of several rounds, and how far they lie apart.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct Spread {
    pub(super) median: f64,
    pub(super) lowest: f64,
    pub(super) highest: f64,
}

impl Spread {
    /// The spread of the values of at least one round.
    fn of(values: &[f64]) -> Spread {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (middle, last) = (sorted.len() / 2, sorted.len() - 1);
        let median = if sorted.len() % 2 == 1 {
            sorted[middle]
        } else {
            f64::midpoint(sorted[middle - 1], sorted[middle])
        };
        Spread { median, lowest: sorted[0], highest: sorted[last] }
    }
}

impl std::fmt::Display for Spread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [median, lowest, highest] = [self.median, self.lowest, self.highest].map(digits);
        // Every round gave the same, as far as it shows.
        if lowest == highest {
            return f.pad(&median);
        }
        f.pad(&format!("{median} ({lowest}..{highest})"))
    }
}

/// A number with three significant digits at least.
fn digits(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 1.0 => format!("{value:.2}"),
        size if size >= 0.01 => format!("{value:.3}"),
        _ => format!("{value:.6}"),
    }
}

/// One thing that was measured: the values of LARQL, of a peer in the same rounds, or of the machine alone.
#[derive(Debug)]
pub(super) struct Series {
    pub(super) name: String,
    pub(super) unit: &'static str,
    pub(super) ours: Vec<f64>,
    pub(super) peers: Vec<f64>,
}

/// Summary of a series.
#[derive(Debug, PartialEq, Serialize)]
pub(super) struct Figure {
    pub(super) name: String,
    pub(super) unit: &'static str,
    #[serde(flatten)]
    pub(super) ours: Spread,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) peer: Option<Spread>,
    /// LARQL's value divided by the peer's, round by round.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) ratio: Option<Spread>,
}

impl Series {
    /// Median and spread of each side and of the ratio of each round.
    pub(super) fn figure(&self) -> Figure {
        let ratios: Vec<f64> = self.ours.iter().zip(&self.peers).map(|(ours, peers)| ours / peers).collect();
        let beside = !self.peers.is_empty();
        Figure {
            name: self.name.clone(),
            unit: self.unit,
            ours: Spread::of(&self.ours),
            peer: beside.then(|| Spread::of(&self.peers)),
            ratio: beside.then(|| Spread::of(&ratios)),
        }
    }
}

/// Every series of a benchmark, in the order in which they were first seen.
#[derive(Debug, Default)]
pub(super) struct Measured(Vec<Series>);

impl Measured {
    /// Adds what a round gave: for one side or the other.
    pub(super) fn add(&mut self, name: &str, unit: &'static str, peer: bool, value: f64) {
        let known = self.0.iter().position(|series| series.name == name);
        let index = known.unwrap_or_else(|| {
            self.0.push(Series { name: name.into(), unit, ours: Vec::new(), peers: Vec::new() });
            self.0.len() - 1
        });
        let series = &mut self.0[index];
        if peer { series.peers.push(value) } else { series.ours.push(value) }
    }

    /// LARQL's values of a series.
    pub(super) fn ours(&self, name: &str) -> &[f64] {
        self.0.iter().find(|series| series.name == name).map_or(&[], |series| &series.ours)
    }

    /// The peer's values of a series.
    pub(super) fn peers(&self, name: &str) -> &[f64] {
        self.0.iter().find(|series| series.name == name).map_or(&[], |series| &series.peers)
    }

    /// The figures.
    pub(super) fn figures(&self) -> impl Iterator<Item = Figure> {
        self.0.iter().map(Series::figure)
    }
}

/// Figures as a table for people.
pub(super) fn table(figures: &[Figure]) -> String {
    use std::fmt::Write;
    let mut table = String::new();
    let head = match figures.iter().any(|figure| figure.peer.is_some()) {
        true => {
            format!("{:<36} {:<9} {:<26} {:<26} ratio", "median (lowest..highest)", "unit", "LARQL", "peer")
        }
        false => format!("{:<36} {:<9} median (lowest..highest)", "measured", "unit"),
    };
    let _ = writeln!(table, "{head}");
    for Figure { name, unit, ours, peer, ratio } in figures {
        let line = match peer.zip(*ratio) {
            Some((peer, ratio)) => format!("{name:<36} {unit:<9} {ours:<26} {peer:<26} {ratio}"),
            None => format!("{name:<36} {unit:<9} {ours}"),
        };
        let _ = writeln!(table, "{line}");
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_those_of_each_round() {
        let mut measured = Measured::default();
        for (ours, peers) in [(10.0, 5.0), (30.0, 10.0), (8.0, 8.0), (20.0, 5.0)] {
            measured.add("decode", "tokens/s", false, ours);
            measured.add("decode", "tokens/s", true, peers);
            measured.add("memory", "GB/s", false, 0.5);
        }
        let figures: Vec<Figure> = measured.figures().collect();
        assert_eq!(figures[0].ours, Spread { median: 15.0, lowest: 8.0, highest: 30.0 });
        assert_eq!(figures[0].peer, Some(Spread { median: 6.5, lowest: 5.0, highest: 10.0 }));
        assert_eq!(figures[0].ratio, Some(Spread { median: 2.5, lowest: 1.0, highest: 4.0 }));
        assert_eq!(figures[1].ratio, None);
        insta::assert_snapshot!(table(&figures), @r"
        median (lowest..highest)             unit      LARQL                      peer                       ratio
        decode                               tokens/s  15.0 (8.00..30.0)          6.50 (5.00..10.0)          2.50 (1.00..4.00)
        memory                               GB/s      0.500
        ");
        let alone = serde_json::to_string(&figures[1]).unwrap();
        assert_eq!(alone, r#"{"name":"memory","unit":"GB/s","median":0.5,"lowest":0.5,"highest":0.5}"#);
    }
}

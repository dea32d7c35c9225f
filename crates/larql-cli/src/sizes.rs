//! Sizes as people read them.

/// `bytes` in the largest unit that leaves at least one, such as `98.3 MB`.
pub(crate) fn human(bytes: u64) -> String {
    const UNITS: [(u64, &str); 3] = [(1_000_000_000, "GB"), (1_000_000, "MB"), (1_000, "kB")];
    match UNITS.iter().find(|(unit, _)| bytes >= *unit) {
        Some((unit, name)) => format!("{:.1} {name}", bytes as f64 / *unit as f64),
        None => format!("{bytes} B"),
    }
}

/// A number of parameters, such as `134.5 M`.
pub(crate) fn count(number: usize) -> String {
    const UNITS: [(usize, &str); 3] = [(1_000_000_000, "B"), (1_000_000, "M"), (1_000, "k")];
    match UNITS.iter().find(|(unit, _)| number >= *unit) {
        Some((unit, name)) => format!("{:.1} {name}", number as f64 / *unit as f64),
        None => number.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::{count, human};

    #[test]
    fn the_unit_fits_the_size() {
        assert_eq!([human(999), human(1_000), human(98_300_000)], ["999 B", "1.0 kB", "98.3 MB"]);
        assert_eq!([count(12), count(134_515_008)], ["12", "134.5 M"]);
    }
}

//! Sizes as people read them.

/// `bytes` in the largest unit that leaves at least one, such as `98.3 MB`.
pub(crate) fn human(bytes: u64) -> String {
    const UNITS: [(u64, &str); 3] = [(1_000_000_000, "GB"), (1_000_000, "MB"), (1_000, "kB")];
    match UNITS.iter().find(|(unit, _)| bytes >= *unit) {
        Some((unit, name)) => format!("{:.1} {name}", bytes as f64 / *unit as f64),
        None => format!("{bytes} B"),
    }
}

#[cfg(test)]
mod tests {
    use super::human;

    #[test]
    fn the_unit_fits_the_size() {
        assert_eq!([human(999), human(1_000), human(98_300_000)], ["999 B", "1.0 kB", "98.3 MB"]);
    }
}

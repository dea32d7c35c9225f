//! `conformance`.

use super::*;

#[test]
fn every_family_is_within_its_tolerance() {
    let set = larql_testing::repository("conformance");
    let table = stdout(&larql(["conformance", text(&set)]).assert().success().stderr(""));
    let folders = std::fs::read_dir(&set).unwrap().map(Result::unwrap).filter(|entry| entry.path().is_dir());
    for folder in folders {
        let name = folder.file_name().into_string().unwrap();
        let rows: Vec<&str> = table.lines().filter(|line| line.starts_with(&format!("{name} "))).collect();
        let forms = ["checkpoint", "f32 vindex", "f16 vindex", "q4k vindex"];
        assert!(
            rows.len() == forms.len() && rows.iter().zip(forms).all(|(row, form)| row.contains(form)),
            "{rows:?}"
        );
    }
    assert!(!table.contains("OVER") && !table.contains("FAILED"), "{table}");
}

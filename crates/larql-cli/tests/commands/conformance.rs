//! `conformance`.

use super::*;

#[test]
fn every_family_is_within_its_tolerance() {
    let set = larql_test_data::repository("conformance");
    let table = stdout(&larql(["conformance", text(&set)]).assert().success().stderr(""));
    let folders = std::fs::read_dir(&set).unwrap().map(Result::unwrap).filter(|entry| entry.path().is_dir());
    for folder in folders {
        let name = folder.file_name().into_string().unwrap();
        let rows: Vec<&str> = table.lines().filter(|line| line.starts_with(&format!("{name} "))).collect();
        match rows[..] {
            [row] => assert!(row.ends_with("unsupported"), "{row}"),
            [checkpoint, vindex] => {
                assert!(checkpoint.contains("checkpoint") && vindex.contains("f32 vindex"), "{rows:?}");
            }
            _ => panic!("{name}: {rows:?}"),
        }
    }
    assert!(!table.contains("OVER") && !table.contains("FAILED"), "{table}");
}

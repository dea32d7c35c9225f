//! Any text is a Vindexfile or is refused; what is read prints as text that means the same.
#![no_main]

use larql_lql::vindexfile::Vindexfile;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let Ok(vindexfile) = Vindexfile::parse(text) else { return };
    assert_eq!(Vindexfile::parse(&vindexfile.to_string()).unwrap(), vindexfile);
});

//! Any text is parsed or refused; what is parsed prints as text that means the same.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let Ok(script) = larql_lql::parse(text) else { return };
    for pipe in script {
        let printed = pipe.to_string();
        let again = larql_lql::parse(&printed).unwrap();
        assert_eq!(again[0].to_string(), printed);
    }
});

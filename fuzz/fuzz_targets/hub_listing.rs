//! A repository's listing of any bytes is read or refused, and so is any name; no path that is accepted leaves its folder.
#![no_main]

use std::path::{Component, Path};

use larql_hub::{Card, RepoName, WebFile, parse_tree};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok(page) = serde_json::from_slice(data)
        && let Ok(files) = parse_tree(page)
    {
        for file in files {
            assert!(Path::new(&file.path).components().all(|part| matches!(part, Component::Normal(_))), "{}", file.path);
            assert!(file.etag().bytes().all(|byte| byte.is_ascii_hexdigit()));
        }
    }
    if let Ok(text) = std::str::from_utf8(data) {
        if let Ok(name) = text.parse::<RepoName>() {
            let again: RepoName = name.to_string().parse().expect("a name that was accepted is accepted as it is written");
            assert_eq!((again.id, again.revision, again.file), (name.id, name.revision, name.file));
        }
        let _ = WebFile::parse(text);
        let _ = Card::check(text);
    }
});

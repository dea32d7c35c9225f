//! Vindexfiles: layers that are cached, and builds that are interrupted.

use std::ops::ControlFlow;

use larql_lql::vindexfile::Vindexfile;
use larql_session::{BuildError, BuildOptions};

use super::*;

/// Builds up to `last` layers, counted from 1; returns for each whether it was in the cache of `library`.
fn build(library: &Path, last: usize) -> Result<Vec<bool>, BuildError> {
    let text = format!(
        "FROM '{}'\nDELETE FEATURES layer = 0 AND feature = 1\nDELETE FEATURES layer = 1 AND feature = 2",
        fixture("llama-f16-all.vindex")
    );
    let vindexfile = Vindexfile::parse(&text).unwrap();
    let mut session = Session::new(catalog(Library::new(library.into())));
    let (options, mut cached) = (BuildOptions { folder: library, stage: None }, Vec::new());
    let built = session.build(&vindexfile, options, &mut |done| {
        cached.push(done.cached);
        assert_eq!((done.number, done.of), (cached.len(), 3));
        if done.number == last { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    match built {
        Err(BuildError::Interrupted) => Ok(cached),
        built => built.map(|build| {
            assert_eq!(build.history.layers.len(), 3);
            cached
        }),
    }
}

#[test]
fn a_build_goes_on_where_it_was_interrupted_and_does_damaged_layers_again() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(build(folder.path(), 2).unwrap(), [false, false]);
    assert_eq!(build(folder.path(), 0).unwrap(), [false, true, false]);
    assert_eq!(build(folder.path(), 0).unwrap(), [false, true, true]);
    let kept: Vec<_> =
        std::fs::read_dir(folder.path().join(".builds")).unwrap().map(|file| file.unwrap().path()).collect();
    assert_eq!(kept.len(), 4);
    for (round, damage) in ["", "{", "[]"].into_iter().enumerate() {
        kept.iter().skip(round).step_by(3).for_each(|file| std::fs::write(file, damage).unwrap());
        assert!(build(folder.path(), 0).unwrap()[1..].contains(&false));
        assert_eq!(build(folder.path(), 0).unwrap(), [false, true, true]);
    }
}

//! The examples of `.help`, as they are shown for the model in use: each of them runs.

use larql_lql::ast::Help;

use super::*;

/// The example that `.help` shows for each statement, by name.
fn examples(model: &Path, folder: &Path) -> Vec<(&'static str, String)> {
    let names: Vec<&str> = Help::all().map(|help| help.name).collect();
    let asked: String = names.iter().map(|name| format!(".help {name}\n")).collect();
    let shown = in_folder(folder, ["repl", text(model)]).write_stdin(asked).assert().success();
    let shown = stdout(&shown);
    let example = |name: &'static str| {
        let (_, help) = shown.split_once(&format!("\n{name}: ")).or(shown.split_once(&format!("{name}: ")))?;
        let (_, example) = help.split_once("For example\n  ")?;
        Some((name, example.lines().next()?.to_owned()))
    };
    names.into_iter().map(|name| example(name).unwrap_or_else(|| panic!("{name} has no example"))).collect()
}

/// `larql` in a folder, whose `cache` it uses.
fn in_folder<'a>(folder: &Path, arguments: impl IntoIterator<Item = &'a str>) -> Command {
    let mut command = larql(arguments);
    command.current_dir(folder).env("XDG_CACHE_HOME", folder.join("cache"));
    command
}

/// Runs every example on a model, those first that others need.
fn every_example_runs_on(model: &Path, folder: &Path) {
    const FIRST: [&str; 5] = ["BEGIN PATCH", "INSERT", "SAVE PATCH", "REMOVE PATCH", "APPLY PATCH"];
    let mut examples = examples(model, folder);
    examples.sort_by_key(|(name, _)| match *name {
        // It opens another model.
        "USE" => FIRST.len() + 1,
        name => FIRST.iter().position(|first| *first == name).unwrap_or(FIRST.len()),
    });
    let script: Vec<&str> = examples.iter().map(|(_, example)| &**example).collect();
    in_folder(folder, ["lql", "--use", text(model), &script.join("\n")]).assert().success();
}

#[test]
fn of_the_bundled_model() {
    let folder = tempfile::tempdir().unwrap();
    every_example_runs_on(Path::new("atlas"), folder.path());
}

#[test]
fn of_a_real_model() {
    let Some(gguf) = larql_testing::real_model(larql_testing::SMOLLM2) else { return };
    let folder = tempfile::tempdir().unwrap();
    let vindex = folder.path().join("smol.vindex");
    in_folder(folder.path(), ["extract", text(&gguf), "-o", text(&vindex), "--level", "all"])
        .assert()
        .success();
    every_example_runs_on(&vindex, folder.path());
}

//! Runs the fuzz targets on the stable toolchain.

use std::path::Path;
use std::process::{Child, Command};

use crate::{Failure, run};

/// Runs every target in `fuzz/fuzz_targets` for `seconds`, starting from the corpus in `fuzz/seeds/TARGET`. As many run at
/// a time as there are cores.
pub(crate) fn run_all(root: &Path, seconds: u64) -> Result<(), Failure> {
    let mut build = Command::new("cargo");
    // libFuzzer's instrumentation is an unstable compiler flag; this lets the stable compiler take it.
    build.env("RUSTC_BOOTSTRAP", "1").args(["fuzz", "build"]);
    run(build)?;
    let at_a_time = std::thread::available_parallelism().map_or(1, usize::from);
    for targets in targets(root)?.chunks(at_a_time) {
        let started: Result<Vec<(&String, Child)>, Failure> =
            targets.iter().map(|target| Ok((target, start(root, target, seconds)?))).collect();
        // All of them are awaited, so that none still runs when the failure of another is reported.
        let ended: Vec<Result<(), Failure>> =
            started?.into_iter().map(|(target, process)| wait(target, process)).collect();
        ended.into_iter().collect::<Result<(), Failure>>()?;
    }
    Ok(())
}

fn start(root: &Path, target: &str, seconds: u64) -> Result<Child, Failure> {
    println!("fuzzing {target} for {seconds} s");
    let corpus = root.join("fuzz/corpus").join(target);
    std::fs::create_dir_all(&corpus).map_err(|e| format!("{}: {e}", corpus.display()))?;
    let mut command = Command::new("cargo");
    command.env("RUSTC_BOOTSTRAP", "1").current_dir(root);
    command.args(["fuzz", "run", target]).arg(corpus).arg(root.join("fuzz/seeds").join(target));
    command.args([
        "--",
        "-timeout=20",
        "-rss_limit_mb=4096",
        "-verbosity=0",
        "-print_funcs=0",
        "-print_final_stats=1",
    ]);
    command.arg(format!("-max_total_time={seconds}"));
    command.spawn().map_err(|e| format!("{command:?}: {e}"))
}

fn wait(target: &str, mut process: Child) -> Result<(), Failure> {
    let status = process.wait().map_err(|e| format!("{target}: {e}"))?;
    if !status.success() {
        return Err(format!("fuzz target {target} failed with {status}"));
    }
    Ok(())
}

fn targets(root: &Path) -> Result<Vec<String>, Failure> {
    let folder = root.join("fuzz/fuzz_targets");
    let entries = std::fs::read_dir(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    let mut names: Vec<String> = entries
        .filter_map(Result::ok)
        .filter_map(|entry| Some(entry.file_name().to_str()?.strip_suffix(".rs")?.to_owned()))
        .collect();
    names.sort();
    Ok(names)
}

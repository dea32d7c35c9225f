//! Time and memory of making and opening a vindex: `cargo bench -p larql-vindex --bench
//! extract_throughput [-- CHECKPOINT…]`; without an argument, the two real models of the tests.
//!
//! Each figure comes from a process of its own, so that its peak of resident memory is that of the one thing it did.
//! Pages of mapped files count from when they are touched; opening is the second one of its process.

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use larql_core::progress::NoProgress;
use larql_models::Checkpoint;
use larql_vindex::{ExtractOptions, Vindex, extract, verify};
use larql_vindex_spec::ExtractLevel;
use nix::sys::resource::{UsageWho, getrusage};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// The levels that are measured.
const LEVELS: [ExtractLevel; 2] = [ExtractLevel::Browse, ExtractLevel::Inference];

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        ["alone", "extract", level, source, target] => extract_alone(level, source.as_ref(), target.as_ref()),
        ["alone", "open", path] => open_alone(path.as_ref()),
        ["alone", "verify", path] => verify_alone(path.as_ref()),
        [] => [larql_testing::SMOLLM2, larql_testing::GEMMA3]
            .into_iter()
            .filter_map(larql_testing::real_model)
            .try_for_each(|model| measure(&model)),
        ref models => models.iter().try_for_each(|model| measure(model.as_ref())),
    }
}

/// Extracts a checkpoint at two levels, then opens and verifies each.
fn measure(source: &Path) -> Result<()> {
    let folder = tempfile::tempdir()?;
    println!("{}", source.file_name().unwrap_or(source.as_os_str()).display());
    println!("                          time        peak resident memory");
    for level in LEVELS {
        let target = folder.path().join(level.name());
        let path = |path: &Path| path.display().to_string();
        alone(&["extract", level.name(), &path(source), &path(&target)])?;
        alone(&["open", &path(&target)])?;
        alone(&["verify", &path(&target)])?;
    }
    println!();
    Ok(())
}

/// Runs this program anew, for one thing.
fn alone(arguments: &[&str]) -> Result<()> {
    let status = Command::new(std::env::current_exe()?).arg("alone").args(arguments).status()?;
    if status.success() { Ok(()) } else { Err(format!("{arguments:?}: {status}").into()) }
}

fn extract_alone(level: &str, source: &Path, target: &Path) -> Result<()> {
    let level = LEVELS.into_iter().find(|known| known.name() == level).ok_or("no such level")?;
    let options = ExtractOptions { level, ..ExtractOptions::default() };
    let started = Instant::now();
    let report = extract(&Checkpoint::open(source)?, target, &options, &NoProgress)?;
    let seconds = started.elapsed().as_secs_f64();
    let bytes: u64 = report.files.iter().map(|(_, bytes)| bytes).sum();
    print_line(&format!("extract {}", level.name()), seconds)?;
    println!("{:24} {:10.1} MB on disk", "", bytes as f64 / 1e6);
    Ok(())
}

fn open_alone(path: &Path) -> Result<()> {
    Vindex::open(path)?;
    let started = Instant::now();
    let vindex = Vindex::open(path)?;
    print_line("open", started.elapsed().as_secs_f64())?;
    drop(vindex);
    Ok(())
}

fn verify_alone(path: &Path) -> Result<()> {
    let started = Instant::now();
    let report = verify(path, &NoProgress)?;
    if !report.is_sound() {
        return Err("the vindex is damaged".into());
    }
    print_line("verify", started.elapsed().as_secs_f64())
}

fn print_line(name: &str, seconds: f64) -> Result<()> {
    println!("{name:20} {seconds:12.4} s   {:10.1} MB", peak_megabytes()?);
    Ok(())
}

/// The most memory that this process has had resident so far.
fn peak_megabytes() -> Result<f64> {
    // Linux counts in KiB, macOS in bytes.
    let unit = if cfg!(target_os = "macos") { 1.0 } else { 1024.0 };
    Ok(getrusage(UsageWho::RUSAGE_SELF)?.max_rss() as f64 * unit / 1e6)
}

//! The Python package: assembled from the development build, tested, and its types checked.
//!
//! The release wheel is made by maturin, from the same sources.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{Failure, run};

/// Sources of the package.
const SOURCES: &str = "crates/larql-python/python/larql";

/// Builds the extension, puts the package together in `target/python`, and checks it with the `python` that is first in PATH.
pub(crate) fn check(root: &Path) -> Result<(), Failure> {
    let packages = assemble(root)?;
    let python = |arguments: &[&str]| {
        let mut command = Command::new("python3");
        command.args(arguments).env("PYTHONPATH", &packages);
        run(command)
    };
    python(&["-m", "pytest"])?;
    python(&["-m", "mypy"])?;
    let interpreter = which_python(root)?;
    python(&["-m", "pyright", "--pythonpath", &interpreter])
}

/// Builds the extension and returns the folder in which `import larql` finds the package.
fn assemble(root: &Path) -> Result<PathBuf, Failure> {
    // Of the whole workspace, so that crates have the features of the tests' build and are not compiled again.
    crate::cargo(&["build", "--workspace", "--lib", "--quiet"])?;
    let packages = root.join("target/python");
    let package = packages.join("larql");
    let failed = |e: std::io::Error| format!("{}: {e}", package.display());
    if package.exists() {
        fs::remove_dir_all(&package).map_err(failed)?;
    }
    fs::create_dir_all(&package).map_err(failed)?;
    for entry in fs::read_dir(root.join(SOURCES)).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if entry.file_type().map_err(failed)?.is_file() {
            fs::copy(entry.path(), package.join(entry.file_name())).map_err(failed)?;
        }
    }
    let (built, name) = match std::env::consts::OS {
        "windows" => ("_larql.dll", "_larql.pyd"),
        "macos" => ("lib_larql.dylib", "_larql.abi3.so"),
        _ => ("lib_larql.so", "_larql.abi3.so"),
    };
    fs::copy(root.join("target/debug").join(built), package.join(name)).map_err(failed)?;
    Ok(packages)
}

/// The path of the `python3` that is first in PATH.
fn which_python(root: &Path) -> Result<String, Failure> {
    let output = Command::new("python3")
        .args(["-c", "import sys; print(sys.executable)"])
        .current_dir(root)
        .output()
        .map_err(|e| format!("python3: {e}"))?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

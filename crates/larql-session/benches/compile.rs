//! Time of COMPILE with one edge and with ten, beside writing as many bytes: `cargo bench -p larql-session --bench
//! compile`. The model is SmolLM2, or the bundled one where that is not there.
//!
//! A compiled vindex has hard links in place of files that no edit touches; a model for other programs is written whole.

use std::error::Error;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use larql_compute::Pool;
use larql_core::progress::NoProgress;
use larql_hub::Library;
use larql_lql::parse_statement;
use larql_models::Checkpoint;
use larql_session::{Catalog, Session};
use larql_testing::Table;
use larql_vindex::{ExtractOptions, extract};

/// Numbers of edges that are compiled in.
const EDGES: [usize; 2] = [1, 10];
/// Targets of the statement: its kind, the name of the result, and the clause of its format.
const TARGETS: [(&str, &str, &str); 3] = [
    ("VINDEX", "edited.vindex", ""),
    ("MODEL", "edited", "FORMAT safetensors"),
    ("MODEL", "edited.gguf", "FORMAT gguf"),
];

fn main() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let source =
        larql_testing::real_model(larql_testing::SMOLLM2).unwrap_or_else(|| larql_testing::shipped("atlas"));
    let base = folder.path().join("base.vindex");
    extract(&Checkpoint::open(&source)?, &base, &ExtractOptions::default(), &NoProgress)?;
    let pool = Arc::new(Pool::for_this_machine());
    println!("{}, {} threads\n", source.display(), pool.threads());

    let mut table = Table::beside_limits("COMPILE");
    for edges in EDGES {
        let mut session = Session::new(Arc::new(Catalog::new(Arc::clone(&pool), Library::default())));
        session.open_path(&base)?;
        for edge in 0..edges {
            let insert = format!(
                r#"INSERT INTO EDGES (entity, relation, target) VALUES ("Atlantis {edge}", "capital", "Lima")"#
            );
            session.execute(&parse_statement(&insert)?)?;
        }
        for (kind, name, format) in TARGETS {
            let target = folder.path().join(name);
            let statement =
                format!("COMPILE CURRENT INTO {kind} {:?} {format}", target.display().to_string());
            let statement = parse_statement(&statement)?;
            let started = Instant::now();
            session.execute(&statement)?;
            let seconds = started.elapsed().as_secs_f64();
            let bytes = written_bytes(&target)?;
            let limit = seconds_of_writing(folder.path(), bytes)?;
            table.print(
                &format!("{name}, edges: {edges}"),
                seconds,
                &format!("writing {bytes} bytes"),
                limit,
            );
            if target.is_dir() { std::fs::remove_dir_all(&target)? } else { std::fs::remove_file(&target)? }
        }
    }
    Ok(())
}

/// Bytes of a file, or of the files of a folder that are no links to those of another one.
fn written_bytes(path: &Path) -> Result<u64, Box<dyn Error>> {
    if path.is_file() {
        return Ok(path.metadata()?.len());
    }
    let mut bytes = 0;
    for entry in std::fs::read_dir(path)? {
        let entry = entry?;
        let file = entry.metadata()?;
        bytes += if file.is_dir() {
            written_bytes(&entry.path())?
        } else if is_link(&file) {
            0
        } else {
            file.len()
        };
    }
    Ok(bytes)
}

#[cfg(unix)]
fn is_link(file: &std::fs::Metadata) -> bool {
    std::os::unix::fs::MetadataExt::nlink(file) > 1
}

#[cfg(not(unix))]
fn is_link(_file: &std::fs::Metadata) -> bool {
    false
}

/// Seconds of writing as many bytes into a file and waiting until the disk has them.
fn seconds_of_writing(folder: &Path, bytes: u64) -> Result<f64, Box<dyn Error>> {
    let path = folder.join("bytes");
    let piece = vec![7; 1 << 20];
    let started = Instant::now();
    let mut file = File::create(&path)?;
    let mut rest = bytes as usize;
    while rest > 0 {
        let part = rest.min(piece.len());
        file.write_all(&piece[..part])?;
        rest -= part;
    }
    file.sync_all()?;
    let seconds = started.elapsed().as_secs_f64();
    std::fs::remove_file(path)?;
    Ok(seconds)
}

//! Cost of many sessions on one vindex: `cargo run --release -p larql-session --example many_sessions -- model.vindex`.
//!
//! Opens 1, 10 and 100 sessions, each with an edit of its own, and prints seconds and resident memory.

use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use larql_compute::Pool;
use larql_hub::Library;
use larql_lql::parse_statement;
use larql_session::{Catalog, Session};

fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args().nth(1).ok_or("name a vindex")?;
    let catalog = Arc::new(Catalog::new(Arc::new(Pool::for_this_machine()), Library::default()));
    let mut sessions: Vec<Session> = Vec::new();
    println!("{:>8}  {:>9}  {:>9}", "sessions", "seconds", "resident");
    for count in [1, 10, 100] {
        let started = Instant::now();
        while sessions.len() < count {
            let feature = sessions.len();
            let mut session = Session::new(Arc::clone(&catalog));
            session.open_path(Path::new(&path))?;
            let edit = format!("DELETE FROM EDGES WHERE layer = 0 AND feature = {feature}");
            session.execute(&parse_statement(&edit)?)?;
            sessions.push(session);
            if sessions.len() == 1 {
                for text in ["DESCRIBE \"France\"", "INFER \"The capital of France is\""] {
                    sessions[0].query(&parse_statement(text)?)?;
                }
            }
        }
        println!("{count:>8}  {:>9.3}  {:>9}", started.elapsed().as_secs_f64(), resident());
    }
    Ok(())
}

/// Returns the memory of this process that is in use, where Linux says so.
fn resident() -> String {
    let pages = std::fs::read_to_string("/proc/self/statm").ok();
    let pages = pages.and_then(|text| text.split_whitespace().nth(1)?.parse::<usize>().ok());
    pages.map_or("unknown".to_owned(), |pages| format!("{} MB", pages * 4096 / 1_000_000))
}

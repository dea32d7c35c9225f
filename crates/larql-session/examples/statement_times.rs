//! Times of statements on the bundled model, to compare calls from other languages with.
//!
//! `cargo run --example statement_times -p larql-session` prints for each statement the shortest and the median time of a call,
//! in microseconds. `scripts/python-overhead.py` runs it.

use std::error::Error;
use std::sync::Arc;
use std::time::Instant;

use larql_compute::Pool;
use larql_hub::Library;
use larql_lql::parse_statement;
use larql_session::{Catalog, Session};

/// Calls that are measured, after as many that are not.
const CALLS: usize = 100;

fn main() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let library = Library::new(folder.path().join("models"));
    let catalog = Catalog::new(Arc::new(Pool::for_this_machine()), library);
    let mut session = Session::new(Arc::new(catalog));
    session.execute(&parse_statement("USE \"atlas\"")?)?;
    // The last one takes so little that what remains is the cost of a call.
    let statements =
        [r#"INFER "The capital of France is" TOP 5"#, r#"DESCRIBE "France""#, "SHOW COMPACT STATUS"];
    for text in statements {
        let mut times = Vec::with_capacity(CALLS);
        for call in 0..2 * CALLS {
            let started = Instant::now();
            session.query(&parse_statement(text)?)?;
            if call >= CALLS {
                times.push(started.elapsed().as_secs_f64() * 1e6);
            }
        }
        times.sort_by(f64::total_cmp);
        println!("{:.1} {:.1} {text}", times[0], times[CALLS / 2]);
    }
    Ok(())
}

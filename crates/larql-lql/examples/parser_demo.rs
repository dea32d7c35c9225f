//! Statements that the parser reads in a text: `cargo run -p larql-lql --example parser_demo -- 'walk "The capital" top 5'`.

use larql_lql::{parse, render};

const SAMPLE: &str = r#"
use "atlas";                                      -- any case, comments
describe 'France' brief limit 5 relations only;   -- clauses in any order
select entity, target from edges where relation = capital |> infer top 3;
show layers 2 - 5;
"#;

fn main() {
    let typed: Vec<String> = std::env::args().skip(1).collect();
    let text = if typed.is_empty() { SAMPLE.trim().to_owned() } else { typed.join(" ") };
    match parse(&text) {
        Ok(pipes) => pipes.iter().for_each(|pipe| println!("{pipe};\n{:#?}\n", pipe.value)),
        Err(error) => eprint!("{}", render::diagnostic(&error, "lql", &text, false)),
    }
}

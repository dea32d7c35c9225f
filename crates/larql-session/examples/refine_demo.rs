//! Features of many edges are scaled together until each target is as probable as it should be: `cargo run -p larql-session
//! --example refine_demo`.

mod shared;

const STATEMENTS: &str = r#"
    INSERT INTO EDGES (entity, relation, target)
        VALUES ("Atlantis", "capital", "Lima"), ("Lemuria", "capital", "Oslo"), ("Mu", "language", "Greek");
    REBALANCE FLOOR 0.6 CEILING 0.9;
    INFER "The capital of Atlantis is" TOP 2;
    INFER "The official language of Mu is" TOP 2;
    INFER "The capital of Peru is" TOP 2;
"#;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    shared::Atlas::open()?.show(STATEMENTS)
}

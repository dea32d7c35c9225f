//! Tour of the query language: `cargo run -p larql-session --example lql_demo`.

mod shared;

const STATEMENTS: &str = r#"
    DESCRIBE "France";
    SELECT entity, target FROM EDGES WHERE relation = "capital" LIMIT 5;
    WALK "The capital of France is" TOP 5;
    INFER "The capital of France is" TOP 3;
    INSERT INTO EDGES (entity, relation, target) VALUES ("Atlantis", "capital", "Lima");
    INFER "The capital of Atlantis is" TOP 3;
    UNDO;
    INFER "The capital of Atlantis is" TOP 3;
"#;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    shared::Atlas::open()?.show(STATEMENTS)
}

//! Edges of the edge memory become features, and features one change of their layer: `cargo run -p larql-session --example
//! compact_demo`.

mod shared;

const STATEMENTS: &str = r#"
    BEGIN PATCH "sea.vlp";
    -- Stored in the edge memory; the weights stay as they are.
    INSERT INTO EDGES (entity, relation, target)
        VALUES ("Atlantis", "capital", "Lima"), ("Lemuria", "capital", "Oslo") MODE KNN;
    INFER "The capital of Atlantis is" TOP 2;
    SHOW COMPACT STATUS;
    -- Each gets features of its own.
    COMPACT MINOR;
    INFER "The capital of Atlantis is" TOP 2;
    -- One change of what the layer's features write takes the place of all of them.
    COMPACT MAJOR WITH LAMBDA = 0.01;
    INFER "The capital of Atlantis is" TOP 2;
    INFER "The capital of France is" TOP 2;
    SHOW COMPACT STATUS;
"#;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    shared::Atlas::open()?.show(STATEMENTS)
}

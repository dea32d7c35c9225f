//! Base and edits become a vindex of their own, and a model for other programs: `cargo run -p larql-session --example
//! compile_demo`.

mod shared;

const STATEMENTS: &str = r#"
    INSERT INTO EDGES (entity, relation, target) VALUES ("Atlantis", "capital", "Poseidon");
    -- What no edit touched is not copied, but linked.
    COMPILE CURRENT INTO VINDEX "edited.vindex";
    COMPILE CURRENT INTO MODEL "edited" FORMAT safetensors;
    COMPILE CURRENT INTO MODEL "edited.gguf" FORMAT gguf;
    DIFF "atlas" "edited.vindex";
    USE "edited.vindex";
    INFER "The capital of Atlantis is" TOP 1;
    USE MODEL "edited";
    INFER "The capital of Atlantis is" TOP 1;
    USE MODEL "edited.gguf";
    INFER "The capital of Atlantis is" TOP 1;
"#;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    shared::Atlas::open()?.show(STATEMENTS)
}

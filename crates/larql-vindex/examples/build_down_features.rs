//! Down vectors, feature by feature, in a file for other programs: `cargo run -p larql-vindex --example
//! build_down_features [-- VINDEX]`.
//!
//! A vindex stores a down projection as the model does, `[hidden, features]`, so that a feature's vector is a column.
//! `down_features.bin` has the vectors one after the other, `[features, hidden]` in f32 for each layer in turn. LARQL does
//! not read it.

mod shared;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    shared::write_vectors("down_features.bin", |vectors, feature| vectors.down(feature))
}

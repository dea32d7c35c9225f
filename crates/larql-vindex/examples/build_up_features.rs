//! Up rows in one file for other programs: `cargo run -p larql-vindex --example build_up_features [-- VINDEX]`.
//!
//! `up_features.bin` has the up rows, `[features, hidden]` in f32 for each layer in turn, whatever format the vindex stores
//! them in. LARQL does not read it.

mod shared;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    shared::write_vectors("up_features.bin", |vectors, feature| vectors.up(feature))
}

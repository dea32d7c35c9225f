//! Compiles the interface of gRPC. protox is a compiler in Rust, so that no protoc is needed.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let descriptors = protox::compile(["proto/vindex.proto"], ["proto"])?;
    // Messages are read from the JSON that the HTTP routes answer with, in which fields may be absent.
    tonic_prost_build::configure()
        .build_client(false)
        .type_attribute(".", "#[derive(serde::Deserialize)] #[serde(default)]")
        .compile_fds(descriptors)?;
    println!("cargo::rerun-if-changed=proto");
    Ok(())
}

//! Peers, and the paths of their programs.

use std::path::PathBuf;
use std::process::Command;
use std::str::FromStr;

use super::client::EngineError;

/// Peer of a measurement.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Peer {
    /// llama.cpp, in the Python environment of `scripts/reference-environment.sh`.
    LlamaCpp,
    /// Another program with the command `run`.
    LarqlReference(PathBuf),
}

impl FromStr for Peer {
    type Err = String;

    fn from_str(peer: &str) -> Result<Peer, String> {
        match peer.split_once('=') {
            None if peer == "llama-cpp" => Ok(Peer::LlamaCpp),
            Some(("larql-reference", path)) if !path.is_empty() => Ok(Peer::LarqlReference(path.into())),
            _ => Err("expected llama-cpp, or larql-reference=PATH with the path of a larql program".into()),
        }
    }
}

/// The engine that runs llama.cpp, up to its arguments.
pub(super) fn llama_cpp() -> Result<Command, EngineError> {
    let cache = directories::BaseDirs::new().map(|base| base.cache_dir().to_owned()).unwrap_or_default();
    let python = cache.join("larql-reference/bin/python");
    if !python.exists() {
        return Err(EngineError::Missing {
            engine: "llama.cpp",
            missing: python,
            next: "scripts/reference-environment.sh llama.cpp puts it there, in about ten minutes",
        });
    }
    let mut command = Command::new(python);
    command.args(["-c", include_str!("../../../../../scripts/llama-cpp-peer.py")]);
    Ok(command)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peers_go_by_their_names() {
        assert_eq!("llama-cpp".parse(), Ok(Peer::LlamaCpp));
        assert_eq!("larql-reference=bin/larql".parse(), Ok(Peer::LarqlReference("bin/larql".into())));
        for unknown in ["llama", "larql-reference", "larql-reference=", "llama-cpp=x"] {
            assert!(unknown.parse::<Peer>().is_err(), "{unknown}");
        }
    }
}

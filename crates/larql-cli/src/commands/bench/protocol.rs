//! Protocol between `larql bench` and the engines that it measures: a JSON object a line, requests on the engine's
//! standard input, one answer to each on its standard output. LARQL is measured over the same protocol as its peers.
//!
//! An engine is a program that is called with a model file and `--threads N`. Before the first request it says what it
//! is, and how much memory it holds with nothing loaded:
//!
//! ```json
//! {"engine": "llama.cpp", "resident": {"peak": 43405312, "anonymous": 23142400, "file": 20262912}}
//! ```
//!
//! Then it answers a [`Request`] with the seconds that it took, `{"seconds": 0.5}`, or with `{"error": "…"}`. It ends
//! when its standard input does.

use serde::{Deserialize, Serialize};

/// Request to an engine.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
pub(super) enum Request {
    /// Open the model for sequences of at most `context` tokens, run `tokens`, choose the next. It takes from before
    /// the model is opened until the token is chosen. This comes first.
    Load { tokens: Vec<u32>, context: usize },
    /// Run `tokens` in one pass, as a new sequence. It takes until the logits after the last one are there.
    Prefill { tokens: Vec<u32> },
    /// Run `tokens` as a new sequence, then `count` passes of one token each, the likeliest after the one before. Only
    /// these passes are timed.
    Decode { tokens: Vec<u32>, count: usize },
    /// Run each of `prompts` as a new sequence, then `count` passes of one token of every sequence. Only these passes are
    /// timed. What [`Request::Load`] says of the length of sequences does not hold for these.
    DecodeTogether { prompts: Vec<Vec<u32>>, count: usize },
    /// Say how much memory the process holds, the last sequence included; answered by [`Holding`].
    Resident,
}

/// First message of an engine.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Greeting {
    /// Its name and version.
    pub(super) engine: String,
    /// Its memory with nothing loaded.
    pub(super) resident: Option<Resident>,
}

/// Time of a request.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Timed {
    pub(super) seconds: f64,
}

/// Answers [`Request::Resident`].
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Holding {
    /// Nothing where the system does not tell.
    pub(super) resident: Option<Resident>,
}

/// Failure of a request.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Refusal {
    pub(super) error: String,
}

/// Bytes of a process that are in memory.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Resident {
    /// The most there ever were.
    pub(super) peak: u64,
    /// Memory of its own, now.
    pub(super) anonymous: u64,
    /// Pages of mapped files, now.
    pub(super) file: u64,
}

impl Resident {
    /// Memory of this process, as Linux tells it.
    pub(super) fn of_this_process() -> Option<Resident> {
        let status = std::fs::read_to_string("/proc/self/status").ok()?;
        let bytes = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            Some(line.trim_start_matches(':').split_whitespace().next()?.parse::<u64>().ok()? * 1024)
        };
        Some(Resident { peak: bytes("VmHWM")?, anonymous: bytes("RssAnon")?, file: bytes("RssFile")? })
    }
}

//! Options of a server: models, address and bounds.

use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use larql_compute::attention::KeyValueFormat;

/// Options of a server. Every field has a default that suits one person on one machine.
#[derive(Clone, Debug)]
pub struct ServeOptions {
    /// Models by name. The first one answers where none is named.
    pub models: Vec<(String, PathBuf)>,
    /// Address to listen on.
    pub host: IpAddr,
    /// Port to listen on; 0 for any that is free.
    pub port: u16,
    /// Port of gRPC; none to leave it out, 0 for any that is free.
    pub grpc_port: Option<u16>,
    /// Keys, of which requests have to give one; none to let everyone in.
    pub api_keys: Vec<String>,
    /// Certificate and key of TLS.
    pub tls: Option<Tls>,
    /// Origins whose pages may use the server; `*` for all.
    pub cors_origins: Vec<String>,
    /// Requests that one address may make.
    pub rate_limit: Option<RateLimit>,
    /// Believe `X-Forwarded-For`, which a proxy in front sets.
    pub trust_forwarded_for: bool,
    /// Hosts that patches may be fetched from.
    pub patch_hosts: Vec<String>,
    /// Answer questions that run the model.
    pub infer: bool,
    /// Allow edits, which last as long as their session and are never written to disk.
    pub edit: bool,
    /// Describe the interface at `/openapi.json`, and answer with the explorer at `/`.
    pub docs: bool,
    /// Read special tokens in messages as such, so that a message can end its turn.
    pub special_tokens_in_messages: bool,
    /// Write a line for each request to standard error.
    pub access_log: bool,
    /// Bounds of the engine.
    pub engine: EngineLimits,
    /// Bounds of requests.
    pub limits: Limits,
}

/// Files of TLS, in PEM.
#[derive(Clone, Debug)]
pub struct Tls {
    /// Certificates, the server's own first.
    pub certificates: PathBuf,
    /// Private key.
    pub key: PathBuf,
}

/// Number of requests in a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimit {
    /// Number of requests.
    pub requests: NonZeroU32,
    /// The time.
    pub per: Duration,
}

/// Bounds of the engine.
#[derive(Clone, Copy, Debug)]
pub struct EngineLimits {
    /// Texts that are generated at the same time.
    pub concurrent: usize,
    /// Requests that wait for a place.
    pub waiting: usize,
    /// Bytes of keys and values; a quarter of the available memory if none is given.
    pub key_value_bytes: Option<u64>,
    /// Storage of keys and values.
    pub key_values: KeyValueFormat,
    /// Keep keys and values of prompts for later requests that begin alike.
    pub share_prefixes: bool,
    /// Check at the start that there is enough memory.
    pub check_memory: bool,
}

/// Bounds of requests.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of a body.
    pub body_bytes: usize,
    /// Tokens of a text for which no number is given.
    pub default_tokens: usize,
    /// Tokens of a text.
    pub most_tokens: usize,
    /// Texts that one request asks for.
    pub choices: usize,
    /// Features, edges or tokens that one request asks for.
    pub rows: usize,
    /// Questions in LQL that run at the same time.
    pub queries: usize,
    /// Time for a question in LQL.
    pub query_time: Duration,
    /// Time for an edit.
    pub edit_time: Duration,
    /// Time for a body to arrive.
    pub body_time: Duration,
    /// Time after which a session without requests ends.
    pub session_idle: Duration,
    /// Sessions with edits.
    pub sessions: usize,
    /// Answers that later ones can continue.
    pub responses: usize,
    /// Time for running requests when the server stops.
    pub shutdown: Duration,
}

impl Default for ServeOptions {
    fn default() -> ServeOptions {
        ServeOptions {
            models: Vec::new(),
            host: IpAddr::V4(Ipv4Addr::LOCALHOST),
            port: 8080,
            grpc_port: None,
            api_keys: Vec::new(),
            tls: None,
            cors_origins: Vec::new(),
            rate_limit: None,
            trust_forwarded_for: false,
            patch_hosts: Vec::new(),
            infer: true,
            edit: true,
            docs: true,
            special_tokens_in_messages: false,
            access_log: true,
            engine: EngineLimits::default(),
            limits: Limits::default(),
        }
    }
}

impl Default for EngineLimits {
    fn default() -> EngineLimits {
        EngineLimits {
            concurrent: 64,
            waiting: 256,
            key_value_bytes: None,
            key_values: KeyValueFormat::default(),
            share_prefixes: true,
            check_memory: true,
        }
    }
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            body_bytes: 8 << 20,
            default_tokens: 1024,
            most_tokens: 32_768,
            choices: 16,
            rows: 1000,
            queries: 4,
            query_time: Duration::from_secs(60),
            edit_time: Duration::from_secs(600),
            body_time: Duration::from_secs(30),
            session_idle: Duration::from_secs(3600),
            sessions: 256,
            responses: 256,
            shutdown: Duration::from_secs(10),
        }
    }
}

impl RateLimit {
    /// Reads a rate, such as `100/min`, `5/s` or `1000/h`.
    ///
    /// # Errors
    /// A sentence that says what was expected.
    pub fn parse(text: &str) -> Result<RateLimit, String> {
        let expected = || format!("expected a rate such as 100/min, 5/s or 1000/h, found {text:?}");
        let (requests, unit) = text.split_once('/').ok_or_else(expected)?;
        let seconds = match unit.trim() {
            "s" | "sec" | "second" => 1,
            "m" | "min" | "minute" => 60,
            "h" | "hour" => 3600,
            _ => return Err(expected()),
        };
        let requests = requests.trim().parse().map_err(|_| expected())?;
        Ok(RateLimit { requests, per: Duration::from_secs(seconds) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_read() {
        let rate = RateLimit::parse("100/min").unwrap();
        assert_eq!((rate.requests.get(), rate.per), (100, Duration::from_secs(60)));
        assert!(RateLimit::parse("0/s").is_err() && RateLimit::parse("5").is_err());
        assert_eq!(
            RateLimit::parse("5/day").unwrap_err(),
            "expected a rate such as 100/min, 5/s or 1000/h, found \"5/day\""
        );
    }
}

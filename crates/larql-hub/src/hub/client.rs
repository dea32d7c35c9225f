//! Requests: timeouts, repetitions, redirects and errors. The token goes to the hub's own origin alone.

use std::collections::BTreeSet;
use std::io::Read;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use larql_core::progress::CancelToken;
use serde::de::DeserializeOwned;
use serde_json::Value;
use ureq::http::header::AUTHORIZATION;
use ureq::http::{HeaderMap, HeaderValue, Method, StatusCode};
use ureq::{Agent, AsSendBody, Body, SendBody};
use url::Url;

use super::{HubError, HubSettings, RepoId};

/// Redirects that a request follows.
const MOST_REDIRECTS: usize = 20;
/// Repetitions of a request to a server that never answered, which is hardly on its way back.
const UNREACHED: usize = 2;
/// Time in which such a server is given up: no further attempt is begun, and no connection is waited for any longer.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);
/// Shortest time that a connection may take.
const SHORTEST_CONNECT: Duration = Duration::from_secs(1);
/// Bytes of an answer that is read whole.
const LONGEST_ANSWER: u64 = 256 << 20;
/// Bytes of an error that are read.
const LONGEST_ERROR: u64 = 64 << 10;
/// Time between looks at the token that cancels, while waiting.
pub(crate) const WATCH: Duration = Duration::from_millis(50);

/// Sender of requests.
#[derive(Debug)]
pub(crate) struct Client {
    agent: Agent,
    settings: HubSettings,
    endpoint: Url,
    /// The servers that answered.
    reached: Mutex<BTreeSet<String>>,
    #[cfg(feature = "xet")]
    pub(crate) xet: super::xet::Store,
}

/// A request, which can be sent again.
pub(crate) struct Call<'a> {
    pub(crate) method: Method,
    pub(crate) url: Url,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: CallBody<'a>,
    /// The request in words, for messages.
    pub(crate) what: String,
    /// The repository that it is about, if it is about one.
    pub(crate) repo: Option<&'a RepoId>,
    /// The revision and the file there, for messages.
    pub(crate) revision: &'a str,
    pub(crate) file: &'a str,
}

/// Body of a request.
pub(crate) enum CallBody<'a> {
    Empty,
    Bytes(Vec<u8>),
    /// A stream of known length, opened anew for each attempt.
    Stream(u64, Box<dyn Fn() -> Result<Box<dyn Read + 'a>, HubError> + 'a>),
}

/// An answer that is no error.
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) url: Url,
    pub(crate) body: Body,
}

impl<'a> Call<'a> {
    pub(crate) fn new(method: Method, url: Url, what: impl Into<String>) -> Call<'a> {
        let (headers, body, what) = (Vec::new(), CallBody::Empty, what.into());
        Call { method, url, headers, body, what, repo: None, revision: "", file: "" }
    }

    pub(crate) fn about(self, repo: &'a RepoId) -> Call<'a> {
        Call { repo: Some(repo), ..self }
    }

    pub(crate) fn of_file(self, revision: &'a str, file: &'a str) -> Call<'a> {
        Call { revision, file, ..self }
    }

    pub(crate) fn with_header(mut self, name: &'static str, value: impl Into<String>) -> Call<'a> {
        self.headers.push((name, value.into()));
        self
    }

    pub(crate) fn with_json(self, value: &Value) -> Call<'a> {
        self.with_bytes("application/json", value.to_string().into_bytes())
    }

    pub(crate) fn with_bytes(self, kind: &str, bytes: Vec<u8>) -> Call<'a> {
        Call { body: CallBody::Bytes(bytes), ..self }.with_header("content-type", kind)
    }
}

impl Reply {
    /// A header as text.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        header(&self.headers, name)
    }
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

impl Client {
    /// Returns a sender.
    ///
    /// # Errors
    /// If the endpoint is no address.
    pub(crate) fn new(settings: HubSettings) -> Result<Client, HubError> {
        let invalid = |problem: String| HubError::BadName { name: settings.endpoint.clone(), problem };
        let endpoint = Url::parse(&settings.endpoint).map_err(|error| invalid(error.to_string()))?;
        if !matches!(endpoint.scheme(), "http" | "https") || endpoint.host().is_none() {
            return Err(invalid("HF_ENDPOINT is an http or https address".to_owned()));
        }
        let agent = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .user_agent(concat!("larql/", env!("CARGO_PKG_VERSION")))
            .timeout_resolve(Some(settings.answer.min(PATIENCE)))
            .timeout_connect(Some(settings.answer.min(PATIENCE)))
            .timeout_recv_response(Some(settings.answer.max(settings.stall)))
            .timeout_per_read(Some(settings.stall))
            .timeout_per_write(Some(settings.stall))
            .max_idle_connections_per_host(settings.connections)
            .build()
            .into();
        let reached = Mutex::default();
        #[cfg(feature = "xet")]
        let xet = super::xet::Store::default();
        Ok(Client {
            agent,
            settings,
            endpoint,
            reached,
            #[cfg(feature = "xet")]
            xet,
        })
    }

    pub(crate) fn settings(&self) -> &HubSettings {
        &self.settings
    }

    /// An address of the hub from the segments of its path, each of which may hold anything.
    pub(crate) fn url<'a>(&self, segments: impl IntoIterator<Item = &'a str>) -> Url {
        let mut url = self.endpoint.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(segments);
        }
        url
    }

    /// Returns true if an address is the hub's own.
    pub(crate) fn is_own(&self, url: &Url) -> bool {
        url.origin() == self.endpoint.origin()
    }

    /// Returns true if a server ever answered.
    fn is_reached(&self, url: &Url) -> bool {
        self.reached.lock().unwrap_or_else(PoisonError::into_inner).contains(&host(url))
    }

    /// Sends a request until it succeeds, or fails for good. Redirects are answers, not errors.
    pub(crate) fn send(&self, call: &mut Call<'_>, cancel: &CancelToken) -> Result<Reply, HubError> {
        let all = &self.settings.pauses;
        let begun = Instant::now();
        let mut pauses = all.iter().enumerate();
        loop {
            cancel.check()?;
            let left = (!self.is_reached(&call.url)).then(|| PATIENCE.saturating_sub(begun.elapsed()));
            let (failure, asked) = match self.attempt(call, left)? {
                Ok(reply)
                    if reply.status.is_success()
                        || is_redirect(&reply)
                        || reply.status == StatusCode::NOT_MODIFIED =>
                {
                    return Ok(reply);
                }
                Ok(reply) => {
                    let asked = asked_pause(&reply.headers);
                    let repeats = is_passing(reply.status);
                    let failure = self.refusal(call, reply);
                    if !repeats {
                        return Err(failure);
                    }
                    (failure, asked)
                }
                Err(failure) => (failure, None),
            };
            let Some((repetition, pause)) = pauses.next() else { return Err(failure) };
            let pause = asked.unwrap_or(*pause);
            let gives_up = repetition >= UNREACHED || begun.elapsed() + pause >= PATIENCE;
            if gives_up && !self.is_reached(&call.url) {
                return Err(failure);
            }
            if pause > self.settings.longest_pause {
                return Err(HubError::TooManyRequests { what: call.what.clone(), seconds: pause.as_secs() });
            }
            wait(pause, cancel)?;
        }
    }

    /// Sends a request, follows redirects within the hub, and reads the answer as JSON.
    pub(crate) fn json<T: DeserializeOwned>(
        &self,
        call: Call<'_>,
        cancel: &CancelToken,
    ) -> Result<T, HubError> {
        self.json_page(call, cancel).map(|(value, _)| value)
    }

    /// As [`json`](Self::json), with the address of the next page if there is one.
    pub(crate) fn json_page<T: DeserializeOwned>(
        &self,
        mut call: Call<'_>,
        cancel: &CancelToken,
    ) -> Result<(T, Option<Url>), HubError> {
        let mut pauses = self.settings.pauses.clone().into_iter();
        loop {
            let mut reply = self.follow(&mut call, cancel)?;
            let next = reply.header("link").and_then(next_page).and_then(|next| reply.url.join(next).ok());
            let text = reply.body.with_config().limit(LONGEST_ANSWER).read_to_vec();
            match text {
                Ok(text) => {
                    let value = serde_json::from_slice(&text);
                    return Ok((value.map_err(|error| self.unreadable(&call, &error.to_string()))?, next));
                }
                // Cut off: whatever it was that the request did is asked for again.
                Err(error) => match pauses.next() {
                    Some(pause) if call.method == Method::GET => wait(pause, cancel)?,
                    _ => return Err(self.unreachable(&call, &error.to_string())),
                },
            }
        }
    }

    /// Sends a request and follows redirects within the hub.
    fn follow(&self, call: &mut Call<'_>, cancel: &CancelToken) -> Result<Reply, HubError> {
        let begun = call.url.clone();
        for _ in 0..MOST_REDIRECTS {
            let reply = self.send(call, cancel)?;
            if !is_redirect(&reply) {
                call.url = begun;
                return Ok(reply);
            }
            let target = self.redirect(call, &reply)?;
            if !self.is_own(&target) {
                return Err(self.unreadable(call, "it redirects to another server"));
            }
            call.url = target;
        }
        Err(self.unreadable(call, "it redirects without end"))
    }

    /// Sends a request for a file, to wherever redirects lead; returns the answer that has the bytes.
    pub(crate) fn download(&self, call: &mut Call<'_>, cancel: &CancelToken) -> Result<Reply, HubError> {
        let begun = call.url.clone();
        // The address that a storage server was given is signed, and the signature expires.
        let mut expired = false;
        'resolve: loop {
            call.url = begun.clone();
            for _ in 0..MOST_REDIRECTS {
                let reply = match self.send(call, cancel) {
                    Err(HubError::Refused { status: 401 | 403, .. })
                        if !self.is_own(&call.url) && !expired =>
                    {
                        expired = true;
                        continue 'resolve;
                    }
                    reply => reply?,
                };
                if !is_redirect(&reply) {
                    call.url = begun;
                    return Ok(reply);
                }
                call.url = self.redirect(call, &reply)?;
            }
            return Err(self.unreadable(call, "it redirects without end"));
        }
    }

    fn redirect(&self, call: &Call<'_>, reply: &Reply) -> Result<Url, HubError> {
        let location = reply.header("location").unwrap_or_default();
        let target = reply.url.join(location).map_err(|error| self.unreadable(call, &error.to_string()))?;
        // From a protected connection to an open one nothing is followed.
        let is_open = target.scheme() == "http" && reply.url.scheme() == "https";
        if !matches!(target.scheme(), "http" | "https") || is_open {
            return Err(self.unreadable(call, &format!("it redirects to a {} address", target.scheme())));
        }
        Ok(target)
    }

    /// Sends a request once, and waits no longer than `left` for the connection. The outer error ends all attempts.
    fn attempt(
        &self,
        call: &mut Call<'_>,
        left: Option<Duration>,
    ) -> Result<Result<Reply, HubError>, HubError> {
        let mut request = ureq::http::Request::builder().method(call.method.clone()).uri(call.url.as_str());
        for (name, value) in &call.headers {
            request = request.header(*name, value);
        }
        for (name, value) in &self.proof(&call.url) {
            request = request.header(name, value);
        }
        let invalid = |error: ureq::http::Error| HubError::Refused {
            what: call.what.clone(),
            host: host(&call.url),
            status: 0,
            message: error.to_string(),
        };
        let answer = match &mut call.body {
            CallBody::Empty => self.run(request.body(()).map_err(invalid)?, left),
            CallBody::Bytes(bytes) => self.run(request.body(&bytes[..]).map_err(invalid)?, left),
            CallBody::Stream(length, open) => {
                let mut stream = open()?;
                let request = request.header("content-length", length.to_string());
                let request = request.body(SendBody::from_reader(&mut stream)).map_err(invalid)?;
                self.run(request, left)
            }
        };
        Ok(match answer {
            Ok(response) => {
                self.reached.lock().unwrap_or_else(PoisonError::into_inner).insert(host(&call.url));
                let (parts, body) = response.into_parts();
                Ok(Reply { status: parts.status, headers: parts.headers, url: call.url.clone(), body })
            }
            Err(error) => Err(self.unreachable(call, &error.to_string())),
        })
    }

    /// Headers that prove to the hub who asks; none for any other server.
    pub(crate) fn proof(&self, url: &Url) -> HeaderMap {
        let token = self.settings.token.as_ref().filter(|_| self.is_own(url));
        let value = token.and_then(|token| HeaderValue::from_str(&format!("Bearer {}", token.secret())).ok());
        value.into_iter().map(|value| (AUTHORIZATION, value)).collect()
    }

    fn run(
        &self,
        request: ureq::http::Request<impl AsSendBody>,
        left: Option<Duration>,
    ) -> Result<ureq::http::Response<Body>, ureq::Error> {
        let Some(left) = left else { return self.agent.run(request) };
        // A name that is not found and an address that leads nowhere take as long as they are given.
        let patience = left.max(SHORTEST_CONNECT).min(self.settings.answer);
        let request = self.agent.configure_request(request);
        let request = request.timeout_resolve(Some(patience)).timeout_connect(Some(patience)).build();
        self.agent.run(request)
    }

    /// An answer with the status of an error, as an error.
    fn refusal(&self, call: &Call<'_>, mut reply: Reply) -> HubError {
        let body = reply.body.with_config().limit(LONGEST_ERROR).read_to_string().unwrap_or_default();
        let code = reply.header("x-error-code").unwrap_or_default();
        let message = reply.header("x-error-message").map_or_else(|| message_of(&body), str::to_owned);
        let endpoint = self.settings.endpoint.clone();
        let what = call.what.clone();
        if self.is_own(&reply.url) {
            let repo = call.repo.map_or_else(String::new, RepoId::to_string);
            match (reply.status.as_u16(), code) {
                (_, "RepoNotFound") => {
                    return HubError::NoRepo { repo, endpoint, has_token: self.settings.token.is_some() };
                }
                (_, "GatedRepo") => return HubError::Gated { repo, endpoint },
                (_, "RevisionNotFound") => {
                    return HubError::NoRevision { repo, revision: call.revision.to_owned(), endpoint };
                }
                (_, "EntryNotFound") => {
                    return HubError::NoFile { repo, file: call.file.to_owned(), endpoint };
                }
                (401, _) if self.settings.token.is_some() => return HubError::BadToken { endpoint },
                (401, _) if call.repo.is_some() => {
                    return HubError::NoRepo { repo, endpoint, has_token: false };
                }
                (403, _) => return HubError::Forbidden { what, message, endpoint },
                (412, _) => return HubError::Overtaken { repo },
                _ => {}
            }
        }
        HubError::Refused { what, host: host(&reply.url), status: reply.status.as_u16(), message }
    }

    pub(crate) fn unreadable(&self, call: &Call<'_>, reason: &str) -> HubError {
        HubError::Answer { what: call.what.clone(), host: host(&call.url), reason: reason.to_owned() }
    }

    fn unreachable(&self, call: &Call<'_>, reason: &str) -> HubError {
        HubError::Unreachable { what: call.what.clone(), host: host(&call.url), reason: reason.to_owned() }
    }
}

/// Scheme, host and port of an address: what may be shown of one that is signed.
pub(crate) fn host(url: &Url) -> String {
    url.origin().ascii_serialization()
}

fn is_redirect(reply: &Reply) -> bool {
    reply.status.is_redirection() && reply.headers.contains_key("location")
}

/// Returns true for refusals that may pass.
fn is_passing(status: StatusCode) -> bool {
    matches!(status.as_u16(), 408 | 429 | 500 | 502 | 503 | 504)
}

/// The pause that a refusal asks for.
fn asked_pause(headers: &HeaderMap) -> Option<Duration> {
    let limit = header(headers, "ratelimit").and_then(|limit| {
        let value =
            |key: &str| limit.split(';').find_map(|part| part.trim().strip_prefix(key)?.parse::<u64>().ok());
        value("t=").filter(|_| value("r=") == Some(0))
    });
    let seconds = limit.or_else(|| header(headers, "retry-after")?.trim().parse().ok());
    seconds.map(Duration::from_secs)
}

/// The message in the body of an error.
fn message_of(body: &str) -> String {
    let Ok(value) = serde_json::from_str::<Value>(body) else {
        return String::new();
    };
    let texts = match &value["error"] {
        Value::String(text) => vec![text.clone()],
        Value::Array(texts) => texts.iter().filter_map(|text| text.as_str().map(str::to_owned)).collect(),
        _ => {
            let errors = value["errors"].as_array().into_iter().flatten();
            errors.filter_map(|error| error["message"].as_str().map(str::to_owned)).collect()
        }
    };
    texts.join("; ")
}

/// The address of the next page in a `Link` header.
fn next_page(link: &str) -> Option<&str> {
    link.split(',').find_map(|entry| {
        let (address, rest) = entry.trim().strip_prefix('<')?.split_once('>')?;
        rest.replace(' ', "").contains("rel=\"next\"").then_some(address)
    })
}

/// Waits, unless cancelled.
pub(crate) fn wait(pause: Duration, cancel: &CancelToken) -> Result<(), HubError> {
    let end = Instant::now() + pause;
    loop {
        cancel.check()?;
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        std::thread::sleep(left.min(WATCH));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_are_read_from_both_kinds_of_headers() {
        let pause = |pairs: &[(&'static str, &str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in pairs {
                headers.insert(*name, value.parse().unwrap());
            }
            asked_pause(&headers).map(|pause| pause.as_secs())
        };
        assert_eq!(pause(&[("retry-after", "7")]), Some(7));
        assert_eq!(pause(&[("ratelimit", "\"api\";r=0;t=42"), ("retry-after", "7")]), Some(42));
        assert_eq!(pause(&[("ratelimit", "\"api\";r=3;t=42")]), None);
        assert_eq!(pause(&[("retry-after", "soon")]), None);
    }

    #[test]
    fn messages_and_pages() {
        assert_eq!(message_of(r#"{"error": ["a", "b"]}"#), "a; b");
        assert_eq!(message_of(r#"{"errors": [{"message": "m"}]}"#), "m");
        assert_eq!(message_of("<html>"), "");
        let link = "<http://a/x?cursor=1,2>; rel=\"prev\", <http://a/y>; rel=\"next\"";
        assert_eq!(next_page(link), Some("http://a/y"));
        assert_eq!(next_page("<http://a/y>; rel=\"last\""), None);
    }

    #[test]
    fn segments_stay_one_and_only_the_own_origin_is_own() {
        let client = Client::new(HubSettings::new("https://hub.example/base/", None)).unwrap();
        let url = client.url(["api", "models", "o", "n", "revision", "feat/x", "ü #1"]);
        assert_eq!(url.as_str(), "https://hub.example/base/api/models/o/n/revision/feat%2Fx/%C3%BC%20%231");
        let own = |text: &str| client.is_own(&Url::parse(text).unwrap());
        assert!(own("https://hub.example/other") && own("https://hub.example:443/"));
        for other in [
            "http://hub.example/",
            "https://hub.example:8443/",
            "https://cdn.hub.example/",
            "https://hub.example.org/",
        ] {
            assert!(!own(other), "{other}");
        }
        assert!(Client::new(HubSettings::new("ftp://x", None)).is_err());
    }
}

//! Access: keys, origins, hosts and request rates.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use governor::clock::{Clock, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use tower_http::cors::{AllowOrigin, CorsLayer};

use crate::error::ApiError;
use crate::grpc;
use crate::options::ServeOptions;

/// The routes that need no key.
const HEALTH: [&str; 2] = ["/v1/health", grpc::HEALTH];

/// Rules of who may ask.
pub(crate) struct Protection {
    /// Digests of the keys; none if everyone may ask.
    keys: Vec<[u8; 32]>,
    /// Origins whose pages may ask.
    origins: Vec<String>,
    rate: Option<DefaultKeyedRateLimiter<IpAddr>>,
    trust_forwarded_for: bool,
    /// The server is for this machine alone, and a name that leads here from elsewhere is not to be believed.
    local: bool,
}

impl Protection {
    /// Returns the rules of a server.
    pub(crate) fn new(options: &ServeOptions) -> Protection {
        let rate = options.rate_limit.and_then(|limit| {
            let quota = Quota::with_period(limit.per / limit.requests.get())?;
            Some(RateLimiter::keyed(quota.allow_burst(limit.requests)))
        });
        Protection {
            keys: options.api_keys.iter().map(|key| Sha256::digest(key).into()).collect(),
            origins: options.cors_origins.clone(),
            rate,
            trust_forwarded_for: options.trust_forwarded_for,
            local: options.host.is_loopback() && options.api_keys.is_empty(),
        }
    }

    /// Checks a request.
    fn check(
        &self,
        method: &Method,
        uri: &Uri,
        headers: &HeaderMap,
        address: IpAddr,
    ) -> Result<(), ApiError> {
        self.check_host(uri, headers)?;
        self.check_origin(uri, headers)?;
        if HEALTH.contains(&uri.path()) {
            return Ok(());
        }
        self.check_rate(self.client(headers, address))?;
        match self.keys.is_empty() || method == Method::OPTIONS || self.has_key(headers) {
            true => Ok(()),
            false => {
                let message = "a key is needed; send it as Authorization: Bearer KEY";
                Err(ApiError::new(StatusCode::UNAUTHORIZED, message).with_code("invalid_api_key"))
            }
        }
    }

    /// Refuses names of other machines on a server for this machine alone: a page elsewhere could have its name lead here.
    fn check_host(&self, uri: &Uri, headers: &HeaderMap) -> Result<(), ApiError> {
        let Some(host) = host(uri, headers).filter(|_| self.local) else { return Ok(()) };
        let name = host_name(host);
        let is_local =
            name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
        match is_local {
            true => Ok(()),
            false => {
                let message = format!(
                    "this server answers to localhost, not to {name:?}; start it with --host or an --api-key"
                );
                Err(ApiError::new(StatusCode::FORBIDDEN, message))
            }
        }
    }

    /// Refuses pages of other sites, unless they are allowed.
    fn check_origin(&self, uri: &Uri, headers: &HeaderMap) -> Result<(), ApiError> {
        let Some(origin) = headers.get(header::ORIGIN).and_then(|origin| origin.to_str().ok()) else {
            return Ok(());
        };
        let own = origin.split_once("://").is_some_and(|(_, name)| Some(name) == host(uri, headers));
        match own || self.origins.iter().any(|allowed| allowed == "*" || allowed == origin) {
            true => Ok(()),
            false => {
                let message =
                    format!("pages of {origin:?} may not use this server; start it with --cors {origin}");
                Err(ApiError::new(StatusCode::FORBIDDEN, message))
            }
        }
    }

    fn check_rate(&self, address: IpAddr) -> Result<(), ApiError> {
        let Some(rate) = &self.rate else { return Ok(()) };
        let Err(later) = rate.check_key(&address) else { return Ok(()) };
        if rate.len() > 10_000 {
            rate.retain_recent();
        }
        let seconds = later.wait_time_from(DefaultClock::default().now()).as_secs() + 1;
        let message = format!("too many requests from {address}; try again in {seconds} s");
        let error = ApiError::new(StatusCode::TOO_MANY_REQUESTS, message).with_code("rate_limit_exceeded");
        Err(ApiError { retry_after: Some(seconds), ..error })
    }

    /// The address of the client; behind a trusted proxy the last one that it names.
    fn client(&self, headers: &HeaderMap, address: IpAddr) -> IpAddr {
        let forwarded = headers.get("x-forwarded-for").filter(|_| self.trust_forwarded_for);
        let last = forwarded.and_then(|value| value.to_str().ok()).and_then(|value| value.rsplit(',').next());
        last.and_then(|last| last.trim().parse().ok()).unwrap_or(address)
    }

    /// Looks for a key: as bearer, as `X-Api-Key`, or as the password that a browser asked for.
    fn has_key(&self, headers: &HeaderMap) -> bool {
        let header = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
        let authorization = header(header::AUTHORIZATION).and_then(|value| value.split_once(' '));
        let password = |encoded: &str| {
            let text = String::from_utf8(STANDARD.decode(encoded.trim()).ok()?).ok()?;
            Some(text.split_once(':')?.1.to_owned())
        };
        let key = match authorization {
            Some((scheme, key)) if scheme.eq_ignore_ascii_case("bearer") => Some(key.trim().to_owned()),
            Some((scheme, key)) if scheme.eq_ignore_ascii_case("basic") => password(key),
            _ => header(HeaderName::from_static("x-api-key")).map(str::to_owned),
        };
        // Digests are compared, and all of them, so that the time tells nothing.
        key.is_some_and(|key| {
            let digest: [u8; 32] = Sha256::digest(key).into();
            let matches = self.keys.iter().map(|known| known.ct_eq(&digest));
            matches.fold(subtle::Choice::from(0), |any, one| any | one).into()
        })
    }
}

/// The host that a request is for.
fn host<'a>(uri: &'a Uri, headers: &'a HeaderMap) -> Option<&'a str> {
    let header = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    header.or_else(|| uri.authority().map(|authority| authority.as_str()))
}

/// The name of a host without its port.
fn host_name(host: &str) -> &str {
    match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or(rest),
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    }
}

/// Layer that refuses what the rules do not allow.
pub(crate) async fn protect(
    State(protection): State<Arc<Protection>>,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    // Without an address, requests come through a socket of this machine.
    let address = request.extensions().get::<ConnectInfo<SocketAddr>>();
    let address = address.map_or(IpAddr::from([127, 0, 0, 1]), |ConnectInfo(address)| address.ip());
    protection.check(request.method(), request.uri(), request.headers(), address)?;
    Ok(next.run(request).await)
}

/// Returns the layer that tells browsers which pages may ask.
pub(crate) fn cors(origins: &[String]) -> CorsLayer {
    let layer = CorsLayer::new().allow_methods([Method::GET, Method::POST, Method::DELETE]).allow_headers([
        header::AUTHORIZATION,
        header::CONTENT_TYPE,
        HeaderName::from_static("x-session-id"),
        HeaderName::from_static("x-api-key"),
        HeaderName::from_static("mcp-session-id"),
        HeaderName::from_static("mcp-protocol-version"),
    ]);
    if origins.iter().any(|origin| origin == "*") {
        return layer.allow_origin(AllowOrigin::any());
    }
    let origins: Vec<HeaderValue> =
        origins.iter().filter_map(|origin| HeaderValue::from_str(origin).ok()).collect();
    layer.allow_origin(origins)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::options::RateLimit;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn check(options: &ServeOptions, path: &str, headers: &[(&'static str, &str)]) -> u16 {
        let headers = headers
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap()))
            .collect();
        let result = Protection::new(options).check(&Method::GET, &path.parse().unwrap(), &headers, HERE);
        result.map_or_else(|error| error.status.as_u16(), |()| 200)
    }

    #[test]
    fn without_a_key_only_health_answers() {
        let options = ServeOptions { api_keys: vec!["one".into(), "two".into()], ..ServeOptions::default() };
        for path in HEALTH {
            assert_eq!(check(&options, path, &[]), 200);
        }
        assert_eq!(check(&options, "/v1/models", &[]), 401);
        assert_eq!(check(&options, "/", &[("authorization", "Bearer three")]), 401);
        assert_eq!(check(&options, "/", &[("authorization", "Bearer two")]), 200);
        assert_eq!(check(&options, "/", &[("x-api-key", "one")]), 200);
        let password = format!("Basic {}", STANDARD.encode("me:two"));
        assert_eq!(check(&options, "/", &[("authorization", &password)]), 200);
    }

    #[test]
    fn other_sites_and_other_names_are_refused() {
        let options = ServeOptions::default();
        let origin = |origin| [("host", "localhost:8080"), ("origin", origin)];
        assert_eq!(check(&options, "/", &origin("http://localhost:8080")), 200);
        assert_eq!(check(&options, "/", &origin("https://example.org")), 403);
        let allowed =
            ServeOptions { cors_origins: vec!["https://example.org".into()], ..ServeOptions::default() };
        assert_eq!(check(&allowed, "/", &origin("https://example.org")), 200);
        for (host, status) in
            [("127.0.0.1:8080", 200), ("[::1]:8080", 200), ("localhost", 200), ("example.org:8080", 403)]
        {
            assert_eq!(check(&options, "/", &[("host", host)]), status, "{host}");
        }
    }

    #[test]
    fn rates_are_by_address() {
        let limit =
            RateLimit { requests: std::num::NonZeroU32::new(2).unwrap(), per: Duration::from_secs(3600) };
        let options =
            ServeOptions { rate_limit: Some(limit), trust_forwarded_for: true, ..ServeOptions::default() };
        let protection = Protection::new(&options);
        let ask = |forwarded: &str| {
            let headers = HeaderMap::from_iter([(
                HeaderName::from_static("x-forwarded-for"),
                forwarded.parse().unwrap(),
            )]);
            protection.check(&Method::GET, &Uri::from_static("/v1/models"), &headers, HERE)
        };
        assert!(ask("1.2.3.4").is_ok() && ask("9.9.9.9, 1.2.3.4").is_ok());
        let error = ask("1.2.3.4").unwrap_err();
        assert_eq!(error.status, StatusCode::TOO_MANY_REQUESTS);
        assert!(error.retry_after.is_some_and(|seconds| seconds > 60));
        assert!(ask("5.6.7.8").is_ok());
    }
}

//! The explorer: a page that asks the public routes. Its files are part of the program, and it asks no other host.

use axum::extract::Path;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use sha2::{Digest, Sha256};

use crate::error::ApiError;

/// A file of the page.
struct Asset {
    name: &'static str,
    kind: &'static str,
    bytes: &'static [u8],
}

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const IMAGE: &str = "image/svg+xml";

macro_rules! assets {
    ($(($name:literal, $kind:ident)),+ $(,)?) => {
        [$(Asset { name: $name, kind: $kind, bytes: include_bytes!(concat!("../explorer/", $name)) }),+]
    };
}

const ASSETS: [Asset; 15] = assets![
    ("index.html", HTML),
    ("icon.svg", IMAGE),
    ("explorer.css", CSS),
    ("main.js", SCRIPT),
    ("api.js", SCRIPT),
    ("state.js", SCRIPT),
    ("dom.js", SCRIPT),
    ("words.js", SCRIPT),
    ("colors.js", SCRIPT),
    ("views/entity.js", SCRIPT),
    ("views/prompt.js", SCRIPT),
    ("views/features.js", SCRIPT),
    ("views/edit.js", SCRIPT),
    ("views/chat.js", SCRIPT),
    ("views/model.js", SCRIPT),
];

/// Scripts and styles come from this server alone, and nothing is written into the page's text.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Answers with the page.
pub(crate) async fn page(headers: HeaderMap) -> Result<Response, ApiError> {
    answer("index.html", &headers)
}

/// Answers with a file of the page.
pub(crate) async fn file(Path(name): Path<String>, headers: HeaderMap) -> Result<Response, ApiError> {
    answer(&name, &headers)
}

fn answer(name: &str, headers: &HeaderMap) -> Result<Response, ApiError> {
    let Some(asset) = ASSETS.iter().find(|asset| asset.name == name) else {
        return Err(ApiError::not_found("the explorer has no such file; it begins at /"));
    };
    let digest = Sha256::digest(asset.bytes);
    let tag = format!("\"{}\"", digest[..8].iter().map(|byte| format!("{byte:02x}")).collect::<String>());
    let known = headers.get(header::IF_NONE_MATCH).is_some_and(|known| known.as_bytes() == tag.as_bytes());
    let tag = HeaderValue::from_str(&tag).map_err(|error| ApiError::internal(error.to_string()))?;
    let fixed = HeaderValue::from_static;
    let common = [
        (header::ETAG, tag),
        (header::CACHE_CONTROL, fixed("no-cache")),
        (header::CONTENT_SECURITY_POLICY, fixed(POLICY)),
        (header::X_CONTENT_TYPE_OPTIONS, fixed("nosniff")),
        (header::REFERRER_POLICY, fixed("no-referrer")),
        (HeaderName::from_static("cross-origin-opener-policy"), fixed("same-origin")),
    ];
    if known {
        return Ok((StatusCode::NOT_MODIFIED, common).into_response());
    }
    Ok((common, [(header::CONTENT_TYPE, asset.kind)], asset.bytes).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_that_the_page_names_is_there() {
        let imports = |text: &'static str| {
            text.lines()
                .filter_map(|line| line.split_once(" from \""))
                .map(|(_, rest)| rest.split('"').next().unwrap())
        };
        for asset in ASSETS.iter().filter(|asset| asset.kind == SCRIPT) {
            let folder = if asset.name.contains('/') { "views/" } else { "" };
            for import in imports(std::str::from_utf8(asset.bytes).unwrap()) {
                let name = match import.strip_prefix("../") {
                    Some(name) => name.to_owned(),
                    None => format!("{folder}{}", import.trim_start_matches("./")),
                };
                assert!(ASSETS.iter().any(|asset| asset.name == name), "{} imports {import}", asset.name);
            }
        }
        let page = std::str::from_utf8(ASSETS[0].bytes).unwrap();
        for name in page.split("\"/explorer/").skip(1).map(|rest| rest.split('"').next().unwrap()) {
            assert!(ASSETS.iter().any(|asset| asset.name == name), "the page names {name}");
        }
    }
}

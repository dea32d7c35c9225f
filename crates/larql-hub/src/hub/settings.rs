//! Settings of the hub's client.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// The public hub.
const PUBLIC: &str = "https://huggingface.co";

/// Settings of the hub's client. The names of the variables that they come from, and their meanings, are those of the
/// official client.
#[derive(Clone, Debug)]
pub struct HubSettings {
    /// Address of the hub, without a slash at its end.
    pub endpoint: String,
    /// Folder of the cache that the official client shares; no model is downloaded without one.
    pub cache: Option<PathBuf>,
    /// Proof of who asks, which goes to the endpoint alone.
    pub token: Option<Token>,
    /// True if nothing may be asked of the hub.
    pub offline: bool,
    /// Files that are moved at the same time.
    pub connections: usize,
    /// Time that an answer may take to begin.
    pub answer: Duration,
    /// Time that a transfer may stand still.
    pub stall: Duration,
    /// Pauses before an attempt is repeated; there are as many repetitions as pauses.
    pub pauses: Vec<Duration>,
    /// Longest pause that the hub may ask for.
    pub longest_pause: Duration,
    /// Folder for what Xet's client keeps of the chunks that it has seen; Xet is not used without one, or without the
    /// feature `xet`.
    pub xet: Option<PathBuf>,
}

/// A secret that says who asks. It is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// Returns a token without the white space around it; none if nothing else is there.
    pub fn new(text: &str) -> Option<Token> {
        let text = text.trim();
        (!text.is_empty()).then(|| Token(text.to_owned()))
    }

    pub(crate) fn secret(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token")
    }
}

impl HubSettings {
    /// Returns the settings for the hub at `endpoint`, without a token.
    pub fn new(endpoint: &str, cache: Option<PathBuf>) -> HubSettings {
        HubSettings {
            endpoint: endpoint.trim_end_matches('/').to_owned(),
            cache,
            token: None,
            offline: false,
            connections: 8,
            answer: Duration::from_secs(30),
            stall: Duration::from_secs(30),
            pauses: [1, 2, 4, 8, 8].map(Duration::from_secs).into(),
            longest_pause: Duration::from_secs(300),
            xet: None,
        }
    }

    /// Reads the settings from variables, with the user's home folder for those that are absent.
    pub fn from_variables(variable: impl Fn(&str) -> Option<String>, home: Option<PathBuf>) -> HubSettings {
        let text = |name: &str| variable(name).filter(|value| !value.is_empty());
        let is_on = |name: &str| text(name).is_some_and(|value| is_true(&value));
        let folder = |name: &str| Some(expanded(&text(name)?, home.as_ref(), &variable));
        let root = folder("HF_HOME").or_else(|| {
            let caches = folder("XDG_CACHE_HOME").or_else(|| Some(home.as_ref()?.join(".cache")));
            Some(caches?.join("huggingface"))
        });
        let cache = folder("HF_HUB_CACHE")
            .or_else(|| folder("HUGGINGFACE_HUB_CACHE"))
            .or_else(|| Some(root.as_ref()?.join("hub")));
        let xet = folder("HF_XET_CACHE").or_else(|| Some(root.as_ref()?.join("xet")));
        let token_file = folder("HF_TOKEN_PATH").or_else(|| Some(root?.join("token")));
        let token = text("HF_TOKEN").or_else(|| text("HUGGING_FACE_HUB_TOKEN"));
        let token = token.and_then(|token| Token::new(&token));
        let token = token.or_else(|| Token::new(&std::fs::read_to_string(token_file?).ok()?));
        let seconds = |name: &str, default: Duration| {
            text(name).and_then(|value| value.parse().ok()).map_or(default, Duration::from_secs)
        };
        let defaults = HubSettings::new(&text("HF_ENDPOINT").unwrap_or_else(|| PUBLIC.to_owned()), cache);
        HubSettings {
            token: token.filter(|_| !is_on("HF_HUB_DISABLE_IMPLICIT_TOKEN")),
            offline: is_on("HF_HUB_OFFLINE") || is_on("TRANSFORMERS_OFFLINE"),
            answer: seconds("HF_HUB_ETAG_TIMEOUT", defaults.answer),
            stall: seconds("HF_HUB_DOWNLOAD_TIMEOUT", defaults.stall),
            xet: xet.filter(|_| !is_on("HF_HUB_DISABLE_XET")),
            ..defaults
        }
    }
}

fn is_true(value: &str) -> bool {
    ["1", "on", "yes", "true"].contains(&value.to_lowercase().as_str())
}

/// A path in which `~` and `$NAME` mean what they mean in a shell.
fn expanded(path: &str, home: Option<&PathBuf>, variable: &impl Fn(&str) -> Option<String>) -> PathBuf {
    let mut parts = PathBuf::new();
    for (index, part) in path.split('/').enumerate() {
        let value = match part.strip_prefix('$') {
            Some(name) => variable(name.trim_start_matches('{').trim_end_matches('}')),
            None if part == "~" && index == 0 => home.map(|home| home.display().to_string()),
            None if part.is_empty() && index == 0 => Some("/".to_owned()),
            None => None,
        };
        parts.push(value.unwrap_or_else(|| part.to_owned()));
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(variables: &[(&str, &str)]) -> HubSettings {
        let find = |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, v)| (*v).to_owned());
        HubSettings::from_variables(find, Some("/home/ada".into()))
    }

    #[test]
    fn the_cache_is_where_the_official_client_has_it() {
        let cache = |variables: &[(&str, &str)]| settings(variables).cache.unwrap();
        assert_eq!(cache(&[]), PathBuf::from("/home/ada/.cache/huggingface/hub"));
        assert_eq!(cache(&[("XDG_CACHE_HOME", "/x")]), PathBuf::from("/x/huggingface/hub"));
        assert_eq!(
            cache(&[("HF_HOME", "~/hf"), ("XDG_CACHE_HOME", "/x")]),
            PathBuf::from("/home/ada/hf/hub")
        );
        assert_eq!(cache(&[("HF_HOME", "$DATA/hf"), ("DATA", "/d")]), PathBuf::from("/d/hf/hub"));
        assert_eq!(cache(&[("HF_HUB_CACHE", "/c"), ("HF_HOME", "/h")]), PathBuf::from("/c"));
    }

    #[test]
    fn switches_and_the_token() {
        let all = settings(&[
            ("HF_ENDPOINT", "http://a:1/"),
            ("HF_TOKEN", " hf_secret\n"),
            ("HF_HUB_OFFLINE", "Yes"),
        ]);
        assert_eq!(all.endpoint, "http://a:1");
        assert_eq!(all.token, Token::new("hf_secret"));
        assert!(all.offline && !settings(&[("HF_HUB_OFFLINE", "0")]).offline);
        assert_eq!(all.xet, Some("/home/ada/.cache/huggingface/xet".into()));
        assert_eq!(settings(&[("HF_XET_CACHE", "/x")]).xet, Some("/x".into()));
        assert_eq!(settings(&[("HF_HUB_DISABLE_XET", "1")]).xet, None);
        assert!(!format!("{all:?}").contains("hf_secret"));
        let not_implied = settings(&[("HF_TOKEN", "t"), ("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1")]);
        assert_eq!(not_implied.token, None);
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("token"), "of_the_file\n").unwrap();
        let home = folder.path().display().to_string();
        assert_eq!(settings(&[("HF_HOME", &home)]).token, Token::new("of_the_file"));
        assert_eq!(settings(&[("HF_HOME", &home), ("HF_TOKEN", "other")]).token, Token::new("other"));
    }
}

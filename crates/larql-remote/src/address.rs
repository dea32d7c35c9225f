//! Addresses of servers, as USE REMOTE names them.

use crate::RemoteError;

/// Address of a server: `http://[KEY@]HOST[:PORT][/MODEL]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    /// The address without key, as people write it.
    pub(crate) shown: String,
    /// The begin of every route that asks the model.
    pub(crate) routes: String,
    pub(crate) key: Option<String>,
}

impl Address {
    /// Reads an address.
    ///
    /// # Errors
    /// [`RemoteError::Address`] if it is none.
    pub(crate) fn parse(text: &str) -> Result<Address, RemoteError> {
        let invalid = || RemoteError::Address { address: text.to_owned() };
        let (scheme, rest) = text.split_once("://").ok_or_else(invalid)?;
        if !matches!(scheme, "http" | "https") {
            return Err(invalid());
        }
        let (key, rest) = match rest.split_once('@') {
            Some((key, rest)) => (Some(key.trim_matches(':').to_owned()), rest),
            None => (None, rest),
        };
        let (host, model) =
            rest.trim_end_matches('/').split_once('/').unwrap_or((rest.trim_end_matches('/'), ""));
        let is_name = |text: &str| !text.contains(|c: char| c.is_whitespace() || "/?#@".contains(c));
        if host.is_empty() || !is_name(host) || !is_name(model) {
            return Err(invalid());
        }
        let model = if model.is_empty() { String::new() } else { format!("/{model}") };
        Ok(Address {
            shown: format!("{scheme}://{host}{model}"),
            routes: format!("{scheme}://{host}/v1{model}"),
            key,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_name_a_host_and_perhaps_a_model_and_a_key() {
        let address = |text| Address::parse(text).map(|a| (a.shown, a.routes, a.key)).ok();
        let expected = |shown: &str, routes: &str, key: Option<&str>| {
            Some((shown.into(), routes.into(), key.map(Into::into)))
        };
        assert_eq!(address("http://a:8080"), expected("http://a:8080", "http://a:8080/v1", None));
        assert_eq!(address("http://a:8080/"), expected("http://a:8080", "http://a:8080/v1", None));
        assert_eq!(address("https://k@a/m"), expected("https://a/m", "https://a/v1/m", Some("k")));
        for text in ["a:8080", "ftp://a", "http://", "http://a/b/c", "http://a b", "http://a?x"] {
            assert_eq!(address(text), None, "{text}");
        }
    }
}

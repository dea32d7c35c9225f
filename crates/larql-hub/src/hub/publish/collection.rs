//! Collections: lists of repositories with a title, which a publication fills.

use larql_core::progress::CancelToken;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use ureq::http::Method;

use crate::hub::client::Call;
use crate::hub::{Hub, HubError, RepoKind, RepoName};

/// Longest note of an item.
const LONGEST_NOTE: usize = 500;

/// A collection on the hub.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Collection {
    /// The end of its address.
    pub slug: String,
    /// Its title.
    pub title: String,
    /// Its entries.
    #[serde(default)]
    pub items: Vec<CollectionItem>,
}

/// An entry of a collection.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct CollectionItem {
    /// The repository, or the end of the address of something else.
    pub id: String,
    /// Kind: model, dataset, collection, paper, space.
    #[serde(rename = "type")]
    pub kind: String,
}

impl Collection {
    /// The repositories in it; items of other kinds are left out.
    pub fn repos(&self) -> Vec<RepoName> {
        let repo = |item: &CollectionItem| {
            let kind: RepoKind = item.kind.parse().ok()?;
            let name: RepoName = item.id.parse().ok()?;
            Some(RepoName { kind: Some(kind), ..name })
        };
        self.items.iter().filter_map(repo).collect()
    }
}

impl Hub {
    /// Reads a collection, given by the end of its address or the whole of it.
    ///
    /// # Errors
    /// If there is none.
    pub fn collection(&self, slug: &str, cancel: &CancelToken) -> Result<Collection, HubError> {
        let slug = slug.split_once("/collections/").map_or(slug, |(_, slug)| slug).trim_matches('/');
        let bad = |problem: &str| HubError::BadName { name: slug.to_owned(), problem: problem.to_owned() };
        let (owner, name) = slug.split_once('/').ok_or_else(|| bad("a collection is OWNER/TITLE-DIGITS"))?;
        if name.contains('/') {
            return Err(bad("a collection is OWNER/TITLE-DIGITS"));
        }
        let url = self.client.url(["api", "collections", owner, name]);
        self.client.json(Call::new(Method::GET, url, format!("reading the collection {slug}")), cancel)
    }

    /// Finds the collection of an owner with a title, or makes one.
    pub(super) fn collection_of(
        &self,
        owner: &str,
        title: &str,
        description: &str,
        private: bool,
        cancel: &CancelToken,
    ) -> Result<Collection, HubError> {
        let mut url = self.client.url(["api", "collections"]);
        url.query_pairs_mut().append_pair("owner", owner);
        let mut next = Some(url);
        while let Some(url) = next {
            let call = Call::new(Method::GET, url, format!("listing the collections of {owner}"));
            let (page, following): (Vec<Collection>, _) = self.client.json_page(call, cancel)?;
            if let Some(found) = page.into_iter().find(|collection| collection.title == title) {
                // Listings show few of the items.
                return self.collection(&found.slug, cancel);
            }
            next = following;
        }
        let body =
            json!({"title": title, "namespace": owner, "description": description, "private": private});
        let url = self.client.url(["api", "collections"]);
        let call = Call::new(Method::POST, url, format!("making the collection {title}")).with_json(&body);
        self.client.json(call, cancel)
    }

    /// Adds an item with a note, unless it is there.
    pub(super) fn add_to_collection(
        &self,
        collection: &Collection,
        id: &str,
        kind: &str,
        note: &str,
        cancel: &CancelToken,
    ) -> Result<(), HubError> {
        if collection.items.iter().any(|item| item.id == id && item.kind == kind) {
            return Ok(());
        }
        let note: String = note.chars().take(LONGEST_NOTE).collect();
        let segments = ["api", "collections"].into_iter().chain(collection.slug.split('/')).chain(["items"]);
        let body = json!({"item": {"id": id, "type": kind}, "note": note});
        let call = Call::new(
            Method::POST,
            self.client.url(segments),
            format!("adding {id} to {}", collection.title),
        )
        .with_json(&body);
        match self.client.json::<Value>(call, cancel) {
            Err(HubError::Refused { status: 409, .. }) => Ok(()),
            answer => answer.map(|_| ()),
        }
    }
}

//! The hub: models on a server, brought here and published there.

mod cache;
mod choice;
mod client;
mod digest;
mod error;
mod fetch;
mod local;
mod moving;
mod partial;
mod publish;
mod pull;
mod reading;
mod repo;
mod settings;
mod sketch;
mod web;
#[cfg(feature = "xet")]
mod xet;

pub use error::HubError;
pub use local::{CachedRepo, Removed};
pub use publish::{
    Card, Collection, CollectionItem, CollectionTitles, Publication, PublicationPlan, PublishError,
    PublishOptions, Published, PublishedRepo, RepoPlan, sibling,
};
pub use pull::{Pulled, Wanted};
pub use reading::{RemoteFile, RepoInfo, parse_tree};
pub use repo::{RepoId, RepoKind, RepoName};
pub use settings::{HubSettings, Token};
pub use sketch::Sketch;
pub use web::{WebFile, WebLimits};

use client::Client;
use larql_core::progress::CancelToken;

/// A client of the hub.
#[derive(Debug)]
pub struct Hub {
    client: Client,
}

impl Hub {
    /// Returns a client. Nothing is asked of the hub yet.
    ///
    /// # Errors
    /// If the endpoint is no address.
    pub fn new(settings: HubSettings) -> Result<Hub, HubError> {
        Ok(Hub { client: Client::new(settings)? })
    }

    /// Returns true if the hub shows a repository at a revision.
    pub fn exists(&self, name: &RepoName, cancel: &CancelToken) -> bool {
        self.client.find(name.kind, &name.id, name.revision(), cancel).is_ok()
    }

    /// Returns the settings.
    pub fn settings(&self) -> &HubSettings {
        self.client.settings()
    }
}

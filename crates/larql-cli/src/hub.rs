//! The hub as the user's variables set it up: the official client's, by its names.

use std::sync::Arc;

use larql_hub::{Hub, HubSettings};

/// Returns a client of the hub.
pub(crate) fn open() -> miette::Result<Arc<Hub>> {
    let home = directories::BaseDirs::new().map(|folders| folders.home_dir().to_owned());
    let variable = |name: &str| std::env::var(name).ok();
    Ok(Arc::new(Hub::new(HubSettings::from_variables(variable, home))?))
}

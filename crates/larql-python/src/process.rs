//! State of the whole process: the threads, and the catalog that opens each model once.

use std::sync::{Arc, LazyLock};

use larql_compute::Pool;
use larql_hub::Library;
use larql_session::Catalog;

/// Returns the catalog of this process. Sessions on one model share its mapped files.
pub(crate) fn catalog() -> &'static Arc<Catalog> {
    static CATALOG: LazyLock<Arc<Catalog>> =
        LazyLock::new(|| Arc::new(Catalog::new(Arc::new(Pool::for_this_machine()), library())));
    &CATALOG
}

/// Returns the models that this user knows by name: the same as those of the command line.
fn library() -> Library {
    let project = directories::ProjectDirs::from("", "", "larql");
    let home = directories::BaseDirs::new().map(|folders| folders.home_dir().to_owned());
    let library = project.map(|project| Library::new(project.cache_dir().join("models")));
    library.unwrap_or_default().with_home(home)
}

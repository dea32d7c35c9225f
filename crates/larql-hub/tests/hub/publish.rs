//! Publications: six repositories, three collections, and nothing that moves twice.

use std::path::PathBuf;
use std::sync::Arc;

use larql_core::progress::{CancelToken, NoProgress};
use larql_hub::{
    HubError, Publication, PublishError, PublishOptions, Published, PublishedRepo, RepoId, RepoKind, Wanted,
};
use larql_models::Checkpoint;
use larql_vindex::{ExtractOptions, SlicePreset, Vindex, verify};
use larql_vindex_spec::ExtractLevel;

use super::*;

fn options() -> PublishOptions {
    PublishOptions {
        kind: RepoKind::Model,
        private: false,
        prune: true,
        force: false,
        message: "Test".into(),
    }
}

pub(super) fn folder(hub: &Hub, folder: &Path, repo: &str) -> Result<PublishedRepo, HubError> {
    hub.publish_folder(folder, &RepoId::new(repo).unwrap(), &options(), &NoProgress)
}

/// A whole vindex of a tiny model.
pub(super) fn vindex(folder: &Path, family: &str) -> Arc<Vindex> {
    let checkpoint = Checkpoint::open(&larql_testing::repository("conformance").join(family)).unwrap();
    let path = folder.join(format!("{family}.vindex"));
    let options = ExtractOptions { level: ExtractLevel::All, ..ExtractOptions::default() };
    larql_vindex::extract(&checkpoint, &path, &options, &NoProgress).unwrap();
    Arc::new(Vindex::open(&path).unwrap())
}

pub(super) fn publication(repo: &str) -> Publication {
    use SlicePreset::{Attention, Browse, Client, Embed, Server};
    Publication {
        repo: RepoId::new(repo).unwrap(),
        full: true,
        presets: vec![Client, Attention, Embed, Server, Browse],
        template: "{repo}-{preset}".into(),
        options: options(),
        library_title: None,
        collections: true,
        license: Some("apache-2.0".into()),
        card: None,
        staging: None,
    }
}

pub(super) fn publish(
    hub: &Hub,
    whole: &Arc<Vindex>,
    publication: &Publication,
) -> Result<Published, PublishError> {
    hub.publish(whole, publication, &NoProgress, &mut |_| {})
}

fn count(server: &TestHub, method: &str, path: &str) -> usize {
    server.log().iter().filter(|entry| entry.method == method && entry.path.contains(path)).count()
}

#[test]
fn six_repositories_and_three_collections() {
    let (server, folder) = (TestHub::start(), tempfile::tempdir().unwrap());
    let whole = vindex(folder.path(), "llama");
    let hub = client(&server, &folder.path().join("cache"));
    let publication = publication("alice/tiny");
    let plan = publication.plan(&whole).unwrap();
    assert_eq!(server.log(), []);
    let published = publish(&hub, &whole, &publication).unwrap();

    let names: Vec<&str> = published.repos.iter().map(|repo| repo.repo.as_str()).collect();
    let expected = [
        "alice/tiny",
        "alice/tiny-client",
        "alice/tiny-attn",
        "alice/tiny-embed",
        "alice/tiny-server",
        "alice/tiny-browse",
    ];
    assert_eq!(names, expected);
    for (repo, planned) in expected.iter().zip(&plan.repos) {
        assert_eq!(server.is_private(repo), Some(false), "{repo}");
        // What was planned is what is there.
        let mut there: Vec<String> = server.files(repo).into_iter().map(|(path, _)| path).collect();
        there.retain(|path| path != ".gitattributes");
        let planned: Vec<String> = planned.files.iter().map(|(path, _)| path.clone()).collect();
        assert_eq!(there, planned, "{repo}");
        // What is pulled verifies, and opens.
        let pulled = pull(&hub, repo).unwrap();
        assert!(verify(&pulled.path, &NoProgress).unwrap().is_sound(), "{repo}");
        Vindex::open(&pulled.path).unwrap();
        let files =
            hub.check_vindex(&RepoId::new(repo).unwrap(), RepoKind::Model, &CancelToken::never()).unwrap();
        assert!(files > 1);
    }
    let titles: Vec<String> = server.collections().into_iter().map(|(title, _)| title).collect();
    assert_eq!(titles, ["Llama — LARQL Vindex", "Llama Family — LARQL Vindexes", "LARQL Vindex Library"]);
    let items: Vec<usize> = server.collections().iter().map(|(_, items)| items.len()).collect();
    assert_eq!(items, [6, 1, 1]);
    check_tokens(&server.log());
    let rest = std::fs::read_dir(folder.path()).unwrap().count();
    assert_eq!(rest, 2, "nothing is left of the slices");

    // Again: no bytes, no commits, no items.
    server.clear_log();
    let again = publish(&hub, &whole, &publication).unwrap();
    assert!(again.repos.iter().all(|repo| repo.changed == 0 && repo.moved == 0));
    assert_eq!(
        (count(&server, "PUT", ""), count(&server, "POST", "/commit/"), count(&server, "POST", "/batch")),
        (0, 0, 0)
    );
    assert_eq!(count(&server, "POST", "/items"), 0);

    // The slices can be had by the collection.
    let slug = published.collections[0].1.clone();
    let collection = hub.collection(&slug, &CancelToken::never()).unwrap();
    assert_eq!(collection.repos().len(), 6);
    let library = hub.collection(&published.collections[2].1, &CancelToken::never()).unwrap();
    assert_eq!((library.items.len(), library.repos().len()), (1, 0), "what is no repository is left out");
}

#[test]
fn only_what_differs_moves_and_what_is_gone_is_deleted() {
    let (server, folder) = (TestHub::start(), tempfile::tempdir().unwrap());
    let source = folder.path().join("source");
    std::fs::create_dir_all(source.join("sub dir")).unwrap();
    let write = |path: &str, content: &[u8]| std::fs::write(source.join(path), content).unwrap();
    write("a.bin", &bytes(12_000_000, 1));
    write("b.bin", &bytes(5_000, 2));
    write("empty.bin", b"");
    write("sub dir/ü #1.txt", b"odd");
    write("README.md", b"# x");
    write(".hidden", b"not sent");
    let hub = client(&server, folder.path());
    let first = super::publish::folder(&hub, &source, "alice/folder").unwrap();
    assert_eq!((first.changed, first.moved), (5, 12_005_000));
    let there = server.files("alice/folder");
    let expected: Vec<(String, Vec<u8>)> =
        files(&source).into_iter().filter(|(path, _)| path != ".hidden").collect();
    assert_eq!(there.into_iter().filter(|(path, _)| path != ".gitattributes").collect::<Vec<_>>(), expected);
    // Both ways of uploading were taken.
    assert_eq!((count(&server, "PUT", "/parts/"), count(&server, "PUT", "/objects/")), (3, 1));

    assert_eq!(super::publish::folder(&hub, &source, "alice/folder").unwrap().commit, first.commit);
    assert_eq!(server.commits("alice/folder"), 2);

    server.clear_log();
    write("b.bin", &bytes(5_000, 3));
    std::fs::copy(source.join("a.bin"), source.join("c.bin")).unwrap();
    std::fs::remove_file(source.join("sub dir/ü #1.txt")).unwrap();
    std::fs::remove_file(source.join("README.md")).unwrap();
    let second = super::publish::folder(&hub, &source, "alice/folder").unwrap();
    assert_eq!((second.changed, second.moved), (2, 5_000));
    assert_eq!(second.deleted, ["sub dir/ü #1.txt"]);
    let names: Vec<String> = server.files("alice/folder").into_iter().map(|(path, _)| path).collect();
    assert_eq!(names, [".gitattributes", "README.md", "a.bin", "b.bin", "c.bin", "empty.bin"]);
}

#[test]
fn a_damaged_vindex_is_not_published() {
    let (server, folder) = (TestHub::start(), tempfile::tempdir().unwrap());
    let whole = vindex(folder.path(), "llama");
    let file = whole.path().join("norms.bin");
    let mut content = std::fs::read(&file).unwrap();
    content[5] ^= 1;
    std::fs::write(&file, content).unwrap();
    let hub = client(&server, &folder.path().join("cache"));
    let error = publish(&hub, &whole, &publication("alice/damaged")).unwrap_err();
    // The storage finds out first, or else the comparison with what was sent.
    let said = error.to_string();
    assert!(said.contains("norms.bin"), "{said}");
    assert_eq!(server.commits("alice/damaged"), 1);
    assert_eq!(server.is_private("alice/damaged"), Some(true));
    let unpublished =
        hub.check_vindex(&RepoId::new("alice/damaged").unwrap(), RepoKind::Model, &CancelToken::never());
    assert!(matches!(unpublished, Err(HubError::NotWhole { .. })));
}

#[test]
fn a_private_publication_becomes_public_later() {
    let (server, folder) = (TestHub::start(), tempfile::tempdir().unwrap());
    let whole = vindex(folder.path(), "mixtral");
    let hub = client(&server, &folder.path().join("cache"));
    let quiet = Publication {
        options: PublishOptions { private: true, ..options() },
        presets: vec![SlicePreset::ExpertServer, SlicePreset::Router],
        full: false,
        collections: false,
        ..publication("acme/mix")
    };
    let published = publish(&hub, &whole, &quiet).unwrap();
    assert!(published.repos.iter().all(|repo| repo.private) && published.collections.is_empty());
    let id = RepoId::new("acme/mix-router").unwrap();
    assert_eq!(server.is_private("acme/mix-router"), Some(true));
    hub.set_visibility(&id, RepoKind::Model, false, &CancelToken::never()).unwrap();
    assert_eq!(server.is_private("acme/mix-router"), Some(false));
    assert_eq!(server.is_private("acme/mix"), None);
    let pulled: PathBuf =
        hub.pull(&name("acme/mix-expert-server"), Wanted::Model, None, &NoProgress).unwrap().path;
    assert!(Vindex::open(&pulled).unwrap().slice().is_some());
}

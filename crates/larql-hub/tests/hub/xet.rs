//! Xet, with its own store on the loopback interface. The store is a program of the crate `xet-client`, which
//! `scripts/hub-xet.sh` installs; without it these tests say so and check nothing.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use larql_core::progress::{CancelToken, NoProgress, Progress, Step};
use larql_hub::{HubError, PublishedRepo, Wanted};

use super::*;

/// The store, behind a listener that keeps what is sent to it.
struct Store {
    program: Child,
    address: String,
    heard: Arc<Mutex<Vec<u8>>>,
}

impl Store {
    fn start() -> Option<Store> {
        let path =
            PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../target/xet-store/bin/local_cas_server");
        if !path.exists() {
            // Past the capture of the test harness.
            let text = format!("skipped: no {}, which scripts/hub-xet.sh installs\n", path.display());
            std::io::stderr().write_all(text.as_bytes()).unwrap();
            return None;
        }
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let mut command = Command::new(path);
        command.args(["--in-memory", "--port", &free.port().to_string()]);
        let program = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        while TcpStream::connect(free).is_err() {
            std::thread::sleep(Duration::from_millis(20));
        }
        let heard = Arc::<Mutex<Vec<u8>>>::default();
        let address = format!("http://{}", listen(free, Arc::clone(&heard)));
        Some(Store { program, address, heard })
    }

    /// Ends the program.
    fn stop(&mut self) {
        self.program.kill().unwrap();
        self.program.wait().unwrap();
    }

    fn has_heard(&self, text: &str) -> bool {
        self.heard.lock().unwrap().windows(text.len()).any(|bytes| bytes == text.as_bytes())
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Passes connections on, and keeps what clients send.
fn listen(store: SocketAddr, heard: Arc<Mutex<Vec<u8>>>) -> SocketAddr {
    fn pass(mut from: TcpStream, mut to: TcpStream, heard: Option<Arc<Mutex<Vec<u8>>>>) {
        let mut chunk = vec![0; 1 << 16];
        while let Ok(length @ 1..) = from.read(&mut chunk) {
            if let Some(heard) = &heard {
                heard.lock().unwrap().extend(&chunk[..length]);
            }
            if to.write_all(&chunk[..length]).is_err() {
                break;
            }
        }
        let _ = to.shutdown(std::net::Shutdown::Write);
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for client in listener.incoming().map(Result::unwrap) {
            let Ok(server) = TcpStream::connect(store) else { continue };
            let (to_client, from_server) = (client.try_clone().unwrap(), server.try_clone().unwrap());
            let heard = Some(Arc::clone(&heard));
            std::thread::spawn(move || pass(client, server, heard));
            std::thread::spawn(move || pass(from_server, to_client, None));
        }
    });
    address
}

/// A hub with Xet, a client that uses it, and a folder with two large files and a small one.
struct Setting {
    store: Store,
    server: TestHub,
    folder: tempfile::TempDir,
    source: PathBuf,
}

impl Setting {
    fn new() -> Option<Setting> {
        let store = Store::start()?;
        let server = TestHub::start_with_xet(0, Some(store.address.clone()));
        let folder = tempfile::tempdir().unwrap();
        let source = folder.path().join("source");
        std::fs::create_dir(&source).unwrap();
        let contents = [("a.safetensors", bytes(12_000_000, 31)), ("b.gguf", bytes(300_000, 32))];
        for (path, content) in &contents {
            std::fs::write(source.join(path), content).unwrap();
        }
        std::fs::write(source.join("config.json"), "{}").unwrap();
        Some(Setting { store, server, folder, source })
    }

    /// A client with a cache of its own.
    fn client(&self, cache: &str) -> Hub {
        let cache = self.folder.path().join(cache);
        let xet = Some(cache.join("xet"));
        Hub::new(HubSettings { xet, ..settings(&self.server, &cache) }).unwrap()
    }

    fn publish(&self, hub: &Hub, repo: &str) -> PublishedRepo {
        let published = publish::folder(hub, &self.source, repo).unwrap();
        let files: Vec<_> = self.server.files(repo).into_iter().skip(1).collect();
        assert_eq!(files, super::files(&self.source));
        published
    }

    fn pull(&self, hub: &Hub, repo: &str) {
        let pulled = hub.pull(&name(repo), Wanted::Everything, None, &NoProgress).unwrap();
        let files: Vec<_> = super::files(&pulled.path).into_iter().skip(1).collect();
        assert_eq!(files, super::files(&self.source));
    }

    /// Bytes that came to the storage of the hub, and went from there.
    fn plain(&self) -> (u64, u64) {
        let log = self.server.log();
        let storage = log.iter().filter(|entry| entry.server == "storage");
        storage.fold((0, 0), |(received, sent), entry| (received + entry.received, sent + entry.sent))
    }
}

#[test]
fn files_go_and_come_by_xet_and_the_store_sees_no_token_of_the_hub() {
    let Some(setting) = Setting::new() else { return };
    let published = setting.publish(&setting.client("up"), "alice/model");
    assert_eq!(published.changed, 3);
    assert!(published.moved > 12_000_000, "{}", published.moved);
    // The same bytes in another repository move once.
    let sibling = setting.publish(&setting.client("up"), "alice/sibling");
    assert!(sibling.moved < 1_000_000, "{}", sibling.moved);
    let again = setting.publish(&setting.client("up"), "alice/model");
    assert_eq!((again.changed, again.moved), (0, 0));

    setting.pull(&setting.client("down"), "alice/model");
    assert_eq!(setting.plain(), (0, 0), "all large files take the way by Xet");
    check_tokens(&setting.server.log());
    assert!(setting.store.has_heard("xet_token_of_the_store"));
    assert!(!setting.store.has_heard(ALICE) && !setting.store.has_heard("hf_alice"));

    // A client that does not use it has them from the storage.
    let plain = client(&setting.server, &setting.folder.path().join("plain"));
    setting.pull(&plain, "alice/model");
    assert_eq!(setting.plain(), (0, 12_300_000));
}

#[test]
fn without_the_store_everything_goes_over_plain_http() {
    let Some(mut setting) = Setting::new() else { return };
    setting.publish(&setting.client("up"), "alice/model");
    setting.store.stop();
    setting.pull(&setting.client("down"), "alice/model");
    assert_eq!(setting.plain(), (0, 12_300_000));
    std::fs::write(setting.source.join("b.gguf"), bytes(400_000, 33)).unwrap();
    setting.publish(&setting.client("up"), "alice/other");
    assert_eq!(setting.plain().0, 400_000);

    // A hub that has never heard of Xet.
    let server = TestHub::start();
    server.put("alice/model", &[("model.gguf", &bytes(50_000, 34))]);
    let xet = Some(setting.folder.path().join("xet"));
    let hub =
        Hub::new(HubSettings { xet, ..settings(&server, &setting.folder.path().join("other")) }).unwrap();
    assert_eq!(std::fs::read(pull(&hub, "alice/model").unwrap().path).unwrap(), bytes(50_000, 34));
    publish::folder(&hub, &setting.source, "alice/new").unwrap();
}

#[test]
fn an_interrupted_download_by_xet_goes_on_by_either_way() {
    struct Stopping(CancelToken);
    impl Progress for Stopping {
        fn report(&self, step: Step<'_>) {
            if step.done > 1_000_000 {
                self.0.cancel();
            }
        }
        fn cancel_token(&self) -> &CancelToken {
            &self.0
        }
    }
    let Some(setting) = Setting::new() else { return };
    setting.publish(&setting.client("up"), "alice/model");
    for (way, uses_xet) in [("xet", true), ("plain", false)] {
        let hub = setting.client(way);
        let stopping = Stopping(CancelToken::new());
        let stopped = hub.pull(&name("alice/model"), Wanted::Everything, None, &stopping);
        assert!(matches!(stopped, Err(HubError::Cancelled)));
        // How much came at once is the store's choice.
        let blobs = setting.folder.path().join(way).join("models--alice--model/blobs");
        let entries = std::fs::read_dir(blobs).unwrap().map(|entry| entry.unwrap().path());
        let is_large = |path: &PathBuf| path.metadata().unwrap().len() > 1_000_000;
        let partial = entries.into_iter().find(is_large).unwrap();
        assert!(partial.display().to_string().ends_with(".larql.incomplete"));
        std::fs::File::options().write(true).open(partial).unwrap().set_len(1_000_000).unwrap();
        let hub = if uses_xet { hub } else { client(&setting.server, &setting.folder.path().join(way)) };
        setting.server.clear_log();
        let pulled = hub.pull(&name("alice/model"), Wanted::Everything, None, &NoProgress).unwrap();
        assert!((11_000_000..11_400_000).contains(&pulled.moved), "{}", pulled.moved);
        assert_eq!(setting.plain().1 > 0, !uses_xet);
        setting.pull(&hub, "alice/model");
    }
}

#[test]
fn a_file_that_changed_meanwhile_is_not_published() {
    let Some(setting) = Setting::new() else { return };
    let hub = setting.client("up");
    let whole = publish::vindex(setting.folder.path(), "llama");
    let file = whole.path().join("norms.bin");
    let mut content = std::fs::read(&file).unwrap();
    content[5] ^= 1;
    std::fs::write(&file, content).unwrap();
    let error = publish::publish(&hub, &whole, &publish::publication("alice/damaged")).unwrap_err();
    assert!(error.to_string().contains("norms.bin has changed"), "{error}");
    assert_eq!(setting.server.commits("alice/damaged"), 1);
}

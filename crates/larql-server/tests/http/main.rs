//! A real server on a free port of this machine, asked over HTTP.
#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod chat;
mod completions;
mod edits;
mod errors;
mod explorer;
mod lql;
mod operation;
mod remote;

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::Duration;

use larql_compute::Pool;
use larql_hub::{Library, ModelResolver};
use larql_server::{EngineLimits, ServeOptions, Server};
use larql_session::Catalog;
use serde_json::{Value, json};
use tokio::sync::oneshot;

/// A server that runs until this is dropped.
struct TestServer {
    url: String,
    agent: ureq::Agent,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// An answer.
#[derive(Debug)]
struct Answer {
    status: u16,
    headers: ureq::http::HeaderMap,
    text: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }
}

/// The bundled model as a vindex, which is made once for all tests.
fn atlas() -> PathBuf {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("server");
        if folder.exists() {
            std::fs::remove_dir_all(&folder).unwrap();
        }
        Library::new(folder).find("atlas".as_ref()).unwrap()
    })
    .clone()
}

/// A small vindex of the repository.
fn fixture(name: &str) -> PathBuf {
    larql_testing::repository("fixtures").join(name)
}

fn models(models: &[(&str, PathBuf)]) -> Vec<(String, PathBuf)> {
    models.iter().map(|(name, path)| ((*name).to_owned(), path.clone())).collect()
}

/// Options of a server with the bundled model, whose log stays out of the tests' output.
fn options() -> ServeOptions {
    let engine =
        EngineLimits { check_memory: false, key_value_bytes: Some(64 << 20), ..EngineLimits::default() };
    ServeOptions {
        models: models(&[("atlas", atlas())]),
        port: 0,
        access_log: false,
        engine,
        ..ServeOptions::default()
    }
}

impl TestServer {
    fn start(options: ServeOptions) -> TestServer {
        let catalog = Arc::new(Catalog::new(Arc::new(Pool::new(2)), Library::default()));
        let server = Server::open(options, catalog).unwrap();
        let url = server.url();
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::spawn(move || server.run(async { drop(stopped.await) }).unwrap());
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(Duration::from_secs(300)));
        TestServer { url, agent: config.build().into(), stop: Some(stop), thread: Some(thread) }
    }

    /// The server that tests share which need no options.
    fn shared() -> &'static TestServer {
        static SERVER: OnceLock<TestServer> = OnceLock::new();
        SERVER.get_or_init(|| TestServer::start(options()))
    }

    fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let mut request = ureq::http::Request::builder().method(method).uri(format!("{}{path}", self.url));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut response = self.agent.run(request.body(body.to_owned()).unwrap()).unwrap();
        let text = response.body_mut().read_to_string().unwrap();
        Answer { status: response.status().as_u16(), headers: response.headers().clone(), text }
    }

    fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, &[], "")
    }

    fn post(&self, path: &str, body: Value) -> Answer {
        self.ask("POST", path, &[], &body.to_string())
    }

    /// The answer to a request that has to succeed.
    fn posted(&self, path: &str, body: Value) -> Value {
        let answer = self.post(path, body);
        assert_eq!(answer.status, 200, "{}", answer.text);
        answer.json()
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        self.stop.take().map(|stop| stop.send(()));
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

/// The values of the events of a streamed answer, without the last one.
fn events(text: &str) -> Vec<Value> {
    let data = text.lines().filter_map(|line| line.strip_prefix("data: "));
    data.filter(|data| *data != "[DONE]").map(|data| serde_json::from_str(data).unwrap()).collect()
}

/// A model that chats, or none after a line that says that the test is skipped.
fn chatting() -> Option<&'static TestServer> {
    static SERVER: OnceLock<Option<TestServer>> = OnceLock::new();
    let server = SERVER.get_or_init(|| {
        let path = larql_testing::real_model(larql_testing::SMOLLM2)?;
        Some(TestServer::start(ServeOptions { models: models(&[("smollm2", path)]), ..options() }))
    });
    server.as_ref()
}

fn user(text: &str) -> Value {
    json!([{"role": "user", "content": text}])
}

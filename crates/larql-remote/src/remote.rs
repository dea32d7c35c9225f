//! A session on a server.

use std::cell::Cell;
use std::path::Path;
use std::time::Duration;

use larql_lql::UnsavedPatch;
use larql_lql::ast::{Pipe, Spanned, Statement};
use larql_lql::output::{Opened, OpenedAs, Output, PatchAction, PatchChanged, PatchRow, Patches, Stats};
use serde::Deserialize;
use serde_json::{Value, json};
use ureq::http::Method;

use crate::RemoteError;
use crate::address::Address;

/// Time for one statement. Editing measures a model first, which takes minutes.
const TIME: Duration = Duration::from_secs(900);

/// A session on a server: statements go there, patch files stay here.
pub struct Remote {
    address: Address,
    agent: ureq::Agent,
    /// Name of the session, under which its edits lie.
    session: String,
    most_rows: Option<usize>,
    opened: Opened,
    /// Operations of the open patch that a file of this machine has.
    saved: Cell<usize>,
}

/// Answer of `/v1/lql`.
#[derive(Deserialize)]
struct Results {
    results: Vec<Output>,
}

impl Remote {
    /// Begins a session on the server at an address such as `http://127.0.0.1:8080`, followed by `/MODEL` on a server of
    /// several models, and with `KEY@` before the host if it asks for a key.
    ///
    /// # Errors
    /// If the address is none, or the server does not answer.
    pub fn connect(address: &str) -> Result<Remote, RemoteError> {
        let address = Address::parse(address)?;
        let config = ureq::Agent::config_builder().http_status_as_error(false).timeout_global(Some(TIME));
        let opened = Opened {
            path: address.shown.clone(),
            opened_as: OpenedAs::Remote,
            model: String::new(),
            level: None,
            layers: 0,
            features: 0,
            relations: 0,
        };
        let session = format!("remote-{:016x}", rand::random::<u64>());
        let agent = config.build().into();
        let mut remote = Remote { address, agent, session, most_rows: None, opened, saved: Cell::new(0) };
        let stats = remote.statement("STATS")?;
        let Output::Stats(Stats { model, level, layers, features, .. }) = stats else {
            return Err(remote.unreadable("STATS had another answer than its own"));
        };
        remote.opened = Opened { model, level, layers, features, ..remote.opened.clone() };
        if let Ok(Output::Relations(relations)) = remote.statement("SHOW RELATIONS") {
            remote.opened.relations = relations.rows.len();
        }
        Ok(remote)
    }

    /// Returns what USE answers.
    pub fn opened(&self) -> &Opened {
        &self.opened
    }

    /// Sets how many rows of a listing are wanted where its statement has no LIMIT; all if `None`.
    pub fn set_most_rows(&mut self, rows: Option<usize>) {
        self.most_rows = rows;
    }

    /// Carries out the statements of a pipe.
    ///
    /// # Errors
    /// If the server refuses it, or cannot be reached.
    pub fn execute(&self, pipe: &Pipe, emit: &mut dyn FnMut(Output)) -> Result<(), RemoteError> {
        match pipe.stages.as_slice() {
            [Spanned { value: Statement::SavePatch(save), .. }] => {
                emit(self.save_patch(save.path.as_ref().map(|path| path.value.as_str()))?);
            }
            [Spanned { value: Statement::ApplyPatch(apply), .. }] => {
                emit(self.apply_patch(&apply.path.value)?)
            }
            _ => self.run(&pipe.to_string())?.into_iter().for_each(emit),
        }
        Ok(())
    }

    /// Returns the patches with edits that no file has.
    pub fn unsaved(&self) -> Vec<UnsavedPatch> {
        let patches = self.patches().unwrap_or_default().into_iter();
        let patches = patches.filter(|patch| patch.open && patch.operations != self.saved.get());
        patches
            .map(|patch| UnsavedPatch { name: patch.patch, edits: patch.operations, automatic: true })
            .collect()
    }

    fn patches(&self) -> Result<Vec<PatchRow>, RemoteError> {
        match self.statement("SHOW PATCHES")? {
            Output::Patches(Patches { rows }) => Ok(rows),
            _ => Err(self.unreadable("SHOW PATCHES had another answer than its own")),
        }
    }

    /// Fetches the open patch, and saves it on this machine.
    fn save_patch(&self, path: Option<&str>) -> Result<Output, RemoteError> {
        let open = self.patches()?.into_iter().find(|patch| patch.open).ok_or(RemoteError::NoPatch)?;
        let path = path.unwrap_or(&open.patch);
        let patch = self.ask(Method::GET, &format!("/patches/{}", open.patch), None)?;
        let failed =
            |error: std::io::Error| RemoteError::File { path: path.to_owned(), reason: error.to_string() };
        // A file that was there is whole until the new one is.
        let part = format!("{path}.part");
        std::fs::write(&part, patch.to_string())
            .and_then(|()| std::fs::rename(&part, path))
            .map_err(failed)?;
        self.saved.set(open.operations);
        let (action, patch) = (PatchAction::Saved, path.to_owned());
        Ok(Output::Patch(PatchChanged { action, patch, operations: open.operations }))
    }

    /// Reads a patch file of this machine, and lays it over the model on the server.
    fn apply_patch(&self, path: &str) -> Result<Output, RemoteError> {
        let failed = |reason: String| RemoteError::File { path: path.to_owned(), reason };
        let text = std::fs::read_to_string(path).map_err(|error| failed(error.to_string()))?;
        let patch: Value = serde_json::from_str(&text).map_err(|error| failed(error.to_string()))?;
        let name = Path::new(path).file_name().map_or_else(|| path.into(), |name| name.to_string_lossy());
        let answer = self.ask(Method::POST, "/patches/apply", Some(json!({"patch": patch, "name": name})))?;
        let operations = answer["operations"].as_u64().unwrap_or(0) as usize;
        Ok(Output::Patch(PatchChanged { action: PatchAction::Applied, patch: name.into_owned(), operations }))
    }

    fn statement(&self, text: &str) -> Result<Output, RemoteError> {
        let last = self.run(text)?.pop();
        last.ok_or_else(|| self.unreadable("a statement had no answer"))
    }

    fn run(&self, text: &str) -> Result<Vec<Output>, RemoteError> {
        let body = json!({"query": format!("{text};"), "most_rows": self.most_rows});
        let answer = self.ask(Method::POST, "/lql", Some(body))?;
        let results: Results =
            serde_json::from_value(answer).map_err(|error| self.unreadable(&error.to_string()))?;
        Ok(results.results)
    }

    fn ask(&self, method: Method, route: &str, body: Option<Value>) -> Result<Value, RemoteError> {
        let unreachable = |error: ureq::Error| RemoteError::Unreachable {
            address: self.address.shown.clone(),
            reason: error.to_string(),
        };
        let mut request = ureq::http::Request::builder()
            .method(method)
            .uri(format!("{}{}", self.address.routes, route.replace(' ', "%20")))
            .header("x-session-id", &self.session)
            .header("content-type", "application/json");
        if let Some(key) = &self.address.key {
            request = request.header("authorization", format!("Bearer {key}"));
        }
        let text = body.map(|body| body.to_string()).unwrap_or_default();
        let request = request.body(text).map_err(|error| self.unreadable(&error.to_string()))?;
        let mut response = self.agent.run(request).map_err(unreachable)?;
        // Results are as large as they are; ureq's own bound is for other uses.
        let text = response.body_mut().with_config().limit(u64::MAX).read_to_string().map_err(unreachable)?;
        if !response.status().is_success() {
            let value: Value = serde_json::from_str(&text).unwrap_or_default();
            let message = value["error"].as_str().or_else(|| value["error"]["message"].as_str());
            let message =
                message.map_or_else(|| format!("the server answered {}", response.status()), str::to_owned);
            return Err(RemoteError::Refused { message });
        }
        serde_json::from_str(&text).map_err(|error| self.unreadable(&error.to_string()))
    }

    fn unreadable(&self, reason: &str) -> RemoteError {
        RemoteError::Answer { address: self.address.shown.clone(), reason: reason.to_owned() }
    }
}

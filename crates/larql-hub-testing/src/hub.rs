//! The hub's routes.

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::http::{Content, Request, Response, pairs};
use crate::state::{Collection, Commit, Data, Entry, LARGEST_INLINE, Repo, State, is_large};
use crate::{ALICE, ALICE_READS, BOB};

/// Entries of a page, few so that every listing has several.
const PAGE: usize = 3;
/// Size from which files are uploaded in parts.
const MULTIPART: u64 = 11 << 20;
/// Size of a part.
const PART: u64 = 5 << 20;
/// Files that a preupload may ask about.
const MOST_FILES: usize = 256;

/// Token for Xet's store.
const XET_TOKEN: &str = "xet_token_of_the_store";

/// A user, by the token.
#[derive(Clone, Copy)]
struct User {
    name: &'static str,
    writes: bool,
    organisations: &'static [&'static str],
}

impl User {
    fn owns(self, namespace: &str) -> bool {
        self.name == namespace || self.organisations.contains(&namespace)
    }
}

fn user(token: Option<&str>) -> Result<Option<User>, Response> {
    match token {
        None => Ok(None),
        Some(ALICE) => Ok(Some(User { name: "alice", writes: true, organisations: &["acme"] })),
        Some(ALICE_READS) => Ok(Some(User { name: "alice", writes: false, organisations: &["acme"] })),
        Some(BOB) => Ok(Some(User { name: "bob", writes: true, organisations: &[] })),
        Some(_) => Err(Response::error(401, "", "Invalid credentials in Authorization header")),
    }
}

/// Answers a request.
pub(crate) fn answer(state: &Arc<State>, request: &mut Request<'_>) -> Response {
    route(state, request).unwrap_or_else(|refusal| refusal)
}

fn route(state: &Arc<State>, request: &mut Request<'_>) -> Result<Response, Response> {
    let user = user(request.token().as_deref())?;
    let segments = request.segments();
    let parts: Vec<&str> = segments.iter().map(String::as_str).collect();
    let method = request.method.clone();
    match (&*method, &parts[..]) {
        ("GET", ["api", "whoami-v2"]) => whoami(user),
        ("POST", ["api", "repos", "create"]) => create(state, user, request),
        ("DELETE", ["api", "repos", "delete"]) => delete(state, user, request),
        ("POST", ["api", "validate-yaml"]) => Ok(validate_card(request)),
        (_, ["api", "collections", rest @ ..]) => collections(state, user, &method, rest, request),
        ("GET" | "HEAD", ["api", "resolve-cache", kind, owner, name, commit, path @ ..]) => {
            let access = Access { state, user, kind, id: format!("{owner}/{name}") };
            access.resolve_cached(commit, &path.join("/"), request)
        }
        (_, ["api", kind @ ("models" | "datasets"), owner, name, rest @ ..]) => {
            let access = Access { state, user, kind, id: format!("{owner}/{name}") };
            access.api(&method, rest, request)
        }
        ("GET" | "HEAD", ["datasets", owner, name, "resolve", revision, path @ ..]) => {
            let access = Access { state, user, kind: "datasets", id: format!("{owner}/{name}") };
            access.resolve(revision, &path.join("/"), request)
        }
        ("GET" | "HEAD", [owner, name, "resolve", revision, path @ ..]) => {
            let access = Access { state, user, kind: "models", id: format!("{owner}/{name}") };
            access.resolve(revision, &path.join("/"), request)
        }
        ("POST", ["datasets", owner, name, "info", "lfs", rest @ ..]) => {
            let id = format!("{owner}/{}", name.trim_end_matches(".git"));
            Access { state, user, kind: "datasets", id }.lfs(rest, request)
        }
        ("POST", [owner, name, "info", "lfs", rest @ ..]) => {
            let id = format!("{owner}/{}", name.trim_end_matches(".git"));
            Access { state, user, kind: "models", id }.lfs(rest, request)
        }
        _ => Err(Response::error(404, "", "no such route")),
    }
}

fn whoami(user: Option<User>) -> Result<Response, Response> {
    let user = user.ok_or_else(|| Response::error(401, "", "a token is needed"))?;
    let organisations: Vec<Value> = user.organisations.iter().map(|name| json!({"name": name})).collect();
    let role = if user.writes { "write" } else { "read" };
    Ok(Response::json(
        200,
        &json!({"type": "user", "name": user.name, "fullname": user.name, "orgs": organisations,
                "auth": {"type": "access_token", "accessToken": {"displayName": "test", "role": role}}}),
    ))
}

/// Refuses those who may not write to a namespace.
fn check_writer(user: Option<User>, namespace: &str) -> Result<User, Response> {
    let user = user.ok_or_else(|| Response::error(401, "", "a token is needed"))?;
    match user.writes && user.owns(namespace) {
        true => Ok(user),
        false => {
            let message = format!("You don't have the rights to write under the namespace \"{namespace}\"");
            Err(Response::error(403, "", &message))
        }
    }
}

fn plural(kind: &Value) -> &'static str {
    if kind == "dataset" { "datasets" } else { "models" }
}

fn create(state: &Arc<State>, user: Option<User>, request: &mut Request<'_>) -> Result<Response, Response> {
    let body = request.json();
    let name = body["name"].as_str().unwrap_or_default();
    let (given, name) = name.split_once('/').map_or((None, name), |(owner, name)| (Some(owner), name));
    let owner = body["organization"].as_str().or(given).or(user.map(|user| user.name)).unwrap_or_default();
    check_writer(user, owner)?;
    let id = format!("{owner}/{name}");
    let kind = plural(&body["type"]);
    let private = body["visibility"] == "private" || body["private"] == true;
    let prefix = if kind == "datasets" { "/datasets" } else { "" };
    let url = json!({"url": format!("{}{prefix}/{id}", state.endpoint), "name": id});
    match state.change(|data| data.create(kind, &id, private)) {
        true => Ok(Response::json(200, &url)),
        false => {
            let mut body = url;
            body["error"] = "You already created this repo".into();
            Err(Response::json(409, &body))
        }
    }
}

fn delete(state: &Arc<State>, user: Option<User>, request: &mut Request<'_>) -> Result<Response, Response> {
    let body = request.json();
    let owner = body["organization"].as_str().or(user.map(|user| user.name)).unwrap_or_default();
    check_writer(user, owner)?;
    let id = format!("{owner}/{}", body["name"].as_str().unwrap_or_default());
    match state.change(|data| data.delete(plural(&body["type"]), &id)) {
        true => Ok(Response::json(200, &json!({}))),
        false => Err(Response::error(404, "RepoNotFound", "Repository not found")),
    }
}

fn validate_card(request: &mut Request<'_>) -> Response {
    let body = request.json();
    let content = body["content"].as_str().unwrap_or_default();
    let front =
        content.strip_prefix("---\n").and_then(|rest| rest.split_once("\n---\n")).map(|(front, _)| front);
    let is_bad = |line: &str| line.contains('\t') || (!line.starts_with('-') && !line.contains(':'));
    let bad = front.and_then(|front| front.lines().find(|line| is_bad(line)));
    match bad {
        Some(line) => {
            let message = format!("the line {line:?} is not valid");
            Response::json(400, &json!({"error": message, "errors": [{"message": message}], "warnings": []}))
        }
        None => Response::json(200, &json!({"errors": [], "warnings": []})),
    }
}

/// A page of a listing, with the address of the next one.
fn paged(state: &State, request: &Request<'_>, items: Vec<Value>) -> Response {
    let cursor =
        request.query.iter().find(|(key, _)| key == "cursor").and_then(|(_, value)| value.parse().ok());
    let begin: usize = cursor.unwrap_or(0);
    let others = request.query.iter().filter(|(key, _)| key != "cursor");
    let others: String = others.map(|(key, value)| format!("{key}={}&", value.replace('/', "%2F"))).collect();
    let page: Vec<Value> = items.iter().skip(begin).take(PAGE).cloned().collect();
    let end = begin + page.len();
    let response = Response::json(200, &Value::Array(page));
    match end < items.len() {
        true => {
            let next = format!("<{}{}?{others}cursor={end}>; rel=\"next\"", state.endpoint, request.path);
            response.with("link", next)
        }
        false => response,
    }
}

/// A request about a repository.
struct Access<'a> {
    state: &'a Arc<State>,
    user: Option<User>,
    kind: &'a str,
    id: String,
}

impl Access<'_> {
    fn owner(&self) -> &str {
        self.id.split('/').next().unwrap_or_default()
    }

    /// Reads the repository, if the user may.
    fn read<T>(&self, ask: impl FnOnce(&Repo) -> Result<T, Response>) -> Result<T, Response> {
        let status = if self.user.is_some() { 404 } else { 401 };
        let not_found = || Response::error(status, "RepoNotFound", "Repository not found");
        self.state.read(|data| {
            let repo = data.repo(self.kind, &self.id).ok_or_else(not_found)?;
            let is_owner = self.user.is_some_and(|user| user.owns(self.owner()));
            if repo.private && !is_owner {
                return Err(not_found());
            }
            ask(repo)
        })
    }

    fn at<T>(
        &self,
        revision: &str,
        ask: impl FnOnce(&Repo, &Commit) -> Result<T, Response>,
    ) -> Result<T, Response> {
        self.read(|repo| {
            let commit = repo.commit(revision);
            ask(repo, commit.ok_or_else(|| Response::error(404, "RevisionNotFound", "Invalid rev id"))?)
        })
    }

    fn api(&self, method: &str, rest: &[&str], request: &mut Request<'_>) -> Result<Response, Response> {
        match (method, rest) {
            ("GET", []) => self.info("main", request),
            ("GET", ["revision", revision]) => self.info(revision, request),
            ("GET", ["tree", revision, folder @ ..]) => {
                let folder = folder.join("/");
                let items = self.at(revision, |_, commit| {
                    let inside = |path: &String| folder.is_empty() || path.starts_with(&format!("{folder}/"));
                    let files = commit.files.iter().filter(|(path, _)| inside(path));
                    Ok(files.map(|(path, entry)| entry.listed(path, self.state)).collect::<Vec<_>>())
                })?;
                Ok(paged(self.state, request, items))
            }
            ("POST", ["paths-info", revision]) => {
                let bytes = request.bytes();
                let text = String::from_utf8_lossy(&bytes).into_owned();
                let paths: Vec<String> = match serde_json::from_str::<Value>(&text) {
                    Ok(body) => {
                        let paths = body["paths"].as_array().into_iter().flatten();
                        paths.filter_map(|path| path.as_str().map(str::to_owned)).collect()
                    }
                    Err(_) => pairs(&text).into_iter().filter(|(key, _)| key == "paths").map(|(_, path)| path).collect(),
                };
                let items = self.at(revision, |_, commit| {
                    let listed = |path: &String| commit.files.get(path).map(|entry| entry.listed(path, self.state));
                    Ok(paths.iter().filter_map(listed).collect::<Vec<_>>())
                })?;
                Ok(Response::json(200, &Value::Array(items)))
            }
            ("GET", ["refs"]) => self.read(|repo| {
                let refs = |named: &BTreeMap<String, String>, kind: &str| -> Vec<Value> {
                    let entry = |(name, commit): (&String, &String)| {
                        json!({"name": name, "ref": format!("refs/{kind}/{name}"), "targetCommit": commit})
                    };
                    named.iter().map(entry).collect()
                };
                let body = json!({"branches": refs(&repo.branches, "heads"), "tags": refs(&repo.tags, "tags"),
                                  "converts": [], "pullRequests": []});
                Ok(Response::json(200, &body))
            }),
            ("GET", ["commits", revision]) => {
                let items = self.at(revision, |repo, tip| {
                    let until = repo.commits.iter().position(|commit| commit.id == tip.id).unwrap_or(0);
                    let commits = repo.commits[..=until].iter().rev();
                    let item = |commit: &Commit| {
                        json!({"id": commit.id, "title": commit.title, "message": "",
                               "date": "2026-01-01T00:00:00.000Z", "authors": [{"user": self.owner()}]})
                    };
                    Ok(commits.map(item).collect::<Vec<_>>())
                })?;
                Ok(paged(self.state, request, items))
            }
            ("POST", ["preupload", revision]) => self.preupload(revision, request),
            ("POST", ["commit", branch]) => self.commit(branch, request),
            ("PUT", ["settings"]) => self.settings(request),
            ("GET", [right @ ("xet-read-token" | "xet-write-token"), revision]) => self.xet(right, revision),
            ("POST", [kind @ ("branch" | "tag"), name]) => self.name_commit(kind, name, request),
            _ => Err(Response::error(404, "", "no such route")),
        }
    }

    fn info(&self, revision: &str, request: &Request<'_>) -> Result<Response, Response> {
        let blobs =
            request.query.iter().any(|(key, value)| key == "blobs" && value.eq_ignore_ascii_case("true"));
        self.at(revision, |repo, commit| {
            let sibling = |(path, entry): (&String, &Entry)| {
                let mut item = json!({"rfilename": path});
                if blobs {
                    item["size"] = entry.bytes().into();
                    item["blobId"] = entry.blob().into();
                    if let Entry::Large { sha256, bytes } = entry {
                        item["lfs"] = json!({"sha256": sha256, "size": bytes, "pointerSize": 130});
                    }
                }
                item
            };
            let siblings: Vec<Value> = commit.files.iter().map(sibling).collect();
            Ok(Response::json(
                200,
                &json!({"id": self.id, "_id": "0", "author": self.owner(), "sha": commit.id, "private": repo.private,
                        "gated": repo.gated, "disabled": false, "downloads": 0, "likes": 0, "tags": [],
                        "createdAt": "2026-01-01T00:00:00.000Z", "lastModified": "2026-01-01T00:00:00.000Z",
                        "siblings": siblings}),
            ))
        })
    }

    /// Leads to a file: within the hub for files of git, to the storage for others.
    fn resolve(&self, revision: &str, path: &str, request: &Request<'_>) -> Result<Response, Response> {
        let (commit, entry, gated) = self.at(revision, |repo, commit| {
            let missing = || {
                Response::error(404, "EntryNotFound", "Entry not found")
                    .with("x-repo-commit", commit.id.as_str())
            };
            let entry = commit.files.get(path).ok_or_else(missing)?;
            Ok((commit.id.clone(), entry.clone(), repo.gated))
        })?;
        if gated && !self.user.is_some_and(|user| user.owns(self.owner())) {
            return Err(Response::error(403, "GatedRepo", "Access to this model is restricted"));
        }
        let described = |response: Response| {
            response
                .with("x-repo-commit", commit.as_str())
                .with("x-linked-size", entry.bytes().to_string())
                .with("x-linked-etag", format!("\"{}\"", entry.etag()))
        };
        Ok(match &entry {
            Entry::Small(_) => {
                let rest = request.path.split("/resolve/").nth(1).and_then(|rest| rest.split_once('/'));
                let path = rest.map_or("", |(_, path)| path);
                let location = format!("/api/resolve-cache/{}/{}/{commit}/{path}", self.kind, self.id);
                described(Response::new(307)).with("location", location)
            }
            Entry::Large { sha256, .. } => {
                let location = format!("{}/objects/{sha256}?signature=secret", self.state.storage);
                // A client without Xet takes the file from the storage all the same.
                let response = described(Response::new(302)).with("location", location);
                match self.state.xet_digest(sha256) {
                    Some(digest) => {
                        let State { endpoint, .. } = &**self.state;
                        let (kind, id) = (self.kind, &self.id);
                        let route = format!("{endpoint}/api/{kind}/{id}/xet-read-token/{commit}");
                        response
                            .with("x-xet-hash", digest)
                            .with("link", format!("<{route}>; rel=\"xet-auth\""))
                    }
                    None => response,
                }
            }
        })
    }

    fn resolve_cached(&self, commit: &str, path: &str, request: &Request<'_>) -> Result<Response, Response> {
        self.at(commit, |_, found| {
            let Some(Entry::Small(bytes)) = found.files.get(path) else {
                return Err(Response::error(404, "EntryNotFound", "Entry not found"));
            };
            let etag = format!("\"{}\"", crate::state::blob_of(bytes));
            let whole = Response { body: Content::Bytes(bytes.clone()), ..Response::new(200) };
            Ok(whole.with("etag", etag).with("x-repo-commit", commit).ranged(request))
        })
    }

    fn preupload(&self, revision: &str, request: &mut Request<'_>) -> Result<Response, Response> {
        check_writer(self.user, self.owner())?;
        let body = request.json();
        let files = body["files"].as_array().cloned().unwrap_or_default();
        if files.len() > MOST_FILES {
            return Err(Response::error(400, "", "more than 256 files"));
        }
        self.at(revision, |_, commit| {
            let describe = |file: &Value| {
                let path = file["path"].as_str().unwrap_or_default();
                let large = is_large(path, file["size"].as_u64().unwrap_or(0));
                let mode = if large { "lfs" } else { "regular" };
                let mut item = json!({"path": path, "uploadMode": mode, "shouldIgnore": false});
                if let Some(entry) = commit.files.get(path) {
                    item["oid"] = entry.etag().into();
                }
                item
            };
            Ok(Response::json(200, &json!({"files": files.iter().map(describe).collect::<Vec<_>>()})))
        })
    }

    fn commit(&self, branch: &str, request: &mut Request<'_>) -> Result<Response, Response> {
        check_writer(self.user, self.owner())?;
        let bytes = request.bytes();
        if bytes.len() as u64 != request.length {
            return Err(Response::error(400, "", "the body is not whole"));
        }
        let (mut changes, mut title, mut parent) = (BTreeMap::new(), String::new(), None);
        let bad = |message: &str| Response::error(400, "", message);
        for line in bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            let line: Value = serde_json::from_slice(line).map_err(|error| bad(&error.to_string()))?;
            let value = &line["value"];
            let path = || value["path"].as_str().unwrap_or_default().to_owned();
            match line["key"].as_str() {
                Some("header") => {
                    title = value["summary"].as_str().unwrap_or_default().to_owned();
                    parent = value["parentCommit"].as_str().map(str::to_owned);
                }
                Some("file") => {
                    let content = STANDARD.decode(value["content"].as_str().unwrap_or_default());
                    let content = content.map_err(|error| bad(&error.to_string()))?;
                    if content.len() as u64 > LARGEST_INLINE || is_large(&path(), content.len() as u64) {
                        return Err(bad("the file belongs into the storage"));
                    }
                    changes.insert(path(), Some(Entry::Small(content)));
                }
                Some("lfsFile") => {
                    let sha256 = value["oid"].as_str().unwrap_or_default().to_owned();
                    if !self.state.has_object(&sha256) {
                        self.state.take_from_xet();
                    }
                    if !self.state.has_object(&sha256) {
                        return Err(bad("the storage has no such object"));
                    }
                    let bytes = value["size"].as_u64().unwrap_or(0);
                    changes.insert(path(), Some(Entry::Large { sha256, bytes }));
                }
                Some("deletedFile") => drop(changes.insert(path(), None)),
                _ => return Err(bad("an unknown operation")),
            }
        }
        let tip = self.at(branch, |_, commit| Ok(commit.id.clone()))?;
        if parent.is_some_and(|parent| parent != tip) {
            return Err(Response::error(412, "", "the parent commit is not the tip"));
        }
        let id = self.state.change(|data| data.commit(self.kind, &self.id, branch, &title, changes));
        let id = id.ok_or_else(|| bad("no such branch"))?;
        let prefix = if self.kind == "datasets" { "/datasets" } else { "" };
        let url = format!("{}{prefix}/{}/commit/{id}", self.state.endpoint, self.id);
        Ok(Response::json(200, &json!({"success": true, "commitOid": id, "commitUrl": url})))
    }

    /// Grants access to Xet's store, to read or to write.
    fn xet(&self, right: &str, revision: &str) -> Result<Response, Response> {
        let none = || Response::error(404, "", "no such route");
        let store = self.state.xet.clone().ok_or_else(none)?;
        match right {
            "xet-write-token" => check_writer(self.user, self.owner()).map(|_| ())?,
            _ => self.at(revision, |_, _| Ok(()))?,
        }
        let end = std::time::SystemTime::now() + std::time::Duration::from_secs(3600);
        let end = end.duration_since(std::time::UNIX_EPOCH).map_or(0, |end| end.as_secs());
        let body = json!({"casUrl": store, "accessToken": XET_TOKEN, "exp": end});
        Ok(Response::json(200, &body)
            .with("x-xet-cas-url", store)
            .with("x-xet-access-token", XET_TOKEN)
            .with("x-xet-token-expiration", end.to_string()))
    }

    fn settings(&self, request: &mut Request<'_>) -> Result<Response, Response> {
        self.read(|_| Ok(()))?;
        check_writer(self.user, self.owner())?;
        let body = request.json();
        let private = body["visibility"] == "private" || body["private"] == true;
        self.state.change(|data| {
            if let Some(repo) = data.repo_mut(self.kind, &self.id) {
                repo.private = private;
            }
        });
        Ok(Response::json(200, &json!({"private": private})))
    }

    fn name_commit(&self, kind: &str, name: &str, request: &mut Request<'_>) -> Result<Response, Response> {
        check_writer(self.user, self.owner())?;
        let body = request.json();
        let start = body["startingPoint"].as_str().unwrap_or("main");
        let (revision, name, is_tag) = match kind {
            "tag" => (name, body["tag"].as_str().unwrap_or_default().to_owned(), true),
            _ => (start, name.to_owned(), false),
        };
        let commit = self.at(revision, |_, commit| Ok(commit.id.clone()))?;
        self.state.change(|data| {
            let Some(repo) = data.repo_mut(self.kind, &self.id) else { return };
            let names = if is_tag { &mut repo.tags } else { &mut repo.branches };
            names.insert(name, commit);
        });
        Ok(Response::json(200, &json!({})))
    }

    /// The protocol of files outside of git.
    fn lfs(&self, rest: &[&str], request: &mut Request<'_>) -> Result<Response, Response> {
        self.read(|_| Ok(()))?;
        check_writer(self.user, self.owner())?;
        let body = request.json();
        match rest {
            ["objects", "batch"] => {
                let objects = body["objects"].as_array().cloned().unwrap_or_default();
                let transfers = body["transfers"].as_array().cloned().unwrap_or_default();
                if self.state.xet.is_some() && transfers.iter().any(|transfer| transfer == "xet") {
                    return Ok(Response::json(200, &json!({"transfer": "xet", "objects": objects})));
                }
                let answers: Vec<Value> = objects.iter().map(|object| self.place(object)).collect();
                Ok(Response::json(200, &json!({"transfer": "basic", "objects": answers})))
            }
            ["verify"] => match self.state.has_object(body["oid"].as_str().unwrap_or_default()) {
                true => Ok(Response::json(200, &json!({}))),
                false => Err(Response::error(404, "", "the storage has no such object")),
            },
            _ => Err(Response::error(404, "", "no such route")),
        }
    }

    /// The place that an object goes to, if it is missing.
    fn place(&self, object: &Value) -> Value {
        let sha256 = object["oid"].as_str().unwrap_or_default();
        let size = object["size"].as_u64().unwrap_or(0);
        let mut answer = json!({"oid": sha256, "size": size});
        if self.state.has_object(sha256) {
            return answer;
        }
        let storage = &self.state.storage;
        let upload = if size >= MULTIPART {
            let mut header = json!({"chunk_size": PART.to_string()});
            for number in 1..=size.div_ceil(PART) {
                header[format!("{number:05}")] =
                    format!("{storage}/parts/{sha256}/{number}?signature=secret").into();
            }
            json!({"href": format!("{storage}/complete/{sha256}?signature=secret"), "header": header})
        } else {
            json!({"href": format!("{storage}/objects/{sha256}?signature=secret"), "header": {}})
        };
        let verify =
            json!({"href": format!("{}/{}.git/info/lfs/verify", self.state.endpoint, self.id), "header": {}});
        answer["actions"] = json!({"upload": upload, "verify": verify});
        answer
    }
}

fn collections(
    state: &Arc<State>,
    user: Option<User>,
    method: &str,
    rest: &[&str],
    request: &mut Request<'_>,
) -> Result<Response, Response> {
    let not_found = || Response::error(404, "", "Collection not found");
    let sees = |collection: &Collection| {
        !collection.private || user.is_some_and(|user| user.owns(&collection.owner))
    };
    match (method, rest) {
        ("GET", []) => {
            let owner = request.query.iter().find(|(key, _)| key == "owner").map(|(_, value)| value.clone());
            let shown = state.read(|data| {
                let of_owner =
                    |collection: &&Collection| owner.as_ref().is_none_or(|owner| *owner == collection.owner);
                let shown = data.collections.iter().filter(of_owner).filter(|collection| sees(collection));
                shown.map(|collection| described(collection, 4, false)).collect::<Vec<_>>()
            });
            Ok(paged(state, request, shown))
        }
        ("POST", []) => {
            let body = request.json();
            let owner = body["namespace"].as_str().unwrap_or_default().to_owned();
            check_writer(user, &owner)?;
            let title = body["title"].as_str().unwrap_or_default().to_owned();
            state.change(|data| {
                if let Some(there) = data.collections.iter().find(|c| c.title == title && c.owner == owner) {
                    let body = json!({"error": "It exists already", "slug": there.slug});
                    return Err(Response::json(409, &body));
                }
                let plain: String = title
                    .to_lowercase()
                    .chars()
                    .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
                    .collect();
                let words: Vec<&str> = plain.split('-').filter(|word| !word.is_empty()).collect();
                let slug = format!("{owner}/{}-{}", words.join("-"), &data.number()[..24]);
                let private = body["private"] == true;
                let description = body["description"].clone();
                let collection = Collection { slug, title, owner, private, description, items: Vec::new() };
                let answer = described(&collection, usize::MAX, true);
                data.collections.push(collection);
                Ok(Response::json(200, &answer))
            })
        }
        (_, [owner, name, rest @ ..]) => {
            let slug = format!("{owner}/{name}");
            let body = if method == "POST" { request.json() } else { Value::Null };
            state.change(|data| {
                let index = data.collections.iter().position(|collection| collection.slug == slug);
                let index = index.filter(|index| sees(&data.collections[*index])).ok_or_else(not_found)?;
                match (method, rest) {
                    ("GET", []) => {}
                    ("DELETE", []) => {
                        check_writer(user, owner)?;
                        data.collections.remove(index);
                        return Ok(Response::json(200, &json!({})));
                    }
                    ("POST", ["items"]) => {
                        check_writer(user, owner)?;
                        add_item(data, index, &body)?;
                    }
                    _ => return Err(Response::error(404, "", "no such route")),
                }
                Ok(Response::json(200, &described(&data.collections[index], usize::MAX, true)))
            })
        }
        _ => Err(not_found()),
    }
}

fn add_item(data: &mut Data, index: usize, body: &Value) -> Result<(), Response> {
    let id = body["item"]["id"].as_str().unwrap_or_default().to_owned();
    let kind = body["item"]["type"].as_str().unwrap_or_default().to_owned();
    let exists = match &*kind {
        "model" => data.repo("models", &id).is_some(),
        "dataset" => data.repo("datasets", &id).is_some(),
        "collection" => data.collections.iter().any(|collection| collection.slug == id),
        _ => true,
    };
    if !exists {
        return Err(Response::error(404, "", "the item does not exist"));
    }
    if body["note"].as_str().is_some_and(|note| note.chars().count() > 500) {
        return Err(Response::error(400, "", "the note is too long"));
    }
    if data.collections[index]
        .items
        .iter()
        .any(|(_, other, other_kind, _)| *other == id && *other_kind == kind)
    {
        return Err(Response::error(409, "", "the item is there"));
    }
    let number = data.number()[..24].to_owned();
    data.collections[index].items.push((number, id, kind, body["note"].clone()));
    Ok(())
}

fn described(collection: &Collection, most_items: usize, whole: bool) -> Value {
    let item = |(position, (number, id, kind, note)): (usize, &(String, String, String, Value))| {
        let mut item = json!({"_id": number, "id": id, "type": kind, "position": position, "author": "",
                              "lastModified": "2026-01-01T00:00:00.000Z", "private": false});
        if let Some(note) = note.as_str() {
            item["note"] = json!({"text": note, "html": note});
        }
        item
    };
    let items: Vec<Value> = collection.items.iter().take(most_items).enumerate().map(item).collect();
    let mut value = json!({
        "slug": collection.slug, "title": collection.title, "description": collection.description,
        "owner": {"name": collection.owner, "type": "user"}, "items": items, "private": collection.private,
        "lastUpdated": "2026-01-01T00:00:00.000Z", "theme": "blue", "upvotes": 0,
    });
    if whole {
        value["position"] = 0.into();
    }
    value
}

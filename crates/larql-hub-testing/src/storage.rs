//! The storage of files outside of git: another origin, which refuses tokens and trusts signed addresses.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use crate::http::{Content, Request, Response};
use crate::state::{State, hexadecimal};

/// Answers a request.
pub(crate) fn answer(state: &Arc<State>, request: &mut Request<'_>) -> Response {
    if request.token().is_some() {
        return Response::error(400, "", "two kinds of credentials");
    }
    let segments = request.segments();
    let parts: Vec<&str> = segments.iter().map(String::as_str).collect();
    match (&*request.method, &parts[..]) {
        ("GET" | "HEAD", ["objects", sha256]) => {
            let path = state.object_path(sha256);
            match fs::metadata(&path) {
                Ok(_) if request.header("if-none-match") == Some(&format!("\"{sha256}\"")) => {
                    Response::new(304)
                }
                Ok(metadata) => {
                    let body = Content::File(path, 0, metadata.len());
                    let whole = Response { body, ..Response::new(200) }.with("etag", format!("\"{sha256}\""));
                    whole.ranged(request)
                }
                Err(_) => Response::error(404, "", "no such object"),
            }
        }
        ("PUT", ["objects", sha256]) => {
            let path = state.fresh_path();
            match receive(request, &path) {
                Some(found) if found == *sha256 => {
                    fs::rename(&path, state.object_path(sha256)).expect("room for temporary files");
                    Response::new(200).with("etag", format!("\"{sha256}\""))
                }
                _ => {
                    // What is left of a connection that broke is of no use.
                    let _ = fs::remove_file(path);
                    Response::error(400, "", "the bytes have another SHA-256")
                }
            }
        }
        ("PUT", ["parts", sha256, number]) => {
            let path = state.part_path(&format!("{sha256}-{number}"));
            match receive(request, &path) {
                Some(found) => Response::new(200).with("etag", format!("\"{}\"", &found[..32])),
                None => Response::error(400, "", "the part is not whole"),
            }
        }
        ("POST", ["complete", sha256]) => complete(state, sha256, request),
        _ => Response::error(404, "", "no such route"),
    }
}

/// Writes a body to a file; returns its SHA-256, unless it breaks off.
fn receive(request: &mut Request<'_>, path: &Path) -> Option<String> {
    let mut file = File::create(path).ok()?;
    let (mut digest, mut chunk, mut bytes) = (Sha256::new(), vec![0; 1 << 18], 0);
    loop {
        let length = request.body.read(&mut chunk).ok()?;
        if length == 0 {
            break;
        }
        digest.update(&chunk[..length]);
        file.write_all(&chunk[..length]).ok()?;
        bytes += length as u64;
    }
    (bytes == request.length).then(|| hexadecimal(&digest.finalize()))
}

/// Makes an object of its parts.
fn complete(state: &Arc<State>, sha256: &str, request: &mut Request<'_>) -> Response {
    let body = request.json();
    let target = state.fresh_path();
    let mut file = File::create(&target).expect("room for temporary files");
    let mut digest = Sha256::new();
    for (index, part) in body["parts"].as_array().into_iter().flatten().enumerate() {
        let number = part["partNumber"].as_u64().unwrap_or(0);
        if number != index as u64 + 1 {
            return Response::error(400, "", "the parts are not in order");
        }
        let Ok(bytes) = fs::read(state.part_path(&format!("{sha256}-{number}"))) else {
            return Response::error(400, "", "a part is missing");
        };
        let etag = format!("\"{}\"", &hexadecimal(&Sha256::digest(&bytes))[..32]);
        if part["etag"] != etag.as_str() {
            return Response::error(400, "", "a part has another ETag");
        }
        digest.update(&bytes);
        file.write_all(&bytes).expect("room for temporary files");
    }
    if hexadecimal(&digest.finalize()) != sha256 {
        return Response::error(400, "", "the parts have another SHA-256");
    }
    fs::rename(target, state.object_path(sha256)).expect("room for temporary files");
    Response::json(200, &serde_json::json!({}))
}

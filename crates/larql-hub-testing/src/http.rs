//! Requests and answers over HTTP/1.1, written out by hand: faults need answers that no well-behaved server gives.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex};

use serde_json::Value;

use crate::fault::FaultKind;
use crate::state::State;

/// Bytes that are copied at a time.
const CHUNK: usize = 1 << 18;

/// A request.
pub(crate) struct Request<'a> {
    pub(crate) method: String,
    /// Path as it came, with its escapes.
    pub(crate) path: String,
    pub(crate) query: Vec<(String, String)>,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: &'a mut dyn Read,
    pub(crate) length: u64,
}

/// An answer.
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Content,
}

/// Body of an answer.
pub(crate) enum Content {
    Bytes(Vec<u8>),
    /// A range of a file: first byte and length.
    File(PathBuf, u64, u64),
}

/// A request that came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Logged {
    /// `hub` or `storage`.
    pub server: &'static str,
    /// The method.
    pub method: String,
    /// The path as it came, without its query.
    pub path: String,
    /// The range that was asked for.
    pub range: Option<String>,
    /// The token that came.
    pub token: Option<String>,
    /// Status of the answer.
    pub status: u16,
    /// Bytes of the request's body.
    pub received: u64,
    /// Bytes of the answer's body that were sent.
    pub sent: u64,
}

/// The requests that came, with their numbers.
#[derive(Default)]
pub(crate) struct Log(Mutex<(usize, Vec<(usize, Logged)>)>);

impl Log {
    pub(crate) fn entries(&self) -> Vec<Logged> {
        self.0.lock().expect("no holder panics").1.iter().map(|(_, entry)| entry.clone()).collect()
    }

    pub(crate) fn clear(&self) {
        self.0.lock().expect("no holder panics").1.clear();
    }

    /// Adds a request before its answer is sent, so that a client with the answer is in the log; returns its number.
    fn add(&self, entry: Logged) -> usize {
        let (number, entries) = &mut *self.0.lock().expect("no holder panics");
        *number += 1;
        entries.push((*number, entry));
        *number
    }

    /// Sets the bytes of the body that were sent.
    fn set_sent(&self, number: usize, sent: u64) {
        let entries = &mut self.0.lock().expect("no holder panics").1;
        if let Some((_, entry)) = entries.iter_mut().find(|(other, _)| *other == number) {
            entry.sent = sent;
        }
    }
}

/// The number of connections that are open.
#[derive(Default)]
pub(crate) struct Connections {
    open: Mutex<usize>,
    changed: Condvar,
}

impl Connections {
    /// Waits until no connection is open.
    pub(crate) fn wait_until_closed(&self) {
        let open = self.open.lock().expect("no holder panics");
        drop(self.changed.wait_while(open, |open| *open > 0).expect("no holder panics"));
    }

    fn change(&self, change: impl FnOnce(&mut usize)) {
        change(&mut self.open.lock().expect("no holder panics"));
        self.changed.notify_all();
    }
}

/// An open connection, which is counted until this is dropped.
struct OpenConnection(Arc<State>);

impl OpenConnection {
    fn new(state: &Arc<State>) -> OpenConnection {
        state.connections.change(|open| *open += 1);
        OpenConnection(Arc::clone(state))
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.connections.change(|open| *open -= 1);
    }
}

impl Request<'_> {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| &**value)
    }

    /// The token of an `Authorization` header.
    pub(crate) fn token(&self) -> Option<String> {
        self.header("authorization").map(|value| value.trim_start_matches("Bearer ").to_owned())
    }

    /// The segments of the path, without their escapes.
    pub(crate) fn segments(&self) -> Vec<String> {
        self.path.trim_matches('/').split('/').map(unescaped).collect()
    }

    pub(crate) fn bytes(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        // What a connection that breaks brought is not enough, which is then found out.
        let _ = self.body.read_to_end(&mut bytes);
        bytes
    }

    pub(crate) fn json(&mut self) -> Value {
        serde_json::from_slice(&self.bytes()).unwrap_or_default()
    }
}

impl Response {
    pub(crate) fn new(status: u16) -> Response {
        Response { status, headers: Vec::new(), body: Content::Bytes(Vec::new()) }
    }

    pub(crate) fn json(status: u16, value: &Value) -> Response {
        let body = Content::Bytes(value.to_string().into_bytes());
        Response { body, ..Response::new(status) }.with("content-type", "application/json")
    }

    pub(crate) fn error(status: u16, code: &str, message: &str) -> Response {
        let body = serde_json::json!({ "error": message });
        let answer = Response::json(status, &body).with("x-error-message", message);
        if code.is_empty() { answer } else { answer.with("x-error-code", code) }
    }

    pub(crate) fn with(mut self, name: &str, value: impl Into<String>) -> Response {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    fn length(&self) -> u64 {
        match &self.body {
            Content::Bytes(bytes) => bytes.len() as u64,
            Content::File(_, _, length) => *length,
        }
    }

    /// The part of the body that a request asks for.
    pub(crate) fn ranged(self, request: &Request<'_>) -> Response {
        let total = self.length();
        let Some((first, last)) = request.header("range").and_then(|range| parse_range(range, total)) else {
            return self;
        };
        if first >= total || first > last {
            return Response::new(416).with("content-range", format!("bytes */{total}"));
        }
        let length = last - first + 1;
        let body = match self.body {
            Content::Bytes(bytes) => Content::Bytes(bytes[first as usize..=last as usize].to_vec()),
            Content::File(path, begin, _) => Content::File(path, begin + first, length),
        };
        let headers = self.headers;
        Response { status: 206, headers, body }.with("content-range", format!("bytes {first}-{last}/{total}"))
    }
}

fn parse_range(range: &str, total: u64) -> Option<(u64, u64)> {
    let (first, last) = range.strip_prefix("bytes=")?.split_once('-')?;
    let last =
        if last.is_empty() { total.saturating_sub(1) } else { last.parse::<u64>().ok()?.min(total - 1) };
    Some((first.parse().ok()?, last))
}

/// A text without the escapes of addresses.
pub(crate) fn unescaped(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let digits = tail.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()).filter(|_| *first == b'%') {
            Some(byte) => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            None => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Function that answers requests.
type Answer = fn(&Arc<State>, &mut Request<'_>) -> Response;

/// Serves connections in threads of their own.
pub(crate) fn serve(listener: TcpListener, server: &'static str, state: Arc<State>, answer: Answer) {
    std::thread::spawn(move || {
        for stream in listener.incoming().filter_map(Result::ok) {
            let connection = OpenConnection::new(&state);
            // A client that breaks off is one of the things to be tried.
            std::thread::spawn(move || drop(converse(stream, server, &connection.0, answer)));
        }
    });
}

/// Answers the requests of one connection.
fn converse(stream: TcpStream, server: &'static str, state: &Arc<State>, answer: Answer) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::with_capacity(CHUNK, stream.try_clone()?);
    let mut writer = stream;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let mut words = line.split_whitespace();
        let (Some(method), Some(target)) = (words.next(), words.next()) else { return Ok(()) };
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let mut headers = Vec::new();
        loop {
            let mut line = String::new();
            reader.read_line(&mut line)?;
            let Some((name, value)) = line.trim_end().split_once(':') else { break };
            headers.push((name.to_lowercase(), value.trim().to_owned()));
        }
        let header = |name: &str| headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone());
        let length = header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
        if header("expect").is_some() {
            writer.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        let (token, range) = (header("authorization"), header("range"));
        let is_chunked = header("transfer-encoding").is_some();
        let mut body = (&mut reader).take(length);
        let mut request = Request {
            method: method.to_owned(),
            path: path.to_owned(),
            query: pairs(query),
            headers,
            body: &mut body,
            length,
        };
        let fault = state.faults.of(server, &request);
        if fault == Some(FaultKind::Silent) {
            return wait_for_end(&writer);
        }
        if let Some(FaultKind::Move(path, bytes)) = &fault {
            state.move_main(&request.segments(), path, bytes);
        }
        let response = match &fault {
            _ if is_chunked => Response::error(501, "", "chunked transfer is not supported"),
            Some(FaultKind::Status(status, headers)) => {
                let page = b"<html><body>Not this time</body></html>".to_vec();
                let response = Response { body: Content::Bytes(page), ..Response::new(*status) };
                headers.iter().fold(response, |response, (name, value)| response.with(name, value))
            }
            Some(FaultKind::Redirect(target)) => Response::new(302).with("location", target),
            Some(FaultKind::IgnoreRange) => {
                request.headers.retain(|(name, _)| name != "range");
                answer(state, &mut request)
            }
            _ => answer(state, &mut request),
        };
        io::copy(&mut body, &mut io::sink())?;
        let mut entry = Logged {
            server,
            method: method.to_owned(),
            path: path.to_owned(),
            range,
            token: token.map(|token| token.trim_start_matches("Bearer ").to_owned()),
            status: response.status,
            received: length,
            sent: 0,
        };
        if fault == Some(FaultKind::LoseAnswer) {
            state.log.add(entry);
            return Ok(());
        }
        let has_body = method != "HEAD" && response.status != 304;
        entry.sent = if has_body { response.length() } else { 0 };
        let number = state.log.add(entry);
        let sent = send(&mut writer, response, has_body, fault.as_ref());
        state.log.set_sent(number, *sent.as_ref().unwrap_or(&0));
        sent?;
        match fault {
            Some(FaultKind::Stall(_)) => return wait_for_end(&writer),
            // No client could tell where the next answer begins.
            Some(FaultKind::Cut(_) | FaultKind::TooLong(_) | FaultKind::Surplus) => return Ok(()),
            _ => {}
        }
    }
}

/// Sends nothing until the client closes the connection.
fn wait_for_end(stream: &TcpStream) -> io::Result<()> {
    let mut byte = [0];
    while (&mut &*stream).read(&mut byte)? > 0 {}
    Ok(())
}

/// Sends an answer; returns the number of bytes of its body.
fn send(
    writer: &mut TcpStream,
    response: Response,
    has_body: bool,
    fault: Option<&FaultKind>,
) -> io::Result<u64> {
    let length = response.length();
    let stated = match fault {
        Some(FaultKind::TooLong(more)) => length + more,
        Some(FaultKind::Surplus) => length + 7,
        _ => length,
    };
    let mut head = format!("HTTP/1.1 {} Answer\r\n", response.status);
    for (name, value) in &response.headers {
        let value = match fault {
            Some(FaultKind::WrongRange) if name == "content-range" => "bytes 0-0/1",
            _ => value,
        };
        head += &format!("{name}: {value}\r\n");
    }
    let states_length = response.headers.iter().any(|(name, _)| name == "content-length");
    if !states_length {
        head += &format!("content-length: {stated}\r\n");
    }
    writer.write_all(format!("{head}\r\n").as_bytes())?;
    if !has_body {
        return Ok(0);
    }
    let limit = match fault {
        Some(FaultKind::Cut(bytes) | FaultKind::Stall(bytes)) => (*bytes).min(length),
        _ => length,
    };
    let mut body: Box<dyn Read> = match response.body {
        Content::Bytes(bytes) => Box::new(io::Cursor::new(bytes)),
        Content::File(path, begin, _) => {
            let mut file = File::open(path)?;
            file.seek(SeekFrom::Start(begin))?;
            Box::new(file)
        }
    };
    let mut chunk = vec![0; CHUNK];
    let mut sent = 0;
    while sent < limit {
        let wanted = chunk.len().min((limit - sent) as usize);
        let read = body.read(&mut chunk[..wanted])?;
        if read == 0 {
            break;
        }
        if sent == 0 && fault == Some(&FaultKind::Flip) {
            chunk[0] ^= 1;
        }
        writer.write_all(&chunk[..read])?;
        sent += read as u64;
    }
    if fault == Some(&FaultKind::Surplus) {
        writer.write_all(b"surplus")?;
    }
    Ok(sent)
}

/// The pairs of a query or a form.
pub(crate) fn pairs(text: &str) -> Vec<(String, String)> {
    let pairs = text.split('&').filter(|pair| !pair.is_empty());
    let plain = |text: &str| unescaped(&text.replace('+', " "));
    pairs.map(|pair| pair.split_once('=').unwrap_or((pair, ""))).map(|(k, v)| (plain(k), plain(v))).collect()
}

//! Faults: what goes wrong, for which requests, and how often.

use std::sync::Mutex;

use crate::http::Request;

/// Misbehaviour of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// The answer has this status and these headers, and a page of HTML.
    Status(u16, Vec<(&'static str, String)>),
    /// The connection ends after so many bytes of the body.
    Cut(u64),
    /// The connection stands still after so many bytes of the body, for as long as the client leaves it open.
    Stall(u64),
    /// No answer, for as long as the client leaves the connection open.
    Silent,
    /// `Content-Length` is larger than the body by so many bytes.
    TooLong(u64),
    /// The body has more bytes than there are.
    Surplus,
    /// The first byte of the body is another one.
    Flip,
    /// Ranges are ignored.
    IgnoreRange,
    /// The answer to a range is another range.
    WrongRange,
    /// The answer leads to an address.
    Redirect(String),
    /// The request is carried out, and the answer is lost.
    LoseAnswer,
    /// The main branch gets a new commit before the request is answered: a file with these bytes.
    Move(&'static str, Vec<u8>),
}

/// A fault of requests.
#[derive(Clone, Debug)]
pub struct Fault {
    server: &'static str,
    method: &'static str,
    path: String,
    kind: FaultKind,
    times: usize,
    after: usize,
}

impl Fault {
    /// A fault of the next request to the hub with a method and with `path` in its path.
    pub fn of_hub(method: &'static str, path: &str, kind: FaultKind) -> Fault {
        Fault { server: "hub", method, path: path.to_owned(), kind, times: 1, after: 0 }
    }

    /// A fault of the next request to the storage.
    pub fn of_storage(method: &'static str, kind: FaultKind) -> Fault {
        Fault { server: "storage", method, path: String::new(), kind, times: 1, after: 0 }
    }

    /// Has it happen so many times.
    pub fn times(self, times: usize) -> Fault {
        Fault { times, ..self }
    }

    /// Lets so many requests pass first.
    pub fn after(self, after: usize) -> Fault {
        Fault { after, ..self }
    }
}

/// Faults that are still to happen.
#[derive(Default)]
pub(crate) struct Faults(Mutex<Vec<Fault>>);

impl Faults {
    pub(crate) fn add(&self, fault: Fault) {
        self.0.lock().expect("no holder panics").push(fault);
    }

    pub(crate) fn clear(&self) -> usize {
        std::mem::take(&mut *self.0.lock().expect("no holder panics")).len()
    }

    /// The fault of a request, which is used up by it.
    pub(crate) fn of(&self, server: &str, request: &Request<'_>) -> Option<FaultKind> {
        let mut faults = self.0.lock().expect("no holder panics");
        let fits = |fault: &&mut Fault| {
            fault.server == server && fault.method == request.method && request.path.contains(&fault.path)
        };
        let fault = faults.iter_mut().find(fits)?;
        if fault.after > 0 {
            fault.after -= 1;
            return None;
        }
        fault.times = fault.times.saturating_sub(1);
        let kind = fault.kind.clone();
        faults.retain(|fault| fault.times > 0);
        Some(kind)
    }
}

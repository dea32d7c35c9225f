//! Chain store: whole chains of waypoints, one for each token.
//!
//! | Bytes | Field |
//! |---|---|
//! | 0 to 3 | `TRAC` |
//! | 4 to 7 | version, 1 |
//! | 8 to 11 | hidden size |
//! | 12 to 15 | layers, without the embedding |
//! | 16 to 19 | chains |
//! | 20 to 51 | model digest; zeros where it is unknown |
//! | 52 to 63 | zeros |
//! | 64 | chains: `[layers + 1, 3, hidden]` f32 each: residual, attention delta, feed-forward delta |

use std::path::Path;

use super::file::{Appender, StoreFile, exists_with_content, header, require_length};
use super::{ModelDigest, StoreError};
use crate::{Component, Trace};

const KIND: &str = "chain";
const MAGIC: &str = "TRAC";
const HEADER: usize = 64;
const COUNT: u64 = 16;
const DIGEST: usize = 20;

/// Chains of a file, mapped.
#[derive(Clone, Debug)]
pub struct ChainStore {
    file: StoreFile,
    hidden: usize,
    layers: usize,
    tokens: usize,
}

impl ChainStore {
    /// Opens a file.
    ///
    /// # Errors
    /// If it is no chain store, or is shorter than its header says.
    pub fn open(path: &Path) -> Result<ChainStore, StoreError> {
        let file = StoreFile::open(path, KIND, MAGIC, HEADER)?;
        let (hidden, layers) = (file.size("a hidden size of", 8)?, file.size("a number of layers of", 12)?);
        let store = ChainStore { hidden, layers, tokens: file.u32(COUNT as usize) as usize, file };
        store.file.require(store.whole_bytes())?;
        Ok(store)
    }

    /// Opens a file that was made with `model`, or that does not say with which model.
    ///
    /// # Errors
    /// As [`ChainStore::open`], and if it was made with another model.
    pub fn open_for(path: &Path, model: &ModelDigest) -> Result<ChainStore, StoreError> {
        let store = ChainStore::open(path)?;
        store.file.require_model(DIGEST, model)?;
        Ok(store)
    }

    fn chain_len(&self) -> usize {
        (self.layers + 1) * Component::ALL.len() * self.hidden
    }

    /// Bytes that the header counts.
    fn whole_bytes(&self) -> u64 {
        (self.tokens as u64).saturating_mul(self.chain_len() as u64 * 4).saturating_add(HEADER as u64)
    }

    /// Number of chains.
    pub fn tokens(&self) -> usize {
        self.tokens
    }

    /// Number of layers; there is one waypoint more.
    pub fn layers(&self) -> usize {
        self.layers
    }

    /// Width of the vectors.
    pub fn hidden_size(&self) -> usize {
        self.hidden
    }

    /// The model that it was made with.
    pub fn model(&self) -> ModelDigest {
        self.file.digest(DIGEST)
    }

    /// Bytes of the file.
    pub fn file_size(&self) -> u64 {
        self.file.bytes.len() as u64
    }

    /// A token's chain, `[layers + 1, 3, hidden]`; `None` if there is no such token.
    pub fn chain(&self, token: usize) -> Option<&[f32]> {
        let length = self.chain_len();
        (token < self.tokens).then(|| self.file.floats(HEADER + token * length * 4, length))
    }

    /// A vector of a token, `[hidden]`. Waypoint 0 is the embedding, waypoint `l + 1` is layer `l`. `None` if there is no such
    /// token or waypoint.
    pub fn vector(&self, token: usize, waypoint: usize, component: Component) -> Option<&[f32]> {
        let start = (waypoint * Component::ALL.len() + component as usize) * self.hidden;
        self.chain(token)?.get(start..start + self.hidden)
    }
}

/// Writer of a chain store.
#[derive(Debug)]
pub struct ChainWriter {
    file: Appender,
    hidden: usize,
    layers: usize,
    tokens: u32,
}

impl ChainWriter {
    /// Makes a file, or opens one of the same shape and model to append; what a crash left behind is cut off.
    ///
    /// # Errors
    /// If a file is there that is no chain store, or of another shape or model, or it cannot be written.
    pub fn open(
        path: &Path,
        hidden: usize,
        layers: usize,
        model: &ModelDigest,
    ) -> Result<ChainWriter, StoreError> {
        if !exists_with_content(path)? {
            let fields = [(8, hidden as u32), (12, layers as u32)];
            let file = Appender::create(path, &header(MAGIC, HEADER, &fields, (DIGEST, model)))?;
            return Ok(ChainWriter { file, hidden, layers, tokens: 0 });
        }
        let store = ChainStore::open_for(path, model)?;
        for (what, found, expected) in
            [("a hidden size of", store.hidden, hidden), ("a number of layers of", store.layers, layers)]
        {
            if found != expected {
                let (found, expected) = (found as u64, format!("{expected}, as the model has"));
                return Err(StoreError::Header { path: path.into(), what, found, expected });
            }
        }
        let (end, tokens) = (store.whole_bytes(), store.tokens as u32);
        drop(store);
        Ok(ChainWriter { file: Appender::open(path, end)?, hidden, layers, tokens })
    }

    /// Number of chains in the file.
    pub fn tokens(&self) -> usize {
        self.tokens as usize
    }

    /// Appends a chain, `[layers + 1, 3, hidden]`.
    ///
    /// # Errors
    /// If it has another length, or cannot be written.
    pub fn append(&mut self, chain: &[f32]) -> Result<(), StoreError> {
        self.append_all([chain])
    }

    /// Appends the chains of all traced positions.
    ///
    /// # Errors
    /// As [`ChainWriter::append`].
    pub fn append_trace(&mut self, trace: &Trace) -> Result<(), StoreError> {
        self.append_all((0..trace.positions().len()).map(|index| trace.position(index).chain()))
    }

    /// Appends chains that count together.
    fn append_all<'a>(&mut self, chains: impl IntoIterator<Item = &'a [f32]>) -> Result<(), StoreError> {
        let mut added = 0;
        for chain in chains {
            require_length("the chain", chain, (self.layers + 1) * Component::ALL.len() * self.hidden)?;
            self.file.append(bytemuck::cast_slice(chain))?;
            added += 1;
        }
        self.file.sync()?;
        self.tokens += added;
        self.file.write_at(COUNT, &self.tokens.to_le_bytes())
    }
}

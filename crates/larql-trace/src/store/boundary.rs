//! Boundary store: the residual at the end of each window of tokens.
//!
//! | Bytes | Field |
//! |---|---|
//! | 0 to 3 | `BNDX` |
//! | 4 to 7 | version, 1 |
//! | 8 to 11 | hidden size |
//! | 12 to 15 | window size in tokens |
//! | 16 to 19 | boundaries |
//! | 20 to 23 | tokens in all |
//! | 24 to 55 | model digest; zeros where it is unknown |
//! | 56 to 63 | zeros |
//! | 64 | index: slots of 16 bytes: first token, tokens, absolute offset of the data, last token id + 1 or 0 |
//! | after the index | residuals, `[hidden]` f32 each |
//!
//! The number of slots is not stored. It follows from the offset of the first residual.

use std::ops::Range;
use std::path::Path;

use super::file::{Appender, StoreFile, exists_with_content, header, require_length};
use super::{ModelDigest, StoreError};

const KIND: &str = "boundary";
const MAGIC: &str = "BNDX";
const HEADER: usize = 64;
const DIGEST: usize = 24;
const COUNTS: u64 = 16;
const SLOT: usize = 16;

/// Boundaries of a file, mapped.
#[derive(Clone, Debug)]
pub struct BoundaryStore {
    file: StoreFile,
    hidden: usize,
    window: usize,
    boundaries: usize,
}

impl BoundaryStore {
    /// Opens a file.
    ///
    /// # Errors
    /// If it is no boundary store, or is shorter than its header and index say.
    pub fn open(path: &Path) -> Result<BoundaryStore, StoreError> {
        let file = StoreFile::open(path, KIND, MAGIC, HEADER)?;
        let hidden = file.size("a hidden size of", 8)?;
        let (window, boundaries) = (file.u32(12) as usize, file.u32(16) as usize);
        file.require(HEADER as u64 + boundaries as u64 * SLOT as u64)?;
        let store = BoundaryStore { file, hidden, window, boundaries };
        for boundary in 0..boundaries {
            let offset = store.data_offset(boundary);
            if !offset.is_multiple_of(4) || offset < HEADER + boundaries * SLOT {
                return Err(StoreError::Header {
                    path: path.into(),
                    what: "a residual at byte",
                    found: offset as u64,
                    expected: "a multiple of 4 after the index".into(),
                });
            }
            store.file.require(offset as u64 + hidden as u64 * 4)?;
        }
        Ok(store)
    }

    /// Opens a file that was made with `model`, or that does not say with which model.
    ///
    /// # Errors
    /// As [`BoundaryStore::open`], and if it was made with another model.
    pub fn open_for(path: &Path, model: &ModelDigest) -> Result<BoundaryStore, StoreError> {
        let store = BoundaryStore::open(path)?;
        store.file.require_model(DIGEST, model)?;
        Ok(store)
    }

    fn slot(&self, boundary: usize) -> usize {
        HEADER + boundary * SLOT
    }

    fn data_offset(&self, boundary: usize) -> usize {
        self.file.u32(self.slot(boundary) + 8) as usize
    }

    /// Number of boundaries.
    pub fn boundaries(&self) -> usize {
        self.boundaries
    }

    /// Tokens of all windows.
    pub fn total_tokens(&self) -> usize {
        self.file.u32(20) as usize
    }

    /// Width of the residuals.
    pub fn hidden_size(&self) -> usize {
        self.hidden
    }

    /// Tokens of a usual window.
    pub fn window_size(&self) -> usize {
        self.window
    }

    /// The model that it was made with.
    pub fn model(&self) -> ModelDigest {
        self.file.digest(DIGEST)
    }

    /// The residual at the end of a window, `[hidden]`; `None` if there is no such window.
    pub fn residual(&self, boundary: usize) -> Option<&[f32]> {
        (boundary < self.boundaries).then(|| self.file.floats(self.data_offset(boundary), self.hidden))
    }

    /// The tokens of a window; `None` if there is no such window.
    pub fn token_range(&self, boundary: usize) -> Option<Range<usize>> {
        let slot = (boundary < self.boundaries).then(|| self.slot(boundary))?;
        let first = self.file.u32(slot) as usize;
        Some(first..first + self.file.u32(slot + 4) as usize)
    }

    /// The id of a window's last token, where the file says it.
    pub fn last_token(&self, boundary: usize) -> Option<u32> {
        let slot = (boundary < self.boundaries).then(|| self.slot(boundary))?;
        self.file.u32(slot + 12).checked_sub(1)
    }

    /// The window that a token lies in.
    pub fn boundary_for_token(&self, token: usize) -> Option<usize> {
        (0..self.boundaries)
            .find(|boundary| self.token_range(*boundary).is_some_and(|of| of.contains(&token)))
    }
}

/// Writer of a boundary store.
#[derive(Debug)]
pub struct BoundaryWriter {
    file: Appender,
    hidden: usize,
    slots: usize,
    boundaries: u32,
    total_tokens: u32,
}

impl BoundaryWriter {
    /// Slots of a usual index.
    pub const MAX_BOUNDARIES: usize = 10_000;

    /// Makes a file with room for `max_boundaries`, or opens one of the same shape and model to append; what a crash left
    /// behind is cut off. The room of a file that exists stays as it is.
    ///
    /// # Errors
    /// If a file is there that is no boundary store, or of another width or model, the index would not fit, or it cannot be
    /// written.
    pub fn open(
        path: &Path,
        hidden: usize,
        window: usize,
        max_boundaries: usize,
        model: &ModelDigest,
    ) -> Result<BoundaryWriter, StoreError> {
        let exists = exists_with_content(path)?;
        let found = if exists { Some(BoundaryStore::open_for(path, model)?) } else { None };
        if let Some(store) = found.filter(|store| store.boundaries > 0) {
            if store.hidden != hidden {
                let expected = format!("{hidden}, as the model has");
                let (what, found) = ("a hidden size of", store.hidden as u64);
                return Err(StoreError::Header { path: path.into(), what, found, expected });
            }
            let slots = (store.data_offset(0) - HEADER) / SLOT;
            let last = (0..store.boundaries).map(|boundary| store.data_offset(boundary)).max().unwrap_or(0);
            let (boundaries, total_tokens) = (store.boundaries as u32, store.total_tokens() as u32);
            drop(store);
            let file = Appender::open(path, (last + hidden * 4) as u64)?;
            return Ok(BoundaryWriter { file, hidden, slots, boundaries, total_tokens });
        }
        let end = HEADER as u64 + max_boundaries as u64 * SLOT as u64;
        if end > u64::from(u32::MAX) {
            return Err(StoreError::TooLarge { path: path.into() });
        }
        let fields = [(8, hidden as u32), (12, window as u32)];
        let mut start = header(MAGIC, HEADER, &fields, (DIGEST, model));
        start.resize(end as usize, 0);
        let file = match exists {
            // A file without boundaries does not say how many slots it has.
            true => {
                let mut file = Appender::open(path, 0)?;
                file.append(&start)?;
                file
            }
            false => Appender::create(path, &start)?,
        };
        Ok(BoundaryWriter { file, hidden, slots: max_boundaries, boundaries: 0, total_tokens: 0 })
    }

    /// Number of boundaries.
    pub fn boundaries(&self) -> usize {
        self.boundaries as usize
    }

    /// Tokens of all windows.
    pub fn total_tokens(&self) -> usize {
        self.total_tokens as usize
    }

    /// Appends a window: its first token, its number of tokens, the residual at its end, `[hidden]`, and the id of its last
    /// token where it is known.
    ///
    /// # Errors
    /// If the residual has another length, the index is full, the file would be too large, or it cannot be written.
    pub fn append(
        &mut self,
        first_token: usize,
        tokens: usize,
        residual: &[f32],
        last_token: Option<u32>,
    ) -> Result<(), StoreError> {
        require_length("the residual", residual, self.hidden)?;
        let path = || self.file.path.clone();
        if self.boundaries as usize >= self.slots {
            return Err(StoreError::Full { path: path(), limit: self.slots });
        }
        let too_large = || StoreError::TooLarge { path: path() };
        let offset = u32::try_from(self.file.end).map_err(|_| too_large())?;
        let end = first_token.checked_add(tokens).and_then(|end| u32::try_from(end).ok());
        let end = end.ok_or_else(too_large)?;
        self.file.append(bytemuck::cast_slice(residual))?;
        let slot = [first_token as u32, tokens as u32, offset, last_token.map_or(0, |token| token + 1)];
        let slot: Vec<u8> = slot.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.file.write_at((HEADER + self.boundaries as usize * SLOT) as u64, &slot)?;
        self.file.sync()?;
        self.boundaries += 1;
        self.total_tokens = end;
        let counts = [self.boundaries, self.total_tokens].map(u32::to_le_bytes).concat();
        self.file.write_at(COUNTS, &counts)
    }
}

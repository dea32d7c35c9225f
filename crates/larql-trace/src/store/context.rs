//! Context store: for each window of tokens the residual at its end and, by tier, what layers added to it.
//!
//! | Bytes | Field |
//! |---|---|
//! | 0 to 3 | `CTXT` |
//! | 4 to 7 | version, 1 |
//! | 8 to 11 | hidden size |
//! | 12 to 15 | layers |
//! | 16 to 19 | window size in tokens |
//! | 20 | tier, 1 to 4 |
//! | 21 | number of critical layers, up to 8 |
//! | 24 to 31 | critical layers, one byte each |
//! | 32 to 35 | boundaries |
//! | 36 to 39 | tokens in all |
//! | 40 to 71 | model digest; zeros where it is unknown |
//! | 72 to 127 | zeros |
//! | 128 | index: slots of 24 bytes: first token (4), tokens (4), absolute offset of the data (8), last token id + 1 or 0 (8) |
//! | after the index | tier 4 alone: the template, `[2 * layers, hidden]` f32 |
//! | after that | the data of each boundary |
//!
//! The data of a boundary are the residual, `[hidden]` f32, and then
//!
//! * tier 1: nothing;
//! * tier 2: the feed-forward delta of each critical layer, f32;
//! * tier 3: the feed-forward deltas of all layers, then the attention deltas of all layers, f32;
//! * tier 4: the same deltas as in tier 3 as differences from the template, each as a scale (f32) and `hidden` signed bytes:
//!   `delta = template + scale * byte`. Data are padded with zeros to a multiple of 4 bytes. The template is the deltas of
//!   the first boundary. Relative error of a difference: at most 1/254 of its largest value.

use std::ops::Range;
use std::path::Path;

use super::file::{Appender, StoreFile, exists_with_content, header, put, require_length};
use super::{ModelDigest, StoreError};
use crate::TracedPosition;

const KIND: &str = "context";
const MAGIC: &str = "CTXT";
const HEADER: usize = 128;
const DIGEST: usize = 40;
const COUNTS: u64 = 32;
const SLOT: usize = 24;
const MAX_CRITICAL: usize = 8;

/// Content of a context store for each window in addition to the residual.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tier {
    /// Nothing.
    Residual,
    /// Feed-forward deltas of some layers: at most 8, below 256.
    Critical(Vec<u8>),
    /// Deltas of all layers.
    Full,
    /// Deltas of all layers in 8 bits, as differences from a template.
    FullInt8,
}

impl Tier {
    fn number(&self) -> u8 {
        match self {
            Tier::Residual => 1,
            Tier::Critical(_) => 2,
            Tier::Full => 3,
            Tier::FullInt8 => 4,
        }
    }

    fn critical(&self) -> &[u8] {
        match self {
            Tier::Critical(layers) => layers,
            _ => &[],
        }
    }

    /// Vectors of the deltas.
    fn deltas(&self, layers: usize) -> usize {
        match self {
            Tier::Residual => 0,
            Tier::Critical(critical) => critical.len(),
            Tier::Full | Tier::FullInt8 => 2 * layers,
        }
    }

    /// Bytes of a boundary's data.
    fn data_bytes(&self, hidden: usize, layers: usize) -> usize {
        let residual = hidden * 4;
        match self {
            Tier::FullInt8 => residual + 2 * layers * encoded_bytes(hidden),
            tier => residual + tier.deltas(layers) * hidden * 4,
        }
    }

    /// Bytes between the index and the first data.
    fn template_bytes(&self, hidden: usize, layers: usize) -> usize {
        if *self == Tier::FullInt8 { 2 * layers * hidden * 4 } else { 0 }
    }
}

/// Bytes of a difference: the scale, and a byte for each value, padded.
fn encoded_bytes(hidden: usize) -> usize {
    4 + hidden.next_multiple_of(4)
}

/// Content of a window's boundary, decoded.
#[derive(Clone, Debug, PartialEq)]
pub struct ContextContents {
    /// The residual, `[hidden]`.
    pub residual: Vec<f32>,
    /// Feed-forward deltas, `[layers, hidden]`, of the layers in [`ContextStore::delta_layers`]; empty where the tier has
    /// none.
    pub feed_forward_deltas: Vec<f32>,
    /// Attention deltas, `[layers, hidden]`; empty where the tier has none.
    pub attention_deltas: Vec<f32>,
}

impl ContextContents {
    /// The contents of a traced position, as `tier` keeps them.
    pub fn of_position(position: &TracedPosition<'_>, layers: usize, tier: &Tier) -> ContextContents {
        let kept: Vec<usize> = match tier {
            Tier::Residual => Vec::new(),
            Tier::Critical(critical) => critical.iter().map(|layer| usize::from(*layer)).collect(),
            Tier::Full | Tier::FullInt8 => (0..layers).collect(),
        };
        let all = matches!(tier, Tier::Full | Tier::FullInt8);
        let feed_forward = kept.iter().flat_map(|layer| position.feed_forward_delta(layer + 1));
        let attention = kept.iter().filter(|_| all).flat_map(|layer| position.attention_delta(layer + 1));
        ContextContents {
            residual: position.residual(layers).to_vec(),
            feed_forward_deltas: feed_forward.copied().collect(),
            attention_deltas: attention.copied().collect(),
        }
    }
}

/// Windows of a file, mapped.
#[derive(Clone, Debug)]
pub struct ContextStore {
    file: StoreFile,
    hidden: usize,
    layers: usize,
    tier: Tier,
    boundaries: usize,
}

impl ContextStore {
    /// Opens a file.
    ///
    /// # Errors
    /// If it is no context store, its header does not make sense, or it is shorter than header and index say.
    pub fn open(path: &Path) -> Result<ContextStore, StoreError> {
        let file = StoreFile::open(path, KIND, MAGIC, HEADER)?;
        let (hidden, layers) = (file.size("a hidden size of", 8)?, file.size("a number of layers of", 12)?);
        let wrong = |what, found: u8, expected: String| StoreError::Header {
            path: path.into(),
            what,
            found: found.into(),
            expected,
        };
        let critical = file.bytes[21];
        if usize::from(critical) > MAX_CRITICAL {
            return Err(wrong("critical layers", critical, format!("at most {MAX_CRITICAL}")));
        }
        let critical = file.bytes[24..24 + usize::from(critical)].to_vec();
        if let Some(layer) = critical.iter().find(|layer| usize::from(**layer) >= layers) {
            return Err(wrong("the critical layer", *layer, format!("a layer below {layers}")));
        }
        let tier = match file.bytes[20] {
            1 => Tier::Residual,
            2 => Tier::Critical(critical),
            3 => Tier::Full,
            4 => Tier::FullInt8,
            other => return Err(wrong("tier", other, "1 to 4".into())),
        };
        let boundaries = file.u32(COUNTS as usize) as usize;
        let index_end = HEADER as u64 + boundaries as u64 * SLOT as u64;
        file.require(index_end)?;
        let store = ContextStore { file, hidden, layers, tier, boundaries };
        let before = index_end + store.tier.template_bytes(hidden, layers) as u64;
        for boundary in 0..boundaries {
            let offset = store.file.u64(store.slot(boundary) + 8);
            if !offset.is_multiple_of(4) || offset < before || offset > store.file.bytes.len() as u64 {
                return Err(StoreError::Header {
                    path: path.into(),
                    what: "a boundary at byte",
                    found: offset,
                    expected: "a multiple of 4 after the index and within the file".into(),
                });
            }
            store.file.require(offset + store.tier.data_bytes(hidden, layers) as u64)?;
        }
        Ok(store)
    }

    /// Opens a file that was made with `model`, or that does not say with which model.
    ///
    /// # Errors
    /// As [`ContextStore::open`], and if it was made with another model.
    pub fn open_for(path: &Path, model: &ModelDigest) -> Result<ContextStore, StoreError> {
        let store = ContextStore::open(path)?;
        store.file.require_model(DIGEST, model)?;
        Ok(store)
    }

    fn slot(&self, boundary: usize) -> usize {
        HEADER + boundary * SLOT
    }

    /// Number of boundaries.
    pub fn boundaries(&self) -> usize {
        self.boundaries
    }

    /// Tokens of all windows.
    pub fn total_tokens(&self) -> usize {
        self.file.u32(36) as usize
    }

    /// Width of the vectors.
    pub fn hidden_size(&self) -> usize {
        self.hidden
    }

    /// Number of layers of the model.
    pub fn layers(&self) -> usize {
        self.layers
    }

    /// Tokens of a usual window.
    pub fn window_size(&self) -> usize {
        self.file.u32(16) as usize
    }

    /// The tier: content for each window.
    pub fn tier(&self) -> &Tier {
        &self.tier
    }

    /// The model that it was made with.
    pub fn model(&self) -> ModelDigest {
        self.file.digest(DIGEST)
    }

    /// The layers whose feed-forward deltas are kept.
    pub fn delta_layers(&self) -> Vec<usize> {
        match &self.tier {
            Tier::Residual => Vec::new(),
            Tier::Critical(layers) => layers.iter().map(|layer| usize::from(*layer)).collect(),
            Tier::Full | Tier::FullInt8 => (0..self.layers).collect(),
        }
    }

    /// The tokens of a window; `None` if there is no such window.
    pub fn token_range(&self, boundary: usize) -> Option<Range<usize>> {
        let slot = (boundary < self.boundaries).then(|| self.slot(boundary))?;
        let first = self.file.u32(slot) as usize;
        Some(first..first + self.file.u32(slot + 4) as usize)
    }

    /// The residual at the end of a window, `[hidden]`; `None` if there is no such window.
    pub fn residual(&self, boundary: usize) -> Option<&[f32]> {
        let slot = (boundary < self.boundaries).then(|| self.slot(boundary))?;
        Some(self.file.floats(self.file.u64(slot + 8) as usize, self.hidden))
    }

    /// All that a window's boundary holds; `None` if there is no such window.
    pub fn contents(&self, boundary: usize) -> Option<ContextContents> {
        let residual = self.residual(boundary)?.to_vec();
        let data = self.file.u64(self.slot(boundary) + 8) as usize + self.hidden * 4;
        let deltas = self.tier.deltas(self.layers);
        let mut values = match self.tier {
            Tier::FullInt8 => self.decoded(data, deltas),
            _ => self.file.floats(data, deltas * self.hidden).to_vec(),
        };
        let attention = match self.tier {
            Tier::Full | Tier::FullInt8 => values.split_off(self.layers * self.hidden),
            _ => Vec::new(),
        };
        Some(ContextContents { residual, feed_forward_deltas: values, attention_deltas: attention })
    }

    /// Offset of the template: right before the first boundary's data.
    fn template_offset(&self) -> usize {
        let first = self.file.u64(self.slot(0) + 8) as usize;
        first - self.tier.template_bytes(self.hidden, self.layers)
    }

    fn decoded(&self, data: usize, deltas: usize) -> Vec<f32> {
        let mut values = self.file.floats(self.template_offset(), deltas * self.hidden).to_vec();
        for (delta, values) in values.chunks_exact_mut(self.hidden).enumerate() {
            let start = data + delta * encoded_bytes(self.hidden);
            let scale = self.file.floats(start, 1)[0];
            let bytes: &[i8] = bytemuck::cast_slice(&self.file.bytes[start + 4..start + 4 + self.hidden]);
            values.iter_mut().zip(bytes).for_each(|(value, byte)| *value += scale * f32::from(*byte));
        }
        values
    }
}

/// Writer of a context store.
#[derive(Debug)]
pub struct ContextWriter {
    file: Appender,
    hidden: usize,
    layers: usize,
    tier: Tier,
    slots: usize,
    boundaries: u32,
    total_tokens: u32,
    /// Deltas of the first boundary; empty in tiers without a template.
    template: Vec<f32>,
    worst_error: f32,
}

impl ContextWriter {
    /// Slots of a usual index.
    pub const MAX_BOUNDARIES: usize = 10_000;

    /// Makes a file with room for `max_boundaries`, or opens one of the same shape, tier and model to append; what a crash
    /// left behind is cut off.
    ///
    /// # Errors
    /// If a file is there that is no such store, the tier names a layer that the model does not have or more than 8, or it
    /// cannot be written.
    pub fn open(
        path: &Path,
        (hidden, layers): (usize, usize),
        window: usize,
        tier: Tier,
        max_boundaries: usize,
        model: &ModelDigest,
    ) -> Result<ContextWriter, StoreError> {
        let wrong = |what, found: usize, expected: String| StoreError::Header {
            path: path.into(),
            what,
            found: found as u64,
            expected,
        };
        if tier.critical().len() > MAX_CRITICAL {
            return Err(wrong("critical layers", tier.critical().len(), format!("at most {MAX_CRITICAL}")));
        }
        if let Some(layer) = tier.critical().iter().find(|layer| usize::from(**layer) >= layers) {
            return Err(wrong("the critical layer", (*layer).into(), format!("a layer below {layers}")));
        }
        let exists = exists_with_content(path)?;
        let found = if exists { Some(ContextStore::open_for(path, model)?) } else { None };
        if let Some(store) = found.filter(|store| store.boundaries > 0) {
            for (what, found, expected) in [
                ("a hidden size of", store.hidden, hidden),
                ("a number of layers of", store.layers, layers),
                ("tier", store.tier.number().into(), tier.number().into()),
            ] {
                if found != expected {
                    return Err(wrong(what, found, expected.to_string()));
                }
            }
            if store.tier != tier {
                let [found, expected] = [&store.tier, &tier].map(|tier| tier.critical().to_vec());
                return Err(StoreError::OtherLayers { path: path.into(), found, expected });
            }
            let first = store.template_offset();
            let slots = (first - HEADER) / SLOT;
            let starts = (0..store.boundaries).map(|boundary| store.file.u64(store.slot(boundary) + 8));
            let end = starts.max().unwrap_or(0) + store.tier.data_bytes(hidden, layers) as u64;
            let template = match store.tier {
                Tier::FullInt8 => store.file.floats(first, 2 * layers * hidden).to_vec(),
                _ => Vec::new(),
            };
            let (boundaries, total_tokens) = (store.boundaries as u32, store.total_tokens() as u32);
            let tier = store.tier.clone();
            drop(store);
            let file = Appender::open(path, end)?;
            return Ok(ContextWriter {
                file,
                hidden,
                layers,
                tier,
                slots,
                boundaries,
                total_tokens,
                template,
                worst_error: 0.0,
            });
        }
        let fields = [(8, hidden as u32), (12, layers as u32), (16, window as u32)];
        let mut start = header(MAGIC, HEADER, &fields, (DIGEST, model));
        put(&mut start, 20, &[tier.number(), tier.critical().len() as u8]);
        put(&mut start, 24, tier.critical());
        start.resize(HEADER + max_boundaries * SLOT, 0);
        let file = match exists {
            true => {
                let mut file = Appender::open(path, 0)?;
                file.append(&start)?;
                file
            }
            false => Appender::create(path, &start)?,
        };
        Ok(ContextWriter {
            file,
            hidden,
            layers,
            tier,
            slots: max_boundaries,
            boundaries: 0,
            total_tokens: 0,
            template: Vec::new(),
            worst_error: 0.0,
        })
    }

    /// Number of boundaries.
    pub fn boundaries(&self) -> usize {
        self.boundaries as usize
    }

    /// Tokens of all windows.
    pub fn total_tokens(&self) -> usize {
        self.total_tokens as usize
    }

    /// Greatest error of a value that this writer stored in 8 bits, as a share of the root mean square of its vector.
    pub fn worst_error(&self) -> f32 {
        self.worst_error
    }

    /// Appends a window: its first token, its number of tokens, what its last position holds, and the id of its last token
    /// where it is known.
    ///
    /// # Errors
    /// If vectors have other lengths than the tier wants, the index is full, or it cannot be written.
    pub fn append(
        &mut self,
        first_token: usize,
        tokens: usize,
        contents: &ContextContents,
        last_token: Option<u32>,
    ) -> Result<(), StoreError> {
        let deltas = [&contents.feed_forward_deltas[..], &contents.attention_deltas].concat();
        require_length("the residual", &contents.residual, self.hidden)?;
        require_length("the deltas", &deltas, self.tier.deltas(self.layers) * self.hidden)?;
        if self.boundaries as usize >= self.slots {
            return Err(StoreError::Full { path: self.file.path.clone(), limit: self.slots });
        }
        let too_large = || StoreError::TooLarge { path: self.file.path.clone() };
        let end = first_token.checked_add(tokens).and_then(|end| u32::try_from(end).ok());
        let end = end.ok_or_else(too_large)?;
        if self.tier == Tier::FullInt8 && self.boundaries == 0 {
            self.file.append(bytemuck::cast_slice(&deltas))?;
            self.template.clone_from(&deltas);
        }
        let offset = self.file.end;
        self.file.append(bytemuck::cast_slice(&contents.residual))?;
        match self.tier {
            Tier::FullInt8 => {
                let encoded = self.encoded(&deltas);
                self.file.append(&encoded)?;
            }
            _ => self.file.append(bytemuck::cast_slice(&deltas))?,
        }
        let mut slot = [first_token as u32, tokens as u32].map(u32::to_le_bytes).concat();
        slot.extend(offset.to_le_bytes());
        slot.extend(last_token.map_or(0, |token| u64::from(token) + 1).to_le_bytes());
        self.file.write_at((HEADER + self.boundaries as usize * SLOT) as u64, &slot)?;
        self.file.sync()?;
        self.boundaries += 1;
        self.total_tokens = end;
        let counts = [self.boundaries, end].map(u32::to_le_bytes).concat();
        self.file.write_at(COUNTS, &counts)
    }

    /// Deltas in 8 bits, as differences from the template.
    fn encoded(&mut self, deltas: &[f32]) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(2 * self.layers * encoded_bytes(self.hidden));
        for (delta, template) in deltas.chunks_exact(self.hidden).zip(self.template.chunks_exact(self.hidden))
        {
            let differences = delta.iter().zip(template).map(|(delta, template)| delta - template);
            let differences: Vec<f32> = differences.collect();
            let scale = differences.iter().fold(0.0f32, |largest, value| largest.max(value.abs())) / 127.0;
            let step = if scale > 0.0 { scale } else { 1.0 };
            bytes.extend(scale.to_le_bytes());
            let size = (delta.iter().map(|value| value * value).sum::<f32>() / delta.len() as f32).sqrt();
            for difference in &differences {
                let byte = (difference / step).round() as i8;
                bytes.push(byte as u8);
                let error = (difference - scale * f32::from(byte)).abs() / size.max(f32::MIN_POSITIVE);
                self.worst_error = self.worst_error.max(error);
            }
            bytes.resize(bytes.len().next_multiple_of(4), 0);
        }
        bytes
    }
}

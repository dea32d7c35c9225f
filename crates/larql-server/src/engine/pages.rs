//! Keys and values of a sequence in pages, which sequences with the same beginning share.

use std::ops::Range;
use std::sync::Arc;

use larql_compute::Precision;
use larql_compute::attention::{KeyValueFormat, KeyValueView, KeyValues};
use larql_inference::{NewKeysAndValues, SequenceState, StateError};
use larql_models::ModelSpec;

use super::PAGE;

/// Positions whose keys lie side by side in what a view writes.
const PANEL: usize = 16;

/// Keys and values of [`PAGE`] positions of one sequence, for every layer.
pub(crate) type Page = Vec<Arc<KeyValues>>;

/// State of a sequence, whose full pages other sequences may share. A page that is shared is copied before it changes.
#[derive(Clone)]
pub(crate) struct PagedState {
    layers: Vec<PagedLayer>,
    length: usize,
}

#[derive(Clone)]
struct PagedLayer {
    /// Number of key and value heads, width of keys, and width of values.
    shape: [usize; 3],
    format: KeyValueFormat,
    pages: Vec<Arc<KeyValues>>,
    positions: usize,
}

impl PagedState {
    /// Returns an empty state for a model, with keys and values in `format`.
    pub(crate) fn new(spec: &ModelSpec, format: KeyValueFormat) -> PagedState {
        let layers = spec.layers.iter().map(|layer| {
            let attention = &layer.attention;
            let shape = match attention.lender() {
                Some(_) => [0, 0, 0],
                None => [attention.kv_heads, attention.head_dim, attention.value_dim],
            };
            PagedLayer { shape, format, pages: Vec::new(), positions: 0 }
        });
        PagedState { layers: layers.collect(), length: 0 }
    }

    /// Appends full pages that another sequence computed. The state has to end at the end of a page.
    pub(crate) fn append_pages<'a>(&mut self, pages: impl IntoIterator<Item = &'a Page>) {
        for page in pages {
            for (layer, part) in self.layers.iter_mut().zip(page).filter(|(layer, _)| layer.keeps()) {
                layer.pages.push(Arc::clone(part));
                layer.positions += PAGE;
            }
            self.length += PAGE;
        }
    }

    /// Returns a full page, to be shared; none if the sequence is not so long.
    pub(crate) fn page(&self, index: usize) -> Option<Page> {
        let part = |layer: &PagedLayer| layer.pages.get(index).cloned().unwrap_or_default();
        ((index + 1) * PAGE <= self.length).then(|| self.layers.iter().map(part).collect())
    }

    /// Returns the bytes of one page of a model, whose passes are not exact.
    pub(crate) fn page_bytes(spec: &ModelSpec, format: KeyValueFormat) -> usize {
        let state = PagedState::new(spec, format);
        let bytes = |layer: &PagedLayer| {
            let [heads, key_width, value_width] = layer.shape;
            PAGE * KeyValues::position_bytes(format, heads, key_width, value_width)
        };
        state.layers.iter().map(bytes).sum()
    }
}

impl PagedLayer {
    /// Returns true if the layer has keys and values of its own.
    fn keeps(&self) -> bool {
        self.shape[0] > 0
    }

    fn append(&mut self, new: NewKeysAndValues<'_>, precision: Precision) {
        let [heads, key_width, value_width] = self.shape;
        let tokens = new.keys.len() / (heads * key_width);
        let mut done = 0;
        while done < tokens {
            let filled = self.positions % PAGE;
            if filled == 0 {
                let page = KeyValues::new(heads, key_width, value_width).with_format(self.format);
                self.pages.push(Arc::new(page));
            }
            let Some(page) = self.pages.last_mut() else { return };
            let count = (tokens - done).min(PAGE - filled);
            let part = |width: usize| done * heads * width..(done + count) * heads * width;
            let (keys, values) = (&new.keys[part(key_width)], &new.values[part(value_width)]);
            Arc::make_mut(page).append(keys, values, precision);
            self.positions += count;
            done += count;
        }
    }

    fn truncate(&mut self, length: usize) {
        if length >= self.positions || !self.keeps() {
            return;
        }
        self.pages.truncate(length.div_ceil(PAGE));
        if !length.is_multiple_of(PAGE)
            && let Some(page) = self.pages.last_mut()
        {
            Arc::make_mut(page).truncate(length % PAGE);
        }
        self.positions = length;
    }

    /// Has `decode` write what lies in each page of a range of units to `out`. A page has `per_page` of them.
    fn each_page(
        &self,
        units: Range<usize>,
        per_page: usize,
        out: &mut [f32],
        decode: impl Fn(&KeyValues, Range<usize>, &mut [f32]),
    ) {
        let (mut at, width, mut rest) = (units.start, out.len() / units.len().max(1), out);
        while at < units.end {
            let (page, first) = (at / per_page, at % per_page);
            let last = per_page.min(first + units.end - at);
            let (part, others) = rest.split_at_mut((last - first) * width);
            decode(&self.pages[page], first..last, part);
            rest = others;
            at += last - first;
        }
    }
}

impl KeyValueView for PagedLayer {
    fn len(&self) -> usize {
        self.positions
    }

    fn shape(&self) -> [usize; 3] {
        self.shape
    }

    fn decode_keys(&self, head: usize, panels: Range<usize>, out: &mut [f32]) {
        self.each_page(panels, PAGE / PANEL, out, |page, panels, out| page.decode_keys(head, panels, out));
    }

    fn decode_values(&self, head: usize, positions: Range<usize>, out: &mut [f32]) {
        self.each_page(positions, PAGE, out, |page, positions, out| page.decode_values(head, positions, out));
    }
}

impl SequenceState for PagedState {
    fn len(&self) -> usize {
        self.length
    }

    fn append(
        &mut self,
        layer: usize,
        new: NewKeysAndValues<'_>,
        precision: Precision,
    ) -> Result<(), StateError> {
        self.layers[layer].append(new, precision);
        Ok(())
    }

    fn view(&self, layer: usize) -> &dyn KeyValueView {
        &self.layers[layer]
    }

    fn commit(&mut self, tokens: usize) {
        self.length += tokens;
    }

    fn rollback(&mut self) {
        let length = self.length;
        self.layers.iter_mut().for_each(|layer| layer.truncate(length));
    }

    fn truncate(&mut self, length: usize) -> Result<(), StateError> {
        self.length = self.length.min(length);
        self.rollback();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use larql_testing::noise;

    use super::*;

    fn layer(shape: [usize; 3], format: KeyValueFormat) -> PagedLayer {
        PagedLayer { shape, format, pages: Vec::new(), positions: 0 }
    }

    /// Appends positions of seeded numbers to a paged layer and to one without pages.
    fn fill(paged: &mut PagedLayer, plain: &mut KeyValues, tokens: usize, seed: u32) {
        let [heads, key_width, value_width] = paged.shape;
        let keys = noise(tokens * heads * key_width, seed);
        let values = noise(tokens * heads * value_width, seed + 1);
        plain.append(&keys, &values, Precision::Exact);
        paged.append(NewKeysAndValues { keys: &keys, values: &values }, Precision::Exact);
    }

    #[test]
    fn pages_hold_the_same_numbers_as_one_piece() {
        for format in [KeyValueFormat::Float, KeyValueFormat::Q8_0] {
            assert_pages_hold_the_same_numbers(format);
        }
    }

    fn assert_pages_hold_the_same_numbers(format: KeyValueFormat) {
        let (mut paged, mut plain) = (layer([2, 3, 5], format), KeyValues::new(2, 3, 5).with_format(format));
        for (index, tokens) in [1, 70, 32, 200, 7].into_iter().enumerate() {
            fill(&mut paged, &mut plain, tokens, index as u32);
            if index == 2 {
                paged.truncate(50);
                plain.truncate(50);
            }
        }
        assert_eq!(paged.len(), plain.len());
        let end = plain.len();
        for head in 0..2 {
            for start in [0, 16, 64, 96, 192] {
                let (mut expected, mut found) = (vec![0.0; (end - start) * 5], vec![9.0; (end - start) * 5]);
                plain.decode_values(head, start..end, &mut expected);
                paged.decode_values(head, start..end, &mut found);
                assert_eq!(found, expected, "values of head {head} from {start}");
                // Of the last panel only the positions that are held count.
                let panels = start / PANEL..end / PANEL;
                let len = panels.len() * 3 * PANEL;
                let (mut expected, mut found) = (vec![0.0; len], vec![9.0; len]);
                plain.decode_keys(head, panels.clone(), &mut expected);
                paged.decode_keys(head, panels, &mut found);
                assert_eq!(found, expected, "keys of head {head} from {start}");
            }
        }
    }

    #[test]
    fn a_shared_page_is_copied_before_it_changes() {
        let (mut paged, mut plain) = (layer([1, 2, 2], KeyValueFormat::Float), KeyValues::new(1, 2, 2));
        fill(&mut paged, &mut plain, PAGE, 1);
        let mut other = paged.clone();
        other.truncate(10);
        fill(&mut other, &mut plain, 5, 9);
        let (mut before, mut after) = (vec![0.0; PAGE * 2], vec![9.0; PAGE * 2]);
        plain.decode_values(0, 0..PAGE, &mut before);
        paged.decode_values(0, 0..PAGE, &mut after);
        assert_eq!(before, after);
        assert_eq!((paged.len(), other.len()), (PAGE, 15));
    }
}

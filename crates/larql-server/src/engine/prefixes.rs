//! The pages of prompts that were read, by the tokens that they hold: what begins alike is computed once.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::PAGE;
use super::pages::Page;

/// Pages by the tokens up to their end. The least recently used page that nothing builds on makes room for others.
pub(crate) struct Prefixes {
    /// Pages that sequences and this index hold together at most.
    capacity: usize,
    /// Pages that running sequences may still fill.
    reserved: usize,
    pages: HashMap<Place, Entry>,
    /// The same pages by their last use, least recently used first.
    by_use: BTreeMap<u64, Place>,
    /// Number of the next page.
    next: u64,
    /// Counts uses.
    clock: u64,
}

/// A page's place in the tree of prompts.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Place {
    /// The weights that the keys and values are of.
    weights: u64,
    /// Number of the page before; 0 for the first page of a prompt.
    parent: u64,
    tokens: Box<[u32]>,
}

struct Entry {
    number: u64,
    page: Page,
    parent: Option<Place>,
    /// Pages that come next after this one.
    children: usize,
    used: u64,
}

/// Reservation of a running sequence, and where its prompt stands in the tree.
#[derive(Debug)]
pub(crate) struct Reservation {
    weights: u64,
    /// Tokens of the prompt whose pages may be those of other sequences.
    shareable: usize,
    /// Pages that the sequence may still fill by itself.
    pages: usize,
    /// The last page that is shared, with its number; none before the first.
    last: Option<(Place, u64)>,
}

impl Prefixes {
    /// Returns an empty index.
    pub(crate) fn new(capacity: usize) -> Prefixes {
        let (pages, by_use) = (HashMap::new(), BTreeMap::new());
        Prefixes { capacity, reserved: 0, pages, by_use, next: 1, clock: 0 }
    }

    /// Number of pages that are kept.
    pub(crate) fn len(&self) -> usize {
        self.pages.len()
    }

    /// Reserves pages for a sequence that begins with `prompt` and grows to `tokens` tokens at most. Returns the pages that
    /// are there already, at most `shareable` tokens of the prompt; none if there is no room at the moment.
    pub(crate) fn reserve(
        &mut self,
        weights: u64,
        prompt: &[u32],
        shareable: usize,
        tokens: usize,
    ) -> Option<(Reservation, Vec<Page>)> {
        let shareable = shareable.min(prompt.len());
        let mut reservation = Reservation { weights, shareable, pages: 0, last: None };
        let mut shared = Vec::new();
        for tokens in prompt[..shareable].chunks_exact(PAGE) {
            let Some(page) = self.next_page(&mut reservation, tokens) else { break };
            shared.push(page);
        }
        // The clones above keep these pages from being evicted.
        reservation.pages = tokens.div_ceil(PAGE).saturating_sub(shared.len());
        while self.reserved + self.pages.len() + reservation.pages > self.capacity {
            self.evict()?;
        }
        self.reserved += reservation.pages;
        Some((reservation, shared))
    }

    /// Returns the next page of a running sequence's prompt, whose tokens are `tokens`, if another sequence has computed it
    /// meanwhile. A page of the sequence's own is then no longer reserved.
    pub(crate) fn take(&mut self, reservation: &mut Reservation, tokens: &[u32]) -> Option<Page> {
        let page = self.next_page(reservation, tokens)?;
        self.give_back_one(reservation);
        Some(page)
    }

    /// Returns the page that holds `tokens` after the last one of a reservation, which it then is.
    fn next_page(&mut self, reservation: &mut Reservation, tokens: &[u32]) -> Option<Page> {
        let place = reservation.place(tokens);
        let entry = self.pages.get(&place)?;
        let (number, page) = (entry.number, entry.page.clone());
        self.touch(&place);
        reservation.last = Some((place, number));
        Some(page)
    }

    /// Makes a page the most recently used one.
    fn touch(&mut self, place: &Place) {
        self.clock += 1;
        if let Some(entry) = self.pages.get_mut(place) {
            let before = std::mem::replace(&mut entry.used, self.clock);
            let place = self.by_use.remove(&before).unwrap_or_else(|| place.clone());
            self.by_use.insert(self.clock, place);
        }
    }

    /// Gives back one page that a sequence has no need of any more.
    fn give_back_one(&mut self, reservation: &mut Reservation) {
        let own = reservation.pages.min(1);
        reservation.pages -= own;
        self.reserved -= own;
    }

    /// Takes the next page of a prompt, whose tokens are `tokens`, into the index. It no longer counts as reserved.
    pub(crate) fn insert(&mut self, reservation: &mut Reservation, tokens: &[u32], page: Page) {
        let place = reservation.place(tokens);
        let parent = reservation.last.as_ref().map(|(place, _)| place.clone());
        // The page before may have been evicted, if another sequence computed the same one and is done.
        if parent.as_ref().is_some_and(|parent| !self.pages.contains_key(parent)) {
            return;
        }
        let number = match self.pages.get(&place) {
            Some(entry) => entry.number,
            None => {
                if let Some(parent) = parent.as_ref().and_then(|parent| self.pages.get_mut(parent)) {
                    parent.children += 1;
                }
                let number = self.next;
                self.next += 1;
                self.pages.insert(place.clone(), Entry { number, page, parent, children: 0, used: 0 });
                self.give_back_one(reservation);
                number
            }
        };
        self.touch(&place);
        reservation.last = Some((place, number));
    }

    /// Ends the reservation of a sequence that is done.
    pub(crate) fn release(&mut self, reservation: Reservation) {
        self.reserved -= reservation.pages;
    }

    /// Removes the least recently used page that no sequence holds and no other page builds on; none if there is none.
    fn evict(&mut self) -> Option<()> {
        let is_free =
            |entry: &Entry| entry.children == 0 && entry.page.iter().all(|part| Arc::strong_count(part) == 1);
        let mut by_use = self.by_use.iter();
        let (&used, _) = by_use.find(|(_, place)| self.pages.get(place).is_some_and(is_free))?;
        let place = self.by_use.remove(&used)?;
        let entry = self.pages.remove(&place)?;
        if let Some(parent) = entry.parent.and_then(|parent| self.pages.get_mut(&parent)) {
            parent.children -= 1;
        }
        Some(())
    }
}

impl Reservation {
    /// Returns true if pages of the prompt are shared with other sequences at all.
    pub(super) fn shares(&self) -> bool {
        self.shareable > 0
    }

    /// Returns true if the page that begins at `position` of the prompt may be that of another sequence.
    pub(super) fn may_share(&self, position: usize) -> bool {
        position.is_multiple_of(PAGE) && position + PAGE <= self.shareable
    }

    /// The place of the page that comes next and holds `tokens`.
    pub(super) fn place(&self, tokens: &[u32]) -> Place {
        let parent = self.last.as_ref().map_or(0, |(_, number)| *number);
        Place { weights: self.weights, parent, tokens: tokens.into() }
    }
}

#[cfg(test)]
mod tests {
    use larql_compute::attention::KeyValues;

    use super::*;

    fn page() -> Page {
        vec![Arc::new(KeyValues::new(1, 2, 2))]
    }

    /// Reads a prompt whole and keeps its full pages. Returns the number of pages that were there before.
    fn read(prefixes: &mut Prefixes, prompt: &[u32]) -> Option<usize> {
        let (mut reservation, shared) = prefixes.reserve(0, prompt, prompt.len(), prompt.len() + 1)?;
        for tokens in prompt.chunks_exact(PAGE).skip(shared.len()) {
            prefixes.insert(&mut reservation, tokens, page());
        }
        let count = shared.len();
        drop(shared);
        prefixes.release(reservation);
        Some(count)
    }

    fn prompt(pages: &[u32]) -> Vec<u32> {
        pages.iter().flat_map(|page| vec![*page; PAGE]).chain([7]).collect()
    }

    #[test]
    fn what_begins_alike_is_shared_up_to_the_first_difference() {
        let mut prefixes = Prefixes::new(100);
        assert_eq!(read(&mut prefixes, &prompt(&[1, 2, 3])), Some(0));
        assert_eq!(read(&mut prefixes, &prompt(&[1, 2, 4])), Some(2));
        assert_eq!(read(&mut prefixes, &prompt(&[2, 2, 3])), Some(0));
        assert_eq!(read(&mut prefixes, &prompt(&[1, 2, 3])), Some(3));
        assert_eq!((prefixes.len(), prefixes.reserved), (7, 0));
        let (reservation, shared) = prefixes.reserve(1, &prompt(&[1, 2]), 2 * PAGE, 2 * PAGE).unwrap();
        assert!(shared.is_empty(), "other weights have other keys and values");
        prefixes.release(reservation);
    }

    #[test]
    fn the_least_recently_used_leaf_makes_room() {
        let mut prefixes = Prefixes::new(5);
        read(&mut prefixes, &prompt(&[1, 2])).unwrap();
        read(&mut prefixes, &prompt(&[5])).unwrap();
        read(&mut prefixes, &prompt(&[1, 2])).unwrap();
        // Three pages are kept and three are asked for: the page of 5 goes.
        assert_eq!(read(&mut prefixes, &prompt(&[8, 9])), Some(0));
        assert_eq!(read(&mut prefixes, &prompt(&[1, 2])), Some(2));
        assert_eq!(read(&mut prefixes, &prompt(&[5])), Some(0));
    }

    #[test]
    fn a_page_that_came_meanwhile_is_taken_in_place_of_a_reserved_one() {
        let mut prefixes = Prefixes::new(8);
        let tokens = prompt(&[1, 2]);
        let reserve = |prefixes: &mut Prefixes| {
            let (reservation, shared) = prefixes.reserve(0, &tokens, tokens.len(), tokens.len()).unwrap();
            assert!(shared.is_empty());
            reservation
        };
        let (mut first, mut second) = (reserve(&mut prefixes), reserve(&mut prefixes));
        assert_eq!(prefixes.reserved, 6);
        assert!(prefixes.take(&mut second, &tokens[..PAGE]).is_none());
        prefixes.insert(&mut first, &tokens[..PAGE], page());
        assert!(prefixes.take(&mut second, &tokens[..PAGE]).is_some());
        assert!(prefixes.take(&mut second, &tokens[PAGE..2 * PAGE]).is_none());
        // One page is kept, and each sequence may still fill two.
        assert_eq!((prefixes.len(), prefixes.reserved), (1, 4));
        prefixes.release(first);
        prefixes.release(second);
        assert_eq!(prefixes.reserved, 0);
    }

    #[test]
    fn pages_in_use_are_not_evicted_and_reservations_are_kept() {
        let mut prefixes = Prefixes::new(4);
        let (first, _) = prefixes.reserve(0, &prompt(&[1]), PAGE, 3 * PAGE).unwrap();
        assert!(prefixes.reserve(0, &prompt(&[2]), PAGE, 2 * PAGE).is_none());
        prefixes.release(first);
        assert!(prefixes.reserve(0, &prompt(&[2]), PAGE, 4 * PAGE).is_some());
    }
}

//! Names for groups: relations whose facts occur among their pairs of words.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::{ClusterGroup, FeatureWords};
use crate::search::{TokenTexts, fold};

/// A group is named when so many of its features lead from a subject to its object,
const FEWEST_FEATURES: usize = 2;
/// and they are such a share of the group, since all of it gets the name,
const LEAST_SHARE: f64 = 0.25;
/// and that is so many times as usual among all features.
const LEAST_LIFT: f64 = 3.0;

/// Facts by their words.
pub(super) struct Facts {
    relations: Vec<String>,
    /// For subject and object the numbers of the relations between them.
    by_words: HashMap<(String, String), Vec<usize>>,
}

impl Facts {
    /// Subjects, relations and objects.
    pub(super) fn new<'a>(facts: impl IntoIterator<Item = [&'a str; 3]>) -> Facts {
        let mut numbers: BTreeMap<&str, usize> = BTreeMap::new();
        let mut by_words: HashMap<(String, String), Vec<usize>> = HashMap::new();
        for [subject, relation, object] in facts {
            let next = numbers.len();
            let number = *numbers.entry(relation).or_insert(next);
            by_words.entry((fold(subject), fold(object))).or_default().push(number);
        }
        let mut relations = vec![String::new(); numbers.len()];
        for (relation, number) in numbers {
            relations[number] = relation.to_owned();
        }
        Facts { relations, by_words }
    }

    /// The relations of facts whose subject a feature answers to and whose object it writes.
    pub(super) fn matching(&self, words: &FeatureWords, texts: &dyn TokenTexts) -> BTreeSet<usize> {
        let folded = |tokens: &[u32]| -> Vec<String> {
            tokens.iter().filter_map(|token| whole_word(&texts.word(*token)?)).collect()
        };
        let outputs = folded(&words.outputs);
        let mut matching = BTreeSet::new();
        for input in folded(&words.inputs) {
            for output in &outputs {
                matching.extend(self.by_words.get(&(input.clone(), output.clone())).into_iter().flatten());
            }
        }
        matching
    }

    /// Names groups; `assigned` and `matches` are the group and the matching relations of each feature.
    pub(super) fn name(&self, groups: &mut [ClusterGroup], assigned: &[usize], matches: &[BTreeSet<usize>]) {
        let mut everywhere = vec![0usize; self.relations.len()];
        let mut inside = vec![vec![0usize; self.relations.len()]; groups.len()];
        let mut sizes = vec![0usize; groups.len()];
        for (group, matching) in assigned.iter().zip(matches) {
            sizes[*group] += 1;
            for relation in matching {
                everywhere[*relation] += 1;
                inside[*group][*relation] += 1;
            }
        }
        for ((group, inside), size) in groups.iter_mut().zip(inside).zip(sizes) {
            let share = |relation: usize| inside[relation] as f64 / size as f64;
            let lift =
                |relation: usize| share(relation) * assigned.len() as f64 / everywhere[relation] as f64;
            let best = (0..inside.len())
                .filter(|relation| inside[*relation] >= FEWEST_FEATURES)
                .filter(|relation| share(*relation) >= LEAST_SHARE && lift(*relation) >= LEAST_LIFT)
                .max_by(|a, b| inside[*a].cmp(&inside[*b]).then(lift(*a).total_cmp(&lift(*b))));
            if let Some(relation) = best {
                group.label.clone_from(&self.relations[relation]);
                group.confirmed = inside[relation];
            }
        }
    }
}

/// The word that a token is, if it is no piece of one: single letters are pieces far more often than letters.
fn whole_word(text: &str) -> Option<String> {
    let word = fold(text);
    (word.chars().count() > 1 || word.chars().all(char::is_numeric)).then_some(word)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Words(&'static [&'static str]);

    impl TokenTexts for Words {
        fn word(&self, token: u32) -> Option<String> {
            self.0.get(token as usize).map(|word| (*word).to_owned())
        }
    }

    #[test]
    fn a_group_is_named_after_facts_that_are_usual_in_it_alone() {
        let texts = Words(&[" France", "Paris", " Spain", " Madrid", " a", "b"]);
        let facts = Facts::new([
            ["France", "capital", "Paris"],
            ["Spain", "capital", "Madrid"],
            ["France", "borders", "Spain"],
            ["a", "next-letter", "b"],
        ]);
        let feature = |inputs: &[u32], outputs: &[u32]| FeatureWords {
            layer: 0,
            feature: 0,
            inputs: inputs.into(),
            outputs: outputs.into(),
        };
        let words = [
            feature(&[0], &[3, 1]),
            feature(&[5, 2], &[3]),
            feature(&[4], &[5]),
            feature(&[1], &[0]),
            feature(&[0], &[2]),
            feature(&[5], &[5]),
            feature(&[5], &[5]),
            feature(&[5], &[5]),
        ];
        let matches: Vec<_> = words.iter().map(|words| facts.matching(words, &texts)).collect();
        let found: Vec<Vec<usize>> = matches.iter().map(|found| found.iter().copied().collect()).collect();
        assert_eq!(found, [vec![0], vec![0], vec![], vec![], vec![1], vec![], vec![], vec![]]);

        let mut groups = vec![ClusterGroup::default(); 2];
        facts.name(&mut groups, &[0, 0, 1, 1, 1, 1, 1, 1], &matches);
        assert_eq!((&*groups[0].label, groups[0].confirmed), ("capital", 2));
        assert_eq!((&*groups[1].label, groups[1].confirmed), ("", 0));
    }
}

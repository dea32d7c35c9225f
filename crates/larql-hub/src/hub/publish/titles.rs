//! Titles of models, and of the collections that they are published in.

/// A model's title, and that of its family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ModelTitle {
    pub(crate) model: String,
    pub(crate) family: String,
}

impl ModelTitle {
    /// Makes titles of the model's name or path, such as `google/gemma-3-4b-it`.
    pub(crate) fn of(model: &str) -> ModelTitle {
        let of_cache = model.split('/').find_map(|part| part.strip_prefix("models--"));
        let name = match of_cache {
            Some(repo) => repo.rsplit("--").next(),
            None => model.trim_end_matches('/').rsplit('/').next(),
        };
        let words: Vec<String> = name.unwrap_or(model).split('-').map(capitalised).collect();
        let is_number = |word: &&String| word.starts_with(|c: char| c.is_ascii_digit());
        let family: Vec<&str> =
            words.iter().take_while(|word| !is_number(word)).map(String::as_str).collect();
        let family = if family.is_empty() { words.join(" ") } else { family.join(" ") };
        ModelTitle { model: words.join(" "), family }
    }
}

fn capitalised(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

/// Titles of the collections of a publication, each of which holds the ones before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CollectionTitles {
    /// The repositories of one model.
    pub model: String,
    /// The models of a family.
    pub family: String,
    /// Everything.
    pub library: String,
}

impl CollectionTitles {
    /// Returns the titles for a model, of which the user may have given some.
    pub(crate) fn new(title: &ModelTitle, library: Option<&str>) -> CollectionTitles {
        CollectionTitles {
            model: format!("{} — LARQL Vindex", title.model),
            family: format!("{} Family — LARQL Vindexes", title.family),
            library: library.unwrap_or("LARQL Vindex Library").to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn titles_are_made_of_names_and_paths() {
        let title = |model: &str| {
            let ModelTitle { model, family } = ModelTitle::of(model);
            (model, family)
        };
        let gemma = ("Gemma 4 31b It".to_owned(), "Gemma".to_owned());
        assert_eq!(title("gemma-4-31b-it"), gemma);
        assert_eq!(title("google/gemma-4-31b-it"), gemma);
        assert_eq!(title("/c/models--google--gemma-4-31b-it/snapshots/0123"), gemma);
        assert_eq!(title("SmolLM2-135M").1, "SmolLM2");
        assert_eq!(title("atlas"), ("Atlas".into(), "Atlas".into()));
        assert_eq!(title("7b-x").1, "7b X");
    }
}

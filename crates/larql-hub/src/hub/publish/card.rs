//! Model cards of published vindexes.

use larql_vindex::SlicePreset;
use larql_vindex_spec::{CONTRACT_VERSION, Manifest};

use super::titles::ModelTitle;
use crate::hub::RepoId;

/// Digits of a source's digest in the front matter.
const SHORT_DIGEST: usize = 16;

/// A model card: a text whose beginning is data for the hub.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Card(String);

impl Card {
    /// Returns the card of a vindex.
    pub(crate) fn of(
        manifest: &Manifest,
        preset: SlicePreset,
        repo: &RepoId,
        title: &ModelTitle,
        siblings: &[(SlicePreset, RepoId)],
        license: Option<&str>,
    ) -> Card {
        let source = manifest.source.clone().unwrap_or_default();
        let mut front = vec!["library_name: larql".to_owned(), "pipeline_tag: text-generation".to_owned()];
        let tags = [
            "vindex".to_owned(),
            format!("vindex-v{CONTRACT_VERSION}"),
            format!("vindex-{}", manifest.quant.name()),
            format!("vindex-extract-{}", manifest.level().name()),
        ];
        front.push("tags:".to_owned());
        front.extend(tags.iter().map(|tag| format!("- {tag}")));
        // Other texts are no names on the hub, which it would refuse.
        if let Some(base) = source.huggingface_repo.as_deref().filter(|base| RepoId::new(base).is_ok()) {
            front.push(format!("base_model: {}", quoted(base)));
        }
        if let Some(digest) = &source.base_model_sha {
            let digest: String = digest.chars().take(SHORT_DIGEST).collect();
            front.push(format!("base_model_sha: {}", quoted(&digest)));
        }
        if let Some(license) = license {
            front.push(format!("license: {}", quoted(license)));
        }
        front.push(format!("vindex_spec_version: {CONTRACT_VERSION}"));

        let mut text = format!("---\n{}\n---\n\n# {} as a vindex", front.join("\n"), title.model);
        if preset != SlicePreset::Full {
            text += &format!(": {preset}");
        }
        text += &format!(
            "\n\n{}\n\n```sh\nlarql pull {repo}\nlarql show {repo}\n```\n\n| | |\n|---|---|\n\
             | Model | {} |\n| Family | {} |\n| Layers | {} |\n| Width | {} |\n| Level | {} |\n| Stored as | {} |\n",
            preset.purpose(),
            source.huggingface_repo.as_deref().unwrap_or(&manifest.model),
            manifest.family,
            manifest.num_layers,
            manifest.hidden_size,
            manifest.level().name(),
            stored_as(manifest),
        );
        if let Some(revision) = &source.huggingface_revision {
            text += &format!("| Revision | `{revision}` |\n");
        }
        if let Some(digests) = &source.base_safetensors_sha256 {
            text += "\n## Source files\n\n| File | SHA-256 |\n|---|---|\n";
            digests.iter().for_each(|(file, digest)| text += &format!("| {file} | `{digest}` |\n"));
        }
        if !siblings.is_empty() {
            text += "\n## The same model for other jobs\n\n| Repository | |\n|---|---|\n";
            for (preset, sibling) in siblings {
                text +=
                    &format!("| [{sibling}](https://huggingface.co/{sibling}) | {} |\n", preset.purpose());
            }
        }
        Card(text)
    }

    /// Checks the data at the beginning of a card.
    ///
    /// # Errors
    /// The problem, as a clause.
    pub fn check(text: &str) -> Result<Card, String> {
        let rest = text.strip_prefix("---\n").ok_or("it does not begin with a line `---`")?;
        let (front, _) = rest.split_once("\n---\n").ok_or("its data do not end with a line `---`")?;
        let value = |key: &str| {
            front.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':').map(str::trim))
        };
        if value("library_name") != Some("larql") {
            return Err("`library_name: larql` is missing".to_owned());
        }
        if value("vindex_spec_version") != Some(&CONTRACT_VERSION.to_string()) {
            return Err(format!("`vindex_spec_version: {CONTRACT_VERSION}` is missing"));
        }
        if !front.lines().any(|line| line.trim() == "- vindex") {
            return Err("`vindex` is not among its tags".to_owned());
        }
        if let Some(base) = value("base_model") {
            RepoId::new(base.trim_matches('"')).map_err(|error| format!("base_model: {error}"))?;
        }
        if let Some(bad) = front.lines().find(|line| line.contains('\t')) {
            return Err(format!("the line {bad:?} has a tab"));
        }
        Ok(Card(text.to_owned()))
    }

    /// The text.
    pub fn text(&self) -> &str {
        &self.0
    }
}

fn stored_as(manifest: &Manifest) -> String {
    match manifest.quant.name() {
        "none" => manifest.float_type().name().to_owned(),
        "source" => format!("the source's formats, other tensors {}", manifest.float_type().name()),
        quant => format!("{quant}, other tensors {}", manifest.float_type().name()),
    }
}

/// A text as YAML and JSON both read it.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn card(repo: Option<&str>) -> Card {
        let json = br#"{"version": 2, "model": "gemma-3-4b-it", "family": "gemma3", "num_layers": 1, "hidden_size": 4,
            "intermediate_size": 8, "vocab_size": 16, "extract_level": "browse", "quant": "q4k",
            "source": {"base_model_sha": "0123456789abcdef0123456789abcdef", "huggingface_revision": "main",
                       "base_safetensors_sha256": {"model.safetensors": "ff"}},
            "layers": [{"layer": 0, "num_features": 8, "offset": 0, "length": 64}]}"#;
        let mut manifest = Manifest::parse(json).unwrap();
        manifest.source.as_mut().unwrap().huggingface_repo = repo.map(str::to_owned);
        let id = |name: &str| RepoId::new(name).unwrap();
        let siblings = [(SlicePreset::Client, id("me/gemma-client"))];
        Card::of(
            &manifest,
            SlicePreset::Browse,
            &id("me/gemma-browse"),
            &ModelTitle::of("gemma-3-4b-it"),
            &siblings,
            None,
        )
    }

    #[test]
    fn a_card_says_what_the_contract_asks_for() {
        let card = card(Some("google/gemma-3-4b-it"));
        assert_eq!(Card::check(card.text()), Ok(card.clone()));
        let (front, _) = card.text().trim_start_matches("---\n").split_once("\n---\n").unwrap();
        assert_eq!(
            front,
            "library_name: larql\npipeline_tag: text-generation\ntags:\n- vindex\n- vindex-v1\n- vindex-q4k\n\
             - vindex-extract-browse\nbase_model: \"google/gemma-3-4b-it\"\nbase_model_sha: \"0123456789abcdef\"\n\
             vindex_spec_version: 1"
        );
        assert!(card.text().contains("| model.safetensors | `ff` |"));
        assert!(card.text().contains("[me/gemma-client]"));
    }

    #[test]
    fn a_source_that_is_no_repository_is_not_named_as_one() {
        assert!(!card(Some("/home/ada/model")).text().contains("base_model:"));
        assert!(!card(None).text().contains("base_model:"));
    }

    #[test]
    fn other_cards_are_refused_with_the_reason() {
        let sound = card(None).text().to_owned();
        let problem = |text: &str| Card::check(text).unwrap_err();
        assert_eq!(problem("# Model"), "it does not begin with a line `---`");
        assert_eq!(problem("---\nlibrary_name: larql\n"), "its data do not end with a line `---`");
        assert_eq!(
            problem(&sound.replace("library_name: larql", "library_name: x")),
            "`library_name: larql` is missing"
        );
        assert_eq!(problem(&sound.replace("- vindex\n", "")), "`vindex` is not among its tags");
        let based = sound.replace("vindex_spec_version", "base_model: a b\nvindex_spec_version");
        assert!(problem(&based).starts_with("base_model: "));
    }
}

//! The files of a repository that make up its model.

use super::reading::RemoteFile;
use super::{HubError, RepoName};

/// The manifest of a vindex.
pub(crate) const MANIFEST: &str = "index.json";

/// A model in a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Choice {
    /// Its files.
    pub(crate) files: Vec<RemoteFile>,
    /// The file that opens it; the folder of all files if absent.
    pub(crate) opens: Option<String>,
}

/// Files of a checkpoint beside its weights.
const CHECKPOINT_ENDINGS: [&str; 6] = [".safetensors", ".json", ".jinja", ".txt", ".model", ".tiktoken"];

/// Chooses the files of a vindex, a checkpoint or a GGUF file; the one that the name gives, if it gives one.
///
/// # Errors
/// If there is no model, there are several, or the named file is not there.
pub(crate) fn choose(name: &RepoName, files: &[RemoteFile], endpoint: &str) -> Result<Choice, HubError> {
    let repo = || name.id.to_string();
    let at_root = |file: &&RemoteFile| !file.path.contains('/');
    let visible: Vec<&RemoteFile> = files.iter().filter(|file| !file.path.starts_with('.')).collect();
    let owned = |files: Vec<&RemoteFile>| files.into_iter().cloned().collect::<Vec<_>>();
    if let Some(wanted) = &name.file {
        let stem = stem(wanted);
        let parts =
            visible.iter().copied().filter(|file| file.path == *wanted || self::stem(&file.path) == stem);
        let parts = owned(parts.collect());
        let opens = parts.iter().find(|file| file.path == *wanted || is_first_part(&file.path));
        let Some(opens) = opens.map(|file| file.path.clone()) else {
            return Err(HubError::NoFile {
                repo: repo(),
                file: wanted.clone(),
                endpoint: endpoint.to_owned(),
            });
        };
        return Ok(Choice { files: parts, opens: Some(opens) });
    }
    if visible.iter().any(|file| file.path == MANIFEST) {
        return Ok(Choice { files: owned(visible), opens: None });
    }
    let has_ending = |file: &RemoteFile, ending: &str| file.path.ends_with(ending);
    let is_weights =
        |file: &&RemoteFile| has_ending(file, ".safetensors") && !file.path.starts_with("consolidated");
    if visible.iter().copied().filter(at_root).any(|file| is_weights(&file)) {
        let is_part = |file: &&RemoteFile| {
            let wanted = CHECKPOINT_ENDINGS.iter().any(|ending| has_ending(file, ending));
            let template = file.path.starts_with("additional_chat_templates/");
            (at_root(file) || template) && wanted && (!has_ending(file, ".safetensors") || is_weights(file))
        };
        return Ok(Choice { files: owned(visible.into_iter().filter(is_part).collect()), opens: None });
    }
    let is_gguf = |file: &&RemoteFile| has_ending(file, ".gguf") && !file.path.contains("mmproj");
    let gguf: Vec<&RemoteFile> = visible.into_iter().filter(is_gguf).collect();
    let first: Vec<&RemoteFile> = gguf.iter().copied().filter(|file| !is_later_part(&file.path)).collect();
    match first[..] {
        [] => Err(HubError::NoModel { repo: repo() }),
        [one] => Ok(Choice { opens: Some(one.path.clone()), files: owned(gguf) }),
        _ => {
            let files = first.iter().map(|file| file.path.clone()).collect();
            Err(HubError::SeveralModels { repo: repo(), files })
        }
    }
}

/// The number of a split file's part, as in `a-00002-of-00012.gguf`, with the text before it.
fn part(path: &str) -> Option<(&str, u32)> {
    let (rest, count) = path.strip_suffix(".gguf")?.rsplit_once("-of-")?;
    let (stem, number) = rest.rsplit_once('-')?;
    let are_numbers = number.len() == 5 && count.len() == 5;
    number.parse().ok().filter(|_| are_numbers).map(|number| (stem, number))
}

/// The name that all parts of a split file share.
fn stem(path: &str) -> &str {
    part(path).map_or(path, |(stem, _)| stem)
}

fn is_later_part(path: &str) -> bool {
    part(path).is_some_and(|(_, number)| number > 1)
}

fn is_first_part(path: &str) -> bool {
    part(path).is_some_and(|(_, number)| number == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choice(name: &str, paths: &[&str]) -> Result<(Vec<String>, Option<String>), HubError> {
        let file = |path: &&str| RemoteFile {
            path: (*path).into(),
            bytes: 1,
            blob: "a".repeat(40),
            sha256: None,
            xet: None,
        };
        let files: Vec<RemoteFile> = paths.iter().map(file).collect();
        let choice = choose(&name.parse().unwrap(), &files, "http://hub")?;
        Ok((choice.files.into_iter().map(|file| file.path).collect(), choice.opens))
    }

    #[test]
    fn a_vindex_is_taken_whole() {
        let (files, opens) =
            choice("o/n", &[".gitattributes", "index.json", "layers/a.weights", "README.md"]).unwrap();
        assert_eq!(
            (files, opens),
            (vec!["index.json".into(), "layers/a.weights".into(), "README.md".into()], None)
        );
    }

    #[test]
    fn a_checkpoint_is_taken_without_its_other_forms() {
        let (files, _) = choice(
            "o/n",
            &[
                "README.md",
                "config.json",
                "consolidated.safetensors",
                "model.safetensors",
                "onnx/model.onnx",
                "original/params.json",
                "pytorch_model.bin",
                "tokenizer.model",
                "x.gguf",
            ],
        )
        .unwrap();
        assert_eq!(files, ["config.json", "model.safetensors", "tokenizer.model"]);
    }

    #[test]
    fn one_gguf_file_is_the_model_and_of_several_one_is_named() {
        let one = choice("o/n", &["README.md", "mmproj-f16.gguf", "a-q4.gguf"]).unwrap();
        assert_eq!(one, (vec!["a-q4.gguf".into()], Some("a-q4.gguf".into())));
        let split = ["q4/a-00001-of-00002.gguf", "q4/a-00002-of-00002.gguf"];
        let both = (split.map(str::to_owned).to_vec(), Some(split[0].to_owned()));
        assert_eq!(choice("o/n", &split).unwrap(), both);
        let several = ["a-q4.gguf", "a-q8.gguf", split[0], split[1]];
        let error = choice("o/n", &several).unwrap_err();
        assert_eq!(error.to_string(), "o/n has 3 models: a-q4.gguf, a-q8.gguf, q4/a-00001-of-00002.gguf");
        assert_eq!(choice("hf://o/n/a-q8.gguf", &several).unwrap().1.unwrap(), "a-q8.gguf");
        assert_eq!(choice("hf://o/n/q4/a-00002-of-00002.gguf", &several).unwrap().0.len(), 2);
    }

    #[test]
    fn what_is_no_model_is_refused() {
        assert!(matches!(choice("o/n", &["README.md", "data.csv"]), Err(HubError::NoModel { .. })));
        assert!(matches!(choice("hf://o/n/x.gguf", &["y.gguf"]), Err(HubError::NoFile { .. })));
    }
}

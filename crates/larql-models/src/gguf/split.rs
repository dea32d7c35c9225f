//! Models that are split into several GGUF files, `NAME-00001-of-00012.gguf` and so on: the first holds the metadata,
//! each some of the tensors.

use std::path::{Path, PathBuf};

use super::{GgufFile, GgufValue, value};
use crate::ModelError;
use crate::config::shorten;

/// Number of the files.
const COUNT: &str = "split.count";
/// Place of a file among them, from 0.
const NUMBER: &str = "split.no";
/// Number of the tensors in all files.
const TENSORS: &str = "split.tensors.count";

/// Name of a part, taken apart.
pub(crate) struct PartName {
    /// The file's path before the numbers.
    pub(crate) stem: PathBuf,
    /// Number of parts.
    count: usize,
    /// Ending of the name, `.gguf` in whatever case.
    ending: String,
}

impl PartName {
    /// The path of a part, from 0.
    fn part(&self, index: usize) -> PathBuf {
        let mut path = self.stem.clone().into_os_string();
        path.push(format!("-{:05}-of-{:05}{}", index + 1, self.count, self.ending));
        path.into()
    }
}

/// Takes a file's name apart; none if it is not the name of a part.
pub(crate) fn split_part(path: &Path) -> Option<PartName> {
    let name = path.file_name()?.to_str()?;
    let end = name.len().checked_sub(".gguf".len()).filter(|end| name.is_char_boundary(*end))?;
    let (name, ending) = name.split_at(end);
    let (rest, count) = name.rsplit_once("-of-")?;
    let (stem, number) = rest.rsplit_once('-')?;
    let parse = |digits: &str| (digits.len() == 5).then(|| digits.parse::<usize>().ok()).flatten();
    parse(number)?;
    let count = parse(count)?;
    ending.eq_ignore_ascii_case(".gguf").then(|| PartName {
        stem: path.with_file_name(stem),
        count,
        ending: ending.to_owned(),
    })
}

impl GgufFile {
    /// The number of files that make the model.
    fn parts(&self) -> usize {
        self.get(COUNT).and_then(GgufValue::as_u64).and_then(|count| count.try_into().ok()).unwrap_or(1)
    }

    /// Fails for a part of a model.
    pub(crate) fn require_whole(&self) -> Result<(), ModelError> {
        match self.parts() {
            count if count > 1 => {
                let feature = format!("one of the {count} files of a split GGUF model, by itself,");
                Err(ModelError::unsupported(
                    &self.path,
                    feature,
                    "open it by its path, beside the other files",
                ))
            }
            _ => Ok(()),
        }
    }

    /// The whole model that this file is a part of; the file itself if it is whole.
    pub(super) fn joined(self) -> Result<GgufFile, ModelError> {
        let count = self.parts();
        if count < 2 {
            return Ok(self);
        }
        let Some(name) = split_part(&self.path).filter(|name| name.count == count) else {
            let expected =
                format!("a name like NAME-00001-of-{count:05}.gguf, by which the other parts are found");
            let found = self.path.file_name().unwrap_or_default().to_string_lossy();
            return Err(ModelError::malformed(
                &self.path,
                "name of a split model's file",
                expected,
                shorten(&found),
            ));
        };
        let mut whole = GgufFile::part(&name, 0, count)?;
        for index in 1..count {
            let part = GgufFile::part(&name, index, count)?;
            whole.file_of.resize(whole.file_of.len() + part.tensors.len(), index);
            whole.files.push(part.path);
            whole.tensors.extend(part.tensors);
        }
        whole.judge_parts()?;
        whole.metadata.retain(|(key, _)| ![COUNT, NUMBER, TENSORS].contains(&&**key));
        let mut bytes = Vec::new();
        for (key, value) in &whole.metadata {
            value::write_string(key, &mut bytes);
            value::write(value, &mut bytes);
        }
        whole.metadata_bytes = bytes.into();
        Ok(whole)
    }

    /// Opens a part.
    fn part(name: &PartName, index: usize, count: usize) -> Result<GgufFile, ModelError> {
        let path = name.part(index);
        if !path.is_file() {
            let problem = format!(
                "it is not there, but the model consists of {count} files, of which this is number {}; \
                 was it downloaded completely?",
                index + 1
            );
            return Err(ModelError::Contradiction { path, problem });
        }
        let part = GgufFile::open_alone(&path)?;
        for (key, expected) in [(COUNT, count), (NUMBER, index)] {
            let found = part.get(key);
            if found.and_then(GgufValue::as_u64) != Some(expected as u64) {
                let found = found.map_or("nothing".into(), GgufValue::to_string);
                return Err(ModelError::malformed(&path, format!("`{key}`"), expected.to_string(), found));
            }
        }
        Ok(part)
    }

    /// Checks that the parts hold as many tensors as the first says, each once.
    fn judge_parts(&self) -> Result<(), ModelError> {
        let mut names: Vec<&str> = self.tensors.iter().map(|tensor| tensor.name.as_str()).collect();
        names.sort_unstable();
        if let Some(twice) = names.windows(2).find(|pair| pair[0] == pair[1]) {
            let field = format!("tensor `{}`", shorten(twice[0]));
            return Err(ModelError::malformed(
                &self.path,
                field,
                "one of that name",
                "two, in different files",
            ));
        }
        match self.get(TENSORS).and_then(GgufValue::as_u64) {
            Some(expected) if expected != names.len() as u64 => {
                let found = format!("{} in all files", names.len());
                Err(ModelError::malformed(&self.path, format!("`{TENSORS}`"), expected.to_string(), found))
            }
            _ => Ok(()),
        }
    }
}

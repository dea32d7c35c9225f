//! Models that are split into several GGUF files.

use larql_models::{Checkpoint, GgufFile};

use crate::tiny::{Written, llama_gguf};

#[path = "../support/split.rs"]
mod support;

fn tiny() -> GgufFile {
    GgufFile::parse(llama_gguf().bytes().into(), "tiny.gguf".as_ref()).unwrap()
}

#[test]
fn any_part_stands_for_the_whole() {
    let (whole, folder) = (tiny(), Written::new());
    let parts = support::split(&whole, folder.path(), "tiny", 5);
    assert_eq!(parts.len(), 4);
    let described = |file: &GgufFile| -> Vec<_> {
        file.tensors().iter().map(|t| (t.name.clone(), t.shape.clone(), t.bytes.to_vec())).collect()
    };
    for given in parts.iter().map(|part| part.as_path()).chain([folder.path()]) {
        let checkpoint = Checkpoint::open(given).unwrap();
        let joined = checkpoint.gguf().unwrap();
        assert_eq!(described(joined), described(&whole));
        assert!(joined.metadata().eq(whole.metadata()));
        assert_eq!(joined.metadata_only(), whole.metadata_only());
        assert_eq!(checkpoint.weight_files(), parts);
        let files: Vec<String> =
            checkpoint.source_tensors().tensors.into_iter().map(|tensor| tensor.file).collect();
        assert_eq!((&*files[0], &*files[11]), ("tiny-00001-of-00004.gguf", "tiny-00004-of-00004.gguf"));
    }
}

#[test]
fn errors_name_the_part_of_a_file() {
    let (whole, folder) = (tiny(), Written::new());
    let parts = support::split(&whole, folder.path(), "tiny", 3);
    let refused = |given: usize| folder.neutral(GgufFile::open(&parts[given]).unwrap_err());
    let renamed = folder.file("renamed.gguf");
    std::fs::rename(&parts[1], &renamed).unwrap();
    let mut messages = vec![refused(0), refused(2), folder.neutral(GgufFile::open(&renamed).unwrap_err())];
    std::fs::copy(&parts[2], &parts[1]).unwrap();
    messages.push(refused(2));
    insta::assert_snapshot!(messages.join("\n"), @"
    DIR/tiny-00002-of-00003.gguf: it is not there, but the model consists of 3 files, of which this is number 2; was it downloaded completely?
    DIR/tiny-00002-of-00003.gguf: it is not there, but the model consists of 3 files, of which this is number 2; was it downloaded completely?
    DIR/renamed.gguf: name of a split model's file: expected a name like NAME-00001-of-00003.gguf, by which the other parts are found, found renamed.gguf
    DIR/tiny-00002-of-00003.gguf: `split.no`: expected 1, found 2
    ");
}

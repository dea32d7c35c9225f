//! A model file of SentencePiece of any bytes is read or refused; what is read tokenizes.
#![no_main]

use larql_models::Tokenizer;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok(tokenizer) = Tokenizer::from_piece_model(data)
        && let Ok(ids) = tokenizer.encode("Hello, world <s> ½", true)
    {
        let _ = tokenizer.decode(&ids, false);
    }
});

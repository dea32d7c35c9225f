//! Growth of the cost of a token with the tokens before it, and with the features that a walk takes: `cargo bench -p
//! larql-eval --bench inference`. The exponent says with which power of the amount the time grew since the line
//! before; for a token it stays near 0 while weights are most of what is read. How fast a model runs as a whole, and
//! beside its peers, is what `larql bench` measures.

use larql_compute::{Pool, Precision};
use larql_eval::speed::time_decoding;
use larql_inference::{FfnBackend, KeyValueCache, Model};
use larql_testing::Table;
use std::sync::Arc;

/// Tokens decoded for each context.
const DECODED: usize = 16;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = larql_testing::real_model(larql_testing::SMOLLM2)
        .unwrap_or_else(|| larql_testing::repository("conformance/llama_512"));
    let model = Model::open(&path, Arc::new(Pool::for_this_machine()))?;
    println!("{}, {} threads\n", path.display(), model.pool().threads());
    let prompt = |length: usize| (0..length as u32).map(|token| token % 256).collect::<Vec<u32>>();

    let mut table = Table::of_growth("context: one token more");
    for context in std::iter::successors(Some(8), |context| (*context < 4096).then_some(context * 2)) {
        let mut cache = KeyValueCache::new(model.spec());
        let taken = time_decoding(&model, &mut cache, &prompt(context), DECODED, Precision::Fast)?;
        table.grown(&context.to_string(), context, taken.as_secs_f64() / DECODED as f64);
    }
    println!();

    let tokens = prompt(8);
    let predict = |feed_forward: &dyn FfnBackend| {
        let mut cache = KeyValueCache::new(model.spec());
        let mut pass = model.pass().with_feed_forward(feed_forward);
        pass.last_logits(&mut cache, &tokens).expect("the tokens are in the vocabulary");
    };
    let features = model.spec().layers[0].feed_forward.features();
    let mut table = Table::of_growth("features a layer: 8 tokens by walking");
    for k in std::iter::successors(Some(16), |k| (*k < features).then(|| (k * 2).min(features))) {
        table.growth(&k.to_string(), k, || predict(&model.walk_ffn(k)));
    }
    table.growth("all, as products", features, || predict(&model.dense_ffn()));
    Ok(())
}

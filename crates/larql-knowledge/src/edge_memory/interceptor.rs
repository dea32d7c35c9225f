//! Edge memory as a source of tokens that override the sampler.

use std::sync::Arc;
use std::sync::mpsc::Sender;

use larql_compute::Pool;
use larql_inference::{Hook, Interceptor};

use super::{EdgeMemory, MemoryAnswer, MemoryProbe};

/// Interceptor that overrides the next tokens with the target of the edge that answers the prompt.
#[derive(Debug)]
pub struct MemoryInterceptor {
    probe: MemoryProbe,
    pool: Arc<Pool>,
    answers: Sender<MemoryAnswer>,
}

impl MemoryInterceptor {
    /// Creates an interceptor that looks prompts up on the threads of `pool`, and sends each answer to `answers`.
    pub fn new(
        memory: &Arc<EdgeMemory>,
        pool: Arc<Pool>,
        answers: Sender<MemoryAnswer>,
    ) -> MemoryInterceptor {
        MemoryInterceptor { probe: memory.probe(), pool, answers }
    }
}

impl Interceptor for MemoryInterceptor {
    fn hook(&mut self) -> &mut dyn Hook {
        &mut self.probe
    }

    fn next_tokens(&mut self) -> Option<Vec<u32>> {
        let answer = self.probe.answer(&self.pool)?;
        let tokens = answer.tokens.clone();
        // Without a receiver, the answers are not asked for.
        let _ = self.answers.send(answer);
        Some(tokens)
    }
}

//! Number of prompt tokens that a pass reads, from the time that passes take.

use std::time::Duration;

/// Tokens of prompts in a pass before any was timed.
const FIRST: usize = 64;

/// Tokens of prompts in a pass at most.
const MOST: usize = 512;

/// Time that a pass over prompts takes where no text is under way: so long may a request wait that comes in between.
const IDLE: Duration = Duration::from_millis(200);

/// Time that a pass spends on prompts as a multiple of what it takes for the texts under way, where there are as many texts as
/// prompts or more: their tokens come this much later.
const SHARE: f64 = 1.5;

/// Weight of the newest measurement in an average.
const NEWEST: f64 = 0.3;

/// Averages of the times of passes over the same weights.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Pace {
    /// Seconds that the texts under way take, without prompts.
    texts: Option<f64>,
    /// Seconds that a token of a prompt adds.
    prompt_token: Option<f64>,
}

impl Pace {
    /// Notes the time of a pass over `prompt_tokens` tokens of prompts and one token each of `texts`.
    pub(super) fn note(&mut self, texts: usize, prompt_tokens: usize, time: Duration) {
        let seconds = time.as_secs_f64();
        match (texts, prompt_tokens, self.texts) {
            (_, 0, _) => average(&mut self.texts, seconds),
            (0, ..) => average(&mut self.prompt_token, seconds / prompt_tokens as f64),
            // How the time divides is not known before a pass of the one or the other kind.
            (_, _, None) => {}
            (_, _, Some(alone)) => {
                average(&mut self.prompt_token, (seconds - alone).max(0.0) / prompt_tokens as f64);
            }
        }
    }

    /// Tokens of prompts that the next pass reads beside `texts`, while `prompts` are being read.
    pub(super) fn prompt_tokens(&self, texts: usize, prompts: usize) -> usize {
        let Some(prompt_token) = self.prompt_token else { return FIRST };
        let seconds = match (texts, self.texts) {
            (0, _) | (_, None) => IDLE.as_secs_f64(),
            // Where more prompts wait than texts run, it is better to let the texts wait.
            (_, Some(alone)) => alone * SHARE * (prompts as f64 / texts as f64).max(1.0),
        };
        ((seconds / prompt_token.max(1e-9)) as usize).min(MOST)
    }
}

fn average(average: &mut Option<f64>, newest: f64) {
    *average = Some(average.map_or(newest, |average| (1.0 - NEWEST) * average + NEWEST * newest));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_slowed_down_by_no_more_than_their_share() {
        let mut pace = Pace::default();
        assert_eq!(pace.prompt_tokens(8, 1), FIRST);
        pace.note(8, 0, Duration::from_millis(20));
        pace.note(8, 64, Duration::from_millis(148));
        // 2 ms a token: 30 ms beside eight texts, 120 ms if there are 32 prompts, 200 ms without texts.
        let tokens = [(8, 1), (8, 32), (0, 1)].map(|(texts, prompts)| pace.prompt_tokens(texts, prompts));
        assert_eq!(tokens, [15, 60, 100]);
    }

    #[test]
    fn prompts_that_grow_slower_are_read_in_smaller_parts() {
        let mut pace = Pace::default();
        pace.note(0, 100, Duration::from_millis(10));
        assert_eq!(pace.prompt_tokens(0, 1), MOST);
        (0..20).for_each(|_| pace.note(0, 100, Duration::from_millis(1000)));
        assert_eq!(pace.prompt_tokens(0, 1), 20);
    }
}

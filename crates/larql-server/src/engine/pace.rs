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
const SHARE: f64 = 1.2;

/// Weight of the newest measurement in an average.
const NEWEST: f64 = 0.3;

/// Averages of the times of passes over the same weights.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Pace {
    /// A number of texts, and the seconds that they take without prompts.
    texts: Option<(usize, f64)>,
    /// Seconds that a token of a prompt adds.
    prompt_token: Option<f64>,
}

impl Pace {
    /// Notes the time of a pass over `prompt_tokens` tokens of prompts and one token each of `texts`.
    pub(super) fn note(&mut self, texts: usize, prompt_tokens: usize, time: Duration) {
        let seconds = time.as_secs_f64();
        if prompt_tokens == 0 {
            let before = self.texts.filter(|(number, _)| *number == texts).map(|(_, seconds)| seconds);
            self.texts = Some((texts, average(before, seconds)));
            return;
        }
        // How the time divides is not known before a pass of the one or the other kind.
        let alone = if texts == 0 { Some(0.0) } else { self.texts_alone(texts) };
        if let Some(alone) = alone {
            let newest = (seconds - alone).max(0.0) / prompt_tokens as f64;
            self.prompt_token = Some(average(self.prompt_token, newest));
        }
    }

    /// Tokens of prompts that the next pass reads beside `texts`, while `prompts` are being read.
    pub(super) fn prompt_tokens(&self, texts: usize, prompts: usize) -> usize {
        let Some(prompt_token) = self.prompt_token else { return FIRST };
        let seconds = match self.texts_alone(texts).filter(|_| texts > 0) {
            None => IDLE.as_secs_f64(),
            // Where more prompts wait than texts run, it is better to let the texts wait.
            Some(alone) => alone * SHARE * (prompts as f64 / texts as f64).max(1.0),
        };
        ((seconds / prompt_token.max(1e-9)) as usize).min(MOST)
    }

    /// Seconds that so many texts take without prompts. Where another number of texts was measured, each text more or less
    /// counts as a token of a prompt, but as no more than its share of the measured time.
    fn texts_alone(&self, texts: usize) -> Option<f64> {
        let (measured, seconds) = self.texts?;
        let (texts, measured) = (texts as f64, measured as f64);
        let a_text = self.prompt_token.unwrap_or(0.0).min(seconds / measured);
        Some(seconds + (texts - measured) * a_text)
    }
}

fn average(average: Option<f64>, newest: f64) -> f64 {
    average.map_or(newest, |average| (1.0 - NEWEST) * average + NEWEST * newest)
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
        // 2 ms a token: 24 ms beside eight texts, 96 ms if there are 32 prompts, 200 ms without texts.
        let tokens = [(8, 1), (8, 32), (0, 1)].map(|(texts, prompts)| pace.prompt_tokens(texts, prompts));
        assert_eq!(tokens, [12, 48, 100]);
    }

    #[test]
    fn the_time_of_more_texts_is_estimated_from_fewer() {
        let mut pace = Pace::default();
        pace.note(0, 100, Duration::from_millis(100));
        pace.note(1, 0, Duration::from_millis(5));
        // 1 ms a token, so that 16 texts take 20 ms.
        assert_eq!(pace.prompt_tokens(16, 1), 24);
        pace.note(16, 50, Duration::from_millis(70));
        assert_eq!(pace.prompt_tokens(16, 1), 24);
        // Fewer than were measured take less.
        pace.note(16, 0, Duration::from_millis(24));
        assert_eq!(pace.prompt_tokens(8, 1), 19);
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

//! Settings of generating text that `/set` shows and changes.

use std::fmt::Write;
use std::str::FromStr;

use larql_knowledge::GenerationOptions;

/// Names of the settings.
const NAMES: [&str; 11] = [
    "temperature",
    "top_k",
    "top_p",
    "min_p",
    "repeat_penalty",
    "presence_penalty",
    "frequency_penalty",
    "seed",
    "max_tokens",
    "context",
    "stop",
];

/// A line for each setting.
pub(super) fn list(options: &GenerationOptions) -> String {
    let sampling = &options.decode.sampling;
    let context = options.context.map_or_else(|| "the model's".to_owned(), |context| context.to_string());
    let stop: Vec<String> = options.stop_texts.iter().map(|text| format!("{text:?}")).collect();
    let values: [String; NAMES.len()] = [
        sampling.temperature.to_string(),
        sampling.top_k.to_string(),
        sampling.top_p.to_string(),
        sampling.min_p.to_string(),
        sampling.repetition_penalty.to_string(),
        sampling.presence_penalty.to_string(),
        sampling.frequency_penalty.to_string(),
        sampling.seed.to_string(),
        options.decode.max_tokens.to_string(),
        context,
        stop.join(" "),
    ];
    NAMES.iter().zip(values).fold(String::new(), |mut text, (name, value)| {
        // Writing to a string succeeds.
        let _ = writeln!(text, "  {name:<17}  {value}");
        text
    })
}

/// Changes a setting; nothing is changed if the value is outside its range.
pub(super) fn set(options: &mut GenerationOptions, name: &str, value: &str) -> Result<(), String> {
    let mut changed = options.clone();
    let sampling = &mut changed.decode.sampling;
    match name {
        "temperature" => sampling.temperature = number(name, value)?,
        "top_k" => sampling.top_k = number(name, value)?,
        "top_p" => sampling.top_p = number(name, value)?,
        "min_p" => sampling.min_p = number(name, value)?,
        "repeat_penalty" => sampling.repetition_penalty = number(name, value)?,
        "presence_penalty" => sampling.presence_penalty = number(name, value)?,
        "frequency_penalty" => sampling.frequency_penalty = number(name, value)?,
        "seed" => sampling.seed = number(name, value)?,
        "max_tokens" => changed.decode.max_tokens = number(name, value)?,
        "context" => changed.context = Some(number::<usize>(name, value)?.max(1)),
        "stop" if value.is_empty() => changed.stop_texts.clear(),
        "stop" => changed.stop_texts.push(value.to_owned()),
        _ => return Err(format!("there is no setting {name}; the settings are {}", NAMES.join(", "))),
    }
    changed.decode.sampling.check().map_err(|error| error.to_string())?;
    *options = changed;
    Ok(())
}

fn number<T: FromStr>(name: &str, value: &str) -> Result<T, String> {
    value.parse().map_err(|_| format!("{name} takes a number, found `{value}`"))
}

#[cfg(test)]
mod tests {
    use larql_inference::DecodeOptions;

    use super::*;

    #[test]
    fn settings_are_checked_before_they_change() {
        let mut options = GenerationOptions::new(DecodeOptions::greedy(8), larql_compute::Precision::Fast);
        set(&mut options, "temperature", "0.5").unwrap();
        set(&mut options, "stop", "\n\n").unwrap();
        set(&mut options, "max_tokens", "9").unwrap();
        let told = |options: &mut GenerationOptions, name, value| set(options, name, value).unwrap_err();
        assert_eq!(told(&mut options, "temperature", "-1"), "temperature is -1, expected from 0 to 1000");
        assert_eq!(told(&mut options, "seed", "x"), "seed takes a number, found `x`");
        assert!(
            told(&mut options, "heat", "1").starts_with("there is no setting heat; the settings are temp")
        );
        assert_eq!(options.decode.sampling.temperature, 0.5);
        let list = list(&options);
        assert!(
            list.contains("max_tokens         9\n") && list.contains(r#"stop               "\n\n""#),
            "{list}"
        );
    }
}

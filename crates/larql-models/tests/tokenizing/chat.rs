//! Chat templates against `transformers`; `make_expected.py` beside the templates has written what it renders.

use std::path::Path;
use std::time::{Duration, SystemTime};

use larql_models::{ChatError, ChatOptions, ChatTemplate};
use serde_json::{Map, Value};

/// 2024-02-09 08:05:03 UTC, the clock of `make_expected.py`.
const NOW: Duration = Duration::from_secs(1_707_465_903);

fn options(mut variables: Map<String, Value>) -> ChatOptions {
    let mut text = |name: &str| variables.remove(name)?.as_str().map(str::to_owned);
    ChatOptions {
        bos_token: text("bos_token"),
        eos_token: text("eos_token"),
        add_generation_prompt: variables.remove("add_generation_prompt") == Some(Value::Bool(true)),
        tools: variables.remove("tools"),
        variables,
        now: SystemTime::UNIX_EPOCH + NOW,
        utc_offset: 0,
    }
}

#[test]
fn templates_give_what_transformers_makes_of_them() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/tokenizer/chat");
    let cases = std::fs::read(folder.join("expected.json")).unwrap();
    let cases: Vec<Map<String, Value>> = serde_json::from_slice(&cases).unwrap();
    assert!(!cases.is_empty());
    for case in cases {
        let name = case["template"].as_str().unwrap();
        let template = ChatTemplate::new(std::fs::read_to_string(folder.join(name)).unwrap()).unwrap();
        let messages = case["messages"].as_array().unwrap();
        let got = template.render(messages, &options(case["variables"].as_object().unwrap().clone()));
        let about = format!("{name} of {messages:?} with {:?}", case["variables"]);
        match (case.get("text"), case.get("refused")) {
            (Some(text), _) => assert_eq!(got.unwrap(), text.as_str().unwrap(), "{about}"),
            (_, Some(reason)) => {
                assert!(matches!(got, Err(ChatError::Refused(got)) if got == *reason), "{about}")
            }
            _ => assert!(matches!(got, Err(ChatError::Render(_))), "{about}: {got:?}"),
        }
    }
}

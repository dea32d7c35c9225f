//! An engine as the one who measures sees it: a process that is asked, or a pair of streams to one.

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use miette::Diagnostic;
use serde::de::DeserializeOwned;
use thiserror::Error;

use super::protocol::{Greeting, Holding, Refusal, Request, Resident, Timed};

/// Failure to measure an engine.
#[derive(Debug, Error, Diagnostic)]
pub(super) enum EngineError {
    /// The program that runs it is not installed.
    #[error("{engine} is not installed: there is no {}", missing.display())]
    #[diagnostic(help("{next}"))]
    Missing { engine: &'static str, missing: PathBuf, next: &'static str },
    /// The system does not start it.
    #[error("{program} does not start: {source}")]
    #[diagnostic(help("see that it may be executed"))]
    Start { program: String, source: std::io::Error },
    /// It is gone.
    #[error("{engine} ended before it answered")]
    #[diagnostic(help("what it wrote to standard error says why"))]
    Ended { engine: String },
    /// It does not keep to the protocol.
    #[error("{engine} answers {answer:?}, which is not {expected}")]
    #[diagnostic(help(
        "an engine answers each request with one JSON object on one line, and prints nothing else"
    ))]
    Garbage { engine: String, answer: String, expected: &'static str },
    /// It says that it cannot do it.
    #[error("{engine} cannot do it: {error}")]
    #[diagnostic(help(
        "see that it reads this model, and that prompts and contexts fit into its context length"
    ))]
    Refused { engine: String, error: String },
}

/// An engine that runs and can be asked.
pub(super) struct Engine {
    name: String,
    empty: Option<Resident>,
    requests: Box<dyn Write>,
    answers: Box<dyn BufRead>,
    /// None where the streams lead elsewhere.
    process: Option<Child>,
}

impl Engine {
    /// Starts the program of an engine and waits until it says what it is.
    pub(super) fn start(command: &mut Command) -> Result<Engine, EngineError> {
        let program = command.get_program().display().to_string();
        let spawned = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut process =
            spawned.map_err(|source| EngineError::Start { program: program.clone(), source })?;
        let (Some(requests), Some(answers)) = (process.stdin.take(), process.stdout.take()) else {
            return Err(EngineError::Ended { engine: program });
        };
        let mut engine = Engine::over(program, requests, BufReader::new(answers));
        engine.process = Some(process);
        engine.greet()?;
        Ok(engine)
    }

    fn over(
        name: impl Into<String>,
        requests: impl Write + 'static,
        answers: impl BufRead + 'static,
    ) -> Engine {
        let (requests, answers) = (Box::new(requests), Box::new(answers));
        Engine { name: name.into(), empty: None, requests, answers, process: None }
    }

    fn greet(&mut self) -> Result<(), EngineError> {
        let greeting: Greeting = self.hear("a greeting with the name of an engine")?;
        self.name = greeting.engine;
        self.empty = greeting.resident;
        Ok(())
    }

    /// Its name, as it states it.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Seconds that a request takes.
    pub(super) fn time(&mut self, request: &Request) -> Result<f64, EngineError> {
        self.say(request)?;
        let Timed { seconds } = self.hear("a number of seconds")?;
        Ok(seconds)
    }

    /// Memory beyond what it had before anything was loaded, where its system tells.
    pub(super) fn resident(&mut self) -> Result<Option<Resident>, EngineError> {
        self.say(&Request::Resident)?;
        let Holding { resident } = self.hear("an amount of memory")?;
        Ok(resident.zip(self.empty).map(|(now, empty)| Resident {
            peak: now.peak.saturating_sub(empty.anonymous + empty.file),
            anonymous: now.anonymous.saturating_sub(empty.anonymous),
            file: now.file.saturating_sub(empty.file),
        }))
    }

    fn say(&mut self, request: &Request) -> Result<(), EngineError> {
        let line = serde_json::json!(request);
        let said = writeln!(self.requests, "{line}").and_then(|()| self.requests.flush());
        said.map_err(|_| EngineError::Ended { engine: self.name.clone() })
    }

    fn hear<T: DeserializeOwned>(&mut self, expected: &'static str) -> Result<T, EngineError> {
        let (mut line, engine) = (String::new(), self.name.clone());
        match self.answers.read_line(&mut line) {
            Ok(0) => return Err(EngineError::Ended { engine }),
            Ok(_) => {}
            Err(error) => return Err(EngineError::Garbage { engine, answer: error.to_string(), expected }),
        }
        if let Ok(Refusal { error }) = serde_json::from_str(&line) {
            return Err(EngineError::Refused { engine, error });
        }
        serde_json::from_str(&line).map_err(|_| EngineError::Garbage {
            engine,
            answer: line.trim_end().chars().take(200).collect(),
            expected,
        })
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if let Some(process) = &mut self.process {
            // It may have ended by itself, and nobody is left who could be told.
            let _ = process.kill().and_then(|()| process.wait());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::pipe;
    use std::sync::Arc;

    use larql_compute::attention::KeyValueFormat;
    use larql_compute::{Pool, Precision};

    use super::super::engine::LarqlEngine;
    use super::*;

    /// An engine that has said all its answers in advance.
    fn saying(answers: &'static str) -> Engine {
        Engine::over("peer", std::io::sink(), answers.as_bytes())
    }

    #[test]
    fn an_engine_is_asked_over_its_streams() {
        let (theirs, requests) = pipe().unwrap();
        let (answers, mine) = pipe().unwrap();
        let model = larql_testing::repository("conformance/llama");
        let serving = std::thread::spawn(move || {
            LarqlEngine::new(model, Arc::new(Pool::new(1)), Precision::Exact, KeyValueFormat::Float)
                .serve(BufReader::new(theirs), mine)
        });
        let mut engine = Engine::over("not greeted", requests, BufReader::new(answers));
        engine.greet().unwrap();
        assert!(engine.name().starts_with("LARQL "), "{}", engine.name());
        let tokens = vec![1, 2, 3];
        let unloaded = engine.time(&Request::Prefill { tokens: tokens.clone() }).unwrap_err();
        assert_eq!(unloaded.to_string(), format!("{} cannot do it: no model is loaded yet", engine.name()));
        let load = Request::Load { tokens: tokens.clone(), context: 16 };
        assert!(engine.time(&load).unwrap() > 0.0);
        assert!(engine.time(&Request::Prefill { tokens: tokens.clone() }).unwrap() > 0.0);
        let together = Request::DecodeTogether { prompts: vec![tokens.clone(), vec![4]], count: 2 };
        assert!(engine.time(&together).unwrap() > 0.0);
        assert!(engine.time(&Request::Decode { tokens, count: 2 }).unwrap() > 0.0);
        let outside = engine.time(&Request::Prefill { tokens: vec![u32::MAX] });
        assert!(matches!(outside, Err(EngineError::Refused { .. })));
        assert_eq!(engine.resident().unwrap().is_some(), cfg!(target_os = "linux"));
        drop(engine);
        serving.join().unwrap().unwrap();
    }

    #[test]
    fn memory_is_counted_from_where_nothing_was_loaded() {
        let mut engine = saying(
            "{\"engine\":\"peer\",\"resident\":{\"peak\":90,\"anonymous\":50,\"file\":30}}\n\
             {\"resident\":{\"peak\":200,\"anonymous\":110,\"file\":70}}\n",
        );
        engine.greet().unwrap();
        let held = engine.resident().unwrap();
        assert_eq!(held, Some(Resident { peak: 120, anonymous: 60, file: 40 }));
    }

    #[test]
    fn an_engine_that_ends_talks_nonsense_or_refuses_is_an_error() {
        let error = |answers| saying(answers).time(&Request::Resident).unwrap_err();
        assert!(matches!(error(""), EngineError::Ended { .. }));
        insta::assert_snapshot!(error("loading …\n"), @r#"peer answers "loading …", which is not a number of seconds"#);
        insta::assert_snapshot!(error("{\"resident\":null}\n"), @r#"peer answers "{\"resident\":null}", which is not a number of seconds"#);
        insta::assert_snapshot!(error("{\"error\":\"too long\"}\n"), @"peer cannot do it: too long");
    }

    #[test]
    fn what_is_no_program_does_not_start() {
        let error = Engine::start(&mut Command::new("/no/such/program")).err().unwrap();
        assert!(error.to_string().starts_with("/no/such/program does not start: "), "{error}");
        assert!(error.help().is_some());
    }
}

//! The prompt without a terminal, against an engine that answers from a script.

use std::io::{self, Write};
use std::sync::Arc;

use insta::assert_snapshot;
use larql_lql::ast::{Pipe, Span, Statement, Subject};
use larql_lql::output::{Entities, EntityRow, Message, Output};
use larql_lql::render::{Format, RenderOptions};
use larql_lql::{Engine, Failure, UnsavedPatch};
use larql_repl::{Interrupt, Outcome, Repl, Streams, run_lines};

/// Repeats statements, knows two entities, refuses to describe, and stops itself where INFER asks it to.
#[derive(Default)]
struct Parrot {
    walk_k: Option<usize>,
    interrupt: Option<Interrupt>,
    unsaved: Vec<UnsavedPatch>,
}

#[derive(Debug, thiserror::Error, miette::Diagnostic)]
enum Refusal {
    #[error("nothing is open")]
    #[diagnostic(help("open something with USE"))]
    NothingOpen {
        #[label("needs a vindex")]
        place: std::ops::Range<usize>,
    },
    #[error("stopped")]
    Stopped,
}

impl Engine for Parrot {
    fn execute(&mut self, pipe: &Pipe, emit: &mut dyn FnMut(Output)) -> Result<(), Failure> {
        for stage in &pipe.stages {
            match &stage.value {
                Statement::Describe(describe) => {
                    let Subject::Text(entity) = &describe.entity else { continue };
                    let Span { start, end } = entity.span;
                    return Err(Box::new(Refusal::NothingOpen { place: start..end }));
                }
                Statement::ShowEntities(_) => {
                    let row =
                        |entity: &str| EntityRow { entity: entity.into(), count: 1, layer: 0, layer_max: 3 };
                    emit(Output::Entities(Entities { rows: vec![row("France"), row("Japan")], left_out: 0 }));
                }
                Statement::Infer(_) => {
                    emit(message(format!("walks {:?}", self.walk_k)));
                    let interrupt = self.interrupt.as_ref().expect("the test sets it");
                    assert!(interrupt.request(), "a statement runs");
                    if interrupt.token().is_cancelled() {
                        return Err(Box::new(Refusal::Stopped));
                    }
                    emit(message("not stopped".into()));
                }
                statement => emit(message(statement.to_string())),
            }
        }
        Ok(())
    }

    fn set_walk_k(&mut self, k: Option<usize>) {
        self.walk_k = k;
    }

    fn open(&mut self, model: &str) -> Result<Output, Failure> {
        match model {
            "nothing" => Err(Box::new(Refusal::Stopped)),
            model => Ok(message(format!("opened {model}"))),
        }
    }

    fn unsaved(&self) -> Vec<UnsavedPatch> {
        self.unsaved.clone()
    }
}

fn message(text: String) -> Output {
    Output::Message(Message { text, next: None })
}

/// Both streams in the order they are written in, errors marked.
#[derive(Default)]
struct Transcript(Arc<std::sync::Mutex<String>>);

struct Pen(Arc<std::sync::Mutex<String>>, &'static str);

impl Write for Pen {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let text = std::str::from_utf8(bytes).map_err(io::Error::other)?;
        let mut transcript = self.0.lock().expect("no panic while writing");
        for line in text.split_inclusive('\n') {
            if transcript.is_empty() || transcript.ends_with('\n') {
                transcript.push_str(self.1);
            }
            transcript.push_str(line);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn prompt() -> Repl<Parrot> {
    Repl::new(Parrot::default(), Format::Table, RenderOptions::default(), Interrupt::default())
}

/// Output of a prompt for `lines`, and true if nothing failed.
fn session(lines: &str) -> (String, bool) {
    let transcript = Transcript::default();
    let (mut out, mut err) = (Pen(transcript.0.clone(), ""), Pen(transcript.0.clone(), "! "));
    let mut repl = prompt();
    let mut streams = Streams { out: &mut out, err: &mut err };
    let done = run_lines(&mut repl, lines.as_bytes(), &mut streams).expect("writing to memory succeeds");
    let text = transcript.0.lock().expect("no panic while writing").clone();
    (text, done)
}

#[test]
fn statements_of_lines_end_with_semicolons() {
    let (transcript, done) = session(
        "-- a comment\n\
         STATS;\n\
         \n\
         select *\n  from edges\n\n  limit 5; STATS;\n\
         STATS\n|> STATS;\n\
         STATS; -- the last\n\
         USE 'a.vindex",
    );
    assert!(!done);
    assert_snapshot!(transcript, @"
    STATS
    SELECT * FROM EDGES LIMIT 5
    STATS
    STATS
    STATS
    STATS
    !   × this string has no closing '
    !    ╭─[lql:1:5]
    !  1 │ USE 'a.vindex
    !    ·     ┬
    !    ·     ╰── opened here
    !    ╰────
    !   help: close it with '; a quote inside is doubled or follows a backslash
    ");
}

#[test]
fn a_failure_points_into_the_text_and_what_follows_it_on_other_lines_runs() {
    let (transcript, done) =
        session("STATS; DESCRIBE \"France\"; SHOW MODELS;\nSHOW PATCHES;\nDESCRIB 'x';\n");
    assert!(!done);
    assert_snapshot!(transcript, @r#"
    STATS
    !   × nothing is open
    !    ╭─[lql:1:17]
    !  1 │ STATS; DESCRIBE "France"; SHOW MODELS;
    !    ·                 ────┬───
    !    ·                     ╰── needs a vindex
    !    ╰────
    !   help: open something with USE
    SHOW PATCHES
    !   × expected a statement, found `DESCRIB`
    !    ╭─[lql:1:1]
    !  1 │ DESCRIB 'x';
    !    · ───┬───
    !    ·    ╰── not expected here
    !    ╰────
    !   help: did you mean DESCRIBE?
    "#);
}

#[test]
fn commands_change_the_prompt() {
    let (transcript, done) = session(
        ".mode json\nSHOW ENTITIES;\n.mode csv\nSHOW ENTITIES;\n.mode table\nSHOW ENTITIES;\n.mode\nquit\nSTATS;\n",
    );
    assert!(done);
    assert_snapshot!(transcript, @r#"
    {"kind":"entities","rows":[{"entity":"France","count":1,"layer":0,"layer_max":3},{"entity":"Japan","count":1,"layer":0,"layer_max":3}]}
    entity,count,layer,layer_max
    France,1,0,3
    Japan,1,0,3
     entity  count  layer  layer_max
    ─────────────────────────────────
     France      1      0          3
     Japan       1      0          3
    table
    "#);
}

#[test]
fn wrong_commands_are_errors() {
    let (transcript, done) = session(".modes json\n.timer\n.help descibe\n");
    assert!(!done);
    assert_snapshot!(transcript, @"
    ! there is no command .modes, did you mean .mode?; .help lists them
    ! expected .timer on|off, found nothing after it
    ! there is no statement descibe, did you mean DESCRIBE?; .help lists them
    ");
}

#[test]
fn the_timer_talks_on_the_other_stream() {
    let (transcript, done) = session(".timer on\nSTATS;\n.timer off\nSTATS;\n");
    assert!(done);
    let lines: Vec<&str> = transcript.lines().collect();
    assert_eq!((lines[0], lines[2], lines.len()), ("STATS", "STATS", 3));
    assert!(lines[1].starts_with("! ") && lines[1].ends_with("s"), "{transcript}");
}

#[test]
fn an_interrupt_stops_the_statement_and_not_the_prompt() {
    let interrupt = Interrupt::default();
    let engine = Parrot { interrupt: Some(interrupt.clone()), ..Parrot::default() };
    let mut repl = Repl::new(engine, Format::Table, RenderOptions::default(), interrupt);
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let mut streams = Streams { out: &mut out, err: &mut err };
    let outcomes = [".walk-k 40", "INFER 'x'; STATS", "STATS"]
        .map(|text| repl.submit(text, &mut streams).expect("writing to memory succeeds"));
    assert_eq!(outcomes, [Outcome::Done, Outcome::Failed, Outcome::Done]);
    assert_eq!(String::from_utf8_lossy(&out), "walks Some(40)\nSTATS\n");
    assert!(String::from_utf8_lossy(&err).contains("stopped"));
}

#[test]
fn a_script_with_a_mistake_does_not_begin() {
    let mut repl = prompt();
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let mut streams = Streams { out: &mut out, err: &mut err };
    let script = "STATS;\nSTATS\nSHOW MODELS;\n";
    let outcome = repl.run_script("facts.lql", script, &mut streams).expect("writing to memory succeeds");
    assert_eq!((outcome, out.len()), (Outcome::Failed, 0));
    assert_snapshot!(String::from_utf8_lossy(&err), @"
     × expected a string in quotes, |> or the end of the statement, found `SHOW`
      ╭─[facts.lql:3:1]
    2 │ STATS
    3 │ SHOW MODELS;
      · ──┬─
      ·   ╰── not expected here
      ╰────
     help: end the statement before it with ;
    ");
}

#[test]
fn help_lists_everything() {
    assert_snapshot!(session("help").0, @"
    Statements (.help NAME for the grammar and an example):
      USE                  open a vindex, a checkpoint or a server; later statements
                           are about it
      EXTRACT              write a vindex from a checkpoint
      DESCRIBE             show what the model associates with an entity, surest
                           first
      WALK                 show the features that a prompt's last token fires
      EXPLAIN WALK         show how WALK comes to its features
      SELECT               show the edges, features or entities that pass conditions
      INFER                run the model and show the likeliest next tokens
      EXPLAIN INFER        run the model and show which features brought the answer
                           about
      TRACE                show layer by layer how an answer arises in the residual
                           stream, compare two prompts, or save residuals
      INSERT               teach the model an edge, in the open patch
      DELETE               take inserted edges away, or have the model forget what
                           it knows
      UPDATE               have the model give another answer, in the open patch
      MERGE                take over the edges of another vindex
      REBALANCE            rescale features: the probability of each target in a
                           range
      COMPACT              fold edits into the weights, one by one or all together
      DIFF                 show what two vindexes say differently, or write it as a
                           patch
      COMPILE              write a vindex or a model of its own, edits included
      SHOW RELATIONS       list the relations that features are labelled with
      SHOW LAYERS          list the layers: features, band, mean gate norm, labelled
                           share
      SHOW FEATURES        list the features of a layer
      SHOW ENTITIES        list the names that features know
      SHOW MODELS          list the vindexes and models in the cache
      SHOW COMPACT STATUS  tell how many edits wait for COMPACT
      STATS                tell model, sizes, level, labels and patches
      BEGIN PATCH          start a patch that takes the edits from now on
      SAVE PATCH           write the open patch to its file, or to another
      APPLY PATCH          lay a saved patch over the vindex
      REMOVE PATCH         take a patch off again, whatever was applied after it
      UNDO                 take back the last edit of the open patch
      SHOW PATCHES         list the patches that lie over the vindex

    Commands:
      .help [statement]  this list, or the grammar of a statement with an example
      .mode [FORMAT]     show or set the format: table, box, markdown, line, json or
                         csv
      .output [FILE]     write results to a file, or to the terminal again
      .open MODEL        open a vindex or a model
      .read FILE         run the commands and statements in a file
      .import FILE       insert the facts in a .tsv or .json file as edges
      .tables            list the tables
      .schema [TABLE]    list the columns of the tables
      .timer on|off      print the time that each statement takes
      .walk-k N|all      how many features of each layer INFER walks
      .exit              leave; so does Ctrl-D
      .quit              the same as .exit

    A statement ends with ; or, on one line that edits nothing, with Enter.
    |> hands rows to SELECT, or to a statement without its entity or prompt,
    which is then carried out for each row.
    ");
}

#[test]
fn help_on_a_statement() {
    assert_snapshot!(session(".help walk").0, @r#"
    WALK: show the features that a prompt's last token fires

    WALK str [TOP int] [LAYERS (range | ALL)] [MODE (HYBRID | PURE | DENSE)] [COMPARE]

    For example
      WALK "The capital of France is" TOP 5 LAYERS 12-23;
    "#);
    assert_snapshot!(session(".help begin").0, @r#"
    BEGIN PATCH: start a patch that takes the edits from now on

    BEGIN PATCH str

    For example
      BEGIN PATCH "facts.vlp";
    "#);
}

#[test]
fn a_file_is_read_and_results_go_to_another() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name).display().to_string();
    std::fs::write(path("in.lql"), ".mode csv\nSHOW\n  ENTITIES;\n").expect("a file");
    let lines = format!(".output {}\n.read {}\n.output\n.mode\n", path("out.csv"), path("in.lql"));
    assert_eq!(session(&lines), ("csv\n".to_owned(), true));
    let written = std::fs::read_to_string(path("out.csv")).expect("a file");
    assert_eq!(written, "entity,count,layer,layer_max\nFrance,1,0,3\nJapan,1,0,3\n");
    let (transcript, done) = session(&format!(".read {}\n", path("none.lql")));
    assert!(!done && transcript.contains("none.lql"), "{transcript}");
}

#[test]
fn a_model_is_opened_and_facts_are_imported() {
    let folder = tempfile::tempdir().expect("a folder");
    let facts = folder.path().join("facts.tsv");
    std::fs::write(&facts, "Atlantis\tcapital\tPoseidon\nLemuria\tcapital\tMu\n").expect("a file");
    let (transcript, done) =
        session(&format!(".open 'my model'\n.open nothing\n.import {}\n.tables\n", facts.display()));
    assert!(!done);
    assert_snapshot!(transcript, @r#"
    opened my model
    !   × stopped
    INSERT INTO EDGES (entity, relation, target) VALUES ("Atlantis", "capital", "Poseidon"), ("Lemuria", "capital", "Mu")
    EDGES     what the model associates: entity, relation, target
    FEATURES  the features of each layer, with what they write
    EVIDENCE  the answers of a probe, on which labels of features rest
    ENTITIES  the names that features know
    "#);
}

#[test]
fn a_person_is_asked_before_edits_are_given_up_and_a_script_is_told() {
    let unsaved = vec![UnsavedPatch { name: "automatic".into(), edits: 1, automatic: true }];
    let engine = Parrot { unsaved, ..Parrot::default() };
    let mut repl = Repl::new(engine, Format::Table, RenderOptions::default(), Interrupt::default());
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let mut streams = Streams { out: &mut out, err: &mut err };
    assert_eq!(repl.submit("USE 'a.vindex';", &mut streams).expect("memory"), Outcome::Done);
    assert_eq!(repl.save("kept.vlp", &mut streams).expect("memory"), Outcome::Done);
    assert!(repl.warn_of_loss(&mut streams).expect("memory"));
    repl.submit("COMPILE CURRENT INTO VINDEX 'kept.vindex';", &mut streams).expect("memory");
    assert!(!repl.warn_of_loss(&mut streams).expect("memory"), "what was compiled is kept");
    assert!(String::from_utf8_lossy(&out).starts_with("USE \"a.vindex\"\n"));
    assert_snapshot!(String::from_utf8_lossy(&err), @r#"
    note: 1 edit in patch automatic not saved; SAVE PATCH "edits.vlp"; keeps it, as does --save FILE
    SAVE PATCH "kept.vlp"
    note: 1 edit in patch automatic not saved; SAVE PATCH "edits.vlp"; keeps it, as does --save FILE
    "#);
}

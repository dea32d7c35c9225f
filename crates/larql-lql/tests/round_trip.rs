//! A printed statement parses to the same statement; no text makes the parser panic.

use larql_lql::ast::*;
use larql_lql::{Keyword, parse, parse_statement};
use larql_vindex_spec::ExtractLevel;
use proptest::option::of;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::strategy::Union;

type Text = Spanned<String>;

fn text() -> impl Strategy<Value = Text> {
    let awkward =
        select(vec!["", "\"", "'", "\\", "--", ";", "|>", "a\nb\tc", "日本", "\u{1b}[31m", "😀\u{feff}"]);
    prop_oneof!["[a-zA-Z /.:@-]{0,20}", any::<String>(), awkward.prop_map(String::from)]
        .prop_map(Spanned::from)
}

fn layer() -> impl Strategy<Value = Spanned<usize>> {
    (0..=9_999_usize).prop_map(Spanned::from)
}

fn count() -> impl Strategy<Value = Spanned<usize>> {
    (1..=1_000_000_000_usize).prop_map(Spanned::from)
}

fn layers() -> impl Strategy<Value = Spanned<LayerRange>> {
    (0..500_usize, 0..500_usize).prop_map(|(first, more)| LayerRange { first, last: first + more }.into())
}

fn probability() -> impl Strategy<Value = Spanned<f64>> {
    (0.0..=1.0).prop_map(Spanned::from)
}

fn field() -> impl Strategy<Value = Spanned<Field>> {
    use Field::*;
    select(vec![
        Entity, Relation, Target, Layer, LayerMax, Feature, Confidence, Gate, Distance, Also, Source, Via,
        Count, Label, Tokens,
    ])
    .prop_map(Spanned::from)
}

fn value() -> impl Strategy<Value = Spanned<Value>> {
    prop_oneof![
        text().prop_map(|text| Value::Text(text.value)),
        any::<i64>().prop_map(Value::Integer),
        any::<f64>().prop_filter("finite", |number| number.is_finite()).prop_map(Value::Number),
    ]
    .prop_map(Spanned::from)
}

fn condition() -> impl Strategy<Value = Condition> {
    use Comparison::*;
    let comparison = select(vec![Equal, NotEqual, Less, Greater, LessEqual, GreaterEqual, Like]);
    let test = prop_oneof![
        (comparison, value()).prop_map(|(comparison, value)| Test::Compare(comparison, value)),
        prop::collection::vec(value(), 1..4).prop_map(Test::In),
    ];
    (field(), test).prop_map(|(field, test)| Condition { field, test })
}

fn conditions() -> impl Strategy<Value = Vec<Condition>> {
    prop::collection::vec(condition(), 1..4)
}

/// Filters as the parser makes them: neither AND nor OR stands directly in one of its own kind.
fn filter() -> impl Strategy<Value = Option<Filter>> {
    let test = || condition().prop_map(Filter::Test).boxed();
    let joined = |part: BoxedStrategy<Filter>, join: fn(Vec<Filter>) -> Filter| {
        prop::collection::vec(part, 2..4).prop_map(join).boxed()
    };
    let any = Union::new([test(), joined(test(), Filter::Any)]).boxed();
    let all = Union::new([test(), joined(any, Filter::All)]).boxed();
    // An OR of tests and of ANDs, which hold ORs in their turn.
    let any_of_all = joined(all.clone(), |parts| {
        Filter::Any(
            parts
                .into_iter()
                .flat_map(|part| match part {
                    Filter::Any(parts) => parts,
                    other => vec![other],
                })
                .collect(),
        )
    });
    of(Union::new([all, any_of_all]))
}

fn column() -> impl Strategy<Value = Spanned<Column>> {
    let column = prop_oneof![
        4 => field().prop_map(|field| Column::Field(field.value)),
        1 => Just(Column::CountRows),
        1 => field().prop_map(Column::CountDistinct),
    ];
    column.prop_map(Spanned::from)
}

fn detail() -> impl Strategy<Value = Option<Detail>> {
    of(select(vec![Detail::Verbose, Detail::Brief, Detail::Raw]))
}

fn source() -> impl Strategy<Value = Source> {
    prop_oneof![Just(Source::Current), text().prop_map(Source::Path)]
}

fn lifecycle() -> Vec<BoxedStrategy<Statement>> {
    use Component::*;
    let components = prop::collection::vec(
        select(vec![FfnGate, FfnUp, FfnDown, Embeddings, AttnOv, AttnQk]).prop_map(Spanned::from),
        0..4,
    );
    let level = of(select(vec![
        ExtractLevel::Browse,
        ExtractLevel::Attention,
        ExtractLevel::Inference,
        ExtractLevel::All,
    ]));
    let quant = of(select(vec![Quant::Q4k, Quant::None]));
    let extract = (text(), text(), components, of(layers()), level, quant, any::<bool>()).prop_map(
        |(model, into, components, layers, level, quant, f32)| {
            Statement::Extract(Extract { model, into, components, layers, level, quant, f32 })
        },
    );
    let conflict = of(select(vec![Conflict::LastWins, Conflict::HighestConfidence, Conflict::Fail]));
    let compile_vindex =
        (source(), text(), conflict, any::<bool>()).prop_map(|(source, into, on_conflict, snapshot)| {
            Statement::CompileVindex(CompileVindex { source, into, on_conflict, snapshot })
        });
    let format = of(select(vec![ModelFormat::Safetensors, ModelFormat::Gguf]));
    let compile_model = (source(), text(), format)
        .prop_map(|(source, into, format)| Statement::CompileModel(CompileModel { source, into, format }));
    let diff = (text(), source(), of(layer()), of(text()), of(count()), of(text())).prop_map(
        |(base, other, layer, relation, limit, into_patch)| {
            Statement::Diff(Diff { base, other, layer, relation, limit, into_patch })
        },
    );
    let open = prop_oneof![
        text().prop_map(Use::Vindex),
        (text(), any::<bool>()).prop_map(|(model, auto_extract)| Use::Model { model, auto_extract }),
        text().prop_map(Use::Remote),
    ]
    .prop_map(Statement::Use);
    vec![extract.boxed(), compile_vindex.boxed(), compile_model.boxed(), diff.boxed(), open.boxed()]
}

/// Statements with a subject, which `subject` makes.
fn about(subject: BoxedStrategy<Subject>) -> Vec<BoxedStrategy<Statement>> {
    let walk_layers = of(prop_oneof![Just(WalkLayers::All), layers().prop_map(WalkLayers::Range)]);
    let mode = of(select(vec![WalkMode::Hybrid, WalkMode::Pure, WalkMode::Dense]));
    let walk = (subject.clone(), of(count()), walk_layers, mode, any::<bool>()).prop_map(
        |(prompt, top, layers, mode, compare)| Statement::Walk(Walk { prompt, top, layers, mode, compare }),
    );
    let scope = of(select(vec![Scope::Syntax, Scope::Knowledge, Scope::Output, Scope::All]));
    let describe = (subject.clone(), scope, of(layer()), any::<bool>(), detail(), of(count()), any::<bool>())
        .prop_map(|(entity, scope, layer, relations_only, detail, limit, stream)| {
            Statement::Describe(Describe { entity, scope, layer, relations_only, detail, limit, stream })
        });
    let explain_walk = (subject.clone(), of(layers()), any::<bool>(), of(count())).prop_map(
        |(prompt, layers, verbose, top)| Statement::ExplainWalk(ExplainWalk { prompt, layers, verbose, top }),
    );
    let infer = (subject.clone(), of(count()), any::<bool>(), of(text())).prop_map(
        |(prompt, top, compare, intervention)| Statement::Infer(Infer { prompt, top, compare, intervention }),
    );
    let explain_infer =
        (subject.clone(), of(layers()), any::<bool>(), of(count()), of(text()), any::<bool>()).prop_map(
            |(prompt, layers, verbose, top, answer, with_attention)| {
                let graph = None;
                let explain = ExplainInfer { prompt, layers, verbose, top, answer, with_attention, graph };
                Statement::ExplainInfer(explain)
            },
        );
    let explain_graph =
        (subject.clone(), of(count()), of(text()), of(text())).prop_map(|(prompt, top, answer, save)| {
            let (verbose, with_attention, graph) = (false, false, Some(ShowGraph { save }));
            let explain = ExplainInfer { prompt, layers: None, verbose, top, answer, with_attention, graph };
            Statement::ExplainInfer(explain)
        });
    let positions = of(select(vec![Positions::Last, Positions::All]));
    let formats = select(vec![TraceFormat::Chain, TraceFormat::Boundary, TraceFormat::Context]);
    let save = of((text(), of(formats), of(count()), of(count()))
        .prop_map(|(path, format, tier, window)| SaveTrace { path, format, tier, window }));
    let trace = (subject, of(text()), of(text()), any::<bool>(), of(layers()), positions, save).prop_map(
        |(prompt, other, target, decompose, layers, positions, save)| {
            Statement::Trace(Trace { prompt, other, target, decompose, layers, positions, save })
        },
    );
    vec![
        walk.boxed(),
        describe.boxed(),
        explain_walk.boxed(),
        infer.boxed(),
        explain_infer.boxed(),
        explain_graph.boxed(),
        trace.boxed(),
    ]
}

fn tables() -> Vec<BoxedStrategy<Statement>> {
    let nearest = of((text(), layer()).prop_map(|(to, layer)| Nearest { to, layer }));
    let direction = of(select(vec![Direction::Ascending, Direction::Descending]));
    let order_by = (field(), direction).prop_map(|(field, direction)| OrderBy { field, direction });
    let order_by = prop::collection::vec(order_by, 0..3);
    let table = select(vec![Table::Edges, Table::Features, Table::Evidence, Table::Entities]);
    let columns = (any::<bool>(), prop::collection::vec(column(), 0..4));
    let group_by = prop::collection::vec(field(), 0..3);
    let window = (of(count()), of((0..1000_usize).prop_map(Spanned::from)));
    let selection = (columns, table, nearest, filter(), group_by, order_by, window).prop_map(
        |((distinct, columns), from, nearest, filter, group_by, order_by, (limit, offset))| {
            Statement::Select(Select {
                distinct,
                columns,
                from,
                nearest,
                filter,
                group_by,
                order_by,
                limit,
                offset,
            })
        },
    );
    let relations = (of(layer()), any::<bool>(), detail()).prop_map(|(layer, with_examples, detail)| {
        Statement::ShowRelations(ShowRelations { layer, with_examples, detail })
    });
    let show_layers = of(layers()).prop_map(|layers| Statement::ShowLayers(ShowLayers { layers }));
    let features = (layer(), filter(), of(count()))
        .prop_map(|(layer, filter, limit)| Statement::ShowFeatures(ShowFeatures { layer, filter, limit }));
    let entities = (of(layer()), of(count()))
        .prop_map(|(layer, limit)| Statement::ShowEntities(ShowEntities { layer, limit }));
    let stats = of(text()).prop_map(|path| Statement::Stats(Stats { path }));
    let plain = select(vec![Statement::ShowModels, Statement::ShowPatches, Statement::ShowCompactStatus]);
    vec![
        selection.boxed(),
        relations.boxed(),
        show_layers.boxed(),
        features.boxed(),
        entities.boxed(),
        stats.boxed(),
        plain.boxed(),
    ]
}

fn edits() -> Vec<BoxedStrategy<Statement>> {
    let edge =
        (text(), text(), text()).prop_map(|(entity, relation, target)| NewEdge { entity, relation, target });
    let mode = of(select(vec![InsertMode::Knn, InsertMode::Compose]));
    let alpha = of((0.0..1000.0).prop_map(Spanned::from));
    let insert = (prop::collection::vec(edge, 1..4), of(layer()), of(probability()), alpha, mode).prop_map(
        |(edges, layer, confidence, alpha, mode)| {
            Statement::Insert(Insert { edges, layer, confidence, alpha, mode })
        },
    );
    let edit_table = || select(vec![EditTable::Edges, EditTable::Features]);
    let delete = (edit_table(), conditions())
        .prop_map(|(table, conditions)| Statement::Delete(Delete { table, conditions }));
    let assignment = (field(), value()).prop_map(|(field, value)| Assignment { field, value });
    let update = (edit_table(), prop::collection::vec(assignment, 1..3), conditions()).prop_map(
        |(table, assignments, conditions)| Statement::Update(Update { table, assignments, conditions }),
    );
    let conflict = of(select(vec![
        MergeConflict::KeepSource,
        MergeConflict::KeepTarget,
        MergeConflict::HighestConfidence,
    ]));
    let merge = (text(), of(text()), conflict)
        .prop_map(|(source, into, on_conflict)| Statement::Merge(Merge { source, into, on_conflict }));
    let rebalance = (any::<bool>(), of(count()), of(probability()), of(probability())).prop_map(
        |(until_converged, max, floor, ceiling)| {
            Statement::Rebalance(Rebalance { until_converged, max, floor, ceiling })
        },
    );
    let lambda = of((1e-12..1e6).prop_map(Spanned::from));
    let compact = prop_oneof![
        Just(Compact::Minor),
        (any::<bool>(), lambda).prop_map(|(full, lambda)| Compact::Major { full, lambda }),
    ]
    .prop_map(Statement::Compact);
    let patch = prop_oneof![
        text().prop_map(|path| Statement::BeginPatch(BeginPatch { path })),
        of(text()).prop_map(|path| Statement::SavePatch(SavePatch { path })),
        text().prop_map(|path| Statement::ApplyPatch(ApplyPatch { path })),
        text().prop_map(|path| Statement::RemovePatch(RemovePatch { path })),
        Just(Statement::Undo),
    ];
    vec![
        insert.boxed(),
        delete.boxed(),
        update.boxed(),
        merge.boxed(),
        rebalance.boxed(),
        compact.boxed(),
        patch.boxed(),
    ]
}

fn statement(subject: BoxedStrategy<Subject>) -> impl Strategy<Value = Statement> {
    Union::new([lifecycle(), about(subject), tables(), edits()].concat())
}

fn pipe() -> impl Strategy<Value = Pipe> {
    let written = text().prop_map(Subject::Text).boxed();
    let left_out = prop_oneof![written.clone(), Just(Subject::Piped)].boxed();
    let later = prop::collection::vec(statement(left_out), 0..3);
    (statement(written), later).prop_map(|(first, later)| Pipe {
        stages: std::iter::once(first).chain(later).map(Spanned::from).collect(),
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn a_statement_prints_itself(statement in statement(text().prop_map(Subject::Text).boxed())) {
        let printed = statement.to_string();
        prop_assert_eq!(parse_statement(&printed), Ok(statement), "{}", printed);
    }

    #[test]
    fn a_script_prints_itself(pipes in prop::collection::vec(pipe(), 0..4)) {
        let script: String = pipes.iter().map(|pipe| format!("{pipe};\n")).collect();
        let parsed = parse(&script).map_err(|error| TestCaseError::fail(error.to_string()))?;
        let spans: Vec<_> = parsed.iter().map(|pipe| format!("{};\n", pipe.span.of(&script))).collect();
        prop_assert_eq!(spans.concat(), script);
        prop_assert_eq!(parsed.into_iter().map(|pipe| pipe.value).collect::<Vec<_>>(), pipes);
    }

    #[test]
    fn errors_lie_inside_the_text(
        words in prop::collection::vec(
            prop_oneof![
                4 => select(Keyword::ALL.to_vec()).prop_map(|keyword| keyword.to_string()),
                1 => value().prop_map(|value| value.to_string()),
                1 => select(vec!["(", ")", ",", "=", ";", "|>", "*", "-", "1-2", "'", "é", "|"]).prop_map(String::from),
            ],
            0..12,
        )
    ) {
        let text = words.join(" ");
        if let Err(error) = parse(&text) {
            prop_assert!(text.get(error.span().start..error.span().end).is_some(), "{:?} in {:?}", error, text);
            larql_lql::render::diagnostic(&error, "lql", &text, false);
        }
    }

    #[test]
    fn any_text_is_judged(text in any::<String>()) {
        let _ = parse(&text);
    }
}

#[test]
fn clauses_come_in_any_order_and_any_case() {
    let canonical = r#"DESCRIBE "France" ALL LAYERS AT LAYER 26 RELATIONS ONLY BRIEF LIMIT 3 STREAM"#;
    let shuffled = r#"describe 'France' Stream limit 3 brief at layer 26 relations only all layers;"#;
    assert_eq!(parse_statement(shuffled).map(|statement| statement.to_string()), Ok(canonical.into()));
}

#[test]
fn short_forms_mean_the_long_ones() {
    for (short, long) in [
        ("SHOW LAYERS 5", "SHOW LAYERS 5-5"),
        ("SHOW LAYERS RANGE 5 - 9", "SHOW LAYERS 5-9"),
        ("SHOW ENTITIES 26 LIMIT 5", "SHOW ENTITIES AT LAYER 26 LIMIT 5"),
        ("WALK 'x' LAYERS 14-27", r#"WALK "x" LAYERS 14-27"#),
        (
            "SELECT * FROM EDGES WHERE relation=native-language AND gate>-5 AND layer<=+7",
            r#"SELECT * FROM EDGES WHERE relation = "native-language" AND gate > -5 AND layer <= 7"#,
        ),
        (
            "SELECT * FROM EDGES WHERE label = limit LIMIT 5",
            r#"SELECT * FROM EDGES WHERE label = "limit" LIMIT 5"#,
        ),
        (
            "SELECT count(*), count FROM ENTITIES WHERE ((layer = 1) OR (layer = 2 AND (layer < 3))) ORDER BY count(*)",
            "SELECT COUNT(*), count FROM ENTITIES WHERE layer = 1 OR layer = 2 AND layer < 3 ORDER BY count",
        ),
        (
            "SELECT DISTINCT relation FROM EDGES /* all */ WHERE layer = 1 AND (layer = 2 OR layer = 3) # why",
            "SELECT DISTINCT relation FROM EDGES WHERE layer = 1 AND (layer = 2 OR layer = 3)",
        ),
    ] {
        assert_eq!(parse_statement(short).map(|statement| statement.to_string()), Ok(long.into()));
    }
}

#[test]
fn every_example_of_the_help_parses_and_begins_with_its_name() {
    for help in Help::all() {
        let statement = parse_statement(&help.example(&ExampleModel::default()))
            .unwrap_or_else(|error| panic!("{}: {error}", help.name));
        assert!(statement.to_string().starts_with(help.name), "{}", help.name);
        assert!(help.syntax.starts_with(help.name), "{}", help.name);
    }
}

#[test]
fn size_costs_no_stack() {
    const MEGABYTE: usize = 1 << 20;
    let run_on_small_stack = |text: String| {
        let parsed = std::thread::Builder::new().stack_size(128 << 10).spawn(move || parse(&text).is_ok());
        parsed.expect("a thread starts").join().expect("the parser returns")
    };
    assert!(run_on_small_stack(format!("DESCRIBE \"{}\"", "é\\\"".repeat(MEGABYTE))));
    assert!(run_on_small_stack(format!("STATS {}-- {}", " \n".repeat(MEGABYTE), "x".repeat(MEGABYTE))));
    assert!(run_on_small_stack("STATS;".repeat(MEGABYTE)));
    assert!(run_on_small_stack(format!("STATS{}", " |> STATS".repeat(MEGABYTE / 8))));
    assert!(run_on_small_stack(format!("SELECT * FROM EDGES WHERE layer IN (1{})", ",1".repeat(MEGABYTE))));
    assert!(!run_on_small_stack("(".repeat(MEGABYTE)));
    let nested = |depth: usize| {
        format!("SELECT * FROM EDGES WHERE {}layer = 1{}", "(".repeat(depth), ")".repeat(depth))
    };
    assert!(run_on_small_stack(nested(32)));
    assert!(!run_on_small_stack(nested(33)));
    assert!(!run_on_small_stack(nested(MEGABYTE)));
    let tests = " OR layer = 1 AND layer = 2".repeat(MEGABYTE / 32);
    assert!(run_on_small_stack(format!("SELECT * FROM EDGES WHERE layer = 1{tests}")));
    assert!(!run_on_small_stack(format!("STATS /* {}", "x".repeat(MEGABYTE))));
    assert!(!run_on_small_stack("x".repeat(MEGABYTE)));
    assert!(!run_on_small_stack(format!("WALK \"x\" TOP {}", "9".repeat(MEGABYTE))));
    assert!(!run_on_small_stack(format!("DESCRIBE \"{}", "x".repeat(MEGABYTE))));
}

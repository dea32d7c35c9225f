//! Every kind of result in every format.

use insta::assert_snapshot;
use larql_lql::ast::{Detail, Field, Table, WalkMode};
use larql_lql::output::*;
use larql_lql::render::{Format, RenderOptions, render};
use larql_vindex_spec::{ExtractLevel, FloatType, Quant};

/// The table, the JSON and the CSV, one under another; and the JSON read back is the same result.
fn all(output: Output) -> String {
    let options = RenderOptions { width: Some(100), ..RenderOptions::default() };
    let [table, json, csv] =
        [Format::Table, Format::Json, Format::Csv].map(|format| render(&output, format, &options));
    assert_eq!(serde_json::from_str::<Output>(&json).expect("what was written reads back"), output);
    format!("{table}---\n{json}---\n{csv}")
}

fn table(output: Output) -> String {
    render(&output, Format::Table, &RenderOptions::default())
}

fn edge(relation: Option<&str>, target: &str, gate: f32, layers: (usize, usize), count: usize) -> Edge {
    Edge {
        relation: relation.map(Into::into),
        target: target.into(),
        gate,
        layer: layers.0,
        layer_max: layers.1,
        feature: 9_515,
        count,
        source: relation.map(|_| LabelSource::Probe),
        via: Via::Residual,
        confidence: None,
        also: Vec::new(),
    }
}

fn described(detail: Detail) -> Output {
    let mut capital = edge(Some("capital"), "Paris", 1436.93, (27, 27), 1);
    capital.confidence = Some(0.964);
    capital.also = ["Lyon", "PARIS", "Marseille", "Nice"].map(Into::into).into();
    let language = edge(Some("native-language"), "French", 35.2, (24, 26), 3);
    let unnamed = edge(None, "日本", 14.4, (18, 25), 12);
    let output = edge(None, " the", 3.25, (29, 31), 2);
    let knowledge = vec![capital, language, unnamed];
    Output::Describe(Described {
        entity: "France".into(),
        detail,
        approximate_in: None,
        bands: vec![
            BandEdges {
                band: Band::Knowledge,
                layer: 14,
                layer_max: 27,
                edges: knowledge,
                left_out: 4,
                unlabelled: 1_312,
            },
            BandEdges {
                band: Band::Output,
                layer: 28,
                layer_max: 33,
                edges: vec![output],
                left_out: 0,
                unlabelled: 1,
            },
        ],
        next: Some("`larql probe gemma.vindex` finds more relations, in about 3 minutes".into()),
    })
}

#[test]
fn describe_in_full() {
    assert_snapshot!(all(described(Detail::Verbose)), @r#"
    France
      Edges (L14-27)
       relation         target  confidence   gate  layers  features  source  also
      ──────────────────────────────────────────────────────────────────────────────────────────────
       capital          Paris       0.9640         L27            1  probe   Lyon, PARIS, Marseille
       native-language  French              35.20  L24-26         3  probe
                        日本                14.40  L18-25        12
      3 of 7 edges; LIMIT n shows more
      1,312 features fire too, without a known relation; LIMIT n shows more
      Output (L28-33)
       target  gate  layers  features
      ────────────────────────────────
       the     3.25  L29-31         2
      1 feature fires too, without a known relation; LIMIT n shows more
    `larql probe gemma.vindex` finds more relations, in about 3 minutes
    ---
    {"kind":"describe","entity":"France","detail":"verbose","bands":[{"band":"knowledge","layer":14,"layer_max":27,"edges":[{"relation":"capital","target":"Paris","gate":1436.93,"layer":27,"layer_max":27,"feature":9515,"count":1,"source":"probe","via":"residual","confidence":0.964,"also":["Lyon","PARIS","Marseille","Nice"]},{"relation":"native-language","target":"French","gate":35.2,"layer":24,"layer_max":26,"feature":9515,"count":3,"source":"probe","via":"residual","confidence":null,"also":[]},{"relation":null,"target":"日本","gate":14.4,"layer":18,"layer_max":25,"feature":9515,"count":12,"source":null,"via":"residual","confidence":null,"also":[]}],"left_out":4,"unlabelled":1312},{"band":"output","layer":28,"layer_max":33,"edges":[{"relation":null,"target":" the","gate":3.25,"layer":29,"layer_max":31,"feature":9515,"count":2,"source":null,"via":"residual","confidence":null,"also":[]}],"unlabelled":1}],"next":"`larql probe gemma.vindex` finds more relations, in about 3 minutes"}
    ---
    entity,band,relation,target,confidence,gate,layer,layer_max,feature,count,source,via,also
    France,knowledge,capital,Paris,0.964,1436.93,27,27,9515,1,probe,residual,"[""Lyon"",""PARIS"",""Marseille"",""Nice""]"
    France,knowledge,native-language,French,,35.2,24,26,9515,3,probe,residual,
    France,knowledge,,日本,,14.4,18,25,9515,12,,residual,
    France,output,, the,,3.25,29,31,9515,2,,residual,
    "#);
}

#[test]
fn describe_in_brief() {
    assert_snapshot!(table(described(Detail::Brief)), @"
    France
      Edges (L14-27)
       relation         target  confidence   gate  layers  features  source
      ──────────────────────────────────────────────────────────────────────
       capital          Paris       0.9640         L27            1  probe
       native-language  French              35.20  L24-26         3  probe
                        日本                14.40  L18-25        12
      3 of 7 edges; LIMIT n shows more
      1,312 features fire too, without a known relation; VERBOSE shows them
      Output (L28-33)
       target  gate  layers  features
      ────────────────────────────────
       the     3.25  L29-31         2
      1 feature fires too, without a known relation; VERBOSE shows them
    `larql probe gemma.vindex` finds more relations, in about 3 minutes
    ");
}

#[test]
fn describe_raw() {
    assert_snapshot!(table(described(Detail::Raw)), @"
    France
      Edges (L14-27)
       target  confidence   gate  layers  features
      ─────────────────────────────────────────────
       Paris       0.9640         L27            1
       French              35.20  L24-26         3
       日本                14.40  L18-25        12
      3 of 7 edges; LIMIT n shows more
      1,312 features fire too, without a known relation; LIMIT n shows more
      Output (L28-33)
       target  gate  layers  features
      ────────────────────────────────
       the     3.25  L29-31         2
      1 feature fires too, without a known relation; LIMIT n shows more
    `larql probe gemma.vindex` finds more relations, in about 3 minutes
    ");
}

#[test]
fn describe_of_an_unknown_entity() {
    let bands = vec![BandEdges {
        band: Band::Knowledge,
        layer: 14,
        layer_max: 27,
        edges: Vec::new(),
        left_out: 0,
        unlabelled: 0,
    }];
    let (entity, detail) = ("Xyzzy".into(), Detail::Verbose);
    let unknown = Described { entity, detail, approximate_in: None, bands, next: None };
    assert_snapshot!(all(Output::Describe(unknown)), @r#"
    Xyzzy
      (no edges found)
    ---
    {"kind":"describe","entity":"Xyzzy","detail":"verbose","bands":[{"band":"knowledge","layer":14,"layer_max":27,"edges":[]}]}
    ---
    entity,band,relation,target,confidence,gate,layer,layer_max,feature,count,source,via,also
    "#);
}

#[test]
fn describe_with_colour() {
    let options = RenderOptions { color: true, ..RenderOptions::default() };
    let text = render(&described(Detail::Brief), Format::Table, &options);
    assert!(text.starts_with("\u{1b}[1mFrance\u{1b}[0m\n"), "{text:?}");
}

fn feature(layer: usize, feature: usize, gate: f32, tokens: &[&str]) -> FeatureRow {
    let tokens = tokens.iter().map(|token| (*token).into()).collect();
    FeatureRow { layer, feature, gate: Some(gate), tokens, ..FeatureRow::default() }
}

fn labelled(mut row: FeatureRow) -> FeatureRow {
    row.label = Some("capital".into());
    row.source = Some(LabelSource::Cluster);
    row
}

fn walked(rankings: Vec<Ranked>) -> Output {
    Output::Walk(Walked {
        prompt: "The capital of France is".into(),
        token: " is".into(),
        approximate_in: None,
        rankings,
    })
}

#[test]
fn walk() {
    let rows = vec![
        labelled(feature(14, 9_515, 12.25, &[" Paris", " Rome", "\n\n"])),
        feature(14, 7, -3.5, &[" ", "日本"]),
        feature(15, 102, 8.0, &["a", "b"]),
    ];
    assert_snapshot!(all(walked(vec![Ranked { mode: WalkMode::Hybrid, rows }])), @r#"
    The capital of France is (last token: ␣is)
     layer  feature   gate  label    source   tokens
    ──────────────────────────────────────────────────────────
        14     9515  12.25  capital  cluster  Paris, Rome, ⏎⏎
        14        7  -3.50                    ␣, 日本
        15      102   8.00                    a, b
    ---
    {"kind":"walk","prompt":"The capital of France is","token":" is","rankings":[{"mode":"hybrid","rows":[{"layer":14,"feature":9515,"gate":12.25,"tokens":[" Paris"," Rome","\n\n"],"label":"capital","source":"cluster"},{"layer":14,"feature":7,"gate":-3.5,"tokens":[" ","日本"]},{"layer":15,"feature":102,"gate":8.0,"tokens":["a","b"]}]}]}
    ---
    prompt,mode,layer,feature,gate,activation,contribution,score,label,source,tokens
    The capital of France is,hybrid,14,9515,12.25,,,,capital,cluster,"["" Paris"","" Rome"",""\n\n""]"
    The capital of France is,hybrid,14,7,-3.5,,,,,,"["" "",""日本""]"
    The capital of France is,hybrid,15,102,8,,,,,,"[""a"",""b""]"
    "#);
}

#[test]
fn walk_compared() {
    let by_gate = vec![
        feature(14, 9_515, 12.25, &[" Paris"]),
        feature(14, 7, -3.5, &[" "]),
        feature(15, 102, 8.0, &["a"]),
    ];
    let mut by_activation = vec![feature(14, 7, -3.5, &[" "]), feature(15, 44, 2.0, &["b"])];
    by_activation.iter_mut().for_each(|row| row.activation = Some(0.75));
    let rankings = vec![
        Ranked { mode: WalkMode::Pure, rows: by_gate },
        Ranked { mode: WalkMode::Dense, rows: by_activation },
    ];
    assert_snapshot!(all(walked(rankings)), @r#"
    The capital of France is (last token: ␣is)
     layer  pure   gate  writes  dense  activation  writes
    ───────────────────────────────────────────────────────
        14  9515  12.25  Paris       7      0.7500  ␣
        14     7  -3.50  ␣
        15   102   8.00  a          44      0.7500  b
    ---
    {"kind":"walk","prompt":"The capital of France is","token":" is","rankings":[{"mode":"pure","rows":[{"layer":14,"feature":9515,"gate":12.25,"tokens":[" Paris"]},{"layer":14,"feature":7,"gate":-3.5,"tokens":[" "]},{"layer":15,"feature":102,"gate":8.0,"tokens":["a"]}]},{"mode":"dense","rows":[{"layer":14,"feature":7,"gate":-3.5,"activation":0.75,"tokens":[" "]},{"layer":15,"feature":44,"gate":2.0,"activation":0.75,"tokens":["b"]}]}]}
    ---
    prompt,mode,layer,feature,gate,activation,contribution,score,label,source,tokens
    The capital of France is,pure,14,9515,12.25,,,,,,"["" Paris""]"
    The capital of France is,pure,14,7,-3.5,,,,,,"["" ""]"
    The capital of France is,pure,15,102,8,,,,,,"[""a""]"
    The capital of France is,dense,14,7,-3.5,0.75,,,,,"["" ""]"
    The capital of France is,dense,15,44,2,0.75,,,,,"[""b""]"
    "#);
}

#[test]
fn explain_walk() {
    let layer = |layer: usize, band, rows| WalkedLayer {
        layer,
        band: Some(band),
        query_norm: 25.298,
        features: 2048,
        rows,
    };
    let explained = ExplainedWalk {
        prompt: "The capital of France is".into(),
        token: " is".into(),
        approximate_in: Some("MXFP4".into()),
        layers: vec![
            layer(13, Band::Syntax, vec![feature(13, 3, 0.0312, &["of"])]),
            layer(14, Band::Knowledge, vec![labelled(feature(14, 9_515, 12.25, &[" Paris", " Rome"]))]),
        ],
    };
    assert_snapshot!(all(Output::ExplainWalk(explained)), @r#"
    The capital of France is (last token: ␣is)
    (gate scores are approximate: gate rows are in MXFP4)
    L13 syntax (query norm 25.30, 2,048 features asked)
       feature    gate  tokens
      ─────────────────────────
             3  0.0312  of

    L14 knowledge (query norm 25.30, 2,048 features asked)
       feature   gate  label    source   tokens
      ───────────────────────────────────────────────
          9515  12.25  capital  cluster  Paris, Rome
    ---
    {"kind":"explain_walk","prompt":"The capital of France is","token":" is","approximate_in":"MXFP4","layers":[{"layer":13,"band":"syntax","query_norm":25.298,"features":2048,"rows":[{"layer":13,"feature":3,"gate":0.0312,"tokens":["of"]}]},{"layer":14,"band":"knowledge","query_norm":25.298,"features":2048,"rows":[{"layer":14,"feature":9515,"gate":12.25,"tokens":[" Paris"," Rome"],"label":"capital","source":"cluster"}]}]}
    ---
    prompt,band,query_norm,layer,feature,gate,activation,contribution,score,label,source,tokens
    The capital of France is,syntax,25.298,13,3,0.0312,,,,,,"[""of""]"
    The capital of France is,knowledge,25.298,14,9515,12.25,,,,capital,cluster,"["" Paris"","" Rome""]"
    "#);
}

#[test]
fn select() {
    let fields = vec![Field::Entity, Field::Relation, Field::Target, Field::Gate, Field::Layer, Field::Also];
    let mut capital = edge(Some("capital"), "Paris", 1436.93, (27, 27), 1);
    capital.also = vec!["Lyon".into(), "PARIS, France".into()];
    let rows = [capital, edge(None, "French \"wine\"", 35.2, (24, 26), 3)];
    let rows = rows.iter().map(|edge| Record::of_edge("France", edge).only(&fields)).collect();
    assert_snapshot!(all(Output::Select(Selected { from: Table::Edges, fields, rows, left_out: 540, next: None })), @r#"
     entity  relation  target           gate  layer  also
    ─────────────────────────────────────────────────────────────────────
     France  capital   Paris          1436.9     27  Lyon, PARIS, France
     France            French "wine"    35.2     24
    2 of 542 rows; LIMIT n shows more
    ---
    {"kind":"select","from":"edges","fields":["entity","relation","target","gate","layer","also"],"rows":[{"entity":"France","relation":"capital","target":"Paris","layer":27,"gate":1436.93,"also":["Lyon","PARIS, France"]},{"entity":"France","target":"French \"wine\"","layer":24,"gate":35.2}],"left_out":540}
    ---
    entity,relation,target,gate,layer,also
    France,capital,Paris,1436.93,27,"[""Lyon"",""PARIS, France""]"
    France,,"French ""wine""",35.2,24,
    "#);
}

#[test]
fn select_nearest_features() {
    let fields = vec![Field::Layer, Field::Feature, Field::Distance, Field::Tokens, Field::Label];
    let near = Record::default()
        .with(Field::Layer, 26)
        .with(Field::Feature, 9_515)
        .with(Field::Distance, 0.0625_f32)
        .with(Field::Tokens, vec![" Paris".to_owned(), " Rome".to_owned()])
        .with(Field::Label, "capital");
    let far = Record::default()
        .with(Field::Layer, 26)
        .with(Field::Feature, 12)
        .with(Field::Distance, 0.5_f32)
        .with(Field::Tokens, vec![" cheese".to_owned()]);
    let selected = Selected { from: Table::Features, fields, rows: vec![near, far], left_out: 0, next: None };
    assert_snapshot!(all(Output::Select(selected)), @r#"
     layer  feature  distance  tokens       label
    ────────────────────────────────────────────────
        26     9515    0.0625  Paris, Rome  capital
        26       12    0.5000  cheese
    ---
    {"kind":"select","from":"features","fields":["layer","feature","distance","tokens","label"],"rows":[{"layer":26,"feature":9515,"distance":0.0625,"label":"capital","tokens":[" Paris"," Rome"]},{"layer":26,"feature":12,"distance":0.5,"tokens":[" cheese"]}]}
    ---
    layer,feature,distance,tokens,label
    26,9515,0.0625,"["" Paris"","" Rome""]",capital
    26,12,0.5,"["" cheese""]",
    "#);
}

#[test]
fn select_of_nothing() {
    let next = Some("no entity \"Frnace\"; did you mean \"France\"?".into());
    let selected =
        Selected { from: Table::Entities, fields: vec![Field::Entity], rows: Vec::new(), left_out: 0, next };
    assert_snapshot!(all(Output::Select(selected)), @r#"
    (no rows)
    no entity "Frnace"; did you mean "France"?
    ---
    {"kind":"select","from":"entities","fields":["entity"],"rows":[],"next":"no entity \"Frnace\"; did you mean \"France\"?"}
    ---
    entity
    "#);
}

fn predictions(probabilities: &[(&str, f64)]) -> Vec<Prediction> {
    let predictions = probabilities.iter().enumerate();
    predictions
        .map(|(index, (token, probability))| Prediction {
            token: (*token).into(),
            token_id: 100 + index as u32,
            probability: *probability,
            phrase: None,
        })
        .collect()
}

fn run(ffn: &str, latency_ms: f64, probabilities: &[(&str, f64)]) -> Run {
    Run { ffn: ffn.into(), latency_ms, predictions: predictions(probabilities) }
}

#[test]
fn infer() {
    let mut runs = vec![run("walk", 12.5, &[(" Pose", 0.9791), ("the", 0.0051), ("\n", 0.00004)])];
    runs[0].predictions[0].phrase = Some("Poseidon".into());
    let inferred =
        Inferred { prompt: "The capital of France is".into(), overridden: None, runs, intervention: None };
    assert_snapshot!(all(Output::Infer(inferred)), @r#"
      1. ␣Pose   97.91%  Poseidon
      2. the      0.51%
      3. ⏎       <0.01%
    ---
    {"kind":"infer","prompt":"The capital of France is","runs":[{"ffn":"walk","latency_ms":12.5,"predictions":[{"token":" Pose","token_id":100,"probability":0.9791,"phrase":"Poseidon"},{"token":"the","token_id":101,"probability":0.0051},{"token":"\n","token_id":102,"probability":0.00004}]}]}
    ---
    prompt,ffn,rank,token,token_id,probability,phrase,latency_ms
    The capital of France is,walk,1, Pose,100,0.9791,Poseidon,12.5
    The capital of France is,walk,2,the,101,0.0051,,12.5
    The capital of France is,walk,3,"
    ",102,0.00004,,12.5
    "#);
}

#[test]
fn infer_compared() {
    let runs = vec![
        run("walk", 12.5, &[(" Paris", 0.9791), (" the", 0.0051)]),
        run("dense", 1250.0, &[(" Paris", 0.979), (" located", 0.0053)]),
    ];
    let inferred =
        Inferred { prompt: "The capital of France is".into(), overridden: None, runs, intervention: None };
    assert_snapshot!(all(Output::Infer(inferred)), @r#"
      walk (12.5 ms)          dense (1.2 s)
      1. ␣Paris   97.91%      1. ␣Paris     97.90%
      2. ␣the      0.51%      2. ␣located    0.53%
    ---
    {"kind":"infer","prompt":"The capital of France is","runs":[{"ffn":"walk","latency_ms":12.5,"predictions":[{"token":" Paris","token_id":100,"probability":0.9791},{"token":" the","token_id":101,"probability":0.0051}]},{"ffn":"dense","latency_ms":1250.0,"predictions":[{"token":" Paris","token_id":100,"probability":0.979},{"token":" located","token_id":101,"probability":0.0053}]}]}
    ---
    prompt,ffn,rank,token,token_id,probability,phrase,latency_ms
    The capital of France is,walk,1, Paris,100,0.9791,,12.5
    The capital of France is,walk,2, the,101,0.0051,,12.5
    The capital of France is,dense,1, Paris,100,0.979,,1250
    The capital of France is,dense,2, located,101,0.0053,,1250
    "#);
}

#[test]
fn infer_overridden() {
    let overridden = Overridden {
        entity: "Atlantis".into(),
        relation: "capital".into(),
        target: "Poseidonis".into(),
        layer: 12,
        cosine: 0.9713,
        threshold: 0.84,
    };
    let runs = vec![run("walk", 12.5, &[(" a", 0.08)])];
    let inferred = Inferred {
        prompt: "The capital of Atlantis is".into(),
        overridden: Some(overridden),
        runs,
        intervention: None,
    };
    assert_snapshot!(all(Output::Infer(inferred)), @r#"
      1. Poseidonis  (inserted: capital of Atlantis, L12, cosine 0.97, answers from 0.84)
    the model alone says:
      1. ␣a    8.00%
    ---
    {"kind":"infer","prompt":"The capital of Atlantis is","override":{"entity":"Atlantis","relation":"capital","target":"Poseidonis","layer":12,"cosine":0.9713,"threshold":0.84},"runs":[{"ffn":"walk","latency_ms":12.5,"predictions":[{"token":" a","token_id":100,"probability":0.08}]}]}
    ---
    prompt,ffn,rank,token,token_id,probability,phrase,latency_ms
    The capital of Atlantis is,override,1,Poseidonis,,,,
    The capital of Atlantis is,walk,1, a,100,0.08,,12.5
    "#);
}

#[test]
fn explain_infer() {
    let mut strong = labelled(feature(24, 9_515, 12.25, &[" Paris", " Rome"]));
    strong.activation = Some(3.5);
    strong.contribution = Some(2.125);
    let mut against = feature(24, 4, 1.0, &[" London"]);
    against.activation = Some(-0.5);
    against.contribution = Some(-0.25);
    let attention = vec![
        Attended { head: 0, position: 0, token: "<bos>".into(), weight: 0.22 },
        Attended { head: 2, position: 4, token: " France".into(), weight: 0.41 },
        Attended { head: 2, position: 1, token: "The".into(), weight: 0.25 },
    ];
    let layer = |layer, token: &str, answer_probability, rows, attention| ExplainedLayer {
        layer,
        lens_token: token.into(),
        lens_probability: 0.875,
        answer_probability,
        rows,
        attention,
    };
    let explained = ExplainedInference {
        prompt: "The capital of France is".into(),
        predictions: predictions(&[(" Paris", 0.9791), (" the", 0.0051)]),
        answer: predictions(&[(" London", 0.0031)]).remove(0),
        layers: vec![
            layer(23, " the", 0.0125, Vec::new(), Vec::new()),
            layer(24, " Paris", 0.75, vec![strong, against], attention),
        ],
    };
    assert_snapshot!(all(Output::ExplainInfer(explained)), @r#"
    The capital of France is
      1. ␣Paris   97.91%
      2. ␣the      0.51%
    Contributions are to the logit of ␣London 0.31%
    L23 (lens ␣the 87.50%, answer 1.25%)
      (no features)

    L24 (lens ␣Paris 87.50%, answer 75.00%)
       feature   gate  activation  contribution  label    source   tokens
      ─────────────────────────────────────────────────────────────────────────
          9515  12.25        3.50          2.12  capital  cluster  Paris, Rome
             4   1.00       -0.50         -0.25                    London
       head  first             second
      ──────────────────────────────────────
          0  0 <bos> 22.00%
          2  4 ␣France 41.00%  1 The 25.00%
    ---
    {"kind":"explain_infer","prompt":"The capital of France is","predictions":[{"token":" Paris","token_id":100,"probability":0.9791},{"token":" the","token_id":101,"probability":0.0051}],"answer":{"token":" London","token_id":100,"probability":0.0031},"layers":[{"layer":23,"lens_token":" the","lens_probability":0.875,"answer_probability":0.0125,"rows":[]},{"layer":24,"lens_token":" Paris","lens_probability":0.875,"answer_probability":0.75,"rows":[{"layer":24,"feature":9515,"gate":12.25,"activation":3.5,"contribution":2.125,"tokens":[" Paris"," Rome"],"label":"capital","source":"cluster"},{"layer":24,"feature":4,"gate":1.0,"activation":-0.5,"contribution":-0.25,"tokens":[" London"]}],"attention":[{"head":0,"position":0,"token":"<bos>","weight":0.22},{"head":2,"position":4,"token":" France","weight":0.41},{"head":2,"position":1,"token":"The","weight":0.25}]}]}
    ---
    prompt,part,lens_token,lens_probability,answer_probability,rank,token,token_id,probability,head,position,weight,layer,feature,gate,activation,contribution,score,label,source,tokens
    The capital of France is,answer,,,,, London,100,0.0031,,,,,,,,,,,,
    The capital of France is,prediction,,,,1, Paris,100,0.9791,,,,,,,,,,,,
    The capital of France is,prediction,,,,2, the,101,0.0051,,,,,,,,,,,,
    The capital of France is,feature, Paris,0.875,0.75,,,,,,,,24,9515,12.25,3.5,2.125,,capital,cluster,"["" Paris"","" Rome""]"
    The capital of France is,feature, Paris,0.875,0.75,,,,,,,,24,4,1,-0.5,-0.25,,,,"["" London""]"
    The capital of France is,attention, Paris,0.875,0.75,,<bos>,,,0,0,0.22,24,,,,,,,,
    The capital of France is,attention, Paris,0.875,0.75,, France,,,2,4,0.41,24,,,,,,,,
    The capital of France is,attention, Paris,0.875,0.75,,The,,,2,1,0.25,24,,,,,,,,
    "#);
}

#[test]
fn use_of_a_vindex() {
    let mut opened = Opened {
        path: "gemma.vindex".into(),
        opened_as: OpenedAs::Vindex,
        model: "google/gemma-3-270m".into(),
        level: Some(ExtractLevel::Inference),
        layers: 18,
        features: 36_864,
        relations: 1,
    };
    assert_snapshot!(all(Output::Use(opened.clone())), @r#"
    Using gemma.vindex (google/gemma-3-270m, level inference)
    18 layers, 36,864 features, 1 relation type
    ---
    {"kind":"use","path":"gemma.vindex","opened_as":"vindex","model":"google/gemma-3-270m","level":"inference","layers":18,"features":36864,"relations":1}
    ---
    path,model,level,layers,features,relations
    gemma.vindex,google/gemma-3-270m,inference,18,36864,1
    "#);
    opened.opened_as = OpenedAs::Model;
    opened.level = None;
    assert_snapshot!(table(Output::Use(opened)), @"
    Using gemma.vindex (google/gemma-3-270m, checkpoint)
    18 layers, 36,864 features, 1 relation type
    ");
}

#[test]
fn extract() {
    let extracted = Extracted {
        model: "google/gemma-3-270m".into(),
        path: "gemma.vindex".into(),
        level: ExtractLevel::All,
        dtype: FloatType::F16,
        quant: Quant::None,
        layers: 18,
        features: 36_864,
        bytes: 536_870_912,
        seconds: 12.375,
    };
    assert_snapshot!(all(Output::Extract(extracted)), @r#"
    Extracted google/gemma-3-270m into gemma.vindex
    level all, f16, 18 layers, 36,864 features, 536.9 MB in 12.4 s
    ---
    {"kind":"extract","model":"google/gemma-3-270m","path":"gemma.vindex","level":"all","dtype":"f16","quant":"none","layers":18,"features":36864,"bytes":536870912,"seconds":12.375}
    ---
    path,model,level,dtype,quant,layers,features,bytes,seconds
    gemma.vindex,google/gemma-3-270m,all,f16,none,18,36864,536870912,12.375
    "#);
}

fn patches() -> Vec<PatchRow> {
    vec![
        PatchRow { patch: "facts.vlp".into(), operations: 12, open: false, saved: true },
        PatchRow { patch: "(unnamed)".into(), operations: 1, open: true, saved: false },
    ]
}

#[test]
fn stats() {
    let stats = Stats {
        path: "gemma.vindex".into(),
        model: "google/gemma-3-270m".into(),
        family: "gemma3".into(),
        level: Some(ExtractLevel::Inference),
        dtype: Some(FloatType::F16),
        quant: Some(Quant::Q4k),
        layers: 18,
        hidden_size: 640,
        vocab_size: 262_144,
        features: 36_864,
        bytes: 383_000_000,
        files: vec![
            FileRow { file: "embeddings.bin".into(), bytes: 335_544_320 },
            FileRow { file: "gate_vectors.bin".into(), bytes: 47_185_920 },
        ],
        labels: vec![
            LabelCount { source: LabelSource::Probe, count: 1_412 },
            LabelCount { source: LabelSource::Cluster, count: 88 },
        ],
        patches: patches(),
    };
    assert_snapshot!(all(Output::Stats(stats)), @r#"
    gemma.vindex
      model       google/gemma-3-270m
      family      gemma3
      level       inference
      dtype       f16
      quant       q4k
      layers      18
      hidden_size 640
      vocab_size  262,144
      features    36,864
      bytes       383.0 MB
      labels      1,500 features (1,412 probe, 88 cluster)
     file                 bytes
    ────────────────────────────
     embeddings.bin    335.5 MB
     gate_vectors.bin   47.2 MB
     patch      operations  open  saved
    ────────────────────────────────────
     facts.vlp          12  no    yes
     (unnamed)           1  yes   no
    ---
    {"kind":"stats","path":"gemma.vindex","model":"google/gemma-3-270m","family":"gemma3","level":"inference","dtype":"f16","quant":"q4k","layers":18,"hidden_size":640,"vocab_size":262144,"features":36864,"bytes":383000000,"files":[{"file":"embeddings.bin","bytes":335544320},{"file":"gate_vectors.bin","bytes":47185920}],"labels":[{"source":"probe","count":1412},{"source":"cluster","count":88}],"patches":[{"patch":"facts.vlp","operations":12,"open":false,"saved":true},{"patch":"(unnamed)","operations":1,"open":true,"saved":false}]}
    ---
    name,value
    model,google/gemma-3-270m
    family,gemma3
    level,inference
    dtype,f16
    quant,q4k
    layers,18
    hidden_size,640
    vocab_size,262144
    features,36864
    bytes,383000000
    file embeddings.bin,335544320
    file gate_vectors.bin,47185920
    labels probe,1412
    labels cluster,88
    patch facts.vlp,12
    patch (unnamed),1
    "#);
}

#[test]
fn show_relations() {
    let row = |relation: &str, count, examples: &[&str]| RelationRow {
        relation: relation.into(),
        count,
        layer: 14,
        layer_max: 27,
        source: LabelSource::Probe,
        examples: examples.iter().map(|word| (*word).into()).collect(),
    };
    let rows = vec![row("capital", 1_412, &["Paris", "Rome"]), row("language", 98, &["French"])];
    assert_snapshot!(all(Output::Relations(Relations { detail: Detail::Verbose, rows: rows.clone(), next: None })), @r#"
     relation  count  layers  source  examples
    ──────────────────────────────────────────────
     capital   1,412  L14-27  probe   Paris, Rome
     language     98  L14-27  probe   French
    ---
    {"kind":"relations","detail":"verbose","rows":[{"relation":"capital","count":1412,"layer":14,"layer_max":27,"source":"probe","examples":["Paris","Rome"]},{"relation":"language","count":98,"layer":14,"layer_max":27,"source":"probe","examples":["French"]}]}
    ---
    relation,count,layer,layer_max,source,examples
    capital,1412,14,27,probe,"[""Paris"",""Rome""]"
    language,98,14,27,probe,"[""French""]"
    "#);
    assert_snapshot!(table(Output::Relations(Relations { detail: Detail::Brief, rows: rows.clone(), next: None })), @"
     relation  count  layers
    ─────────────────────────
     capital   1,412  L14-27
     language     98  L14-27
    ");
    assert_snapshot!(table(Output::Relations(Relations { detail: Detail::Raw, rows, next: None })), @"
     relation  count
    ─────────────────
     capital   1,412
     language     98
    ");
}

#[test]
fn show_layers() {
    let row =
        |layer, band, labelled| LayerRow { layer, band, features: 2048, gate_norm: Some(1.375), labelled };
    let rows =
        vec![row(0, Some(Band::Syntax), 0.0), row(14, Some(Band::Knowledge), 0.125), row(15, None, 1.0)];
    assert_snapshot!(all(Output::Layers(Layers { rows })), @r#"
     layer  band       features  gate_norm  labelled
    ─────────────────────────────────────────────────
         0  syntax        2,048       1.38     0.00%
        14  knowledge     2,048       1.38    12.50%
        15                2,048       1.38   100.00%
    ---
    {"kind":"layers","rows":[{"layer":0,"band":"syntax","features":2048,"gate_norm":1.375,"labelled":0.0},{"layer":14,"band":"knowledge","features":2048,"gate_norm":1.375,"labelled":0.125},{"layer":15,"features":2048,"gate_norm":1.375,"labelled":1.0}]}
    ---
    layer,band,features,gate_norm,labelled
    0,syntax,2048,1.375,0
    14,knowledge,2048,1.375,0.125
    15,,2048,1.375,1
    "#);
}

#[test]
fn show_features() {
    let mut row = labelled(feature(26, 9_515, 0.0, &[" Paris", " Rome"]));
    row.gate = None;
    row.score = Some(0.875);
    assert_snapshot!(all(Output::Features(Features { layer: 26, rows: vec![row], left_out: 7 })), @r#"
     layer  feature   score  label    source   tokens
    ───────────────────────────────────────────────────────
        26     9515  0.8750  capital  cluster  Paris, Rome
    1 of 8 rows; LIMIT n shows more
    ---
    {"kind":"features","layer":26,"rows":[{"layer":26,"feature":9515,"score":0.875,"tokens":[" Paris"," Rome"],"label":"capital","source":"cluster"}],"left_out":7}
    ---
    layer,feature,gate,activation,contribution,score,label,source,tokens
    26,9515,,,,0.875,capital,cluster,"["" Paris"","" Rome""]"
    "#);
    assert_snapshot!(table(Output::Features(Features { layer: 26, rows: Vec::new(), left_out: 0 })), @"(no features)");
}

#[test]
fn show_entities() {
    let row = |entity: &str, count| EntityRow { entity: entity.into(), count, layer: 3, layer_max: 27 };
    let rows = vec![row("Paris", 1_203), row("東京", 12)];
    assert_snapshot!(all(Output::Entities(Entities { rows, left_out: 0 })), @r#"
     entity  count  layer  layer_max
    ─────────────────────────────────
     Paris   1,203      3         27
     東京       12      3         27
    ---
    {"kind":"entities","rows":[{"entity":"Paris","count":1203,"layer":3,"layer_max":27},{"entity":"東京","count":12,"layer":3,"layer_max":27}]}
    ---
    entity,count,layer,layer_max
    Paris,1203,3,27
    東京,12,3,27
    "#);
}

#[test]
fn show_models() {
    let atlas = ModelRow {
        name: "atlas".into(),
        model: "larql/atlas".into(),
        bundled: true,
        level: Some(ExtractLevel::All),
        layers: Some(6),
        features: Some(4_608),
        bytes: Some(9_200_000),
        path: Some("~/.cache/larql/models/atlas.vindex".into()),
    };
    let checkpoint = ModelRow {
        name: "smol".into(),
        model: "HuggingFaceTB/SmolLM2-135M".into(),
        bundled: false,
        level: None,
        ..atlas.clone()
    };
    let unused = ModelRow {
        name: "globe".into(),
        level: None,
        layers: None,
        features: None,
        bytes: None,
        path: None,
        ..atlas.clone()
    };
    assert_snapshot!(all(Output::Models(Models { rows: vec![atlas, unused, checkpoint] })), @r#"
     name   model                     bundled  level  layers  features   bytes  path
    ────────────────────────────────────────────────────────────────────────────────────────────────────
     atlas  larql/atlas               yes      all         6     4,608  9.2 MB  ~/.cache/larql/models/…
     globe  larql/atlas               yes
     smol   HuggingFaceTB/SmolLM2-1…  no                   6     4,608  9.2 MB  ~/.cache/larql/models/…
    ---
    {"kind":"models","rows":[{"name":"atlas","model":"larql/atlas","bundled":true,"level":"all","layers":6,"features":4608,"bytes":9200000,"path":"~/.cache/larql/models/atlas.vindex"},{"name":"globe","model":"larql/atlas","bundled":true},{"name":"smol","model":"HuggingFaceTB/SmolLM2-135M","bundled":false,"layers":6,"features":4608,"bytes":9200000,"path":"~/.cache/larql/models/atlas.vindex"}]}
    ---
    name,model,bundled,level,layers,features,bytes,path
    atlas,larql/atlas,true,all,6,4608,9200000,~/.cache/larql/models/atlas.vindex
    globe,larql/atlas,true,,,,,
    smol,HuggingFaceTB/SmolLM2-135M,false,,6,4608,9200000,~/.cache/larql/models/atlas.vindex
    "#);
    assert_snapshot!(table(Output::Models(Models { rows: Vec::new() })), @"(no models in the cache; EXTRACT MODEL makes a vindex of a checkpoint or GGUF file)");
}

#[test]
fn show_patches() {
    assert_snapshot!(all(Output::Patches(Patches { rows: patches() })), @r#"
     patch      operations  open  saved
    ────────────────────────────────────
     facts.vlp          12  no    yes
     (unnamed)           1  yes   no
    ---
    {"kind":"patches","rows":[{"patch":"facts.vlp","operations":12,"open":false,"saved":true},{"patch":"(unnamed)","operations":1,"open":true,"saved":false}]}
    ---
    patch,operations,open,saved
    facts.vlp,12,false,true
    (unnamed),1,true,false
    "#);
}

#[test]
fn statements_of_one_text_are_told_apart_in_csv() {
    let output = Output::Entities(Entities { rows: Vec::new(), left_out: 0 });
    let options = RenderOptions { statement: Some(2), ..RenderOptions::default() };
    assert_snapshot!(render(&output, Format::Csv, &options), @"statement,entity,count,layer,layer_max");
}

#[test]
fn answers_of_a_pipe_are_one_csv_table() {
    let asked = |prompt: &str, token: &str| {
        let runs = vec![run("walk", 1.0, &[(token, 0.5)])];
        Output::Infer(Inferred { prompt: prompt.into(), overridden: None, runs, intervention: None })
    };
    let several = Output::Several(Several { outputs: vec![asked("a", " b"), asked("c", "d")] });
    assert_snapshot!(render(&several, Format::Csv, &RenderOptions::default()), @"
    prompt,ffn,rank,token,token_id,probability,phrase,latency_ms
    a,walk,1, b,100,0.5,,1
    c,walk,1,d,100,0.5,,1
    ");
}

#[test]
fn messages() {
    let message = Message {
        text: "Deleted 2 edges.".into(),
        next: Some("An automatic patch holds the change; keep it with SAVE PATCH \"name.vlp\".".into()),
    };
    assert_snapshot!(all(Output::Message(message)), @r#"
    Deleted 2 edges.
    An automatic patch holds the change; keep it with SAVE PATCH "name.vlp".
    ---
    {"kind":"message","text":"Deleted 2 edges.","next":"An automatic patch holds the change; keep it with SAVE PATCH \"name.vlp\"."}
    ---
    message
    Deleted 2 edges.
    "#);
}

#[test]
fn pretty_json_is_for_people() {
    let options = RenderOptions { pretty: true, ..RenderOptions::default() };
    let message = Output::Message(Message { text: "Done.".into(), next: None });
    assert_snapshot!(render(&message, Format::Json, &options), @r#"
    {
      "kind": "message",
      "text": "Done."
    }
    "#);
}

#[test]
fn entities_for_completion() {
    assert_eq!(described(Detail::Raw).entities(), ["France", "Paris", "French", "日本", " the"]);
}

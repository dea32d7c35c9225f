//! `demo`: what a newcomer sees first.

use insta::assert_snapshot;

use super::*;

#[test]
fn it_shows_real_answers_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let shown = larql(["demo"]).env("TMPDIR", folder.path()).assert().success().stderr("");
    insta::with_settings!({filters => vec![
        (r"in [\d.]+ m?s\n", "in [time]\n"),
        (r"[\d.]+% \(lowest wording [\d.]+%\)", "[probability] (lowest wording [probability])"),
        (r"[\d.]+ k?B larger", "[some] larger"),
        // Last digits depend on the processor's instructions.
        (r"(0\.\d{3})\d\n", "${1}x\n"),
        (r"(0\.\d{3})\d(  L)", "${1}x${2}"),
    ]}, {
        assert_snapshot!(stdout(&shown), @r#"
    -- A checkpoint becomes a vindex, as with `larql extract atlas -o atlas.vindex
    --   --level all`.
    larql> EXTRACT MODEL "atlas" INTO "atlas.vindex" WITH ALL;
    Extracted atlas into atlas.vindex
    level all, f16, 4 layers, 3,072 features, 9.8 MB in [time]

    -- A vindex is opened like a database.
    larql> USE "atlas.vindex";
    Using atlas.vindex (atlas, level all)
    4 layers, 3,072 features, 16 relation types

    -- What the model associates with a word.
    larql> DESCRIBE "France" LIMIT 5;
    France
      Edges (L0-3)
       relation      target  confidence  layers  features  source
      ────────────────────────────────────────────────────────────
       calling-code  33          0.999x  L3             4  probe
       language      French      0.999x  L0-3           8  probe
       demonym       French      0.998x  L2-3           9  probe
       country-code  FR          0.998x  L2-3           8  probe
       capital       Paris       0.993x  L1-3           9  probe
      5 of 10 edges; LIMIT n shows more
      253 features fire too, without a known relation; VERBOSE shows them

    -- What it says next: the forward pass runs over the features of the vindex.
    larql> INFER "The capital of France is" TOP 3;
      1. ␣Paris        99.74%
      2. ␣Libreville    0.07%
      3. ␣Madrid        0.03%

    -- How it gets there: what each layer would answer, and the feature that pushes
    --   the answer most.
    larql> EXPLAIN INFER "The capital of France is" TOP 1;
    The capital of France is
      1. ␣Paris        99.74%
      2. ␣Libreville    0.07%
      3. ␣Madrid        0.03%
      4. ␣called        0.03%
      5. ␣Port          0.01%
    Contributions are to the logit of ␣Paris 99.74%
    L0 (lens ␣called 70.66%, answer <0.01%)
       feature  gate  activation  contribution   score  tokens
      ───────────────────────────────────────────────────────────────────
           474  1.80        7.47        0.0818  0.516x  Lu, San, gallium

    L1 (lens ␣called 78.73%, answer 0.82%)
       feature  gate  activation  contribution   score  tokens
      ─────────────────────────────────────────────────────────────────────────
           241  5.37       40.36        0.9385  0.8566  called, Maseru, Bangui

    L2 (lens ␣Paris 77.51%, answer 77.51%)
       feature  gate  activation  contribution   score  tokens
      ──────────────────────────────────────────────────────────────────────────
           101  4.10      -24.46        0.4622  0.8850  antonym, atom, official

    L3 (lens ␣Paris 99.74%, answer 99.74%)
       feature  gate  activation  contribution   score  tokens
      ───────────────────────────────────────────────────────────────────
           320  6.08      -39.19        0.7119  0.5934  ep, old, learned

    -- The same knowledge as a table.
    larql> SELECT entity, relation, target, confidence FROM EDGES
               WHERE entity IN ("Japan", "oxygen", "hot") AND confidence > 0.5
               ORDER BY confidence DESC LIMIT 9;
     entity  relation      target    confidence
    ────────────────────────────────────────────
     hot     opposite      cold          0.998x
     Japan   language      Japanese      0.997x
     Japan   demonym       Japanese      0.996x
     Japan   calling-code  81            0.995x
     Japan   country-code  JP            0.993x
     Japan   capital       Tokyo         0.989x
     Japan   currency      yen           0.988x
     hot     comparative   hotter        0.985x
     oxygen  symbol        O             0.982x

    -- A fact that it was never taught becomes a feature of its own. The vindex
    --   itself is never written.
    larql> INSERT INTO EDGES (entity, relation, target)
               VALUES ("Atlantis", "capital", "Poseidon");
    Inserted 1 edge in patch automatic
      Atlantis [capital] → Poseidon  <0.01% → [probability] (lowest wording [probability])
      all 10 neighbouring answers that were checked stay
    Not saved yet. Keep it: SAVE PATCH "edits.vlp";  Undo it: UNDO;

    -- It comes out, token by token: P, ose, idon;
    larql> INFER "The capital of Atlantis is" TOP 2;
      1. ␣P   99.98%  Poseidon
      2. ␣E   <0.01%

    -- nothing else changes.
    larql> INFER "The capital of France is" TOP 2;
      1. ␣Paris        99.74%
      2. ␣Libreville    0.07%

    -- Edits are kept in a file.
    larql> SAVE PATCH "edits.vlp";
    Saved patch edits.vlp (4 operations)

    -- Base and edits become a vindex of its own,
    larql> COMPILE CURRENT INTO VINDEX "edited.vindex";
    Compiled into edited.vindex
    3 tensors written, 4 features changed, 11 files kept as they are
    9.8 MB ([some] larger than the source) in [time]

    -- and a model as other programs read it.
    larql> COMPILE CURRENT INTO MODEL "edited" FORMAT safetensors;
    Compiled into edited
    38 tensors written, 4 features changed
    8.5 MB (1.3 MB smaller than the source) in [time]

    -- That model knows it too,
    larql> USE MODEL "edited"; INFER "The capital of Atlantis is" TOP 1;
    Using edited (edited, checkpoint)
    4 layers, 3,072 features, 0 relation types
      1. ␣P   99.98%  Poseidon

    -- and the vindex is like any other.
    larql> USE "edited.vindex"; INFER "The capital of Atlantis is" TOP 1;
    Using edited.vindex (atlas, level all)
    4 layers, 3,072 features, 16 relation types
      1. ␣P   99.98%  Poseidon
    "#);
    });
    assert!(std::fs::read_dir(folder.path()).unwrap().next().is_none());
}

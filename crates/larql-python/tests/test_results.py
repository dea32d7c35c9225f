"""Results of statements: typed fields, rows, Arrow, and equality with what Rust prints."""

from __future__ import annotations

import dataclasses
import json
import pickle
import re
from pathlib import Path

import numpy as np
import pytest

import larql
from larql import results

CRATES = Path(__file__).parents[2]


def test_described_has_typed_edges_in_the_order_of_the_table(vindex: larql.Vindex) -> None:
    described = vindex.session.describe("France")
    edges = described.bands[0].edges
    assert edges[0].confidence is not None and 0 < edges[0].confidence <= 1
    labelled = [edge for edge in edges if edge.relation == "capital"]
    assert [edge.target for edge in labelled] == ["Paris"]
    assert [row.target for row in described] == [edge.target for edge in edges]
    assert described[0].relation == edges[0].relation
    assert len(described) == len(edges) == len(described.to_dicts())


def test_a_row_has_attributes_and_unpacks(vindex: larql.Vindex) -> None:
    selected = vindex.query('SELECT entity, target FROM EDGES WHERE entity = "France" AND relation = "capital";')
    assert isinstance(selected, results.Selected)
    (row,) = selected
    entity, target = row
    assert (row.entity, row.target) == (entity, target) == ("France", "Paris")
    assert selected.columns == ["entity", "target"] == selected.fields


def test_json_is_that_of_the_command_line(vindex: larql.Vindex) -> None:
    described = vindex.query('DESCRIBE "France";')
    decoded = json.loads(described.to_json())
    assert decoded["kind"] == described.kind == "describe"
    typed = [dataclasses.asdict(edge) for edge in described.bands[0].edges]  # type: ignore[attr-defined]
    assert typed == decoded["bands"][0]["edges"]


def test_text_is_what_the_prompt_shows(vindex: larql.Vindex) -> None:
    text = vindex.session.query_text('INFER "The capital of France is" TOP 1;')
    assert "␣Paris" in text and "walk" not in text.splitlines()[-1].split("Paris")[1]
    assert str(vindex.query("STATS;")).startswith(vindex.path)


def test_several_statements_have_several_results(vindex: larql.Vindex) -> None:
    described, stats = vindex.session.query_all('DESCRIBE "France"; STATS;')
    assert (described.kind, stats.kind) == ("describe", "stats")


def test_a_pipe_answers_for_each_row(vindex: larql.Vindex) -> None:
    several = vindex.query('SELECT target FROM EDGES WHERE entity = "France" AND relation = "capital" |> DESCRIBE;')
    assert isinstance(several, results.Several)
    (described,) = several.outputs
    assert isinstance(described, results.Described) and described.entity == "Paris"
    assert len(several) == len(described)
    both = vindex.query('SELECT target FROM EDGES WHERE entity = "France" AND relation = "capital" |> INFER TOP 1;')
    assert repr(both).startswith("<Several, 1 results>") and "<table>" in both._repr_html_()


def test_results_are_pickled(vindex: larql.Vindex) -> None:
    inferred = vindex.session.infer("The capital of France is")
    copied = pickle.loads(pickle.dumps(inferred))
    assert copied == inferred and copied.runs == inferred.runs and copied is not inferred


def test_arrow_takes_every_column_with_its_type(vindex: larql.Vindex) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    described = vindex.session.describe("France")
    table = pyarrow.table(described)
    assert table.column_names == described.columns
    types = {name: str(table.schema.field(name).type) for name in described.columns}
    assert types["confidence"] == "float" and types["layer"] == "int64" and types["also"].startswith("list<")
    assert table.to_pylist() == described.to_dicts()
    # The single precision of the score is kept, where JSON has the shortest decimals.
    (confidence,) = {np.float32(table["confidence"][0].as_py()), np.float32(described.bands[0].edges[0].confidence)}
    assert confidence > 0


def test_a_column_without_values_has_the_type_of_other_results(vindex: larql.Vindex) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    walked = pyarrow.table(vindex.session.walk("The capital of France is", top=1))
    assert str(walked.schema.field("contribution").type) == "float"


def test_each_class_has_the_fields_of_its_rust_type() -> None:
    sources = (CRATES / "larql-lql/src/output").glob("*.rs")
    structs = {}
    for source in sources:
        text = re.sub(r"///.*|//!.*", "", source.read_text())
        for name, body in re.findall(r"pub struct (\w+) \{(.*?)\n\}", text, re.S):
            renamed = re.sub(r'#\[serde\([^\]]*rename = "(\w+)"[^\]]*\)\]\s*pub \w+', r"pub \1", body)
            structs[name] = {field for field in re.findall(r"pub (\w+):", renamed)}
    # Its variants' fields are flattened into the edge, and a record is a dict.
    structs["InsertedEdge"] = structs["InsertedEdge"] - {"stored"} | {"mode", "probability", "layer", "threshold"}
    classes = {
        name: {field.metadata.get("json", field.name) for field in dataclasses.fields(of)}
        for name, of in vars(results).items()
        if dataclasses.is_dataclass(of) and isinstance(of, type) and name != "Result"
    }
    for name, fields in structs.items():
        assert classes[name] == fields, name
    assert set(classes) == set(structs)


def test_every_kind_of_result_is_read(editable: larql.Vindex, tmp_path: Path) -> None:
    patch = tmp_path / "edits.vlp"
    statements = f"""
        STATS; SHOW RELATIONS WITH EXAMPLES; SHOW LAYERS; SHOW FEATURES 2 LIMIT 3; SHOW ENTITIES LIMIT 3; SHOW MODELS;
        WALK "France" TOP 2 COMPARE; EXPLAIN WALK "France" TOP 1; EXPLAIN INFER "The capital of France is" TOP 1;
        EXPLAIN INFER "The capital of France is" GRAPH;
        TRACE "The capital of France is" FOR "Paris"; TRACE "The capital of France is" DIFF "The capital of Spain is";
        BEGIN PATCH "{patch}"; INSERT INTO EDGES (entity, relation, target) VALUES ("Atlantis", "capital", "Rome") MODE KNN;
        INFER "The capital of Atlantis is" TOP 1; SHOW PATCHES; SHOW COMPACT STATUS; SAVE PATCH;
        COMPILE CURRENT INTO VINDEX "{tmp_path / 'edited.vindex'}"; DIFF "atlas" CURRENT; UNDO;
    """
    kinds = [result.kind for result in editable.session.query_all(statements)]
    assert len(kinds) == 21
    for result in editable.session.query_all('DESCRIBE "France"; SHOW PATCHES;'):
        assert result._repr_html_() and repr(result)


def test_html_has_bars_headings_and_a_heat_map(vindex: larql.Vindex) -> None:
    described = vindex.session.describe("France")._repr_html_()
    assert "<b>entity</b> France" in described and "<th style='text-align:left'>relation</th>" in described
    assert "linear-gradient(90deg" in described and "<script" not in described
    everywhere = vindex.session.trace("The capital of France is", every_position=True)
    heat = everywhere._repr_html_()
    assert heat.count("<td title=") == len(everywhere) and "␣Paris" in heat and "<th>emb</th>" in heat
    unsafe = vindex.session.walk("<b>")._repr_html_()
    assert "<b>&lt;b&gt;" not in unsafe and "&lt;b&gt;" in unsafe
    assert "nothing found" in vindex.query("SHOW PATCHES;")._repr_html_()


def test_an_attribution_graph_is_rows_and_a_page(vindex: larql.Vindex, tmp_path: Path) -> None:
    graph = vindex.session.graph("The capital of France is")
    assert isinstance(graph, results.AttributionGraph) and graph.answer.token == " Paris"
    kinds = {node.kind for node in graph.nodes}
    assert kinds == {"token", "head", "feature", "rest", "answer"}
    ids = {node.id for node in graph.nodes}
    assert all({edge.source, edge.target} <= ids for edge in graph.edges) and len(graph) == len(graph.nodes) + len(graph.edges)
    into_answer = sum(edge.weight for edge in graph.edges if edge.target == graph.nodes[-1].id)
    assert np.isclose(into_answer, graph.logit, rtol=0.02)
    saved = vindex.session.graph("The capital of France is", save=tmp_path / "graph.html")
    assert saved.saved is not None and Path(saved.saved).read_text() == graph.to_html()
    shown = graph._repr_html_()
    assert shown.startswith("<iframe sandbox='allow-scripts'") and "&lt;svg" in shown and "<script" not in shown
    assert "<details><summary>nodes and edges</summary>" in shown
    traced = vindex.session.trace("The capital of France is", every_position=True)
    assert traced.to_html().startswith("<!doctype html>") and "<script" not in traced.to_html()


def test_plots_draw_what_results_say(vindex: larql.Vindex) -> None:
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("svg")
    import larql.plot

    described = vindex.session.describe("France")
    axes = larql.plot.describe(described, limit=4)
    assert [bar.get_width() for bar in axes.patches] == [edge.confidence for edge in described.bands[0].edges[:4]]
    traced = vindex.session.trace("The capital of France is", every_position=True)
    shown = larql.plot.trace(traced).images[0].get_array()
    assert shown is not None and np.isclose(shown[-1, -1], traced.rows[-1].top1_prob)
    explained = vindex.session.explain("The capital of France is", layers=(2, 3), top=3)
    widths = [bar.get_width() for bar in larql.plot.explain(explained).patches]
    assert len(widths) == 6 and np.abs(widths).tolist() == sorted(np.abs(widths).tolist(), reverse=True)

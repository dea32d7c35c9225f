"""LARQL: a transformer model as a database.

::

    import larql

    vindex = larql.load("atlas")
    vindex.describe("France")
    vindex.infer("The capital of France is")
    vindex.query('SELECT target, confidence FROM EDGES WHERE entity = "France"').to_pandas()

    model = vindex.walk_model()
    with model.hooks(("layer_output", lambda values, point: None)):
        model.predict("The capital of France is")

``larql.session`` and ``larql.remote`` give a session for statements of LQL, ``larql.WalkModel`` runs passes.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from . import errors, points, results
from ._larql import (
    AnswerWaypoint,
    BoundaryStore,
    BoundaryWriter,
    ContextStore,
    Generation,
    HookPoint,
    Intervention,
    KeyValueCache,
    LayerSummary,
    ResidualTrace,
    TraceStore,
    __version__,
    set_threads,
)
from .errors import LarqlError
from .results import Result
from .session import Session, extract, models, remote, session
from .vindex import ArrowStream, DescribeEdge, FeatureMeta, Relation, Vindex, WalkHit, load
from .walk_model import WalkModel

load_vindex = load
create_session = session

__all__ = [
    "AnswerWaypoint",
    "ArrowStream",
    "BoundaryStore",
    "BoundaryWriter",
    "ContextStore",
    "DescribeEdge",
    "FeatureMeta",
    "Generation",
    "HookPoint",
    "Intervention",
    "KeyValueCache",
    "LarqlError",
    "LayerSummary",
    "Relation",
    "ResidualTrace",
    "Result",
    "Session",
    "TraceStore",
    "Vindex",
    "WalkHit",
    "WalkModel",
    "__version__",
    "create_session",
    "errors",
    "extract",
    "load",
    "load_vindex",
    "models",
    "points",
    "remote",
    "results",
    "session",
    "set_threads",
]

_EDGES_ARE_TABLES = (
    "edges are tables here, which graph libraries take: "
    'networkx.from_pandas_edgelist(vindex.edges_table().to_pandas(), "entity", "target", "relation")'
)
_ELSEWHERE = {
    **dict.fromkeys(
        ["Edge", "Graph", "Node", "load_graph", "save_graph", "load_csv", "save_csv", "shortest_path", "merge_graphs"]
        + ["merge_graphs_with_strategy", "pagerank", "bfs_traversal", "dfs_traversal"],
        _EDGES_ARE_TABLES,
    ),
    "diff": "vindexes are compared by the statement DIFF: session.query('DIFF \"a.vindex\" CURRENT;')",
    "weight_walk": "features with their tokens are a table: vindex.features_table()",
    "attention_walk": "a head's output weights are model.w_o_for_head(layer, head), and model.project_through_unembed reads them",
    "streaming": "weights are mapped, and larql.mlx.load loads a checkpoint into MLX",
    "walk_ffn": "WalkModel(path, top_k) walks in passes, and WalkModel.ffn_layer computes the step of one layer",
}
"""Names of the earlier package that have no counterpart of the same name, and what takes their place."""

if not TYPE_CHECKING:

    def __getattr__(name):
        if name in ("mlx", "plot", "ray"):
            return import_module(f"larql.{name}")
        if name in _ELSEWHERE:
            raise AttributeError(f"larql has no {name!r}: {_ELSEWHERE[name]}")
        raise AttributeError(f"module 'larql' has no attribute {name!r}")

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

from . import errors, points, results
from ._larql import (
    AnswerWaypoint,
    BoundaryStore,
    BoundaryWriter,
    ContextStore,
    Generation,
    HookPoint,
    Intervention,
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

"""Results of statements.

Every statement of LQL answers with one of the classes of this module. Their fields have the names of LQL's JSON. Each is a
:class:`Result` as well: a table that is iterated row by row, taken by pandas, polars, pyarrow and DuckDB without a copy, and
shown in a notebook.
"""

from __future__ import annotations

import json
from collections import namedtuple
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields
from functools import cache
from types import UnionType
from typing import TYPE_CHECKING, Any, TypeVar, Union, get_args, get_origin, get_type_hints, overload

from . import _html
from ._larql import Answer

if TYPE_CHECKING:
    import pandas
    import polars
    import pyarrow

T = TypeVar("T")


@cache
def _row_type(columns: tuple[str, ...]) -> Any:
    """Returns the class of rows with these columns."""
    return namedtuple("Row", columns, rename=True)


@dataclass(frozen=True, eq=False, repr=False)
class Result:
    """Result of one statement, and its table of rows and columns."""

    @property
    def kind(self) -> str:
        """Kind of the result, such as ``describe`` or ``infer``."""
        return _KIND_OF[type(self)]

    @property
    def columns(self) -> list[str]:
        """Names of the table's columns."""
        return self._answer.columns()

    def to_dicts(self) -> list[dict[str, Any]]:
        """Returns the rows, each as a dict from column to value; ``None`` where a row has none."""
        columns = self.columns
        return [dict(zip(columns, row)) for row in self._answer.rows()]

    def to_dict(self) -> dict[str, Any]:
        """Returns the whole result as dicts and lists, as it is in JSON."""
        decoded: dict[str, Any] = json.loads(self.to_json())
        return decoded

    def to_json(self) -> str:
        """Returns the whole result as JSON."""
        return self._answer.json()

    def to_text(self, width: int | None = None) -> str:
        """Returns the result as the prompt shows it, cut to ``width`` columns if one is given."""
        return self._answer.text(width)

    def to_arrow(self) -> pyarrow.Table:
        """Returns the table as a table of pyarrow, which has to be installed."""
        import pyarrow

        return pyarrow.table(self)

    def to_pandas(self) -> pandas.DataFrame:
        """Returns the table as a data frame of pandas, which has to be installed."""
        import pandas

        return pandas.DataFrame(self.to_dicts(), columns=self.columns)

    def to_polars(self) -> polars.DataFrame:
        """Returns the table as a data frame of polars, which has to be installed."""
        import polars

        return polars.DataFrame(self)

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        return self._answer.__arrow_c_stream__(requested_schema)

    def __len__(self) -> int:
        return len(self._answer.rows())

    def __bool__(self) -> bool:
        return True

    def __iter__(self) -> Iterator[Any]:
        return map(_row_type(tuple(self.columns))._make, self._answer.rows())

    @overload
    def __getitem__(self, index: int) -> Any: ...

    @overload
    def __getitem__(self, index: slice) -> list[Any]: ...

    def __getitem__(self, index: int | slice) -> Any:
        return list(self)[index]

    def __str__(self) -> str:
        return self.to_text().rstrip("\n")

    def __repr__(self) -> str:
        return f"<{type(self).__name__}, {len(self)} rows>\n{self}"

    def _repr_html_(self) -> str:
        return _html.of_result(self)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Result) and self.to_json() == other.to_json()

    def __hash__(self) -> int:
        return hash(self.to_json())

    def __reduce__(self) -> tuple[Callable[[Answer], Result], tuple[Answer]]:
        return result_of, (self._answer,)

    @property
    def _answer(self) -> Answer:
        answer: Answer = self.__dict__["_native"]
        return answer


# Parts of results.


@dataclass(frozen=True)
class Edge:
    """Association of an entity."""

    relation: str | None
    """The relation, if one is known."""
    target: str
    """The word."""
    gate: float
    """Strength of the strongest feature."""
    layer: int
    """First layer with such a feature."""
    layer_max: int
    """Last layer with such a feature."""
    feature: int
    """Number of the strongest feature in its layer."""
    count: int
    """Number of features."""
    source: str | None
    """Origin of the relation: ``probe``, ``cluster``, ``pattern``, ``shipped wordings`` or ``inserted``."""
    via: str
    """Origin of the edge: ``asked``, ``probe``, ``residual``, ``attribution``, ``embedding`` or ``patch``."""
    confidence: float | None
    """Probability that it is true, 0 to 1, where that is known."""
    also: list[str]
    """Other spellings of the word, then other words that the strongest feature writes."""


@dataclass(frozen=True)
class BandEdges:
    """Edges of one band of layers."""

    band: str
    """``syntax``, ``knowledge``, ``output`` or ``all``."""
    layer: int
    """First layer."""
    layer_max: int
    """Last layer."""
    edges: list[Edge]
    """Edges, surest first."""
    left_out: int = 0
    """Number of edges with a relation that follow these."""
    unlabelled: int = 0
    """Number of features that fire too, without a known relation."""


@dataclass(frozen=True)
class FeatureRow:
    """Feature, with as much as the statement found out about it."""

    layer: int
    """Its layer."""
    feature: int
    """Its number in the layer."""
    tokens: list[str]
    """Tokens that it writes, strongest first."""
    gate: float | None = None
    """Its gate row times the query."""
    activation: float | None = None
    """``act(gate) * up``."""
    contribution: float | None = None
    """Its contribution to the answer's logit."""
    score: float | None = None
    """Logit with which it writes its first token, as extraction noted it."""
    label: str | None = None
    """Relation that it is labelled with."""
    source: str | None = None
    """Origin of the label."""


@dataclass(frozen=True)
class Ranked:
    """Features in the order of one ranking."""

    mode: str
    """``hybrid``, ``pure`` or ``dense``."""
    rows: list[FeatureRow]
    """Features, layer by layer, in each the strongest first."""


@dataclass(frozen=True)
class WalkedLayer:
    """Features of one layer that answer a query."""

    layer: int
    query_norm: float
    """Euclidean norm of the query, as this layer sees it."""
    features: int
    """Number of the layer's features."""
    rows: list[FeatureRow]
    """Features that answer most, strongest first."""
    band: str | None = None
    """Band that the layer belongs to."""


@dataclass(frozen=True)
class Prediction:
    """Token that may come next."""

    token: str
    """Its text, with the leading blank if it has one."""
    token_id: int
    """Its number in the vocabulary."""
    probability: float
    """0 to 1."""
    phrase: str | None = None
    """Word or phrase that it begins, where the model goes on with one."""


@dataclass(frozen=True)
class Run:
    """One run of the model."""

    ffn: str
    """Feed-forward step that ran: ``walk`` or ``dense``."""
    latency_ms: float
    """Wall time of the pass in milliseconds."""
    predictions: list[Prediction]
    """Likeliest next tokens, likeliest first."""


@dataclass(frozen=True)
class Overridden:
    """Inserted edge whose key matched the prompt."""

    entity: str
    relation: str
    target: str
    layer: int
    """Layer of the key."""
    cosine: float
    """Match of the key: cosine of centred, whitened vectors."""
    threshold: float
    """Least cosine with which it answers."""


@dataclass(frozen=True)
class InterventionReceipt:
    """Effect of a declared intervention."""

    file: str
    """File that declares it."""
    digest: str
    """SHA-256 of the declaration, in hexadecimal digits."""
    fired: list[int]
    """For each part of the declaration the number of rows that it changed."""
    captured: list[list[float]] = field(default_factory=list)
    """For each capture of the declaration the values, ``[rows * width]``."""


@dataclass(frozen=True)
class Attended:
    """Place that an attention head reads."""

    head: int
    position: int
    token: str
    weight: float
    """Attention weight, 0 to 1."""


@dataclass(frozen=True)
class ExplainedLayer:
    """Contribution of one layer to an answer."""

    layer: int
    lens_token: str
    """Likeliest token after this layer, by the logit lens."""
    lens_probability: float
    """Its probability, 0 to 1."""
    answer_probability: float
    """Probability of the answer after this layer, by the logit lens, 0 to 1."""
    rows: list[FeatureRow]
    """Features that move the answer most, either way."""
    attention: list[Attended] = field(default_factory=list)
    """Positions that attention reads most, where that was asked for."""


@dataclass(frozen=True)
class GraphNode:
    """Node of an attribution graph."""

    id: int
    """Its number in the graph."""
    kind: str
    """``token``, ``head``, ``feature``, ``rest`` or ``answer``."""
    token: str
    """Token at its position; of the answer its token."""
    influence: float
    """Part of the logit that goes through it."""
    layer: int | None = None
    number: int | None = None
    """Number of the head or feature in its layer."""
    position: int | None = None
    """Position that it writes to."""
    writes: list[str] = field(default_factory=list)
    """Tokens that a feature writes, strongest first."""
    label: str | None = None
    """Relation that a feature is labelled with."""
    activation: float | None = None
    """Activation of a feature."""


@dataclass(frozen=True)
class GraphEdge:
    """Edge of an attribution graph."""

    source: int
    """Node that it comes from."""
    target: int
    """Node that it goes to."""
    weight: float
    """Part of the logit that goes along it."""


@dataclass(frozen=True)
class TracedAnswer:
    """Answer that a trace follows."""

    text: str
    tokens: list[str]
    token: str
    """Token that is followed: the first that differs from the model's own answer, or the first of all."""
    token_id: int
    index: int
    """Its number in the answer, counted from 0."""


@dataclass(frozen=True)
class AnswerFigures:
    """Figures of an answer at a waypoint. Logits are before soft-capping."""

    rank: int
    """Rank of its token; 1 is the likeliest."""
    prob: float
    """Probability of its token."""
    logit: float
    """Logit of its token."""
    attn_logit: float
    """Contribution of attention to the logit."""
    ffn_logit: float
    """Contribution of the rest of the layer."""
    norm_logit: float
    """Change of the logit because the residual's norm changes. The three add up to the logit's change."""
    who: str
    """Part of the layer that moves the logit."""
    whole_prob: float | None = None
    """Probability of the whole answer, where it has several tokens."""


@dataclass(frozen=True)
class TracedRow:
    """One waypoint of one position."""

    position: int
    layer: int
    """-1 is the embedding."""
    top1_token: str
    """Likeliest next token by the logit lens."""
    top1_token_id: int
    top1_prob: float
    residual_norm: float
    """Norm of the residual."""
    attn_delta_norm: float
    """Norm of attention's addition."""
    ffn_delta_norm: float
    """Norm of the rest of the layer's change."""
    answer: AnswerFigures | None = None


@dataclass(frozen=True)
class SavedTrace:
    """File of residuals."""

    path: str
    format: str
    added: int
    """Chains or windows that were added."""
    entries: int
    """Chains or windows in the file."""
    worst_error: float | None = None
    """Greatest error of what is stored in 8 bits, as a share of its vector's root mean square."""


@dataclass(frozen=True)
class TraceDifferenceRow:
    """One waypoint of two prompts."""

    layer: int
    """-1 is the embedding."""
    cosine: float
    delta_norm: float
    top1_token: str
    top1_prob: float
    other_top1_token: str
    other_top1_prob: float


@dataclass(frozen=True)
class InsertedEdge:
    """Edge that was inserted, and its carrier."""

    entity: str
    relation: str
    target: str
    mode: str
    """``compose``: features of the model; ``knn``: an entry of the edge memory."""
    probability: float | None = None
    """Features: the least probability of a token of the target in any of the wordings that were tried."""
    layer: int | None = None
    """Edge memory: the layer whose residual is the key."""
    threshold: float | None = None
    """Edge memory: the least cosine with which it answers."""


@dataclass(frozen=True)
class EdgeEffect:
    """Effect of an edit on the model's answer to an edge."""

    entity: str
    relation: str
    target: str
    """Target whose probability is measured: the new one, or the one that was deleted."""
    before: float
    """Probability of the whole target before, 0 to 1."""
    after: float
    """The same afterwards."""
    says: str
    """Likeliest next token afterwards."""


@dataclass(frozen=True)
class ChangedAnswer:
    """Answer that an edit changed although it was not meant to."""

    prompt: str
    before: str
    after: str


@dataclass(frozen=True)
class NeighbourAnswers:
    """Answers to neighbouring questions."""

    asked: int
    """Number of questions."""
    changed: list[ChangedAnswer]
    """Answers whose first token changed."""


@dataclass(frozen=True)
class UncertainAnswer:
    """Answer that is too uncertain to count as knowledge."""

    entity: str
    relation: str
    says: str
    probability: float
    """Probability of its first token, 0 to 1."""


@dataclass(frozen=True)
class Difference:
    """Feature, or edge of the edge memory, that differs."""

    layer: int
    parts: list[str]
    """Parts that differ."""
    feature: int | None = None
    entity: str | None = None
    relation: str | None = None
    before: str | None = None
    """Word that it writes most in the base."""
    after: str | None = None
    """Word that it writes most in the other."""
    gate_cosine: float | None = None
    """Cosine of the two gate rows."""


@dataclass(frozen=True)
class WeightDifference:
    """Tensor outside of features that differs, in one layer or several."""

    tensor: str
    """Name, for instance ``self_attn.q_proj.weight``."""
    share: float
    """Largest norm of the difference, as a share of the norm of the base's values."""
    layers: list[int] = field(default_factory=list)
    """Layers in which it differs; none of a tensor outside of layers."""


@dataclass(frozen=True)
class RelationRow:
    """Relation that features are labelled with."""

    relation: str
    count: int
    """Number of features and of entries of the edge memory that carry it."""
    layer: int
    layer_max: int
    source: str
    """Most trusted of the sources that name it."""
    examples: list[str] = field(default_factory=list)
    """Facts or words, where examples were asked for."""


@dataclass(frozen=True)
class LayerRow:
    """Layer."""

    layer: int
    features: int
    labelled: float
    """Share of its features that are labelled, 0 to 1."""
    band: str | None = None
    gate_norm: float | None = None
    """Mean Euclidean norm of its gate rows."""


@dataclass(frozen=True)
class EntityRow:
    """Name that features know."""

    entity: str
    count: int
    """Number of features that write it."""
    layer: int
    layer_max: int


@dataclass(frozen=True)
class ModelRow:
    """Vindex or checkpoint that a name opens."""

    name: str
    model: str
    bundled: bool = False
    """True if it ships with LARQL."""
    level: str | None = None
    layers: int | None = None
    features: int | None = None
    bytes: int | None = None
    path: str | None = None


@dataclass(frozen=True)
class PatchRow:
    """Patch that lies over the vindex."""

    patch: str
    operations: int
    open: bool
    """True if edits go into it now."""
    saved: bool
    """True if its file has all of it."""


@dataclass(frozen=True)
class FileRow:
    """File."""

    file: str
    bytes: int


@dataclass(frozen=True)
class LabelCount:
    """Number of labels from one source."""

    source: str
    count: int


@dataclass(frozen=True)
class BalancedEdge:
    """Edge that was balanced with the others."""

    entity: str
    relation: str
    target: str
    before: float
    after: float
    scale: float
    """Factor of what its features write, relative to before."""
    converged: bool


@dataclass(frozen=True)
class SolvedEdge:
    """Edge that was solved for with others."""

    entity: str
    relation: str
    target: str
    before: float
    after: float


@dataclass(frozen=True)
class ChangedLayer:
    """Layer whose features write something else."""

    layer: int
    change: float
    """Length of the change as a share of that of all its down vectors."""


# Results.


@dataclass(frozen=True, eq=False, repr=False)
class Message(Result):
    """Sentence that says what was done."""

    text: str
    next: str | None = None
    """Next step."""


@dataclass(frozen=True, eq=False, repr=False)
class Opened(Result):
    """Result of USE."""

    path: str
    opened_as: str
    model: str
    layers: int
    features: int
    relations: int
    level: str | None = None


@dataclass(frozen=True, eq=False, repr=False)
class Extracted(Result):
    """Result of EXTRACT."""

    model: str
    path: str
    level: str
    dtype: str
    quant: str
    layers: int
    features: int
    bytes: int
    seconds: float


@dataclass(frozen=True, eq=False, repr=False)
class Walked(Result):
    """Features that a prompt's last token fires."""

    prompt: str
    token: str
    """Last token, which was looked up."""
    rankings: list[Ranked]
    """One ranking, or two with COMPARE."""
    approximate_in: str | None = None
    """4-bit format of gate rows, where it makes their scores approximate."""


@dataclass(frozen=True, eq=False, repr=False)
class ExplainedWalk(Result):
    """Result of EXPLAIN WALK."""

    prompt: str
    token: str
    layers: list[WalkedLayer]
    approximate_in: str | None = None


@dataclass(frozen=True, eq=False, repr=False)
class Described(Result):
    """Result of DESCRIBE."""

    entity: str
    detail: str
    bands: list[BandEdges]
    approximate_in: str | None = None
    next: str | None = None
    """Next step to learn more."""


@dataclass(frozen=True, eq=False, repr=False)
class Selected(Result):
    """Result of SELECT."""

    table: str = field(metadata={"json": "from"})
    """Table that the rows are of."""
    fields: list[str]
    """Columns, in the order they were asked for."""
    rows: list[dict[str, Any]]
    left_out: int = 0
    """Number of rows that follow these."""
    next: str | None = None


@dataclass(frozen=True, eq=False, repr=False)
class Inferred(Result):
    """Likeliest next tokens."""

    prompt: str
    runs: list[Run]
    """Predictions by the walk, and with COMPARE by the dense step too."""
    override: Overridden | None = None
    """Inserted edge that answers instead of the model."""
    intervention: InterventionReceipt | None = None


@dataclass(frozen=True, eq=False, repr=False)
class ExplainedInference(Result):
    """Result of EXPLAIN INFER."""

    prompt: str
    predictions: list[Prediction]
    answer: Prediction
    """Answer that is explained."""
    layers: list[ExplainedLayer]


@dataclass(frozen=True, eq=False, repr=False)
class AttributionGraph(Result):
    """Heads and features that bring an answer about, and what goes from one to another. Influences and weights are parts of
    the answer's logit above the mean logit of all tokens."""

    prompt: str
    tokens: list[str]
    answer: Prediction
    logit: float
    """Answer's logit less the mean logit of all tokens, without soft cap."""
    explained: float
    """Share of what goes into the answer that the nodes give, 0 to 1."""
    traced: float
    """Share of the answer that can be followed from node to node back to the prompt, 0 to 1."""
    nodes: list[GraphNode]
    edges: list[GraphEdge]
    """Greatest first."""
    sinks: list[int] = field(default_factory=list)
    """Attention sinks: positions whose heads and features are in the rest."""
    saved: str | None = None
    """File that it was written to."""

    def to_html(self) -> str:
        """Returns the graph as one page that can be explored, without other files."""
        return self._answer.page() or ""

    def _repr_html_(self) -> str:
        return _html.framed(self.to_html(), "nodes and edges", _html.of_result(self))


@dataclass(frozen=True, eq=False, repr=False)
class Traced(Result):
    """Residual stream of a prompt, layer by layer."""

    prompt: str
    tokens: list[str]
    token_ids: list[int]
    n_layers: int
    hidden_size: int
    latency_ms: float
    view: str
    """Figures that the rows show: ``summary``, ``answer`` or ``decomposition``."""
    rows: list[TracedRow]
    answer: TracedAnswer | None = None
    saved: SavedTrace | None = None
    override: Overridden | None = None
    """Inserted edge that INFER would answer with."""

    def to_html(self) -> str:
        """Returns the trace as one page, a map of layers and positions, without scripts and other files."""
        return self._answer.page() or ""


@dataclass(frozen=True, eq=False, repr=False)
class TraceDifference(Result):
    """Residual streams of two prompts at their last tokens."""

    prompt: str
    other: str
    rows: list[TraceDifferenceRow]


@dataclass(frozen=True, eq=False, repr=False)
class Relations(Result):
    """Result of SHOW RELATIONS."""

    detail: str
    rows: list[RelationRow]
    next: str | None = None


@dataclass(frozen=True, eq=False, repr=False)
class Layers(Result):
    """Result of SHOW LAYERS."""

    rows: list[LayerRow]


@dataclass(frozen=True, eq=False, repr=False)
class Features(Result):
    """Result of SHOW FEATURES."""

    layer: int
    rows: list[FeatureRow]
    left_out: int = 0


@dataclass(frozen=True, eq=False, repr=False)
class Entities(Result):
    """Result of SHOW ENTITIES."""

    rows: list[EntityRow]
    left_out: int = 0


@dataclass(frozen=True, eq=False, repr=False)
class Models(Result):
    """Result of SHOW MODELS."""

    rows: list[ModelRow]


@dataclass(frozen=True, eq=False, repr=False)
class Patches(Result):
    """Result of SHOW PATCHES."""

    rows: list[PatchRow]


@dataclass(frozen=True, eq=False, repr=False)
class PatchChanged(Result):
    """Result of a statement about a patch."""

    action: str
    """``begun``, ``saved``, ``applied``, ``removed`` or ``undone``."""
    patch: str
    operations: int


@dataclass(frozen=True, eq=False, repr=False)
class Changed(Result):
    """Result of changing edges."""

    change: str
    """``inserted``, ``deleted``, ``updated``, ``merged`` or ``compacted``."""
    count: int
    automatic: bool
    """True if the patch has no file yet, so that the change ends with the session."""
    features: bool = False
    """True if single features were changed."""
    patch: str | None = None
    inserted: list[InsertedEdge] = field(default_factory=list)
    effects: list[EdgeEffect] = field(default_factory=list)
    neighbours: NeighbourAnswers | None = None
    uncertain: list[UncertainAnswer] = field(default_factory=list)


@dataclass(frozen=True, eq=False, repr=False)
class Differences(Result):
    """Differences between two vindexes."""

    base: str
    other: str
    count: int
    rows: list[Difference]
    other_weights: list[WeightDifference] = field(default_factory=list)
    """Weights outside of features that differ, such as those of attention; no patch can hold them."""
    patch: str | None = None


@dataclass(frozen=True, eq=False, repr=False)
class Rebalanced(Result):
    """Result of REBALANCE."""

    rounds: int
    floor: float
    ceiling: float
    rows: list[BalancedEdge]
    patch: str | None = None


@dataclass(frozen=True, eq=False, repr=False)
class CompactStatus(Result):
    """Result of SHOW COMPACT STATUS."""

    entries: int
    entry_bytes: int
    edges: int
    compacted: int
    solved: int
    features: int
    feature_bytes: int


@dataclass(frozen=True, eq=False, repr=False)
class Solved(Result):
    """Result of COMPACT MAJOR."""

    lambda_: float = field(metadata={"json": "lambda"})
    """Weight of changes on background text."""
    rows: list[SolvedEdge]
    layers: list[ChangedLayer]
    automatic: bool
    patch: str | None = None


@dataclass(frozen=True, eq=False, repr=False)
class Compiled(Result):
    """Result of COMPILE."""

    path: str
    features: int
    tensors: int
    entries: int
    kept: int
    bytes: int
    grown: int
    seconds: float
    lowered: list[InsertedEdge] = field(default_factory=list)


@dataclass(frozen=True, eq=False, repr=False)
class Stats(Result):
    """Result of STATS."""

    path: str
    model: str
    family: str
    layers: int
    hidden_size: int
    vocab_size: int
    features: int
    bytes: int
    files: list[FileRow]
    labels: list[LabelCount]
    patches: list[PatchRow]
    level: str | None = None
    dtype: str | None = None
    quant: str | None = None


@dataclass(frozen=True, eq=False, repr=False)
class Several(Result):
    """Results of a piped statement, one for each row that it was given."""

    outputs: list[Result]

    def __repr__(self) -> str:
        return f"<{type(self).__name__}, {len(self.outputs)} results>\n{self}"

    def _repr_html_(self) -> str:
        return "".join(_html.of_result(output) for output in self.outputs)


_CLASS_OF: dict[str, type[Result]] = {
    "message": Message,
    "use": Opened,
    "extract": Extracted,
    "walk": Walked,
    "explain_walk": ExplainedWalk,
    "describe": Described,
    "select": Selected,
    "infer": Inferred,
    "explain_infer": ExplainedInference,
    "attribution_graph": AttributionGraph,
    "trace": Traced,
    "trace_difference": TraceDifference,
    "relations": Relations,
    "layers": Layers,
    "features": Features,
    "entities": Entities,
    "models": Models,
    "patches": Patches,
    "patch": PatchChanged,
    "changed": Changed,
    "diff": Differences,
    "rebalance": Rebalanced,
    "compact_status": CompactStatus,
    "solved": Solved,
    "compile": Compiled,
    "stats": Stats,
    "several": Several,
}
_KIND_OF = {of: kind for kind, of in _CLASS_OF.items()}


def result_of(answer: Answer) -> Result:
    """Returns the result of a native answer, with its typed fields."""
    decoded: dict[str, Any] = json.loads(answer.json())
    of: Any = _CLASS_OF[decoded.pop("kind")]
    if of is Several:
        result: Result = Several([result_of(part) for part in answer.parts()])
    else:
        result = _reader(of)(decoded)
    result.__dict__["_native"] = answer
    return result


@cache
def _reader(of: Any) -> Callable[[Any], Any]:
    """Returns the function that makes a value of a type out of decoded JSON."""
    origin = get_origin(of)
    if origin in (Union, UnionType):
        (inner,) = [option for option in get_args(of) if option is not type(None)]
        read = _reader(inner)
        return lambda value: None if value is None else read(value)
    if origin is list:
        read = _reader(get_args(of)[0])
        return lambda values: [read(value) for value in values]
    if isinstance(of, type) and hasattr(of, "__dataclass_fields__"):
        hints = get_type_hints(of)
        # A field whose name in JSON is a word of Python says that name in its metadata.
        names = {part.metadata.get("json", part.name): part.name for part in fields(of)}
        readers = {name: _reader(hints[name]) for name in names.values()}

        def read_object(decoded: dict[str, Any]) -> Any:
            return of(**{names[name]: readers[names[name]](value) for name, value in decoded.items()})

        return read_object
    return lambda value: value

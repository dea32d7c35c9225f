"""Exceptions. All of them are a :class:`LarqlError`.

Each message says what was expected, what was found, and where. ``help`` is the next step, if there is one.
"""

from __future__ import annotations


class LarqlError(Exception):
    """Failure of LARQL."""

    help: str | None = None
    """The next step, where the message does not say it."""

    span: tuple[int, int] | None = None
    """First and last byte of the part of a statement that is at fault, where that is known."""

    def __str__(self) -> str:
        message = super().__str__()
        return f"{message}\nhelp: {self.help}" if self.help else message


class ParseError(LarqlError, ValueError):
    """A text is no statement of LQL."""


class ModelNotFoundError(LarqlError, FileNotFoundError):
    """There is no model of that path or name."""

    def __str__(self) -> str:
        return LarqlError.__str__(self)


class ClosedError(LarqlError, ValueError):
    """The object was closed."""


class NeedsVindexError(LarqlError):
    """Features are asked for, and a checkpoint is open."""


class NotHeldError(LarqlError):
    """The vindex does not hold the weights that are needed."""


class VindexError(LarqlError):
    """A vindex cannot be read or written."""


class CheckpointError(LarqlError):
    """A checkpoint cannot be read or written."""


class QueryError(LarqlError, ValueError):
    """A statement asks for something that the model cannot answer."""


class EditError(LarqlError):
    """Edges cannot be changed as asked."""


class PatchError(EditError):
    """There is no such patch, or there is one already."""


class RunError(LarqlError):
    """The model cannot be run on the input."""


class TraceError(LarqlError, ValueError):
    """The residual stream cannot be read as asked."""


class InterventionError(LarqlError, ValueError):
    """A declaration of interventions does not fit the model."""


class StoreError(LarqlError, OSError):
    """A file of residuals cannot be read or written."""

    def __str__(self) -> str:
        return LarqlError.__str__(self)


class RemoteError(LarqlError, ConnectionError):
    """A server refuses a statement or cannot be reached."""

    def __str__(self) -> str:
        return LarqlError.__str__(self)


class ArgumentError(LarqlError, ValueError):
    """An argument has a value that is not possible."""


class ArgumentTypeError(LarqlError, TypeError):
    """An argument has another type than is expected."""


class ArgumentIndexError(ArgumentError, IndexError):
    """There is no layer, feature, token or position of that number."""


class InternalError(LarqlError):
    """A fault of LARQL itself."""

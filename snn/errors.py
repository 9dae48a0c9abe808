"""Errors of the snn package.

Every message is one line that says where, what was found, what was expected and what to do.
"""

from collections.abc import Iterable
from difflib import get_close_matches


class SnnError(Exception):
    """Base of every error that snn raises on purpose."""


class NeuronError(SnnError):
    """A neuron was given an argument it cannot use."""


class ModelError(SnnError):
    """A model cannot be built as described, or a checkpoint does not fit it."""


class QuantError(SnnError):
    """Weights cannot be brought to few bits as described, or their scale has collapsed."""


class SparsityError(SnnError):
    """What is computed cannot be decided as described."""


class ExportError(SnnError):
    """A network cannot be exported as asked, or an exported one cannot be read or run."""


class CostError(SnnError):
    """What a network costs cannot be counted or looked up as asked."""


class ConversionError(SnnError):
    """An ANN cannot be converted as asked, or a stage was given the result of another."""


class DetectionError(SnnError):
    """Boxes, or a grid of them, do not have the shape or the values asked for."""


class TrainingError(SnnError):
    """Training cannot go on; the last good checkpoint is kept."""


class LostProcessError(TrainingError):
    """Another process that trains together with this one is gone; that one says why, if it still can."""


def did_you_mean(found: object, known: Iterable[object]) -> str:
    """Return the end of a message that suggests the nearest known name; empty where none is near."""
    near = get_close_matches(str(found), [str(name) for name in known], n=1)
    return f"; did you mean {near[0]!r}?" if near else ""

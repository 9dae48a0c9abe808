"""Errors of the snn package.

Every message is one line that says where, what was found, what was expected and what to do.
"""


class SnnError(Exception):
    """Base of every error that snn raises on purpose."""


class NeuronError(SnnError):
    """A neuron was given an argument it cannot use."""


class ModelError(SnnError):
    """A model cannot be built as described, or a checkpoint does not fit it."""


class TrainingError(SnnError):
    """Training cannot go on; the last good checkpoint is kept."""

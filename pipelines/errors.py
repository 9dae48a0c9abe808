"""Errors of the pipelines package.

Every message is one line that says where, what was found, what was expected and what to do.
"""


class PipelineError(Exception):
    """Base of every error that pipelines raises on purpose."""


class ExperimentError(PipelineError):
    """An experiment file or a --set value cannot be used."""


class RunError(PipelineError):
    """A run folder is missing, unfinished or does not fit what was asked."""

"""A run's neurons in words: which they are, and what computes them."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from pipelines.settings_tree import changed_names
from snn.detection.settings import DetectorSettings
from snn.models.registry import ModelSettings
from snn.neurons.executors import explain
from snn.neurons.membrane import MEMBRANES
from snn.neurons.settings import NEURONS, NeuronSettings


def name_neuron(settings: NeuronSettings) -> str:
    """Return the nearest of the named neurons and what differs, such as `mlif, lanes=4`."""
    changes = {name: _changes(settings, preset) for name, preset in NEURONS.items()}
    nearest = min(changes, key=lambda name: len(changes[name]))
    return ", ".join([nearest, *(f"{name}={_written(value)}" for name, value in changes[nearest].items())])


def _changes(settings: NeuronSettings, preset: NeuronSettings) -> dict[str, Any]:
    """Return what differs by name; a membrane that has a name counts once."""
    changes = changed_names(settings, preset)
    membranes = [name for name, membrane in MEMBRANES.items() if membrane == settings.membrane]
    if not membranes or not any(name.startswith("membrane.") for name in changes):
        return changes
    others = {name: value for name, value in changes.items() if not name.startswith("membrane.")}
    return others | {"membrane": membranes[0]}


def _written(value: Any) -> str:
    return f"{len(value)} values" if isinstance(value, tuple) else str(value)


def explain_executor(model: ModelSettings | DetectorSettings, fabric: Any) -> str:
    """Return what computes the neurons of a network that Fabric places, and why nothing faster does.

    Raises:
        NeuronError: The executor asked for cannot run on this device.
    """
    device_type = fabric.device.type
    with fabric.autocast():
        mixed = torch.is_autocast_enabled(device_type)
        dtype = torch.get_autocast_dtype(device_type) if mixed else torch.float32
    return explain(model.neuron, device_type=device_type, dtype=dtype, executor=model.executor)


@contextmanager
def already_explained() -> Iterator[None]:
    """Keep back warnings that the neurons are slow: the run's first lines have said so, once."""
    logger = logging.getLogger("snn.neurons.executors")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)

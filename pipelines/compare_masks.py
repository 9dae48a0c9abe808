"""What a network's gates are worth: their own masks against others of the same kept share, on one split."""

from typing import Any

import numpy as np
from torch import nn

from events.store.reader import FrameStore
from pipelines.evaluate import evaluate_network
from pipelines.experiment import Experiment
from snn.sparsity.apply import control_gates, gate_layers, gate_settings


def compare_masks(
    experiment: Experiment,
    network: nn.Module,
    store: FrameStore,
    indices: np.ndarray,
    *,
    own: dict[str, Any],
) -> dict[str, Any]:
    """Return kept shares, changes and accuracies as plain JSON types; empty for a network without gates.

    Args:
        experiment: The run's settings.
        network: Trained network.
        store: Where the samples are.
        indices: The samples.
        own: What `evaluate_network` returned for them.

    Returns:
        `kind`; `accuracy` by masks: `own`, `shuffled` over channels or places, `swapped` between samples; by
        block with a gate `kept_shares` (one number a step), `changes_between_samples` and
        `changes_between_steps`, shares of its decisions.
    """
    settings = gate_settings(network)
    if settings is None:
        return {}
    accuracy = {"own": own["accuracy"]}
    for control in ("shuffled", "swapped"):
        with control_gates(network, control):
            accuracy[control] = evaluate_network(experiment, network, store, indices)["accuracy"]
    entries = "patches" if settings.kind == "spatial" else "channels"
    kind = settings.kind if settings.random == "no" else f"random {entries}, {settings.random}"
    return {"kind": kind, "accuracy": accuracy, "blocks": len(gate_layers(network)), **own["gates"]}

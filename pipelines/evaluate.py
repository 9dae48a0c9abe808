"""Classify a split of a store with the best network of a run."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from events.batches import Feed, FeedSettings, carried
from events.datasets.listing import SPLIT_NAMES
from events.store.reader import FrameStore, open_store
from pipelines.errors import RunError
from pipelines.experiment import Experiment
from pipelines.run_folder import RunFolder
from pipelines.samples import split_samples
from snn.cost.counter import count_operations
from snn.cost.energy import EnergySettings
from snn.cost.report import cost_of
from snn.errors import ModelError
from snn.metrics.activity import decays, record_rates, record_spikes, thresholds
from snn.models.registry import build_model
from snn.models.weights import load_weights
from snn.neurons.settings import NeuronSettings
from snn.sparsity.apply import record_gates
from snn.training.checkpoint import load_checkpoint
from snn.training.classification import evaluate
from snn.training.devices import make_fabric
from snn.training.fit import BEST

# Neurons of a layer in the spike raster, evenly spaced over the layer.
RASTER_NEURONS = 48


def new_network(experiment: Experiment, store: FrameStore) -> nn.Module:
    """Return the experiment's untrained network for the frames and classes of a store."""
    _, _, P, H, W = store.shape
    classes = len(store.class_names)
    return build_model(experiment.model, in_channels=P, input_hw=(H, W), classes=classes)


def load_best(
    folder: RunFolder, experiment: Experiment, store: FrameStore
) -> tuple[nn.Module, dict[str, Any]]:
    """Return the network of a run's best epoch and what its checkpoint says.

    Raises:
        ModelError: The checkpoint is of another network, or of frames or classes of another size.
    """
    path = folder.checkpoints / BEST
    saved = load_checkpoint(path)
    network = new_network(experiment, store)
    try:
        load_weights(network, saved["model"], where=path)
    except ModelError as error:
        found = f"built for frames {store.shape[1:]} and {len(store.class_names)} classes of {store.path}"
        raise ModelError(f"{error} (this network is {found})") from error
    return network, saved


def evaluate_network(
    experiment: Experiment,
    network: nn.Module,
    store: FrameStore,
    indices: np.ndarray,
    *,
    energy: EnergySettings | None = None,
) -> dict[str, Any]:
    """Classify samples of a store, on one device, and return the result as plain JSON types.

    Args:
        experiment: The network's.
        network: The network.
        store: Where the samples are.
        indices: Which they are.
        energy: Which numbers energy is computed with.
    """
    fabric = make_fabric(replace(experiment.training, devices=1))
    network = fabric.to_device(network)
    settings = FeedSettings(batch_size=experiment.training.batch_size)
    with (
        Feed(store, indices, settings, device=fabric.device) as feed,
        record_rates(network) as activity,
        record_gates(network) as gates,
        count_operations(network) as operations,
    ):
        result = evaluate(fabric, network, feed, len(store.class_names))
    per_class = np.diag(result.confusion) / np.maximum(result.confusion.sum(axis=1), 1)
    return {
        "samples": result.samples,
        "accuracy": result.accuracy,
        "loss": result.loss,
        "accuracy_by_class": dict(zip(store.class_names, per_class.tolist(), strict=True)),
        "confusion": result.confusion.tolist(),
        "firing_rates": activity.rates(),
        "thresholds": thresholds(network),
        "decays": decays(network),
        "gates": {
            "kept_shares": gates.kept_shares(),
            "changes_between_samples": gates.changes_between_samples(),
            "changes_between_steps": gates.changes_between_steps(),
        },
        "cost": cost_of(network, operations, frame_shape=store.shape[2:], energy=energy).as_dict(),
    }


@torch.no_grad()
def look_at_samples(
    network: nn.Module, store: FrameStore, indices: np.ndarray, *, neuron: NeuronSettings
) -> dict[str, np.ndarray]:
    """Return what the report shows of single samples: one of each class, and the spikes of the first.

    Args:
        network: Trained network.
        store: Where the samples are.
        indices: Samples to choose from.
        neuron: The network's neurons.

    Returns:
        `frames` [K, T, P, H, W] counts, `labels` [K], `predictions` [K], `spikes/<layer>` [T, n] values
        for up to 48 neurons of each layer, and `spike_values`, all that a spike can have, ascending from 0
        (0 and 1 where values are learned, and what is kept is whether there was a spike).
    """
    labels = store.label[indices]
    chosen = np.array([indices[labels == k][0] for k in np.unique(labels)], np.int64)
    frames = np.empty((len(chosen), *store.shape[1:]), store.dtype)
    store.read_into(chosen, frames)
    device = next(network.parameters()).device
    network.eval()
    batch = carried(torch.from_numpy(frames).to(device), store.values).transpose(0, 1)
    with record_spikes(network) as spikes:
        predictions = network(batch).mean(dim=0).argmax(dim=1).cpu().numpy()
    shown = store.whole_values(frames)
    seen = {"frames": shown, "labels": store.label[chosen], "predictions": predictions}
    valued = neuron.spike_value == "one"
    seen["spike_values"] = np.array(neuron.spike_values if valued else (0, 1), np.float32)
    for name, layer in spikes.items():
        neurons = layer[:, 0].flatten(1)
        picked = np.unique(np.linspace(0, neurons.shape[1] - 1, RASTER_NEURONS).astype(int))
        values = neurons[:, picked].numpy()
        seen[f"spikes/{name}"] = values if valued else values != 0
    return seen


def evaluate_run(
    run: Path, *, data: Path | None, split: str, energy: EnergySettings | None = None
) -> dict[str, Any]:
    """Evaluate the best network of a run, by default on the store it was trained on.

    Args:
        run: Run folder.
        data: Another store with the same classes and frame size; None takes the run's own.
        split: `train`, `validation` or `test`; with the run's own store, as the run divided it.
        energy: Which numbers energy is computed with.

    Raises:
        RunError: The run, the split or the store cannot be used.
    """
    if split not in SPLIT_NAMES:
        raise RunError(f"no split {split!r}; expected one of {', '.join(SPLIT_NAMES)}")
    folder = RunFolder(run)
    experiment = folder.experiment()
    store = open_store(data or folder.read_about()["store"])
    classes = tuple(folder.read_about()["class_names"])
    if store.class_names != classes:
        raise RunError(
            f"{store.path}: classes {', '.join(store.class_names)}; the network knows {', '.join(classes)}"
        )
    if data is None:
        share = experiment.data.validation_share
        indices = getattr(split_samples(store, validation_share=share, seed=experiment.seed), split)
    else:
        indices = store.indices(split)
    if len(indices) == 0:
        raise RunError(f"{store.path}: no samples in split {split!r}")
    network, saved = load_best(folder, experiment, store)
    result = evaluate_network(experiment, network, store, indices, energy=energy)
    return {"run": str(run), "store": str(store.path), "split": split, "epoch": saved["epoch"]} | result

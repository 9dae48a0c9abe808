"""The ANN twin of a detector: the same layers with ReLU in place of neurons, trained alike on its data."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from pipelines.detect_data import recordings_of
from pipelines.detect_settings import DetectExperiment
from pipelines.errors import ExperimentError
from snn.training.devices import started_world

# Folder of the twin's run inside that of its detector.
TWIN = "twin"


def twin_of(experiment: DetectExperiment, store: Path) -> DetectExperiment:
    """Return the experiment that trains the twin on a detector's store: all else is the same."""
    recordings = str(recordings_of(experiment.data)) if experiment.augments_events else None
    return replace(
        experiment,
        name=f"{experiment.name}-{TWIN}",
        activation="relu",
        data=replace(experiment.data, source=str(store), recordings=recordings),
        evaluation=replace(experiment.evaluation, twin=False, shuffled=False),
    )


def refuse_torchrun(experiment: DetectExperiment) -> None:
    """Raise ExperimentError where a twin would be trained by processes that end with their detector."""
    if experiment.evaluation.twin and started_world() is not None:
        raise ExperimentError(
            "evaluation.twin (--twin): found processes of torchrun, which part once the detector is trained; "
            "use --devices, or run the twin by itself with --set activation=relu"
        )


def twin_results(results: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a detector's results say of its twin, from the twin's own."""
    scores = {name: results["test"]["scores"][name] for name in ("mean_ap", "ap50", "ap75")}
    kept = ("best_epoch", "validation_map", "parameters", "train_s")
    return scores | {name: results[name] for name in kept} | {"cost": results["test"]["cost"]}

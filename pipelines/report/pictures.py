"""Pictures of a run, drawn from what its folder holds: no store, no network, no torch."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")  # no display needed

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from events.draw import draw_frame

# Colours that people with the usual colour blindness tell apart (Okabe and Ito, 2008).
BLUE, ORANGE, GREY = "#0072b2", "#d55e00", "#8a8f98"

STYLE: dict[Any, Any] = {
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#c4c8cf",
    "axes.labelcolor": "#4a4f57",
    "xtick.color": "#4a4f57",
    "ytick.color": "#4a4f57",
    "axes.grid": True,
    "grid.color": "#e6e8ec",
    "axes.axisbelow": True,
    "legend.frameon": False,
    "figure.constrained_layout.use": True,
    "savefig.dpi": 160,
}

# Cells of a larger confusion matrix are too small for numbers, and its pictures too many to show.
MOST_NUMBERED_CLASSES = 20
MOST_SHOWN_CLASSES = 10
# Grey of the smallest of several kinds of spikes.
LIGHTEST = 0.3
# Frames of a sample shown.
SHOWN_FRAMES = 3


def draw_pictures(
    folder: Path,
    *,
    metrics: list[dict[str, Any]],
    results: dict[str, Any],
    seen: Any,
    neuron: Mapping[str, Any],
) -> list[Path]:
    """Draw all pictures of a run into a folder and return their paths, in the report's order.

    Args:
        folder: Where they go.
        metrics: Content of metrics.jsonl.
        results: Content of results.json.
        seen: Content of samples.npz.
        neuron: The neurons' settings.
    """
    classes = list(results["test"]["accuracy_by_class"])
    drawings: dict[str, Callable[[], Figure]] = {
        "curves": lambda: draw_curves(metrics, results["best_epoch"]),
        "confusion": lambda: draw_confusion(np.array(results["test"]["confusion"]), classes),
        "neurons": lambda: draw_neurons(metrics, neuron),
        "spikes": lambda: draw_spikes(seen, classes),
        "samples": lambda: draw_samples(seen, classes),
    }
    paths = []
    with plt.rc_context(STYLE):
        for name, draw in drawings.items():
            paths.append(folder / f"{name}.png")
            figure = draw()
            figure.savefig(paths[-1])
            plt.close(figure)
    return paths


def draw_curves(metrics: list[dict[str, Any]], best_epoch: int) -> Figure:
    """Draw loss and accuracy of training and validation over epochs."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.2))
    epochs = [record["epoch"] for record in metrics]
    for axes, name, scale in ((left, "loss", 1), (right, "accuracy", 100)):
        for part, colour in (("train", GREY), ("validation", BLUE)):
            values = [scale * record[f"{part}_{name}"] for record in metrics]
            # A single epoch would be an invisible line.
            axes.plot(epochs, values, color=colour, marker="o" if len(epochs) == 1 else None, label=part)
        axes.axvline(best_epoch, color=ORANGE, linestyle=":", label=f"best epoch {best_epoch}")
        axes.set_xlabel("epoch")
        axes.xaxis.get_major_locator().set_params(integer=True)
    left.set_title("Loss")
    left.set_ylim(bottom=0)
    left.legend()
    right.set_title("Accuracy (%)")
    right.set_ylim(0, 100)
    return figure


def draw_confusion(confusion: np.ndarray, classes: list[str]) -> Figure:
    """Draw the confusion matrix [K, K]: true classes down, predictions across, shaded by share."""
    K = len(classes)
    size = min(2.4 + 0.24 * K, 10)
    figure, axes = plt.subplots(figsize=(size, size))
    share = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    axes.grid(visible=False)
    axes.set_title("Test samples by true and predicted class")
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    if K > MOST_NUMBERED_CLASSES:
        return figure
    axes.set_xticks(range(K), classes, rotation=45 if max(map(len, classes)) > 2 else 0)
    axes.set_yticks(range(K), classes)
    for row, column in zip(*np.nonzero(confusion), strict=True):
        colour = "white" if share[row, column] > 0.5 else "#30343a"
        axes.text(
            column, row, str(confusion[row, column]), ha="center", va="center", color=colour, fontsize=7
        )
    return figure


def draw_neurons(metrics: list[dict[str, Any]], neuron: Mapping[str, Any]) -> Figure:
    """Draw threshold, learned decay and firing rate of every layer of neurons over epochs.

    Args:
        metrics: Content of metrics.jsonl.
        neuron: The neurons' settings.
    """
    mean = ", mean of channels" if neuron.get("per_channel") else ""
    panels = [("firing_rates", 100, "Neurons firing in a step (%)")]
    if metrics[-1].get("decays"):
        panels.insert(0, ("decays", 1, f"Membrane kept per step{mean}"))
    # Nothing is to be seen of a constant; runs of earlier versions do not say whether it is one.
    if neuron.get("learn_threshold", True):
        panels.insert(0, ("thresholds", 1, f"Firing threshold{mean}"))
    figure, grid = plt.subplots(1, len(panels), figsize=(9, 3.2), squeeze=False)
    layers = list(metrics[-1]["thresholds"])
    epochs = [record["epoch"] for record in metrics]
    colours = plt.get_cmap("viridis")(np.linspace(0, 0.88, max(len(layers), 1)))
    for axes, (name, scale, title) in zip(grid[0], panels, strict=True):
        for layer, colour in zip(layers, colours, strict=False):
            values = [scale * record.get(name, {}).get(layer, np.nan) for record in metrics]
            shape = "o" if len(epochs) == 1 else None
            axes.plot(epochs, values, color=colour, marker=shape, label=layer.removesuffix(".neuron"))
        if name == "thresholds":
            _draw_target(axes, metrics)
        axes.set_title(title)
        axes.set_xlabel("epoch")
        axes.xaxis.get_major_locator().set_params(integer=True)
        # Else small numbers are written as what they exceed a large one by.
        axes.ticklabel_format(axis="y", useOffset=False)
    grid[0, -1].set_ylim(bottom=0)
    handles, labels = grid[0, -1].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right center", title="first to last layer", fontsize=8)
    return figure


def _draw_target(axes: Axes, metrics: list[dict[str, Any]]) -> None:
    """Draw the value that the loss drew the logits to, where that followed the thresholds."""
    targets = [record.get("loss_target", 1.0) for record in metrics]
    if set(targets) != {1.0}:
        epochs = [record["epoch"] for record in metrics]
        shape = "o" if len(epochs) == 1 else None
        line = axes.plot(epochs, targets, color=ORANGE, linestyle=":", marker=shape, label="loss target")
        axes.legend(handles=line, fontsize=7)


def draw_spikes(seen: Any, classes: list[str]) -> Figure:
    """Draw the spikes of one test sample: time across, some neurons of each layer down."""
    layers = {name.removeprefix("spikes/"): seen[name] for name in seen if name.startswith("spikes/")}
    values = spike_values(seen)
    # An ANN has none.
    columns = max(min(len(layers), 4), 1)
    rows = max(-(-len(layers) // columns), 1)
    figure, grid = plt.subplots(rows, columns, figsize=(9, 2.1 * rows), squeeze=False, sharex=True)
    for axes, (name, spikes) in zip(grid.flat, layers.items(), strict=False):
        # The edges of the picture, so that the first step is 1 and lies over its number.
        edges = (0.5, len(spikes) + 0.5, spikes.shape[1] - 0.5, -0.5)
        axes.imshow(
            _shades(spikes.T, values), cmap="Greys", vmin=0, vmax=1, aspect="auto", interpolation="nearest",
            extent=edges,
        )  # fmt: skip
        axes.grid(visible=False)
        axes.set_title(name.removesuffix(".neuron"), fontsize=8)
        axes.set_yticks([])
        axes.set_ylabel(f"{spikes.shape[1]} neurons", fontsize=8)
    for axes in grid.flat[len(layers) :]:
        axes.set_visible(False)
    for axes in grid[-1]:
        axes.set_xlabel("step")
        axes.xaxis.get_major_locator().set_params(integer=True)
    figure.suptitle(
        f"Spikes while looking at a sample of class {classes[int(seen['labels'][0])]}",
        x=0.01, ha="left", fontsize=10, fontweight="bold",
    )  # fmt: skip
    if len(values) > 2:
        greys = plt.get_cmap("Greys")
        handles = [
            Patch(facecolor=greys(float(shade)), edgecolor=GREY, label=f"{value:g}")
            for value, shade in zip(values[1:], _shades(values[1:], values), strict=True)
        ]
        figure.legend(handles=handles, loc="outside right center", title="spike", fontsize=8)
    return figure


def spike_values(seen: Any) -> np.ndarray:
    """Return the values a spike of a run can have, ascending from 0."""
    return seen["spike_values"] if "spike_values" in seen else np.array([0.0, 1.0])


def _shades(spikes: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return a grey for each spike, 0 white to 1 black, equally far from each value to the next.

    Values double from lane to lane; greys in proportion could not be told from white.
    """
    levels = len(values) - 1
    greys = np.concatenate(([0.0], np.linspace(LIGHTEST if levels > 1 else 1.0, 1.0, levels)))
    nearest = np.abs(np.asarray(spikes, np.float64)[..., None] - values).argmin(axis=-1)
    return greys[nearest]


def draw_samples(seen: Any, classes: list[str]) -> Figure:
    """Draw first, middle and last frame of one test sample of each class, with what was predicted."""
    frames, labels, predictions = seen["frames"], seen["labels"], seen["predictions"]
    shown = min(len(frames), MOST_SHOWN_CLASSES)
    steps = np.unique(np.linspace(0, frames.shape[1] - 1, SHOWN_FRAMES).round().astype(int))
    figure, grid = plt.subplots(len(steps), shown, figsize=(9, 0.9 * len(steps) + 0.25), squeeze=False)
    for column in range(shown):
        _title_sample(grid[0, column], classes[int(labels[column])], classes[int(predictions[column])])
        for row, step in enumerate(steps):
            axes = grid[row, column]
            axes.imshow(np.asarray(draw_frame(frames[column, step])), interpolation="nearest")
            axes.set_xticks([])
            axes.set_yticks([])
            axes.grid(visible=False)
            axes.spines[:].set_visible(True)
            if column == 0:
                axes.set_ylabel(f"step {step + 1}", fontsize=8)
    return figure


def _title_sample(axes: Axes, label: str, prediction: str) -> None:
    right = label == prediction
    text = label if right else f"{label},\ntaken for {prediction}"
    axes.set_title(text, fontsize=7, loc="center", color="#30343a" if right else ORANGE)

"""The picture of how long results took: distributions of latency and age, and where the time goes."""

from typing import IO, Any

import matplotlib

matplotlib.use("Agg")  # no display needed

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

from pipelines.report.pictures import BLUE, GREY, ORANGE, STYLE
from pipelines.stream.latency import GROWTH, LEAST_S, Histogram, Latencies


def draw_latency(stream: IO[bytes], latencies: Latencies, *, deadline_ms: float | None, title: str) -> None:
    """Write a PNG: how many results took how long, and every part's percentiles.

    Args:
        stream: Where it goes.
        latencies: Of all windows.
        deadline_ms: Latency allowed, drawn as a line; None where windows differ in it.
        title: Above it.
    """
    with plt.rc_context(STYLE):
        figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.2))
        for histogram, colour, name in (
            (latencies.latency, BLUE, "latency"),
            (latencies.age, GREY, "age of the result"),
        ):
            _draw_exceeded(left, histogram, colour, name)
        if deadline_ms is not None:
            left.axvline(deadline_ms, color=ORANGE, linestyle=":", label=f"deadline {deadline_ms:g} ms")
        left.set_xscale("log")
        left.set_yscale("log")
        left.set_xlabel("ms")
        left.set_title("Share of windows that took longer")
        left.legend()
        _draw_parts(right, {name: part.as_dict() for name, part in latencies.parts.items()})
        figure.suptitle(title, x=0.01, ha="left", fontsize=10, fontweight="bold")
        figure.savefig(stream, format="png")
        plt.close(figure)


def _draw_exceeded(axes: Axes, histogram: Histogram, colour: str, name: str) -> None:
    """Draw which share of the values lies above each."""
    if not histogram.count:
        return
    used = np.flatnonzero(histogram.counts)
    above = 1 - np.cumsum(histogram.counts)[used] / histogram.count
    edges_ms = 1e3 * np.minimum(LEAST_S * GROWTH ** used.astype(float), histogram.longest_s)
    # The largest is exceeded by none, which has no place on this axis: it ends the line at half a window.
    axes.step(edges_ms, np.maximum(above, 0.5 / histogram.count), where="post", color=colour, label=name)


def _draw_parts(axes: Axes, parts: dict[str, dict[str, Any]]) -> None:
    """Draw bars of the median of every part, and marks at its tails."""
    names = [name for name, found in parts.items() if found]
    places = np.arange(len(names))
    axes.barh(places, [parts[name]["p50"] for name in names], color=BLUE, label="p50")
    for mark, key, colour in (("|", "p99", ORANGE), ("x", "max", GREY)):
        axes.plot([parts[name][key] for name in names], places, mark, color=colour, markersize=9, label=key)
    axes.set_yticks(places, names)
    axes.invert_yaxis()
    axes.set_xlabel("ms")
    axes.set_title("Parts of the latency")
    axes.grid(visible=False, axis="y")
    axes.legend()

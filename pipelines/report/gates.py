"""What gates left out, and whether their masks are worth more than others: a part of the report."""

import html
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.report.pictures import BLUE, STYLE, plt

# Cells of more steps are too small for numbers.
MOST_NUMBERED_STEPS = 16
# What accuracies with other masks are called.
MASKS = {
    "own": "its own masks",
    "shuffled": "as many channels or places, by chance",
    "swapped": "masks of other samples",
}


def draw_kept_shares(path: Path, gates: Mapping[str, Any], metrics: list[dict[str, Any]]) -> Path:
    """Draw the kept share of every block by step, and its mean over epochs; return the path.

    Args:
        path: File to write.
        gates: `gates` of results.json.
        metrics: Content of metrics.jsonl.
    """
    blocks = list(gates["kept_shares"])
    shares = 100 * np.array([gates["kept_shares"][name] for name in blocks])  # [blocks, T]
    with plt.rc_context(STYLE):
        figure, (left, right) = plt.subplots(1, 2, figsize=(9, max(2.6, 0.9 + 0.24 * len(blocks))))
        edges = (0.5, shares.shape[1] + 0.5, len(blocks) - 0.5, -0.5)
        image = left.imshow(shares, cmap="viridis", vmin=0, vmax=100, aspect="auto", extent=edges)
        left.set_yticks(range(len(blocks)), blocks)
        left.set_xlabel("step")
        left.xaxis.get_major_locator().set_params(integer=True)
        left.grid(visible=False)
        left.set_title("Kept in each step, test samples (%)")
        figure.colorbar(image, ax=left)
        if shares.shape[1] <= MOST_NUMBERED_STEPS:
            for (row, step), share in np.ndenumerate(shares):
                colour = "black" if share > 60 else "white"
                left.text(step + 1, row, f"{share:.0f}", ha="center", va="center", color=colour, fontsize=7)
        epochs = [record["epoch"] for record in metrics]
        mean = [100 * np.mean(list(record["kept_shares"].values())) for record in metrics]
        right.plot(epochs, mean, color=BLUE, marker="o" if len(epochs) == 1 else None)
        right.set_title("Kept, mean of blocks, validation samples (%)")
        right.set_xlabel("epoch")
        right.xaxis.get_major_locator().set_params(integer=True)
        right.set_ylim(0, 105)
        figure.savefig(path)
        plt.close(figure)
    return path


def gates_section(gates: Mapping[str, Any], *, picture: str) -> str:
    """Return the report's section about gates as HTML.

    Args:
        gates: `gates` of results.json.
        picture: What `draw_kept_shares` drew, as the source of an image.
    """
    accuracies = "".join(
        f"<tr><th>{MASKS[name]}</th><td>{100 * value:.1f} %</td></tr>"
        for name, value in gates["accuracy"].items()
    )
    rows = "".join(_row(name, gates) for name in gates["kept_shares"])
    return (
        f"<section><h2>Gates: {html.escape(gates['kind'])}</h2>"
        '<p class="soft">Test accuracy of this network with</p>'
        f'<table>{accuracies}</table><img alt="Kept share by block and step" src="{picture}">'
        '<p class="soft">Share of decisions that are 1; that differ between two test samples (0: masks '
        "do not depend on the input); that differ from the step before.</p>"
        "<table><tr><th>block</th><th>kept</th><th>differ between samples</th><th>between steps</th></tr>"
        f"{rows}</table></section>"
    )


def _row(name: str, gates: Mapping[str, Any]) -> str:
    numbers = (
        float(np.mean(gates["kept_shares"][name])),
        gates["changes_between_samples"][name],
        gates["changes_between_steps"][name],
    )
    return f"<tr><th>{html.escape(name)}</th>{''.join(f'<td>{100 * n:.1f} %</td>' for n in numbers)}</tr>"

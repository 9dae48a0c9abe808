"""The report of a run: one HTML file with its pictures inside, made from the run folder alone."""

import html
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.report.cost import cost_section
from pipelines.report.energy import energy_table
from pipelines.report.gates import draw_kept_shares, gates_section
from pipelines.report.page import card_row, embedded, fact_rows, origin_facts, write_page
from pipelines.report.pictures import draw_pictures, spike_values
from pipelines.run_folder import RunFolder
from snn.cost.report import Cost

# More classes than this are shown from the worst to the best, cut off.
MOST_LISTED_CLASSES = 20


def build_report(folder: RunFolder) -> Path:
    """Draw a finished run's pictures and write its report.

    Returns:
        Path of report.html.

    Raises:
        RunError: The folder is no run, or the run has not finished.
    """
    results, metrics, about = folder.read_results(), folder.read_metrics(), folder.read_about()
    folder.pictures.mkdir(exist_ok=True)
    settings = folder.read_settings()
    with np.load(folder.seen) as seen:
        paths = draw_pictures(
            folder.pictures, metrics=metrics, results=results, seen=seen, neuron=settings["model"]["neuron"]
        )
        spikes_note = _spikes_note(spike_values(seen))
    # Runs of earlier versions do not know of gates and cost.
    gates = results.get("gates") or None
    kept = None if gates is None else draw_kept_shares(folder.pictures / "gates.png", gates, metrics)
    cost = results["test"].get("cost")
    title = f"{settings['name']}: {100 * results['test']['accuracy']:.1f} % test accuracy"
    values = {
        "cards": _cards(results, metrics),
        "training_note": html.escape(_training_note(results, metrics)),
        "by_class": _by_class(results["test"]["accuracy_by_class"]),
        "neurons_note": html.escape(_neurons_note(settings["model"]["neuron"])),
        "spikes_note": html.escape(spikes_note),
        "gates": "" if gates is None or kept is None else gates_section(gates, picture=embedded(kept)),
        "cost": "" if cost is None else cost_section(Cost.from_dict(cost), energy_table(folder)),
        "facts": _facts(about, settings, results),
        "commands": html.escape(_commands(folder.path)),
        "footer": html.escape(f"spikeline {about['versions']['spikeline']}, run started {about['started']}"),
    }
    return write_page(folder, "page.html", title, values | {path.stem: embedded(path) for path in paths})


def _cards(results: Mapping[str, Any], metrics: list[dict[str, Any]]) -> str:
    rates = list(results["test"]["firing_rates"].values())
    cards = [
        (
            f"{100 * results['test']['accuracy']:.1f} %",
            f"test accuracy, {results['test']['samples']} samples",
        ),
        (f"{100 * results['validation_accuracy']:.1f} %", f"best validation, epoch {results['best_epoch']}"),
        (f"{results['parameters']:,}", "parameters"),
        (f"{100 * sum(rates) / len(rates):.1f} %" if rates else "none", "mean firing rate of a layer"),
        (_minutes(results["train_s"]), f"training, {len(metrics)} epochs"),
    ]
    return card_row(cards)


def _minutes(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.1f} min"


def _training_note(results: Mapping[str, Any], metrics: list[dict[str, Any]]) -> str:
    waited = sum(r["data_wait_share"] * r["train_s"] for r in metrics) / max(results["train_s"], 1e-9)
    return (
        f"{results['train_samples']} training and {results['validation_samples']} validation samples; "
        f"the epoch with the best validation accuracy was tested once. "
        f"{100 * waited:.1f} % of the time was spent waiting for data."
    )


def _by_class(accuracy: Mapping[str, float]) -> str:
    rows = sorted(accuracy.items(), key=lambda item: item[1])
    left_out = len(rows) - MOST_LISTED_CLASSES
    cells = "".join(
        f"<tr><th>{html.escape(name)}</th><td>{100 * value:.1f} %</td>"
        f'<td class="bar"><i style="width:{100 * value:.1f}%"></i></td></tr>'
        for name, value in rows[:MOST_LISTED_CLASSES]
    )
    more = f"<p class='soft'>and {left_out} better ones</p>" if left_out > 0 else ""
    return f"<p class='soft'>Worst first.</p><table>{cells}</table>{more}"


def _neurons_note(neuron: Mapping[str, Any]) -> str:
    """Say what has no picture since it stays as it is."""
    if neuron.get("learn_threshold", True):
        return ""
    return f"The firing threshold is constant, {neuron['threshold']:g}."


def _spikes_note(values: np.ndarray) -> str:
    """Say what the greys of the raster stand for."""
    if len(values) <= 2:
        return "Black: the neuron fires in this step."
    return f"The darker, the larger the spike: lightest grey {values[1]:g}, black {values[-1]:g}."


def _facts(about: Mapping[str, Any], settings: Mapping[str, Any], results: Mapping[str, Any]) -> str:
    facts = {
        "data": f"{about['store']} (content {about['store_config_hash'][:12]})",
        "model": f"{settings['model']['name']}, width {settings['model']['width']:g}",
        "neurons": _neurons(results),
        "weights": results.get("weights", "float"),
    }
    return fact_rows(facts | origin_facts(about, settings))


def _neurons(results: Mapping[str, Any]) -> str:
    """Say which neurons they are and what computed them, as far as the run wrote it down."""
    return (
        f"{results['neurons']}; computed by {results['executor']}" if "neurons" in results else "see settings"
    )


def _commands(run: Path) -> str:
    where = shlex.quote(str(run))
    return (
        f"pipelines run classify {where}/settings.toml     # the same run again\n"
        f"pipelines evaluate {where} --data STORE          # the network on other data\n"
        f"tensorboard --logdir {where}/tensorboard         # every number, live"
    )

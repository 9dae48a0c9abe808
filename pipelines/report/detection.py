"""The report of a detector: one HTML file with its pictures inside, made from the run folder alone."""

import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")  # no display needed

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from pipelines.draw_detections import draw_windows, seen_windows, write_clip
from pipelines.report.certainty import certainty_section
from pipelines.report.page import card_row, embedded, fact_rows, origin_facts, write_page
from pipelines.report.pictures import BLUE, GREY, ORANGE, STYLE
from pipelines.run_folder import RunFolder
from snn.cost.report import Cost
from snn.cost.text import about as about_cost
from snn.cost.text import layer_rows, neuron_rows, total_lines
from snn.cost.twins import ann_twin, measured

# How a network's energy is computed, beside the table.
COST_NOTE = "Arithmetic alone, a model: no memory is counted."


def build_detection_report(folder: RunFolder) -> Path:
    """Draw a finished run's pictures and write its report.

    Returns:
        Path of report.html.

    Raises:
        RunError: The folder is no run, or the run has not finished.
    """
    results, metrics, about = folder.read_results(), folder.read_metrics(), folder.read_about()
    settings, names = folder.read_settings(), about["class_names"]
    folder.pictures.mkdir(exist_ok=True)
    with np.load(folder.seen) as arrays:
        seen = {name: arrays[name] for name in arrays}
    figures = {path.stem: embedded(path) for path in _draw_figures(folder, results, metrics, names)}
    galleries = {name: _gallery(folder, seen, name, names) for name in ("windows", "misses", "alarms")}
    write_clip(folder.pictures / "clip.gif", seen_windows(seen, "clip"), names)
    scores = results["test"]["scores"]
    cost = Cost.from_dict(results["test"]["cost"])
    values = {
        "clip": embedded(folder.pictures / "clip.gif"),
        "warning": _warning(results),
        "cards": _cards(results, metrics),
        "lines": html.escape("\n".join(results["test"]["lines"])),
        "control": html.escape(control_words(results)),
        "by_class": table(class_rows(scores)),
        "by_protocol": table(protocol_rows(results["protocols"])),
        "certainty": certainty_section(folder, results["test"]),
        "operating": f"{scores['operating_score']:g}",
        "cost_about": html.escape(f"For {about_cost(cost)} test windows. {COST_NOTE}"),
        "cost_totals": table([("", ""), *(_named(line) for line in total_lines(cost))]),
        "cost_beside": f"<p>{html.escape(twin_words(results))}</p>" + table(energy_rows(results)),
        "cost_layers": table(layer_rows(cost)) + table(neuron_rows(cost)),
        "rates": table(rate_rows(results["test"])),
        "facts": _facts(about, settings, results),
    }
    title = f"{settings['name']}: mAP {_percent(scores['mean_ap'])}"
    return write_page(folder, "detection.html", title, figures | galleries | values)


def _warning(results: Mapping[str, Any]) -> str:
    """Return a line above everything where the figures are of the windows that were trained on."""
    # Earlier runs have none.
    words = results.get("overfit")
    return f'<p class="warning"><b>Overfit on purpose:</b> {html.escape(words)}.</p>' if words else ""


def class_rows(scores: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Return a row of text for each class, below a heading."""
    head = ("class", "AP", "AP50", "AP75", "recall", "boxes", "detections")
    return [
        head,
        *(
            (
                one["name"],
                *(_percent(one[key]) for key in ("ap", "ap50", "ap75", "recall")),
                f"{one['boxes']:,}",
                f"{one['detections']:,}",
            )
            for one in scores["classes"]
        ),
    ]


def protocol_rows(protocols: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Return a row of text for each protocol, below a heading."""
    rows: list[tuple[str, ...]] = [("protocol", "mAP", "AP50", "boxes that count")]
    for name, found in protocols.items():
        if "problem" in found:
            rows.append((name, "-", "-", found["problem"]))
        else:
            rows.append((name, _percent(found["map"]), _percent(found["ap50"]), f"{found['boxes']:,}"))
    return rows


def rate_rows(test: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Return a row of text for each layer of neurons, below a heading."""
    rates, thresholds = test["firing_rates"], test["thresholds"]
    rows = [
        (name.removesuffix(".neuron"), _percent(rate), f"{thresholds.get(name, float('nan')):.3g}")
        for name, rate in rates.items()
    ]
    return [("layer of neurons", "fire in a step, %", "threshold"), *rows]


def energy_rows(results: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Return mAP and energy of a window beside those of the ANN, below a heading.

    The ANN has the same layers with ReLU in place of neurons and sees every frame of a window. Where it was
    trained, the zeros that ReLU gives are known; its every product is counted in any case.
    """
    cost = Cost.from_dict(results["test"]["cost"])
    network, ann = measured(cost), ann_twin(cost, frames=cost.steps)
    twin = results.get("twin")  # Earlier runs have none.
    of_twin = "-" if twin is None else _percent(twin["mean_ap"])
    found = [("this network", _percent(results["test"]["scores"]["mean_ap"]), network)]
    if twin is not None:
        found.append(
            ("ANN of the same layers, its zeros left out", of_twin, measured(Cost.from_dict(twin["cost"])))
        )
    found.append(("ANN of the same layers, every product", of_twin, ann))
    return [
        ("", "mAP", "operations", "energy", "ratio"),
        *(
            (
                name,
                score,
                f"{of.operations:,.0f}",
                f"{of.energy_pj / 1e6:.3g} uJ",
                f"{of.energy_pj / network.energy_pj:.3g}" if network.energy_pj else "",
            )
            for name, score, of in found
        ),
    ]


def twin_words(results: Mapping[str, Any]) -> str:
    """Say in one sentence how the ANN twin compares, or that it was not trained."""
    if results["neurons"] == "ReLU":
        return "This is an ANN: ReLU in place of neurons (activation)."
    twin = results.get("twin")
    if twin is None:
        return "Its ANN twin was counted, not trained; --twin trains it (evaluation.twin)."
    _, (_, _, _, energy, _), (_, _, _, sparse, less), (_, _, _, dense, all_products) = energy_rows(results)
    difference = 100 * (results["test"]["scores"]["mean_ap"] - twin["mean_ap"])
    return (
        f"The same detector with ReLU in place of neurons, trained alike: mAP {_percent(twin['mean_ap'])}, "
        f"this one {difference:+.1f} points from it. A window takes {energy}; the ANN's {sparse} with its "
        f"zeros left out, {less} times as much, and {dense} with every product, {all_products} times."
    )


def control_words(results: Mapping[str, Any]) -> str:
    """Say in one sentence what is found where events are at random places."""
    if results["shuffled"] is None:
        return "The control with shuffled events was turned off (evaluation.shuffled)."
    found, control = (results[name]["mean_ap"] if name == "shuffled" else results[name]["scores"]["mean_ap"]
                      for name in ("test", "shuffled"))  # fmt: skip
    return (
        f"With every pixel at a place drawn by chance, as many events in each step and channel: mAP "
        f"{_percent(control)}, {100 * (found - control):.1f} points lower."
    )


def table(rows: Sequence[Sequence[str]]) -> str:
    """Return rows of text as an HTML table, of which the first is the heading."""
    head, *body = rows
    cells = ["".join(f"<th>{html.escape(cell)}</th>" for cell in head)]
    cells += ["".join(f"<td>{html.escape(cell)}</td>" for cell in row) for row in body]
    return "<table>" + "".join(f"<tr>{row}</tr>" for row in cells) + "</table>"


def _named(line: str) -> tuple[str, str]:
    name, _, words = line.partition(" ")
    return name, words.strip()


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f}"


def _gallery(folder: RunFolder, seen: Mapping[str, np.ndarray], name: str, names: Sequence[str]) -> str:
    """Return a sheet of windows as an HTML picture, or a word where there is none."""
    windows = seen_windows(seen, name)
    if not windows:
        return "<p class='soft'>None.</p>"
    path = folder.pictures / f"{name}.png"
    draw_windows(windows, names).save(path)
    return f'<img class="sheet" alt="{name}" src="{embedded(path)}">'


def _draw_figures(
    folder: RunFolder, results: Mapping[str, Any], metrics: list[dict[str, Any]], names: Sequence[str]
) -> list[Path]:
    scores, paths = results["test"]["scores"], []
    with plt.rc_context(STYLE):
        for name, figure in (
            ("curves", draw_training(metrics, results["best_epoch"])),
            ("precision", draw_precision(scores["curves"], names)),
            ("confusion", draw_confusion(np.array(scores["confusion"]), names)),
        ):
            paths.append(folder.pictures / f"{name}.png")
            figure.savefig(paths[-1])
            plt.close(figure)
    return paths


def draw_training(metrics: list[dict[str, Any]], best_epoch: int) -> Figure:
    """Draw the losses of training and validation, and mAP and AP50 of validation, over epochs."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.2))
    epochs = [record["epoch"] for record in metrics]
    # A single epoch would be an invisible line.
    marker = "o" if len(epochs) == 1 else None
    for axes, name, colour, scale, words in (
        (left, "train_loss", GREY, 1, "train"),
        (left, "validation_loss", BLUE, 1, "validation"),
        (right, "validation_map", BLUE, 100, "mAP"),
        (right, "validation_ap50", GREY, 100, "AP50"),
    ):
        axes.plot(
            epochs, [scale * record[name] for record in metrics], color=colour, marker=marker, label=words
        )
    for axes, title in ((left, "Loss"), (right, "Validation, %")):
        axes.axvline(best_epoch, color=ORANGE, linestyle=":", label=f"best epoch {best_epoch}")
        axes.set_title(title)
        axes.set_xlabel("epoch")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.set_ylim(bottom=0)
    left.legend()
    right.legend()
    return figure


def draw_precision(curves: Mapping[str, Any] | None, names: Sequence[str]) -> Figure:
    """Draw precision over recall of each class, at overlaps of 0.5 and 0.75; empty without curves."""
    figure, panels = plt.subplots(1, 2, figsize=(9, 3.2), sharey=True)
    colours = plt.get_cmap("viridis")(np.linspace(0, 0.88, max(len(names), 1)))
    for axes, overlap in zip(panels, ("50", "75"), strict=True):
        axes.set_title(f"Precision over recall at an overlap of 0.{overlap}")
        axes.set_xlabel("recall")
        axes.set_xlim(0, 1)
        axes.set_ylim(0, 1.02)
        if curves is None:
            axes.text(0.5, 0.5, "this protocol has no curves", ha="center")
            continue
        for name, colour, values in zip(names, colours, curves[f"precision{overlap}"], strict=True):
            precision = np.array([np.nan if value is None else value for value in values], np.float64)
            axes.plot(curves["recall"], precision, color=colour, label=name)
    panels[0].set_ylabel("precision")
    if curves is not None:
        panels[1].legend(fontsize=8)
    return figure


def draw_confusion(confusion: np.ndarray, names: Sequence[str]) -> Figure:
    """Draw what was taken for what [K + 1, K + 1]: truth down, detections across; last: nothing."""
    size = min(3.2 + 0.3 * len(names), 10)
    figure, axes = plt.subplots(figsize=(size, size))
    share = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    axes.grid(visible=False)
    ticks = range(len(confusion))
    axes.set_xticks(ticks, [*names, "missed"], rotation=45)
    axes.set_yticks(ticks, [*names, "nothing there"])
    axes.set_xlabel("detected")
    axes.set_ylabel("true")
    for row, column in zip(*np.nonzero(confusion), strict=True):
        colour = "white" if share[row, column] > 0.5 else "#30343a"
        axes.text(
            column, row, str(confusion[row, column]), ha="center", va="center", color=colour, fontsize=7
        )
    return figure


def _cards(results: Mapping[str, Any], metrics: list[dict[str, Any]]) -> str:
    scores, rates = results["test"]["scores"], list(results["test"]["firing_rates"].values())
    alarms = scores["false_positives_per_minute"]
    cards = [
        (
            _percent(scores["mean_ap"]),
            f"mAP, protocol {scores['protocol']}, {results['test']['windows']} windows",
        ),
        (_percent(scores["ap50"]), "AP50"),
        (
            "-" if alarms is None else f"{alarms:.1f}",
            f"false alarms a minute, score {scores['operating_score']:g}",
        ),
        (f"{results['parameters']:,}", "parameters"),
        (f"{100 * sum(rates) / len(rates):.1f} %" if rates else "none", "mean firing rate of a layer"),
        (f"{results['train_s']:.0f} s", f"training, {len(metrics)} epochs"),
    ]
    return card_row(cards)


def _facts(about: Mapping[str, Any], settings: Mapping[str, Any], results: Mapping[str, Any]) -> str:
    detector = settings["detector"]
    coverage = ", ".join(f"{name} {_percent(share)} %" for name, share in about["anchor_coverage"].items())
    facts = {
        "data": f"{about['store']} (content {about['store_config_hash'][:12]})",
        "detector": f"{detector['backbone']}, width {detector['width']:g}, neck {detector['neck']}, "
        f"head {detector['head']}",
        "anchors reach": coverage or "no anchors were fitted",
        "neurons": f"{results['neurons']}; computed by {results['executor']}",
        "weights": results["weights"],
        "best epoch": f"{results['best_epoch']}, mAP {_percent(results['validation_map'])} in validation",
    }
    return fact_rows(facts | origin_facts(about, settings))

"""The report of a conversion: accuracy and energy by stage, as text and as one HTML file."""

import html
from collections.abc import Mapping
from typing import Any

from pipelines.run_folder import RunFolder

STAGES = {
    "ann": "ANN",
    "quantised": "quantised ANN",
    "converted_as_it_is": "converted, biases as they are",
    "converted_rescaled": "converted, biases rescaled",
    "snn": "SNN, fine-tuned",
}
HEAD = ("", "test accuracy", "operations", "energy", "every product counted")
PAGE = """<!doctype html><meta charset="utf-8"><title>{title}</title>
<style>body{{font:15px/1.5 system-ui,sans-serif;max-width:52rem;margin:2rem auto;padding:0 1rem}}
table{{border-collapse:collapse}}td,th{{padding:.3rem .8rem;text-align:right;border-bottom:1px solid #ddd}}
th:first-child,td:first-child{{text-align:left}}pre{{background:#f5f6f8;padding:1rem;overflow:auto}}</style>
<h1>{title}</h1><p>{description}</p><table>{rows}</table><p>{note}</p><p>{links}</p>
<h2>Settings</h2><pre>{settings}</pre>
"""


def rows_of(results: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Return one row of text for every stage that is known."""
    rows: list[tuple[str, ...]] = []
    for name, words in STAGES.items():
        found = results.get(name)
        if found is None:
            continue
        if "error" in found:
            rows.append((words, "not found", "", "", ""))
            continue
        # To count an SNN's products, which it does not compute, is to describe another network.
        dense = f"{found['dense_energy_uj']:.3g} uJ" if name in ("ann", "quantised") else ""
        rows.append(
            (
                words,
                f"{100 * found['accuracy']:.2f} %",
                f"{found['operations']:,.0f}",
                f"{found['energy_uj']:.3g} uJ",
                dense,
            )
        )
    return rows


def energy_note(results: Mapping[str, Any]) -> str:
    """Return how much less energy the SNN takes than the ANN, in one line; empty where either is missing."""
    if "ann" not in results or "snn" not in results:
        return ""
    ann, snn = results["ann"], results["snn"]
    difference = 100 * (snn["accuracy"] - ann["accuracy"])
    return (
        f"SNN {difference:+.2f} points from its ANN, {ann['dense_energy_uj'] / snn['energy_uj']:.1f} times "
        f"less energy than with every product counted, {ann['energy_uj'] / snn['energy_uj']:.1f} times less "
        "than where the ANN leaves out its zeros too; 45 nm, arithmetic alone, neurons included"
    )


def write_report(folder: RunFolder, results: Mapping[str, Any]) -> None:
    """Write report.html of a finished conversion."""
    settings = folder.read_settings()
    cells = [HEAD, *rows_of(results)]
    rows = "".join(
        "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in cells
    )
    links = ", ".join(
        f'<a href="{name}/report.html">{html.escape(words)}</a>'
        for name, words in STAGES.items()
        if (folder.path / name / "report.html").is_file()
    )
    page = PAGE.format(
        title=html.escape(settings["name"]),
        description=html.escape(settings["description"]),
        rows=rows,
        note=html.escape(energy_note(results)),
        links=links,
        settings=html.escape(folder.settings_toml.read_text(encoding="utf-8")),
    )
    folder.report.write_text(page, encoding="utf-8")

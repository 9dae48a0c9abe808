"""What the reports of all runs share: a template filled in with the same style, and pictures as text."""

import base64
import html
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

from pipelines.run_folder import RunFolder


def write_page(folder: RunFolder, template: str, title: str, values: Mapping[str, str]) -> Path:
    """Write a run's report, one HTML file.

    Args:
        folder: Of the run.
        template: Name of an HTML file beside this one; its style, name, description and settings are filled
            in here.
        title: Of the page, plain text.
        values: HTML for everything else in the template, by name.

    Returns:
        Path of report.html.
    """
    here, run = files("pipelines") / "report", folder.read_settings()
    shared = {
        "title": title,
        "name": run["name"],
        "description": run["description"],
        "settings": folder.settings_toml.read_text(encoding="utf-8"),
    }
    text = Template((here / template).read_text(encoding="utf-8")).substitute(
        values,
        style=(here / "style.css").read_text(encoding="utf-8"),
        **{name: html.escape(words) for name, words in shared.items()},
    )
    folder.report.write_text(text, encoding="utf-8")
    return folder.report


def embedded(picture: Path) -> str:
    """Return a picture file as the source of an HTML picture."""
    kind = picture.suffix.removeprefix(".")
    return f"data:image/{kind};base64," + base64.b64encode(picture.read_bytes()).decode("ascii")


def card_row(cards: list[tuple[Any, str]]) -> str:
    """Return figures, each with what it is, as a row of cards."""
    return "".join(
        f'<div class="card"><b>{value}</b><span>{html.escape(label)}</span></div>' for value, label in cards
    )


def fact_rows(facts: Mapping[str, Any]) -> str:
    """Return facts as rows of an HTML table, their name first."""
    return "".join(
        f"<tr><th>{name}</th><td>{html.escape(str(text))}</td></tr>" for name, text in facts.items()
    )


def origin_facts(about: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return what every run can be repeated from: seed, command, versions, machine."""
    versions = ", ".join(f"{name} {number}" for name, number in about["versions"].items() if number)
    return {
        "seed": settings["seed"],
        "command": about["command"],
        "versions": f"Python {about['python']}, {versions}",
        "machine": f"{about['platform']}, {about['cores']} cores",
    }

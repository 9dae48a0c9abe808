"""What a detector's report shows of its scores' meaning and of the time its boxes stand for."""

import html
from collections.abc import Mapping
from typing import Any

import matplotlib

matplotlib.use("Agg")  # no display needed

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from pipelines.report.page import embedded
from pipelines.report.pictures import BLUE, GREY, STYLE
from pipelines.run_folder import RunFolder


def certainty_words(test: Mapping[str, Any]) -> str:
    """Say how far scores are from shares, and at which shift of time the detector scores highest."""
    error, by_shift = test["calibration"]["error"], _known(test["by_shift"])
    found = sum(test["calibration"]["detections"])
    words = (
        "Nothing was found."
        if error is None
        else f"Expected calibration error {100 * error:.1f} points, over {found:,} detections; "
        "right is an overlap of 0.5."
    )
    if not by_shift:
        return f"{words} No boxes have a track to be moved along."
    best = max(by_shift, key=lambda shift: by_shift[shift])
    return (
        f"{words} Held against where objects are some time later, along their tracks, mAP is highest at "
        f"{best:+g} ms, {100 * by_shift[best]:.1f}; over label times whose tracks reach that far."
    )


def certainty_section(folder: RunFolder, test: Mapping[str, Any]) -> str:
    """Draw both into a run's pictures and return a section of its report; empty for runs without."""
    if "calibration" not in test:
        return ""
    path = folder.pictures / "certainty.png"
    with plt.rc_context(STYLE):
        figure = draw_certainty(test["calibration"], _known(test["by_shift"]))
        figure.savefig(path)
        plt.close(figure)
    words = html.escape(certainty_words(test))
    return (
        f"<section><h2>How sure, and of what time</h2><p class='soft'>{words}</p>"
        f'<img alt="Share right over score; mAP over a shift of time" src="{embedded(path)}"></section>'
    )


def draw_certainty(calibration: Mapping[str, Any], by_shift: Mapping[float, float]) -> Figure:
    """Draw the share of right detections over their score, and mAP over a shift of time in ms."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.2))
    mean, share = (
        np.array([np.nan if value is None else value for value in calibration[name]], np.float64)
        for name in ("mean_score", "right")
    )
    left.plot([0, 1], [0, 1], color=GREY, linestyle=":", label="as they say")
    left.plot(mean, share, color=BLUE, marker="o", label="right")
    left.set_title("Share right over score")
    left.set_xlabel("score")
    left.set_xlim(0, 1)
    left.set_ylim(0, 1.02)
    left.legend()
    right.set_title("mAP over a shift of time, %")
    right.set_xlabel("objects are shown this much later, ms")
    right.set_ylim(0, 102)
    if by_shift:
        right.plot(list(by_shift), [100 * score for score in by_shift.values()], color=BLUE, marker="o")
    else:
        right.text(0.5, 50, "no tracks", ha="center")
    return figure


def _known(by_shift: Mapping[str, float | None]) -> dict[float, float]:
    """Return mAP by ms where there is one."""
    return {int(shift) / 1000: score for shift, score in by_shift.items() if score is not None}

"""Windows of labelled recordings for `events convert`: options become rules, a folder becomes a listing."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from events.binning.settings import BinSettings
    from events.datasets.listing import Listing

# Binning of windows where nothing is said.
DEFAULT_PRESET = "cube"


def is_labelled(dataset: str) -> bool:
    """Whether a data set is one of recordings with boxes."""
    from events.datasets.detection.registry import DETECTION_SETS

    return dataset in DETECTION_SETS


def default_window_us(dataset: str) -> int:
    """Return the length of a window of a data set where none is given."""
    from events.datasets.detection.registry import detection_entry

    return detection_entry(dataset).window_us


def list_labelled(
    dataset: str,
    src: Path,
    binning: "BinSettings",
    *,
    chosen: bool,
    split: str | None,
    select: str | None,
    **rules: Any,
) -> tuple["Listing", "BinSettings"]:
    """Return the windows of a folder of labelled recordings, and how they are binned.

    Args:
        dataset: A key of `DETECTION_SETS`.
        src: The folder.
        binning: As asked for.
        chosen: Whether anything of it was given.
        split: As asked for.
        select: As asked for.
        **rules: Fields of `WindowRules` but its length; None are not given.

    Raises:
        EventsError: There are no such windows, or the settings do not fit.
    """
    from events.datasets.detection.registry import detection_entry, list_detection
    from events.datasets.detection.windows import WindowRules
    from events.errors import ConfigError

    given = {name: value for name, value in rules.items() if value is not None}
    if detection_entry(dataset).ready_made:
        if chosen or given:
            raise ConfigError(f"{dataset}: holds frames of windows already; leave out binning and windows")
        listing = list_detection(dataset, src, split=split, select=select)
        assert listing.binning is not None
        return listing, listing.binning
    if binning.split != "window" or binning.window_us is None:
        raise ConfigError(
            f"{dataset}: its samples are windows before labels, got binning {binning.split!r}; use --preset "
            "cube, stack, rvt or counts, or --binning window with --window-us"
        )
    wanted = WindowRules(window_us=binning.window_us, **given)
    return list_detection(dataset, src, rules=wanted, split=split, select=select), binning

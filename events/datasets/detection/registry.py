"""The data sets with boxes that can be listed, and so converted: one row per set."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from events.datasets.detection import dsec, prophesee, rvt, single
from events.datasets.detection.pairs import PairedSet, list_windows
from events.datasets.detection.windows import WindowRules
from events.datasets.listing import Listing
from events.datasets.splits import OFFICIAL, RANDOM, canonical_split
from events.errors import ConfigError, DatasetError, did_you_mean


@dataclass(frozen=True)
class DetectionEntry:
    """One data set with boxes.

    Attributes:
        title: Its name, for people.
        layout: Where its recordings and labels are, for people.
        find: Finds them below a folder, by a selection.
        default_split: The one used where none is asked for; all sets have `random` too.
        window_us: Length of a window where none is given.
        selections: Which classes may be asked for, the default first.
        ready_made: Whether it holds frames, whose windows and binning cannot be chosen.
    """

    title: str
    layout: str
    find: Callable[[Path, str], PairedSet]
    default_split: str = OFFICIAL
    window_us: int = 100_000
    selections: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    ready_made: bool = False

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits it has."""
        return (RANDOM,) if self.default_split != OFFICIAL else (OFFICIAL, RANDOM)


BESIDE = "train|val|test/<name>_td.dat or .h5 with <name>_bbox.npy"

DETECTION_SETS: dict[str, DetectionEntry] = {
    "gen1": DetectionEntry(
        "Prophesee Gen1 Automotive Detection",
        BESIDE,
        partial(prophesee.find_bbox_pairs, layout=prophesee.GEN1),
    ),
    "1mpx": DetectionEntry(
        "Prophesee 1 Megapixel Automotive Detection",
        BESIDE,
        partial(prophesee.find_bbox_pairs, layout=prophesee.ONE_MPX),
        selections=prophesee.ONE_MPX.selections,
    ),
    "etram": DetectionEntry("eTraM", BESIDE, partial(prophesee.find_bbox_pairs, layout=prophesee.ETRAM)),
    "shapes": DetectionEntry(
        "made-up moving shapes of `events synth shapes`",
        BESIDE,
        partial(prophesee.find_bbox_pairs, layout=prophesee.SHAPES),
    ),
    "pedro": DetectionEntry(
        "PEDRo", "numpy/<split>/<name>.npy with xml/ or yolo/", single.find_pedro, window_us=40_000
    ),
    "ncaltech101-boxes": DetectionEntry(
        "N-Caltech101 with its boxes",
        "<class>/image_<number>.bin with annotation_<number>.bin",
        single.find_ncaltech101,
        default_split="random:0:0.7:0.1",
    ),
    "dsec-det": DetectionEntry(
        "DSEC-Detection",
        f"<split>/<sequence>/{dsec.EVENTS} with {dsec.TRACKS}",
        dsec.find_dsec_det,
        selections=dsec.SELECTIONS,
    ),
    "rvt": DetectionEntry(
        "Gen1 or 1Mpx as preprocessed by RVT",
        "<split>/<sequence>/labels_v2 with event_representations_v2/<name>",
        rvt.find_rvt,
        ready_made=True,
    ),
}


def list_detection(
    dataset: str,
    root: Path,
    *,
    rules: WindowRules | None = None,
    split: str | None = None,
    select: str | None = None,
) -> Listing:
    """List the windows of a data set with boxes below a folder.

    Label files are read, and of each recording its header; a pair that cannot be read is left out and named
    in the listing's `left_out`.

    Args:
        dataset: A key of `DETECTION_SETS`.
        root: The folder.
        rules: Which windows are taken; None takes one before each label, of the set's length.
        split: One of the set's splits; None takes its default.
        select: One of the set's selections; None takes the first.

    Raises:
        DatasetError: There is no such data set, or no window in the folder.
        ConfigError: The set has no such split or selection, or is ready made and rules are given.
    """
    entry = detection_entry(dataset)
    rule = canonical_split(split or entry.default_split, allowed=entry.splits)
    selection = _canonical_selection(dataset, entry, select)
    found = entry.find(Path(root), selection)
    if found.binning is not None and found.binning.window_us is not None:
        ready = WindowRules(window_us=found.binning.window_us)
        if rules not in (None, ready):
            raise ConfigError(f"{dataset}: its windows are made already; leave out the rules of windows")
        rules = ready
    return list_windows(found, split=rule, rules=rules or WindowRules(window_us=entry.window_us))


def detection_entry(dataset: str) -> DetectionEntry:
    """Return what is known of a data set with boxes.

    Raises:
        DatasetError: There is no such set.
    """
    if dataset not in DETECTION_SETS:
        known = ", ".join(DETECTION_SETS)
        raise DatasetError(
            f"no data set with boxes {dataset!r}; known: {known}{did_you_mean(dataset, DETECTION_SETS)}"
        )
    return DETECTION_SETS[dataset]


def _canonical_selection(dataset: str, entry: DetectionEntry, select: str | None) -> str:
    """Return the selection to apply; empty for a set without a choice."""
    if select is None:
        return next(iter(entry.selections), "")
    name = select.strip().lower()
    if name not in entry.selections:
        known = ", ".join(entry.selections) or "none, all of it is taken"
        raise ConfigError(f"select {select!r} is not defined for data set {dataset!r}; known: {known}")
    return name

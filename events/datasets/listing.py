"""What a data set on disk looks like to the rest of events: recordings, labels, splits, and what is wrong."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from events.binning.settings import BinSettings
from events.recording import ReadOptions

if TYPE_CHECKING:
    from events.datasets.detection.boxes import WindowBoxes

# Numbers in a store's `split` column.
SPLIT_NAMES = ("train", "validation", "test")


@dataclass(frozen=True)
class Sample:
    """One labelled recording, or a part of one.

    Attributes:
        path: Relative to the listing's root, with forward slashes.
        label: Index in the listing's class names; -1 for a window with boxes.
        split: A name of `SPLIT_NAMES`.
        number: The recording's number in its class where the data set numbers them, else -1; of a window
            the position of its recording.
        size_bytes: Size of the file.
        t_range_us: Where one file holds several samples: the sample is its events with start <= t < stop,
            in microseconds of the recording's clock. None takes the whole recording.
    """

    path: str
    label: int
    split: str
    number: int
    size_bytes: int
    t_range_us: tuple[int, int] | None = None


class LeftOut(NamedTuple):
    """A recording that is left out because it, or its label file, cannot be read.

    Attributes:
        path: Relative to the listing's root.
        reason: Why, in one line.
    """

    path: str
    reason: str


@dataclass(frozen=True)
class Listing:
    """All recordings of a data set found in one folder, in a fixed order.

    Attributes:
        dataset: Name of the data set, a key of `events.datasets.DATASETS`.
        root: The folder.
        class_names: In label order.
        samples: Sorted by label, then number, then path.
        split_rule: The named split that was applied, such as `tet` or `random:0:0.9`.
        sensor_hw: Height and width in pixels; None where recordings differ or say it themselves.
        read_options: How this data set's recordings are meant to be read.
        problems: What is missing or extra, one line each, for people.
        selection: Which recordings of the set were asked for; empty where there is no such choice.
        planes: Of pictures, what their planes hold: grey, or red, green and blue. Empty for recordings of
            events, whose planes are polarities.
        windows: Of recordings with boxes, the windows that the samples are, one for each, and their boxes.
        left_out: Recordings that were found, but cannot be read.
        binning: Where the set holds frames instead of events: how they were made, which cannot be changed.
    """

    dataset: str
    root: Path
    class_names: tuple[str, ...]
    samples: tuple[Sample, ...]
    split_rule: str
    sensor_hw: tuple[int, int] | None
    read_options: ReadOptions = field(default_factory=ReadOptions)
    problems: tuple[str, ...] = field(default=())
    selection: str = ""
    planes: tuple[str, ...] = ()
    windows: "WindowBoxes | None" = None
    left_out: tuple[LeftOut, ...] = ()
    binning: BinSettings | None = None

    def with_options(self, options: ReadOptions) -> "Listing":
        """Return the same listing, read another way."""
        return replace(self, read_options=options)

"""What published evaluations keep of truth and detections, as data.

Numbers are comparable only where the protocol is the same: on Gen1 at least four filters are in use under
the name "mAP".
"""

from dataclasses import dataclass
from typing import Literal

from snn.errors import DetectionError, did_you_mean

Match = Literal["nearest", "window"]
Grid = Literal["none", "rvt"]
Engine = Literal["coco", "voc"]

# Detections may be this far from the time of a label, in microseconds.
# Source: `time_tol` of Prophesee's automotive dataset toolbox, src/metrics/coco_eval.py.
TOLERANCE_US = 50_000

# A sensor at least this wide, in pixels, has the limits of the 1 megapixel camera (1280 x 720). Half its
# size (640 x 360) has half the limits, which are those of Gen1 (304 x 240).
LARGE_SENSOR_WIDTH = 1280


@dataclass(frozen=True)
class Protocol:
    """Which boxes count, and how they are scored. The same filters are applied to truth and detections.

    Attributes:
        name: What results are called.
        after_us: Boxes at this time or before are left out, in microseconds from the recording's start.
        diagonal_px: A box with a shorter diagonal is left out: on small sensors, on large ones.
        side_px: The same for the shorter of its sides.
        classes: Boxes of this class number and above are left out; None keeps all.
        clip_px: Truth is cut at the width and height less this many pixels; None leaves it as it is.
        clip_detections: Whether detections are cut as well.
        grid: `rvt`: only labels about every 250 ms (Gen1) or 100 ms (others), see `filters.rvt_grid`.
        keep_emptied: Whether a label time still counts where the filters leave none of its boxes, so that
            what is detected there is wrong.
        engine: `coco`: average precision over ten overlaps and 101 recalls. `voc`: at an overlap of 0.5,
            over every point of the curve, sides a pixel longer (`snn.metrics.voc`).
        source: Where the numbers are from.
    """

    name: str
    after_us: int | None = None
    diagonal_px: tuple[float, float] = (0, 0)
    side_px: tuple[float, float] = (0, 0)
    classes: int | None = None
    clip_px: int | None = None
    clip_detections: bool = False
    grid: Grid = "none"
    keep_emptied: bool = False
    engine: Engine = "coco"
    source: str = ""

    def limits(self, sensor_hw: tuple[int, int]) -> tuple[float, float]:
        """Return the shortest diagonal and side that count on a sensor, in pixels."""
        large = int(sensor_hw[1] >= LARGE_SENSOR_WIDTH)
        return self.diagonal_px[large], self.side_px[large]


PROTOCOLS: dict[str, Protocol] = {
    protocol.name: protocol
    for protocol in (
        Protocol(
            "psee",
            after_us=500_000,
            diagonal_px=(30, 60),
            side_px=(10, 20),
            source="Perot et al., NeurIPS 2020, supplement; toolbox, src/io/box_filtering.py",
        ),
        Protocol(
            "rvt",
            after_us=500_000,
            diagonal_px=(30, 60),
            side_px=(10, 20),
            clip_px=1,
            grid="rvt",
            source="RVT, utils/evaluation/prophesee/evaluation.py, scripts/genx/preprocess_dataset.py",
        ),
        Protocol(
            "psee-script",
            after_us=100_000,
            diagonal_px=(30, 60),
            side_px=(20, 10),  # interchanged there, as the toolbox's authors say
            classes=2,  # it calls all classes ("car", "pedestrian")
            source="toolbox, src/psee_evaluator.py with --camera",
        ),
        Protocol(
            "cordone",
            diagonal_px=(30, 30),
            side_px=(20, 20),
            clip_px=0,
            clip_detections=True,
            keep_emptied=True,
            source="Cordone et al., IJCNN 2022, SSD_utils.filter_boxes",
        ),
        Protocol(
            "voc50",
            clip_px=1,
            clip_detections=True,
            engine="voc",
            source="LT-SNN's detector, after rpg_asynet, utils/statistics_pascalvoc.py",
        ),
        Protocol("unfiltered", source="COCO as it is"),
    )
}


def protocol_named(protocol: str | Protocol) -> Protocol:
    """Return the protocol of a name, or the one given."""
    if isinstance(protocol, Protocol):
        return protocol
    if protocol not in PROTOCOLS:
        raise DetectionError(
            f"protocol: found {protocol!r}, expected one of {', '.join(PROTOCOLS)}"
            f"{did_you_mean(protocol, PROTOCOLS)}"
        )
    return PROTOCOLS[protocol]

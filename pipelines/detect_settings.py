"""A detection experiment: recordings, augmentation, detector, training and evaluation, from a TOML file."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

from events.augment import AugmentSettings
from events.augment_boxes import BoxAugmentSettings
from events.batches import Cache
from events.binning.settings import PRESETS, BinSettings
from events.datasets.detection.windows import WindowRules
from events.synth.shapes import ShapeSettings
from pipelines.errors import ExperimentError
from pipelines.experiment import embedded_files, find_file, load_file
from pipelines.smoke import Change
from snn.detection.settings import DetectorSettings
from snn.metrics.detection.protocols import Match, protocol_named
from snn.training.settings import TrainSettings

Activation = Literal["neurons", "relu"]

DEFAULT_DETECTION = "shapes"
# The data set that is made here instead of found somewhere.
MADE_HERE = "shapes"
# Of a try on a few windows that are learned by heart.
OVERFIT_EPOCHS = 40
OVERFIT_WARNING = (
    "trained, validated and tested on the same windows: the figures say whether it can learn these, "
    "nothing about any other window"
)


@dataclass(frozen=True)
class DetectionData:
    """Which recordings with boxes, which windows of them, and how these become frames.

    Attributes:
        dataset: `shapes` makes its own recordings; else a data set with boxes, see `events convert --help`.
        source: Folder of recordings, or a store made by `events convert`; None where the data is made here.
        folder: Where recordings and stores made on the way are kept.
        recordings: Folder of the recordings a store was converted from, for `augment_events`; none where
            `source` is that folder.
        split: Named split of the data set; None takes its default.
        select: Which classes, where the data set has a choice; None takes the first.
        windows: Which windows are taken.
        binning: How a window becomes frames; of the length that `windows` says.
        shapes: What recordings are made, for `shapes`.
        validation_share: Share of the training recordings kept for validation, without a split for it.
        validation_windows: At most so many windows are looked at after an epoch, evenly spaced; none: all.
        overfit: So many labelled windows of any split, evenly spaced, are trained on, validated on and tested
            on, all the same: whether the detector can learn these at all. None: the splits are kept apart.
        cache: Whether decoded frames stay in memory: `none`, `decoded`, or `auto` up to 1 GiB.
        workers: Processes that make and convert recordings; 0 takes one for each core.
    """

    dataset: str = MADE_HERE
    source: str | None = None
    recordings: str | None = None
    folder: str = "data"
    split: str | None = None
    select: str | None = None
    windows: WindowRules = field(default_factory=WindowRules)
    binning: BinSettings = field(default_factory=lambda: PRESETS["cube"])
    shapes: ShapeSettings = field(default_factory=ShapeSettings)
    validation_share: float = 0.15
    validation_windows: int | None = None
    overfit: int | None = None
    cache: Cache = "auto"
    workers: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.validation_share < 1:
            raise ExperimentError(
                f"data.validation_share must be between 0 and 1, got {self.validation_share}; "
                "the best epoch is chosen on these recordings, never on those of the test"
            )
        if self.workers < 0:
            raise ExperimentError(f"data.workers must be at least 0, got {self.workers}")
        if self.validation_windows is not None and self.validation_windows < 1:
            raise ExperimentError(
                f"data.validation_windows must be at least 1, got {self.validation_windows}; none takes all"
            )
        if self.overfit is not None and self.overfit < 1:
            raise ExperimentError(
                f"data.overfit must be at least 1 window, got {self.overfit}; none keeps the splits apart"
            )
        if self.binning.window_us != self.windows.window_us:
            raise ExperimentError(
                f"data.binning.window_us is {self.binning.window_us} and data.windows.window_us "
                f"{self.windows.window_us}; both are the length of a window, set them alike"
            )


@dataclass(frozen=True)
class EvaluationSettings:
    """How detections are scored.

    Attributes:
        protocol: Which boxes count, see `snn.metrics.detection.protocols`.
        match: How detections are held against label times: `nearest`, or `window` as published.
        operating_score: Least score of the detections in the confusion matrix, false alarms and pictures.
        shuffled: Whether the test is repeated with all events at places drawn by chance, the control that
            tells whether it is shapes that are found.
        twin: Whether the same detector with ReLU in place of neurons is trained and tested too, on the same
            data; twice the time.
    """

    protocol: str = "unfiltered"
    match: Match = "nearest"
    operating_score: float = 0.5
    shuffled: bool = True
    twin: bool = False

    def __post_init__(self) -> None:
        protocol_named(self.protocol)
        if not 0 <= self.operating_score <= 1:
            raise ExperimentError(
                f"evaluation.operating_score must be from 0 to 1, got {self.operating_score}"
            )


@dataclass(frozen=True)
class DetectExperiment:
    """Everything that decides a run.

    Attributes:
        name: Short name, the beginning of its run folders' names.
        description: What it is, in one line.
        seed: Decides weights, anchors, order, augmentation and the validation split.
        data: Which recordings, and how their windows become frames.
        augment: What the frames of a training window and its boxes go through: flip, roll_px, zoom and drop.
        augment_events: What its events and boxes go through instead, before they are binned.
        detector: Which detector.
        activation: `neurons`: a spiking detector. `relu`: the ANN of the same layers, which sees every frame
            of a window by itself.
        training: How it is trained; the best epoch is that of the highest mAP.
        evaluation: How detections are scored.
    """

    name: str = "detection"
    description: str = ""
    seed: int = 0
    data: DetectionData = field(default_factory=DetectionData)
    augment: AugmentSettings = field(default_factory=AugmentSettings)
    augment_events: BoxAugmentSettings = field(default_factory=BoxAugmentSettings)
    detector: DetectorSettings = field(default_factory=DetectorSettings)
    activation: Activation = "neurons"
    training: TrainSettings = field(default_factory=TrainSettings)
    evaluation: EvaluationSettings = field(default_factory=EvaluationSettings)

    def __post_init__(self) -> None:
        if not 0 <= self.seed < 2**63:
            raise ExperimentError(f"seed must be from 0 to 2**63 - 1, got {self.seed}")
        if self.augment != AugmentSettings() and self.augments_events:
            raise ExperimentError(
                "augment and augment_events: both change something, and boxes follow one; leave out "
                "[augment], which changes frames, or [augment_events]"
            )
        if self.training.processes > 1 and self.detector.head == "grid":
            raise ExperimentError(
                f"training.devices: found {self.training.processes} processes, but the loss of a grid "
                "(detector.head) is no sum over windows; set training.devices and training.nodes to 1, and "
                "training.accumulate for large batches"
            )
        if self.evaluation.twin and (self.activation == "relu" or self.training.start_from is not None):
            raise ExperimentError(
                "evaluation.twin (--twin): trains an ANN from new weights beside a spiking detector that "
                "does so too; leave out activation=relu and training.start_from (--from), or the twin"
            )

    @property
    def augments_events(self) -> bool:
        """Whether windows are binned anew from augmented events."""
        return self.augment_events != BoxAugmentSettings()


def embedded_detections() -> dict[str, Path]:
    """Return the detection experiments that come with the package: file by name."""
    return embedded_files("experiments/detect")


def load_detection(
    name: str | Path,
    assignments: Sequence[str] = (),
    *,
    smoke: bool = False,
    overfit: int | None = None,
) -> DetectExperiment:
    """Load an experiment and change it.

    Args:
        name: As of `pipelines.experiment.load_experiment`, and so `assignments` and `smoke`.
        overfit: Train, validate and test on the same so many windows, see `overfit_changes`.

    Raises:
        ExperimentError: The file, a setting or a value cannot be used.
    """
    if smoke and overfit is not None:
        raise ExperimentError("--smoke and --overfit: each makes another try of the recipe; leave one out")
    path = find_file(name, embedded_detections(), what="detection experiment")
    changes = smoke_changes if smoke else None if overfit is None else partial(overfit_changes, overfit)
    return load_file(DetectExperiment, path, assignments, changes)


def overfit_changes(windows: int, table: Mapping[str, Any]) -> list[Change]:
    """Return what to change in an experiment's table to see whether its detector can learn a few windows.

    The data, the detector and its loss stay; what is there to keep a detector from learning windows by heart
    is turned off: augmentation, weight decay, and the moving mean of weights, which lags behind so few steps.
    Batches are at most a third of the windows: it is steps that are few.
    """
    batch_size = table.get("training", {}).get("batch_size", TrainSettings.batch_size)
    changes: dict[str, Any] = {
        "name": f"{table.get('name', 'detection')}-overfit",
        "data.overfit": windows,
        "augment": {},
        "augment_events": {},
        "training.epochs": OVERFIT_EPOCHS,
        "training.batch_size": min(batch_size, max(windows // 3, 1)),
        "training.accumulate": 1,
        "training.weight_decay": 0.0,
        "training.average_decay": "none",
    }
    return [(name.split("."), value) for name, value in changes.items()]


def smoke_changes(table: Mapping[str, Any]) -> list[Change]:
    """Return what to change in an experiment's table to make it a try: shapes made here, one short epoch."""
    frames = table.get("data", {}).get("binning", {}).get("frames", PRESETS["cube"].frames)
    changes: dict[str, Any] = {
        "name": f"{table.get('name', 'detection')}-smoke",
        "data.dataset": MADE_HERE,
        "data.recordings": "none",
        "data.split": "none",
        "data.select": "none",
        "data.shapes.recordings": 3,
        "data.shapes.duration_us": 1_000_000,
        "data.binning.frames": min(frames, 2),
        "data.binning.size_hw": "none",
        "detector.width": 0.0625,
        # Compiled neurons take longer to compile than all the rest.
        "detector.executor": "reference",
        # So few boxes need not be reached by their own anchors.
        "detector.least_coverage": 0.0,
        "training.epochs": 1,
        "training.batch_size": 4,
        "training.accumulate": 1,
        "training.warmup_epochs": 0.0,
        "training.device": "cpu",
        "training.devices": 1,
        "training.precision": "fp32",
        # No box of so small a sensor is as large as those of cars.
        "evaluation.protocol": "unfiltered",
        # Nothing is sure after one epoch.
        "evaluation.operating_score": 0.05,
    }
    return [(name.split("."), value) for name, value in changes.items()]

"""Recordings of moving shapes with exact boxes: a made-up detection set, laid out as Gen1 is.

`train/`, `val/` and `test/` hold `shapes_<number>_td.dat` and `shapes_<number>_bbox.npy`. The classes are
circle, square and triangle, all of one area at one size, so that nothing but their outline tells them apart.
"""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from events.boxes import clip_boxes
from events.errors import ConfigError
from events.labels.formats import write_labels
from events.labels.table import AUTO, LabelTable, make_table
from events.parallel import run_jobs
from events.synth.folder import claim_folder
from events.synth.outlines import CLASS_NAMES
from events.synth.scene import Scene
from events.synth.sensor import Pixels, SensorSettings, draw_pixels, record_light
from events.writers.registry import write_recording

# The settings a folder was made with; hidden, so that it is no part of the data set.
SETTINGS_FILE = ".shapes.json"
# Raised whenever the same settings would give other bytes.
RECORDING_VERSION = 1
# To which part recording n belongs: place n modulo 10. So 70 % are for training, the first three recordings
# are in three parts, and recordings added later move none.
SPLITS = ("train", "test", "val", "train", "train", "test", "train", "train", "train", "train")
# By how much and how fast an object grows and shrinks: share of its size, rates in radians a second.
SWELL = (0.05, 0.15)
SWELL_RATE = (2.0, 6.0)
# Rates at which an object turns, either way, in radians a second.
TURN_RATE = (0.2, 1.5)
# Last word of the seeds: what is drawn.
SCENE, NOISE, CHIP = range(3)
# Half axes of the path as shares of the sensor's shorter side.
SEMI_SHARE = (0.1, 0.6)


@dataclass(frozen=True)
class ShapeSettings:
    """What is recorded, and how.

    Attributes:
        recordings: How many.
        seed: Draws the chip, and each recording's objects and noise.
        duration_us: Length of a recording in microseconds.
        step_us: Time between renderings; events have times of their own within it.
        label_us: Time from one label to the next; the first is that long after the start, and the last is
            no later than the end.
        objects: Fewest and most objects of a recording.
        size_share: Smallest and largest size over the sensor's shorter side.
        speed_share: Slowest and fastest mean speed (root of the mean square) over the sensor's shorter side,
            a second.
        light: Smallest and largest ratio of light across an object's edge; half of the objects are lighter
            than the background by it, half darker.
        least_visible: An object gets a label while at least this share of its outline's area is seen.
        sensor: The simulated sensor.
    """

    recordings: int = 40
    seed: int = 0
    duration_us: int = 2_500_000
    step_us: int = 1_000
    label_us: int = 50_000
    objects: tuple[int, int] = (1, 4)
    size_share: tuple[float, float] = (0.18, 0.4)
    speed_share: tuple[float, float] = (0.2, 1.2)
    light: tuple[float, float] = (1.5, 2.5)
    least_visible: float = 0.3
    sensor: SensorSettings = field(default_factory=lambda: SensorSettings(sensor_hw=(96, 128)))

    def __post_init__(self) -> None:
        if self.recordings < 1:
            raise ConfigError(f"recordings must be at least 1, got {self.recordings}")
        if self.seed < 0:
            raise ConfigError(f"seed must be at least 0, got {self.seed}")
        if self.step_us < 1 or self.duration_us < self.step_us or self.duration_us % self.step_us:
            raise ConfigError(
                f"duration_us ({self.duration_us}) must be a multiple of step_us ({self.step_us}), "
                "both at least 1"
            )
        if not 1 <= self.label_us <= self.duration_us:
            raise ConfigError(
                f"label_us must be from 1 to duration_us {self.duration_us}, got {self.label_us}"
            )
        for name, lowest in (("objects", 1), ("size_share", 0), ("speed_share", 0), ("light", 1)):
            low, high = getattr(self, name)
            if not lowest <= low <= high or high <= 0:
                raise ConfigError(
                    f"{name} must be two numbers in order, not below {lowest}; got {low}, {high}"
                )
        if self.size_share[0] <= 0 or self.speed_share[0] <= 0:
            raise ConfigError("size_share and speed_share must be above 0, got 0")
        if not 0 < self.least_visible <= 1:
            raise ConfigError(f"least_visible must be above 0 and at most 1, got {self.least_visible}")

    @property
    def label_times_us(self) -> np.ndarray:
        """Times of labels in microseconds, int64."""
        return np.arange(self.label_us, self.duration_us + 1, self.label_us)


def recording_path(number: int) -> str:
    """Return where the events of a recording lie below its folder, as `train/shapes_0000_td.dat`."""
    return f"{SPLITS[number % len(SPLITS)]}/shapes_{number:04d}_td.dat"


def labels_path(number: int) -> str:
    """Return where its labels lie, as `train/shapes_0000_bbox.npy`."""
    return recording_path(number).replace("_td.dat", "_bbox.npy")


def write_shapes(
    dst: Path,
    settings: ShapeSettings | None = None,
    *,
    workers: int = 1,
    scheduler: str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write all recordings and their labels; the same settings give the same bytes, however many workers.

    A recording that is there already is kept, so that an interrupted call can be repeated, also with more
    recordings.

    Args:
        dst: Folder to write to; made where it is missing.
        settings: What to record; None takes the defaults.
        workers: Processes to use.
        scheduler: Address of a running Dask scheduler to use instead.
        progress: Called with the number of recordings done and of all, at the start and after each.

    Raises:
        ConfigError: The folder holds recordings of other settings, or something else.
        StoreError: The folder cannot be written.
    """
    settings = settings or ShapeSettings()
    claim_folder(
        dst,
        {"recording_version": RECORDING_VERSION} | asdict(settings),
        note=SETTINGS_FILE,
        growing="recordings",
        folders=("train", "val", "test"),
        may_hold=False,
    )
    missing = [number for number in range(settings.recordings) if not (dst / recording_path(number)).exists()]
    done = settings.recordings - len(missing)
    if progress is not None:
        progress(done, settings.recordings)
    write = partial(write_one_recording, dst=dst, settings=settings)
    for _ in run_jobs(write, missing, workers=workers, scheduler=scheduler):
        done += 1
        if progress is not None:
            progress(done, settings.recordings)


def write_one_recording(number: int, *, dst: Path, settings: ShapeSettings) -> int:
    """Write a recording and, before it, its labels; return its number. The work of one job."""
    labels = label_recording(number, settings)
    # The file cannot say which boxes to ignore. Events come last: where they are, the labels are too.
    write_labels(dst / labels_path(number), labels.where(~labels.ignore), "1mpx")
    write_recording(
        dst / recording_path(number),
        record_shapes(number, settings),
        format="dat",
        sensor_hw=settings.sensor.sensor_hw,
    )
    return number


def settings_of(folder: Path) -> ShapeSettings:
    """Return the settings a folder was made with, for `draw_scene` to give its boxes at any time.

    Raises:
        ConfigError: The folder was not made by `write_shapes`, or by another version of it.
    """
    path = folder / SETTINGS_FILE
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        version = found.pop("recording_version", None)
        if version != RECORDING_VERSION:
            raise ConfigError(f"{path}: is of version {version}, expected {RECORDING_VERSION}; make it again")
        sensor = _as_tuples(found.pop("sensor"))
        return ShapeSettings(**_as_tuples(found), sensor=SensorSettings(**sensor))
    except (OSError, json.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(
            f"{path}: cannot be read as settings of shapes ({error}); name a folder of `events synth shapes`"
        ) from error


def record_shapes(number: int, settings: ShapeSettings) -> np.ndarray:
    """Return the events of one recording, shape [N], EVENT_DTYPE."""
    steps = settings.duration_us // settings.step_us
    return record_light(
        draw_scene(number, settings).log_light(np.arange(steps + 1) * settings.step_us),
        steps=steps,
        step_us=settings.step_us,
        settings=settings.sensor,
        pixels=_chip(settings.sensor, settings.seed),
        rng=np.random.default_rng([settings.seed, number, NOISE]),
    )


def label_recording(number: int, settings: ShapeSettings) -> LabelTable:
    """Return the labels of one recording: boxes cut at the sensor's edge, their numbers as tracks.

    An object of which something is seen, but less than `settings.least_visible`, is marked `ignore`; one of
    which nothing is seen has no row. No box at a label's time means no object, and coverage says so.
    """
    scene, times_us = draw_scene(number, settings), settings.label_times_us
    moments = [scene.boxes_at(t_us) for t_us in times_us.tolist()]
    share = np.concatenate([boxes.visible_share for boxes in moments])
    table = make_table(
        np.repeat(times_us, len(scene)),
        clip_boxes(np.concatenate([boxes.xyxy for boxes in moments]), sensor_hw=scene.sensor_hw),
        np.concatenate([boxes.class_id for boxes in moments]),
        track_id=np.concatenate([boxes.track_id for boxes in moments]),
        kind=AUTO,
        ignore=share < settings.least_visible,
        class_names=CLASS_NAMES,
        sensor_hw=scene.sensor_hw,
        coverage=[[0, settings.duration_us + 1]],
    )
    # Rows are in order of time and track as they are made, so the table is in the order of `share`.
    return table.where(share > 0)


def draw_scene(number: int, settings: ShapeSettings) -> Scene:
    """Draw the objects of one recording; each is drawn by itself, the farthest first.

    Sizes, speeds and ratios of light are equally likely by their logarithm, all else evenly. The middle of
    a path is on the sensor; the path may leave it.
    """
    random = np.random.default_rng([settings.seed, number, SCENE])
    m = int(random.integers(settings.objects[0], settings.objects[1] + 1))
    height, width = settings.sensor.sensor_hw
    side = min(height, width)

    def even(low: float, high: float) -> np.ndarray:
        return random.uniform(low, high, m)

    def by_logarithm(bounds: tuple[float, float]) -> np.ndarray:
        return np.exp(even(np.log(bounds[0]), np.log(bounds[1])))

    def either_way() -> np.ndarray:
        return random.choice([-1.0, 1.0], m)

    semi_x, semi_y = even(*SEMI_SHARE) * side, even(*SEMI_SHARE) * side
    # The mean square of the speed on the ellipse is rate^2 (semi_x^2 + semi_y^2) / 2.
    rate = either_way() * by_logarithm(settings.speed_share) * side / np.sqrt((semi_x**2 + semi_y**2) / 2)
    return Scene(
        sensor_hw=settings.sensor.sensor_hw,
        class_id=random.integers(0, len(CLASS_NAMES), m),
        light=by_logarithm(settings.light) ** either_way(),
        x=even(0, width),
        y=even(0, height),
        semi_x=semi_x,
        semi_y=semi_y,
        tilt=even(0, np.pi),
        phase=even(0, 2 * np.pi),
        rate=rate,
        size_px=by_logarithm(settings.size_share) * side,
        swell=even(*SWELL),
        swell_phase=even(0, 2 * np.pi),
        swell_rate=even(*SWELL_RATE),
        angle=even(0, 2 * np.pi),
        turn_rate=even(*TURN_RATE) * either_way(),
    )


@cache
def _chip(sensor: SensorSettings, seed: int) -> Pixels:
    """Return the thresholds of the one chip that makes all recordings of a seed."""
    return draw_pixels(sensor, np.random.default_rng([seed, 0, CHIP]))


def _as_tuples(values: dict[str, Any]) -> dict[str, Any]:
    """Return settings as they were before JSON made lists of pairs."""
    return {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}

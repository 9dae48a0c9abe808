"""Any data set of the package tonic, as `tonic:NAME`: samples, labels and split, read through its classes.

tonic is optional and GPL-licensed; it is imported here alone, when such a set is asked for. The folder is its
`save_to`; tonic fetches what is missing there, as it does for everybody.

A set with an argument `train` or `split` has an official split; any other is split at random. Samples are
structured arrays whose fields are found by name; times are microseconds.
"""

import inspect
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from events.datasets.listing import Listing
from events.datasets.problems import present
from events.datasets.splits import (
    OFFICIAL,
    RANDOM,
    TEST,
    TRAIN,
    VALIDATION,
    Unsplit,
    canonical_split,
    empty_splits,
    split_samples,
)
from events.errors import ConfigError, DamagedRecording, DatasetError, did_you_mean
from events.recording import DEFAULT_CHUNK_EVENTS, EVENT_DTYPE, FileReport, ReadOptions, Recording

PREFIX = "tonic:"
WITHOUT_OFFICIAL = "random:0:0.9"
# The part of a set without a split.
WHOLE = "all"
_SPLIT_ARGUMENTS = {
    "train": TRAIN,
    "valid": VALIDATION,
    "validation": VALIDATION,
    "val": VALIDATION,
    "test": TEST,
}
_FIELDS = {"t": ("t", "ts", "timestamp"), "x": ("x",), "y": ("y",), "p": ("p", "pol", "polarity")}


def is_tonic(dataset: str) -> bool:
    """Whether a data set's name means one of tonic's."""
    return dataset.startswith(PREFIX)


def list_tonic(dataset: str, root: Path, *, split: str | None = None) -> Listing:
    """List the samples of one of tonic's data sets.

    Args:
        dataset: `tonic:NAME`, NAME being a class of `tonic.datasets`.
        root: Its `save_to`.
        split: `official` or `random:SEED:TRAIN[:VALIDATION]`; None takes the official one where there is one.

    Raises:
        DatasetError: tonic is not installed, has no such set, or the set has no labels or fails to open.
        ConfigError: The set has no such split.
    """
    parts = _parts(dataset)
    allowed = (RANDOM,) if parts == (WHOLE,) else (OFFICIAL, RANDOM)
    rule = canonical_split(
        split or (WITHOUT_OFFICIAL if OFFICIAL not in allowed else OFFICIAL), allowed=allowed
    )
    opened = {part: _open_part(dataset, str(root), part) for part in parts}
    targets = {part: _targets(dataset, samples) for part, samples in opened.items()}
    first = next(iter(opened.values()))
    names, indices = _class_names(dataset, first, [t for found in targets.values() for t in found])
    found = [
        Unsplit(
            f"{part}/{number}", indices[target], number, 0, f"{part}/{number}", _SPLIT_ARGUMENTS.get(part)
        )
        for part, labels in targets.items()
        for number, target in enumerate(labels)
    ]
    samples = split_samples(found, class_names=names, rule=rule)
    sensor_hw = _sensor_hw(first)
    return Listing(
        dataset=dataset,
        root=root,
        class_names=names,
        samples=samples,
        split_rule=rule,
        sensor_hw=sensor_hw,
        read_options=ReadOptions(sensor_hw=sensor_hw),
        problems=present([empty_splits(samples, rule=rule)]),
    )


def _tonic_class(dataset: str) -> Any:
    """Return the class of a data set.

    Raises:
        DatasetError: tonic is not installed, or has no such set.
    """
    try:
        import tonic.datasets as sets
    except ImportError as error:
        raise DatasetError(f"{dataset}: tonic cannot be imported ({error}); pip install tonic") from None
    name = dataset.removeprefix(PREFIX)
    known = {key.lower(): value for key, value in vars(sets).items() if inspect.isclass(value)}
    found = known.get(name.lower())
    if found is None:
        hint = did_you_mean(name, [value.__name__ for value in known.values()])
        names = ", ".join(sorted(value.__name__ for value in known.values()))
        raise DatasetError(f"{dataset}: tonic has no data set {name!r}; known: {names}{hint}")
    return found


def _parts(dataset: str) -> tuple[str, ...]:
    """Return the parts in which tonic opens a set: train and test, or all."""
    arguments = inspect.signature(_tonic_class(dataset)).parameters
    if "train" in arguments:
        return (TRAIN, TEST)
    if "split" in arguments:
        return ("train", "valid", "test")
    return (WHOLE,)


@lru_cache(maxsize=8)
def _open_part(dataset: str, root: str, part: str) -> Any:
    """Return the object tonic has for a part of a set.

    Raises:
        DatasetError: tonic cannot make it.
    """
    found = _tonic_class(dataset)
    arguments = inspect.signature(found).parameters
    chosen: dict[str, Any] = {}
    if "train" in arguments:
        chosen["train"] = part == TRAIN
    elif "split" in arguments:
        chosen["split"] = part
    try:
        return found(root, **chosen)
    # Another package's code raises what it likes.
    except Exception as error:
        said = " ".join(str(error).split()) or type(error).__name__
        if isinstance(error, TypeError) and "argument" in said:
            advice = "it needs arguments of its own, so it is not read by its name alone"
        elif isinstance(error, OSError):
            advice = "tonic downloads what is missing there: check the connection, or put its archives there"
        else:
            advice = "check the folder"
        raise DatasetError(
            f"{dataset}: tonic cannot open part {part!r} of it in {root}: {said}; {advice}"
        ) from error


def _targets(dataset: str, samples: Any) -> list[Any]:
    """Return the label of each sample; without opening them where the set has a list of them."""
    targets = getattr(samples, "targets", None)
    if targets is None or len(targets) != len(samples):
        targets = [samples[number][1] for number in range(len(samples))]
    plain = [target.item() if isinstance(target, np.generic) else target for target in targets]
    odd = next((target for target in plain if not isinstance(target, int | str)), None)
    if odd is not None:
        raise DatasetError(
            f"{dataset}: its targets are {type(odd).__name__}, expected one class per sample; "
            "only sets for classification can be converted"
        )
    return plain


def _class_names(
    dataset: str, samples: Any, targets: Sequence[Any]
) -> tuple[tuple[str, ...], dict[Any, int]]:
    """Return the class names in label order, and the label of each target."""
    classes = getattr(samples, "classes", None)
    if isinstance(classes, dict):
        classes = [name for name, _ in sorted(classes.items(), key=lambda item: item[1])]
    numbers = all(isinstance(target, int) for target in targets)
    if numbers and classes and all(0 <= target < len(classes) for target in targets):
        return tuple(map(str, classes)), {target: target for target in targets}
    if not targets:
        raise DatasetError(f"{dataset}: tonic lists no samples; check the folder")
    ordered = sorted(set(targets)) if numbers else sorted(set(targets), key=str)
    return tuple(map(str, ordered)), {target: label for label, target in enumerate(ordered)}


def _sensor_hw(samples: Any) -> tuple[int, int] | None:
    size = getattr(samples, "sensor_size", None)
    return None if size is None else (int(size[1]), int(size[0]))


def open_tonic(dataset: str, root: Path, sample: str, options: ReadOptions) -> "TonicRecording":
    """Open one sample.

    Args:
        dataset: `tonic:NAME`.
        root: Its `save_to`.
        sample: `part/number`, as in the listing.
        options: `sensor_hw` and `damage` matter.

    Raises:
        ConfigError: An option is about files, which these samples are not.
    """
    for name, value, plain in (
        ("format", options.format, None),
        ("orientation", options.orientation, "jaer"),
        ("timestamps", options.timestamps, "unwrap"),
    ):
        if value != plain:
            raise ConfigError(f"{name} {value!r} has no meaning for {dataset}: tonic reads its files itself")
    return TonicRecording(dataset, root, sample, options)


class TonicRecording(Recording):
    """One sample of a data set of tonic's, in memory."""

    def __init__(self, dataset: str, root: Path, sample: str, options: ReadOptions) -> None:
        """Read the sample.

        Raises:
            DamagedRecording: tonic cannot read it, or it holds something else than events.
        """
        self.path = root / sample
        self.format = dataset
        self.facts = {"sample": sample}
        self._options = options
        self._events = _plain_events(f"{self.path}", _read_sample(dataset, str(root), sample))
        self.report = FileReport(str(self.path), self.format, bytes_total=self._events.nbytes)
        part = sample.partition("/")[0]
        said = options.sensor_hw or _sensor_hw(_open_part(dataset, str(root), part))
        self.sensor_hw = said or (_last(self._events["y"]) + 1, _last(self._events["x"]) + 1)

    @property
    def content(self) -> bytes:
        """The events as bytes, which is what the sample's checksum is of."""
        return self._events.tobytes()

    def decode_chunks(self, *, max_events: int = DEFAULT_CHUNK_EVENTS) -> Iterator[np.ndarray]:
        """Yield the events in the sample's order, at most `max_events` at a time."""
        if max_events < 1:
            raise ConfigError(f"max_events must be at least 1, got {max_events}")
        report = FileReport(str(self.path), self.format, bytes_total=self._events.nbytes)
        self.report = report
        events, (height, width) = self._events, self.sensor_hw
        inside = (events["y"] < height) & (events["x"] < width)
        report.out_of_sensor = len(events) - int(np.count_nonzero(inside))
        if report.out_of_sensor:
            report.first_damage_byte = int(np.argmin(inside)) * EVENT_DTYPE.itemsize
            if self._options.damage == "strict":
                raise DamagedRecording(
                    f"{self.path}: byte {report.first_damage_byte}: an event outside a sensor of "
                    f"{height}x{width}; read with damage 'skip' to leave it out"
                )
            events = events[inside]
        steps = np.diff(events["t"])
        report.backward_steps = int(np.count_nonzero(steps < 0))
        report.largest_backward_us = int(max(0, -steps.min(initial=0)))
        report.events, report.bytes_read = len(events), report.bytes_total
        if len(events):
            report.t_first_us, report.t_last_us = int(events["t"][0]), int(events["t"][-1])
        for first in range(0, len(events), max_events):
            yield events[first : first + max_events]


def _read_sample(dataset: str, root: str, sample: str) -> Any:
    """Return what tonic gives for a sample."""
    part, _, number = sample.partition("/")
    try:
        return _open_part(dataset, root, part)[int(number)][0]
    except DatasetError:
        raise
    except Exception as error:
        said = " ".join(str(error).split()) or type(error).__name__
        raise DamagedRecording(f"{Path(root) / sample}: tonic cannot read it: {said}") from error


def _plain_events(where: str, data: Any) -> np.ndarray:
    """Return a structured array's events, shape [N], EVENT_DTYPE.

    Raises:
        DamagedRecording: It is no structured array, a field is missing, or a value cannot be one.
    """
    names = getattr(getattr(data, "dtype", None), "names", None) or ()
    fields = {field: next((n for n in known if n in names), None) for field, known in _FIELDS.items()}
    # Sets of sound have one row.
    missing = [field for field, name in fields.items() if name is None and field not in ("y", "p")]
    if missing or not names:
        raise DamagedRecording(
            f"{where}: holds {type(data).__name__} with fields {', '.join(names) or 'none'}, expected a "
            "structured array with t, x, y and p; only sets of events can be converted"
        )
    events = np.zeros(len(data), EVENT_DTYPE)
    events["t"] = data[fields["t"]]
    events["p"] = True if fields["p"] is None else data[fields["p"]] > 0
    for axis in ("x", "y"):
        if fields[axis] is None:
            continue
        values = data[fields[axis]]
        if len(values) and (values.min() < 0 or values.max() > 0xFFFF):
            raise DamagedRecording(
                f"{where}: {axis} from {values.min()} to {values.max()}, expected 0 to 65535"
            )
        events[axis] = values
    return events


def _last(values: np.ndarray) -> int:
    return int(values.max()) if len(values) else 0

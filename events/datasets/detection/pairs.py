"""From pairs of a recording and its labels to a listing of windows; a broken pair is left out and named."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from events.binning.settings import BinSettings
from events.datasets.detection.boxes import join_plans
from events.datasets.detection.windows import WindowPlan, WindowRules, label_times, plan_windows
from events.datasets.listing import SPLIT_NAMES, LeftOut, Listing, Sample
from events.datasets.problems import count_of, join_some, present
from events.datasets.splits import OFFICIAL, TEST, TRAIN, parse_random
from events.errors import DatasetError, EventsError
from events.labels.table import LabelTable
from events.readers.registry import open_recording
from events.recording import ReadOptions


@dataclass(frozen=True)
class Pair:
    """A recording and where its labels are.

    Attributes:
        path: The recording, relative to the root, with forward slashes.
        size_bytes: Size of its file.
        labels: The label file or folder, relative to the root; None where there is none.
        official: The split its publisher gave it; None where there is none.
        group: What a random split keeps the share of, such as the class; empty for one group.
    """

    path: str
    size_bytes: int
    labels: str | None
    official: str | None = None
    group: str = ""


def in_stored_order(pairs: Sequence[Pair]) -> list[Pair]:
    """Return pairs for training first, then those to validate and to test, each by path."""
    return sorted(pairs, key=lambda pair: (SPLIT_NAMES.index(pair.official or TRAIN), pair.path))


@dataclass(frozen=True)
class PairedSet:
    """What is known of a set of pairs before any is read.

    Attributes:
        dataset: Its name.
        root: The folder.
        pairs: In the order in which they are stored.
        read_labels: Reads the labels of a pair: given its recording's path and that of the labels.
        class_names: Names of the classes, in the order of their numbers in the labels.
        kept_classes: Those taken, in their order in the store; empty takes all.
        read_options: How recordings are read.
        sensor_hw: Height and width in pixels; None takes the first recording's.
        problems: What is missing or extra.
        selection: What was asked for, of a set with choices.
        binning: How stored frames were made, of a set that has frames instead of events.
        opens: Whether recordings are opened to see that they can be read.
    """

    dataset: str
    root: Path
    pairs: Sequence[Pair]
    read_labels: Callable[[Path, Path], LabelTable]
    class_names: tuple[str, ...]
    kept_classes: tuple[str, ...] = ()
    read_options: ReadOptions = field(default_factory=ReadOptions)
    sensor_hw: tuple[int, int] | None = None
    problems: Sequence[str | None] = ()
    selection: str = ""
    binning: BinSettings | None = None
    opens: bool = True


def list_windows(found: PairedSet, *, split: str, rules: WindowRules) -> Listing:
    """Return the windows of all pairs that can be read, in the order of the pairs.

    Args:
        found: The pairs.
        split: In the spelling of `events.datasets.splits.canonical_split`.
        rules: Which windows are taken.

    Raises:
        DatasetError: No pair can be read, or none has a window.
    """
    left_out: list[LeftOut] = []
    plans: list[WindowPlan] = []
    taken: list[Pair] = []
    rule_counts: Counter[str] = Counter()
    other_classes = without = 0
    sensor_hw = found.sensor_hw
    for pair in found.pairs:
        try:
            labels = _labels(found, pair)
            own_hw = _sensor_hw(found, pair)
            sensor_hw = sensor_hw or own_hw
            label_t = label_times(labels)
            labels, others = _of_classes(labels, found)
            plan = plan_windows(labels, rules, sensor_hw=sensor_hw, label_t=label_t)
        except (EventsError, OSError) as error:
            left_out.append(LeftOut(pair.path, " ".join(str(error).split())))
            continue
        other_classes += others
        rule_counts.update(plan.counts())
        if len(plan):
            taken.append(pair)
            plans.append(plan)
        else:
            without += 1
    if not plans:
        raise DatasetError(f"{found.root}: {_nothing(found, left_out)}")
    splits = _splits(taken, split)
    samples = tuple(
        Sample(pair.path, -1, name, number, pair.size_bytes, (stop - rules.window_us, stop))
        for number, (pair, name, plan) in enumerate(zip(taken, splits, plans, strict=True))
        for stop in plan.stop_us.tolist()
    )
    missing = [name for name in (TRAIN, TEST) if name not in splits]
    return Listing(
        dataset=found.dataset,
        root=found.root,
        class_names=found.kept_classes or found.class_names,
        samples=samples,
        split_rule=split,
        sensor_hw=sensor_hw,
        read_options=found.read_options,
        selection=found.selection,
        windows=join_plans(plans, rules),
        left_out=tuple(left_out),
        binning=found.binning,
        problems=present(
            [
                *found.problems,
                f"{count_of(without, 'recording')} without a window left out" if without else None,
                f"boxes of other classes left out: {other_classes:,}" if other_classes else None,
                *[f"{name}: {count:,}" for name, count in sorted(rule_counts.items())],
                f"no recording for {' and '.join(missing)}" if missing else None,
            ]
        ),
    )


def _labels(found: PairedSet, pair: Pair) -> LabelTable:
    """Return the labels of a pair.

    Raises:
        EventsError: There are none, or they cannot be read.
    """
    if pair.labels is None:
        raise DatasetError("has no label file beside it; add it, or move the recording away")
    return found.read_labels(found.root / pair.path, found.root / pair.labels)


def _sensor_hw(found: PairedSet, pair: Pair) -> tuple[int, int]:
    """Return a recording's sensor, from its header: it is opened, but not read.

    Raises:
        EventsError: It is no recording.
    """
    if pair.size_bytes == 0:
        raise DatasetError("is empty (0 bytes); copy it again")
    if found.sensor_hw is not None and not found.opens:
        return found.sensor_hw
    return open_recording(found.root / pair.path, found.read_options).sensor_hw


def _of_classes(labels: LabelTable, found: PairedSet) -> tuple[LabelTable, int]:
    """Return the labels of the classes taken, with their numbers in the store, and how many are left out."""
    names = found.class_names
    if not found.kept_classes or found.kept_classes == names:
        return labels, 0
    place = np.full(len(names), -1, np.int64)
    for number, name in enumerate(found.kept_classes):
        place[names.index(name)] = number
    new = place[labels.class_id]
    kept = replace(labels, class_id=np.maximum(new, 0).astype(np.uint16), class_names=found.kept_classes)
    return kept.where(new >= 0), int((new < 0).sum())


def _splits(pairs: Sequence[Pair], rule: str) -> list[str]:
    """Return the split of each recording; all windows of one are in the same."""
    if rule == OFFICIAL:
        return [pair.official or TRAIN for pair in pairs]
    splits = [""] * len(pairs)
    for group in sorted({pair.group for pair in pairs}):
        members = [i for i, pair in enumerate(pairs) if pair.group == group]
        names = parse_random(rule).split(group, [pairs[i].path for i in members])
        for i, name in zip(members, names, strict=True):
            splits[i] = name
    return splits


def _nothing(found: PairedSet, left_out: Sequence[LeftOut]) -> str:
    if left_out:
        first = left_out[0]
        return (
            f"none of {count_of(len(found.pairs), 'pair')} of recording and labels can be read; "
            f"first: {first.path}: {first.reason}"
        )
    if found.pairs:
        names = join_some([pair.path for pair in found.pairs])
        return (
            f"no window in {count_of(len(found.pairs), 'recording')} ({names}); loosen the rules of windows"
        )
    return f"no recordings of {found.dataset}; check the folder"

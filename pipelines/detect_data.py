"""From data settings to a finished store of windows with boxes, and which windows are what for."""

import os
from pathlib import Path

import numpy as np

from events.datasets.detection.registry import list_detection
from events.recorded_windows import RecordedWindows
from events.store.detection import DetectionStore, open_detection_store
from events.store.layout import binning_settings
from events.synth.shapes import write_shapes
from pipelines.detect_settings import MADE_HERE, DetectExperiment, DetectionData
from pipelines.display import Display
from pipelines.errors import RunError
from pipelines.prepare import StoreKind, convert_listing, digest, finished_store, is_store
from pipelines.samples import SampleSplit, spread_samples
from pipelines.settings_tree import as_table

# Fewer pixels, those of all steps, are recorded sooner than processes are started.
ONE_PROCESS_PIXELS = 4 << 30


def prepare_detection_store(settings: DetectionData, display: Display) -> DetectionStore:
    """Return the store an experiment trains on; make what is missing.

    As `pipelines.prepare.prepare_store`: names follow from settings, so that a changed setting never meets
    old data and a second run finds its data done.

    Raises:
        RunError: Nothing can be made of what was given.
        EventsError: Recordings or store cannot be used.
    """
    if settings.source is not None and is_store(Path(settings.source)):
        store = open_detection_store(settings.source)
        display.say(f"store     {store.path}  {_shape(store)}")
        return store
    folder, source = Path(settings.folder), settings.source
    identity: list[object] = [settings.dataset, source and str(Path(source).resolve()), settings.select]
    if source is None:
        identity = [as_table(settings.shapes)]
    rules = as_table(settings.windows)
    name = digest(*identity, settings.split, rules, binning_settings(settings.binning))
    path = folder / f"{settings.dataset}-{name}.zarr"
    finished = finished_store(path, WINDOWS, display)
    if finished is not None:
        return finished
    workers = settings.workers or os.cpu_count() or 1
    recordings = Path(source) if source is not None else _make_shapes(settings, workers, display)
    listing = list_detection(
        settings.dataset,
        recordings,
        rules=settings.windows,
        split=settings.split,
        select=settings.select,
    )
    return convert_listing(listing, path, settings.binning, WINDOWS, workers=workers, display=display)


def _make_shapes(settings: DetectionData, workers: int, display: Display) -> Path:
    """Make the recordings that are made here, or those of them that are missing."""
    if settings.dataset != MADE_HERE:
        raise RunError(
            f"data.dataset is {settings.dataset!r}, but no recordings are given; add --data FOLDER with its "
            f"recordings, or --data STORE made by `events convert {settings.dataset}`; "
            "--smoke tries it without"
        )
    recordings = _shapes_folder(settings)
    shapes, (height, width) = settings.shapes, settings.shapes.sensor.sensor_hw
    if shapes.recordings * shapes.duration_us // shapes.step_us * height * width < ONE_PROCESS_PIXELS:
        workers = 1
    display.say(f"making    {recordings}  shapes moved before a simulated event camera")
    write_shapes(
        recordings,
        shapes,
        workers=workers,
        progress=lambda done, total: display.progress("recording", done, total),
    )
    return recordings


def _shapes_folder(settings: DetectionData) -> Path:
    return Path(settings.folder) / f"{MADE_HERE}-{digest(as_table(settings.shapes))}"


def recordings_of(settings: DetectionData) -> Path:
    """Return the folder of the recordings that the store of these settings is made of.

    Raises:
        RunError: A store is given, and it is not said where its recordings are.
    """
    if settings.recordings is not None:
        return Path(settings.recordings)
    if settings.source is None:
        return _shapes_folder(settings)
    if is_store(Path(settings.source)):
        raise RunError(
            f"{settings.source}: is a store, and augment_events changes events; say where its recordings are "
            "(--set data.recordings=FOLDER), or augment frames ([augment])"
        )
    return Path(settings.source)


def recorded_windows(experiment: DetectExperiment, store: DetectionStore) -> RecordedWindows | None:
    """Return the windows of a store as binned anew from augmented events; None where frames are taken.

    Raises:
        RunError, EventsError: The recordings are not known, not there or others, or cannot be augmented.
    """
    if not experiment.augments_events:
        return None
    root = recordings_of(experiment.data)
    return RecordedWindows(store, root, experiment.augment_events, seed=experiment.seed)


def _shape(store: DetectionStore) -> str:
    windows, T, C, H, W = store.frames.shape
    classes = store.class_names[0] if len(store.class_names) == 1 else f"{len(store.class_names)} classes"
    events = store.frames.attributes["binning"].get("window_events")
    length = f"{store.window_us / 1000:g} ms" if events is None else f"{events:,} events"
    return (
        f"{windows} windows of {length}, T {T}, {C} x {H} x {W}, {len(store.boxes.xyxy)} boxes of {classes}"
    )


# Windows of recordings, with their boxes.
WINDOWS = StoreKind(open_detection_store, _shape, "windows")


def split_windows(store: DetectionStore, settings: DetectionData, *, seed: int) -> SampleSplit:
    """Return the windows of a run, those of which nothing is known left out.

    A store with a validation split keeps it. Otherwise the seed picks that share of the training recordings,
    at least one: windows of one recording are too alike to tell how good a detector is on others.
    With `settings.overfit` all three are the same windows.

    Raises:
        RunError: Nothing can be learned, or nothing can be tested.
    """
    if settings.overfit is not None:
        return _same_windows(store, settings.overfit)
    train, validation, test = (store.indices(name) for name in ("train", "validation", "test"))
    if len(test) == 0:
        raise RunError(
            f"{store.path}: no test windows; convert with a split that has some, such as --split random:0:0.8"
        )
    if not any(len(store.boxes_of(int(index)).xyxy) for index in train):
        raise RunError(f"{store.path}: no box in the training windows; convert recordings with labels")
    if len(validation) == 0:
        recordings = np.unique(store.recording[train])
        if len(recordings) < 2:
            raise RunError(
                f"{store.path}: {len(recordings)} training recording, no validation split; convert at least "
                "two recordings for training, one of them is validated on"
            )
        draws = np.random.Philox(key=np.array([seed, 0x5EED], np.uint64)).random_raw(len(recordings))
        count = min(max(round(settings.validation_share * len(recordings)), 1), len(recordings) - 1)
        chosen = recordings[np.argsort(draws, kind="stable")[:count]]
        validation = train[np.isin(store.recording[train], chosen)]
    kept = spread_samples(validation, settings.validation_windows)
    return SampleSplit(np.setdiff1d(train, validation), kept, test)


def _same_windows(store: DetectionStore, count: int) -> SampleSplit:
    """Return so many windows with boxes, evenly spaced over all splits, for training, validation and test."""
    labelled = np.concatenate([store.indices(name) for name in ("train", "validation", "test")])
    boxes = np.diff(store.boxes.window_ptr)[labelled]
    windows = spread_samples(np.sort(labelled[boxes > 0]), count)
    if len(windows) == 0:
        raise RunError(f"{store.path}: no box in any window; convert recordings with labels")
    return SampleSplit(windows, windows, windows)

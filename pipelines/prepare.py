"""From an experiment's data settings to a finished store: make and convert recordings, or find them done."""

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Generic, NamedTuple, TypeVar

from events.binning.settings import BinSettings
from events.convert import ConvertSettings, convert
from events.datasets.images.digits import write_digit_pictures
from events.datasets.listing import Listing
from events.datasets.registry import list_samples
from events.errors import StoreError
from events.store.layout import binning_settings
from events.store.outcome import ConvertProgress
from events.store.reader import FrameStore, open_store
from events.synth.digits import write_digits
from pipelines.display import Display
from pipelines.errors import RunError
from pipelines.experiment import DataSettings
from pipelines.settings_tree import as_table
from pipelines.smoke import MADE_HERE, PICTURES_MADE_HERE

# The layouts in which digits are written; see events.synth.digits and events.datasets.images.digits.
DIGITS_LAYOUT = "dvs-cifar10"
PICTURES_LAYOUT = "mnist"
# Less than this is converted sooner than processes are started.
ONE_PROCESS_BYTES = 32 << 20

S = TypeVar("S")


def prepare_store(settings: DataSettings, display: Display) -> FrameStore:
    """Return the store an experiment trains on; make what is missing.

    Recordings and stores made on the way lie in `settings.folder` under names that follow from their
    settings, so a changed setting never meets old data, and a second run finds its data done.

    Raises:
        RunError: Nothing can be made of what was given.
        EventsError: Recordings or store cannot be used.
    """
    if settings.source is not None and is_store(Path(settings.source)):
        return _given_store(Path(settings.source), display)
    folder = Path(settings.folder)
    workers = settings.workers or os.cpu_count() or 1
    if settings.source is None and settings.dataset == PICTURES_MADE_HERE:
        return _pictures_store(settings, folder, workers, display)
    if settings.source is None:
        return _digits_store(settings, folder, workers, display)
    # Recordings without a named data set are expected in class folders.
    dataset = "folder" if settings.dataset == MADE_HERE else settings.dataset
    listing = list_samples(dataset, Path(settings.source), split=settings.split)
    identity = [dataset, str(Path(settings.source).resolve()), settings.split]
    path = folder / f"{dataset}-{digest(identity, binning_settings(settings.binning))}.zarr"
    return convert_listing(listing, path, settings.binning, FRAMES, workers=workers, display=display)


def is_store(path: Path) -> bool:
    """Return whether a folder is a Zarr store rather than a folder of recordings."""
    return (path / "zarr.json").is_file()


def _given_store(path: Path, display: Display) -> FrameStore:
    store = open_store(path)
    display.say(f"store     {path}  {_shape(store)}")
    return store


def _digits_store(settings: DataSettings, folder: Path, workers: int, display: Display) -> FrameStore:
    if settings.dataset != MADE_HERE:
        raise RunError(
            f"data.dataset is {settings.dataset!r}, but no recordings are given; add --data FOLDER with its "
            f"recordings, or --data STORE made by `events convert {settings.dataset}`; "
            "`events datasets` says where to get them, --smoke tries it without"
        )
    made = as_table(settings.digits)
    recordings = folder / f"digits-{digest(made)}"
    path = folder / f"digits-{digest(made, settings.split, binning_settings(settings.binning))}.zarr"
    finished = finished_store(path, FRAMES, display)
    if finished is not None:
        return finished
    display.say(f"making    {recordings}  handwritten digits moved before a simulated event camera")
    write_digits(
        recordings,
        settings.digits,
        workers=workers,
        progress=lambda done, total: display.progress("recording", done, total),
    )
    listing = list_samples(DIGITS_LAYOUT, recordings, split=settings.split)
    return convert_listing(listing, path, settings.binning, FRAMES, workers=workers, display=display)


def _pictures_store(settings: DataSettings, folder: Path, workers: int, display: Display) -> FrameStore:
    count = settings.digits.per_class
    pictures = folder / f"{PICTURES_MADE_HERE}-{count}"
    path = (
        folder
        / f"{PICTURES_MADE_HERE}-{digest(count, settings.split, binning_settings(settings.binning))}.zarr"
    )
    finished = finished_store(path, FRAMES, display)
    if finished is not None:
        return finished
    display.say(f"making    {pictures}  handwritten digits as pictures, {count} of each")
    write_digit_pictures(pictures, per_class=count)
    # That these are fewer than MNIST's is no news.
    listing = replace(list_samples(PICTURES_LAYOUT, pictures, split=settings.split), problems=())
    return convert_listing(listing, path, settings.binning, FRAMES, workers=workers, display=display)


class StoreKind(NamedTuple, Generic[S]):
    """A kind of store: of samples with labels, or of windows with boxes.

    Attributes:
        open: Opens one; raises StoreError where it is none, or unfinished.
        describe: Says what is in it, in a few words.
        samples: What its samples are made from, or are: `recordings`, `windows`.
    """

    open: Callable[[Path], S]
    describe: Callable[[S], str]
    samples: str


def finished_store(path: Path, kind: StoreKind[S], display: Display) -> S | None:
    """Return a store made before, and say so; None where it is absent or unfinished."""
    if not is_store(path):
        return None
    try:
        store = kind.open(path)
    except StoreError:
        return None
    display.say(f"store     {path}  {kind.describe(store)}  (made before)")
    return store


def convert_listing(
    listing: Listing, path: Path, binning: BinSettings, kind: StoreKind[S], *, workers: int, display: Display
) -> S:
    """Convert what is listed, or what a conversion that was stopped has left to do."""
    for problem in listing.problems:
        display.say(f"note      {problem}")

    def show(state: ConvertProgress) -> None:
        done = state.files_before + state.files_ok + state.files_failed
        display.progress("converting", done, state.files_total)

    # A file may hold several samples.
    sizes = {sample.path: sample.size_bytes for sample in listing.samples}
    if sum(sizes.values()) < ONE_PROCESS_BYTES:
        workers = 1
    summary = convert(listing, path, ConvertSettings(binning=binning), workers=workers, progress=show)
    store = kind.open(path)
    made = (
        f"{summary.ok} {kind.samples} in {summary.seconds:.1f} s"
        if summary.shards_written
        else "(made before)"
    )
    display.say(f"store     {path}  {kind.describe(store)}  {made}")
    for failure in summary.failures[:5]:
        display.say(f"failed    {failure.path}: {failure.error}")
    if summary.failed:
        display.say(f"note      {summary.failed} {kind.samples} could not be converted and are left out")
    return store


def _shape(store: FrameStore) -> str:
    samples, T, P, H, W = store.shape
    return f"{samples} samples, T {T}, {P} x {H} x {W}, {len(store.class_names)} classes"


# Frames of recordings or pictures, with their labels.
FRAMES = StoreKind(open_store, _shape, "recordings")


def digest(*parts: object) -> str:
    """Return a short name that follows from settings, as plain JSON types."""
    text = json.dumps(parts, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:10]

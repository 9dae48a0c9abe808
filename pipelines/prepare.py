"""From an experiment's data settings to a finished store: make and convert recordings, or find them done."""

import hashlib
import json
import os
from dataclasses import replace
from pathlib import Path

from events.convert import ConvertSettings, convert
from events.datasets.images.digits import write_digit_pictures
from events.datasets.listing import Listing
from events.datasets.registry import list_samples
from events.errors import StoreError
from events.store.layout import binning_settings
from events.store.outcome import ConvertProgress, ConvertSummary
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
    return _converted(listing, path, settings, workers, display)


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
    finished = _finished(path)
    if finished is not None:
        display.say(f"store     {path}  {_shape(finished)}  (made before)")
        return finished
    display.say(f"making    {recordings}  handwritten digits moved before a simulated event camera")
    write_digits(
        recordings,
        settings.digits,
        workers=workers,
        progress=lambda done, total: display.progress("recording", done, total),
    )
    listing = list_samples(DIGITS_LAYOUT, recordings, split=settings.split)
    return _converted(listing, path, settings, workers, display)


def _pictures_store(settings: DataSettings, folder: Path, workers: int, display: Display) -> FrameStore:
    count = settings.digits.per_class
    pictures = folder / f"{PICTURES_MADE_HERE}-{count}"
    path = (
        folder
        / f"{PICTURES_MADE_HERE}-{digest(count, settings.split, binning_settings(settings.binning))}.zarr"
    )
    finished = _finished(path)
    if finished is not None:
        display.say(f"store     {path}  {_shape(finished)}  (made before)")
        return finished
    display.say(f"making    {pictures}  handwritten digits as pictures, {count} of each")
    write_digit_pictures(pictures, per_class=count)
    # That these are fewer than MNIST's is no news.
    listing = replace(list_samples(PICTURES_LAYOUT, pictures, split=settings.split), problems=())
    return _converted(listing, path, settings, workers, display)


def _finished(path: Path) -> FrameStore | None:
    """Return a store made before, or None where it is absent or unfinished."""
    if not is_store(path):
        return None
    try:
        return open_store(path)
    except StoreError:
        return None


def _converted(
    listing: Listing, path: Path, settings: DataSettings, workers: int, display: Display
) -> FrameStore:
    """Convert recordings, or what a conversion that was stopped has left to do."""
    for problem in listing.problems:
        display.say(f"note      {problem}")

    def show(state: ConvertProgress) -> None:
        done = state.files_before + state.files_ok + state.files_failed
        display.progress("converting", done, state.files_total)

    if sum(sample.size_bytes for sample in listing.samples) < ONE_PROCESS_BYTES:
        workers = 1
    summary = convert(
        listing, path, ConvertSettings(binning=settings.binning), workers=workers, progress=show
    )
    store = open_store(path)
    display.say(f"store     {path}  {_shape(store)}{_made(summary)}")
    for failure in summary.failures[:5]:
        display.say(f"failed    {failure.path}: {failure.error}")
    if summary.failed:
        display.say(f"note      {summary.failed} recordings could not be converted and are left out")
    return store


def _made(summary: ConvertSummary) -> str:
    if not summary.shards_written:
        return "  (made before)"
    return f"  {summary.ok} recordings in {summary.seconds:.1f} s"


def _shape(store: FrameStore) -> str:
    samples, T, P, H, W = store.shape
    return f"{samples} samples, T {T}, {P} x {H} x {W}, {len(store.class_names)} classes"


def digest(*parts: object) -> str:
    """Return a short name that follows from settings, as plain JSON types."""
    text = json.dumps(parts, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:10]

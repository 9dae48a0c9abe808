"""Recordings by the name that a person gives: a file, a pipe, or one in a store of events.

walking.aedat      a file; - is standard input
events.zarr:3      the recording at position 3 of a store of events
events.zarr:cat/1.aedat    the same by the name of its file
"""

from dataclasses import replace
from pathlib import Path

from events.errors import ConfigError, DamagedRecording, StoreError
from events.readers.live import open_any
from events.recording import ReadOptions, Recording
from events.store.attributes import store_kind
from events.store.event_layout import EVENTS_KIND
from events.store.event_reader import EventStore, StoredRecording

DEFAULT_OPTIONS = ReadOptions()


def split_name(path: Path | str) -> tuple[Path, str] | None:
    """Return the store and what stands behind its colon; None where the path names no part of a store."""
    parts = str(path).split(":")
    for count in range(1, len(parts)):
        store = Path(":".join(parts[:count]))
        if store_kind(store) is not None and not Path(path).exists():
            return store, ":".join(parts[count:])
    return None


def open_named(path: Path | str, options: ReadOptions = DEFAULT_OPTIONS) -> Recording:
    """Open a recording by its name.

    Args:
        path: A file, `-`, or a store of events with a recording's position or name behind a colon; without
            one where the store holds a single recording.
        options: How to read a file. What a store holds is decoded already.

    Raises:
        StoreError: The store holds no such recording, or no events.
        EventsError: The file cannot be read; see `events.readers.registry.open_recording`.
    """
    named = split_name(path)
    if named is None and store_kind(Path(path)) is None:
        return open_any(path, options)
    store, name = named or (Path(path), None)
    if store_kind(store) != EVENTS_KIND:
        raise StoreError(
            f"{store}: holds frames, not events; look at them with `events view`, or name a recording"
        )
    if replace(options, sensor_hw=None) != DEFAULT_OPTIONS:
        raise ConfigError(f"{store}: its events are decoded already; leave out options of reading")
    return _open_stored(EventStore(store), name)


def _open_stored(store: EventStore, name: str | None) -> StoredRecording:
    if name is None and len(store) > 1:
        raise StoreError(
            f"{store.path}: holds {len(store)} recordings; name one, such as {store.path}:0 or "
            f"{store.path}:{store.sources[0]['path']}"
        )
    number = 0 if name is None else store.find(name)
    try:
        return store.recording(number)
    except DamagedRecording as error:
        where = f"{store.path}:{number} ({store.sources[number]['path']})"
        raise DamagedRecording(f"{where}: could not be read when the store was made: {error}") from None

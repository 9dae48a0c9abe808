"""The attribute `event_store`: what a store was made from, how, and whether it is finished."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from events.errors import StoreError
from events.store.event_layout import EVENTS_KIND, EVENTS_SCHEMA
from events.store.layout import ATTRIBUTE, KIND, SCHEMA
from events.store.shard import write_atomically


def read_attributes(path: Path) -> dict[str, Any]:
    """Return the attribute `event_store` of a store.

    Raises:
        StoreError: There is no store of ours at the path.
    """
    metadata = path / "zarr.json"
    if not metadata.is_file():
        found = "a folder without zarr.json" if path.is_dir() else "a file" if path.exists() else "nothing"
        raise StoreError(f"{path}: found {found}, expected a store; make one with `events convert`")
    try:
        attributes = json.loads(metadata.read_bytes())["attributes"][ATTRIBUTE]
    except (ValueError, KeyError, TypeError):
        raise StoreError(
            f"{metadata}: no attribute {ATTRIBUTE!r}, so this is no store of frames or events; "
            "make one with `events convert`"
        ) from None
    return attributes


def store_kind(path: Path) -> str | None:
    """Return what a store holds, `frames` or `events`; None where there is no store of ours."""
    if not (path / "zarr.json").is_file():
        return None
    try:
        return str(read_attributes(path).get("kind"))
    except StoreError:
        return None


def write_attributes(path: Path, attributes: Mapping[str, Any]) -> None:
    """Replace the attribute `event_store` by renaming the group's metadata into place."""
    metadata = json.loads((path / "zarr.json").read_bytes())
    metadata["attributes"][ATTRIBUTE] = dict(attributes)
    write_atomically(path / "zarr.json", [json.dumps(metadata, indent=2, ensure_ascii=False).encode()])


def check_schema(path: Path, attributes: Mapping[str, Any]) -> None:
    """Refuse a store of another schema version or kind.

    Raises:
        StoreError: Says both versions and what to do.
    """
    found = (attributes.get("schema"), attributes.get("kind"))
    if found == (EVENTS_SCHEMA, EVENTS_KIND):
        raise StoreError(
            f"{path}: holds raw events, expected frames; make some with "
            f"`events convert event-store {path} NEW.zarr`"
        )
    if found != (SCHEMA, KIND):
        raise StoreError(
            f"{path}: found a store of schema {found[0]!r}, kind {found[1]!r}, expected schema {SCHEMA}, "
            f"kind {KIND!r}; convert again, or read it with the spikeline that wrote it "
            f"({attributes.get('tool_version', 'unknown version')})"
        )
